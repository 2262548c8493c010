"""Attention rollout against the libraries' own attention, and what it says where there is none."""

from functools import reduce

import pytest
import timm
import torch
import torchvision
from timm.utils import AttentionExtract
from torch import Tensor, nn
from torch.nn.functional import interpolate

import naspix
from naspix.errors import AttentionError, InputError, NaspixError
from naspix.saliency import AttentionRollout

SIDE = 32
SMALL = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
BASE = "vit_base_patch16_224"


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE)


def _wrapped(network: nn.Module) -> naspix.Classifier:
    for parameter in network.parameters():  # far from even attention
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return naspix.wrap_model(network, mean=[0.5] * 3, std=[0.25] * 3, input_size=SIDE)


def _literal(
    attentions: list[Tensor], *, head: str = "mean", extra: int = 1, class_token: bool = True
) -> Tensor:
    """The paper's rollout of ``(B, heads, N, N)``, a layer after another, as a map."""
    over = {
        "mean": lambda a: a.mean(1),
        "max": lambda a: a.max(1).values,
        "min": lambda a: a.min(1).values,
    }
    layers = []
    for attention in attentions:
        mixed = over[head](attention.detach()) + torch.eye(attention.shape[-1])
        layers.append(mixed / mixed.sum(-1, keepdim=True))
    rolled = reduce(lambda below, layer: layer @ below, layers)
    row = rolled[:, 0] if class_token else rolled[:, extra:].mean(1)
    side = round((rolled.shape[-1] - extra) ** 0.5)
    grid = row[:, extra:].reshape(-1, 1, side, side)
    return interpolate(grid, (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]


def _of_timm(model: naspix.Classifier, images: Tensor) -> list[Tensor]:
    fused = [module for module in model.network.modules() if hasattr(module, "fused_attn")]
    for module in fused:
        module.fused_attn = False
    found = AttentionExtract(model.network, method="hook")(model.standardize(images))
    for name, module in model.network.named_modules():  # it leaves its hooks behind
        if name.endswith("attn_drop"):
            module._forward_hooks.clear()
    for module in fused:
        module.fused_attn = True
    return list(found.values())


@pytest.mark.parametrize("head", ["mean", "max", "min"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("settings", "extra", "class_token"),
    [
        ({}, 1, True),
        ({"qk_norm": True}, 1, True),
        ({"reg_tokens": 4}, 5, True),
        ({"class_token": False, "global_pool": "avg"}, 0, False),
        ({"class_token": False, "reg_tokens": 2, "global_pool": "avg"}, 2, False),
    ],
)
def test_timms_attention_is_the_oracle(images, head, fused, settings, extra, class_token):
    model = _wrapped(timm.create_model(BASE, num_classes=5, **SMALL, **settings))
    attentions = _of_timm(model, images)
    assert len(attentions) == 3
    for module in model.network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    expected = _literal(attentions, head=head, extra=extra, class_token=class_token)
    found = AttentionRollout(model, head=head)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (found.flatten(1).std(1) > 1e-4).all()


def test_rotary_positions_are_in_the_attention(images):
    """Queries and keys are turned after they are projected: what is read is what is computed."""
    network = timm.create_model(
        "vit_small_patch16_rope_224", num_classes=5, **{**SMALL, "num_heads": 3}
    )
    model = _wrapped(network)
    expected = _literal(_of_timm(model, images))
    torch.testing.assert_close(AttentionRollout(model)(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_torchvisions_attention_is_the_oracle(images, frozen, monkeypatch):
    """Frozen and under no_grad, its attention may take a fast path that returns no weights."""
    network = torchvision.models.VisionTransformer(SIDE, 8, 3, 3, 24, 48, num_classes=5)
    model = _wrapped(network.requires_grad_(not frozen))
    expected, weights = [], nn.MultiheadAttention.forward

    def weighed(self, *args, **kwargs):
        output, found = weights(
            self, *args, **{**kwargs, "need_weights": True, "average_attn_weights": False}
        )
        expected.append(found)
        return output, None

    with monkeypatch.context() as patch:
        patch.setattr(nn.MultiheadAttention, "forward", weighed)
        network.eval()(model.standardize(images))
    assert len(expected) == 3
    found = AttentionRollout(model)(images)
    torch.testing.assert_close(found, _literal(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Dinov2", "Dinov2WithRegisters"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_transformers_attention_is_the_oracle(images, kind, implementation):
    transformers = pytest.importorskip("transformers")
    shape = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 48,
        "image_size": SIDE,
        "patch_size": 8,
        "num_labels": 5,
    }
    if kind == "Dinov2WithRegisters":
        shape["num_register_tokens"] = 4
    config = getattr(transformers, f"{kind}Config")(**shape, attn_implementation=implementation)
    model = _wrapped(getattr(transformers, f"{kind}ForImageClassification")(config))
    found = AttentionRollout(model)(images)
    model.network.set_attn_implementation("eager")
    said = model.network(model.standardize(images), output_attentions=True).attentions
    extra = said[0].shape[-1] - 16
    assert extra == {"ViT": 1, "DeiT": 2, "Dinov2": 1, "Dinov2WithRegisters": 5}[kind]
    expected = _literal(list(said), extra=extra)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_an_encoder_without_a_head_and_no_class_at_all(images):
    encoder = _wrapped(timm.create_model(BASE, num_classes=0, **SMALL))
    expected = _literal(_of_timm(encoder, images))
    torch.testing.assert_close(AttentionRollout(encoder)(images), expected, rtol=1e-4, atol=1e-6)


def test_every_class_has_the_same_map(images):
    model = _wrapped(timm.create_model(BASE, num_classes=5, **SMALL))
    method = AttentionRollout(model)
    assert torch.equal(method(images, 1), method(images, 4))
    assert torch.equal(method(images), method(images, naspix.Contrast(1, 2)))
    with pytest.raises(InputError, match=r"^AttentionRollout: "):
        method(images, 5)
    assert "same for every class" in " ".join(AttentionRollout.__doc__.split())
    explanation = naspix.explain(model, images, 3, method=["attention_rollout", "relax"])
    torch.testing.assert_close(explanation.raw["attention_rollout"], method(images))
    assert "Attention rollout (any class)" in explanation.to_html()


def test_the_network_is_left_as_it_came(images):
    network = timm.create_model(BASE, num_classes=5, **SMALL)
    model = _wrapped(network.train())
    network.blocks[1].eval()
    AttentionRollout(model)(images)
    assert network.training
    assert not network.blocks[1].training
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(block.attn.fused_attn for block in network.blocks)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.resnet18(num_classes=5),
        lambda: timm.create_model("xcit_nano_12_p16_224", img_size=64, num_classes=5),
    ],
)
def test_no_attention_over_tokens_is_one_sentence(make):
    model = naspix.wrap_model(make(), input_size=64)
    with pytest.raises(
        AttentionError, match=r"^AttentionRollout: no layer of .* all tokens"
    ) as said:
        AttentionRollout(model)(torch.rand(2, 3, 64, 64))
    assert isinstance(said.value, NaspixError)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0"], ids=["windows", "fewer keys"]
)
def test_layers_that_attend_to_a_part_are_one_sentence(name):
    """The last stage attends over the whole image, the earlier ones do not."""
    settings = {"img_size": 64, "window_size": 4} if "swin" in name else {}
    model = naspix.wrap_model(timm.create_model(name, num_classes=5, **settings), input_size=64)
    with pytest.raises(AttentionError, match="within windows or over fewer keys"):
        AttentionRollout(model)(torch.rand(2, 3, 64, 64))


def test_tokens_whose_number_changes_are_one_sentence():
    model = naspix.wrap_model(timm.create_model("pit_ti_224", num_classes=5), input_size=224)
    with pytest.raises(AttentionError, match="tokens, and attention cannot be multiplied"):
        AttentionRollout(model)(torch.rand(1, 3, 224, 224))


def test_settings_are_checked():
    """Set past the type checker that is on in tests, which would refuse it first."""
    method = AttentionRollout(_wrapped(timm.create_model(BASE, num_classes=5, **SMALL)))
    object.__setattr__(method, "head", "sum")
    with pytest.raises(InputError, match=r"^AttentionRollout: head is one of mean, max, min"):
        method.__post_init__()
