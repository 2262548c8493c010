"""What holds for every network, whatever library it is from and whatever was done to it.

Levels ran and depend on the pixels, Grad-CAM++ is not blank, probabilities are the network's own,
and the network is as it was. Each is the smallest of its kind, untrained.
"""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import naspix

SIZE = 64


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=5, **options)


def _tv(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=5, **options)


def _vit(depth: int, **options: Any) -> Callable[[], nn.Module]:
    return _timm("vit_tiny_patch16_224", img_size=SIZE, depth=depth, **options)


def _hf(kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        config = getattr(transformers, f"{kind}Config")(num_labels=5, **options)
        return getattr(transformers, f"{kind}ForImageClassification")(config)

    return build


_HF_VIT: dict[str, Any] = {
    "image_size": SIZE,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


class Checkpointed(nn.Module):
    """Stages that run again in the backward, with running statistics and dropout in them."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
            for i in (3, 8, 8)
        )
        self.last = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = checkpoint(stage, x, use_reentrant=self.reentrant)
        return self.head(self.last(x).mean((2, 3)))


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(_tv("resnet18")() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def _compiled() -> nn.Module:
    network = _tv("resnet18")()
    network.compile(backend="eager")
    return network


def _compiled_inside() -> nn.Module:
    network = _tv("resnet18")()
    network.layer2.compile(backend="eager")
    return network


def _switched() -> nn.Module:
    network = _vit(4)()
    network.set_grad_checkpointing()
    return network


def _six_channels() -> nn.Module:
    network = _tv("resnet18")()
    network.conv1 = nn.Conv2d(6, 64, 7, 2, 3)
    return network


def _sigmoids() -> nn.Module:
    return nn.Sequential(_tv("resnet18")(), nn.Sigmoid())


def _vit_pytorch() -> nn.Module:
    vit_pytorch = pytest.importorskip("vit_pytorch")
    return vit_pytorch.ViT(
        image_size=SIZE, patch_size=16, num_classes=5, dim=32, depth=4, heads=2, mlp_dim=64
    )


def _open_clip() -> nn.Module:
    open_clip = pytest.importorskip("open_clip")
    clip = open_clip.create_model("ViT-S-32-alt", pretrained=None)

    class ZeroShot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip, self.head = clip, nn.Linear(256, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.interpolate(x, (224, 224))
            return self.head(self.clip.encode_image(x))

    return ZeroShot()


def _peft() -> nn.Module:
    peft = pytest.importorskip("peft")
    network = _hf("ViT", num_hidden_layers=6, **_HF_VIT)()
    return peft.get_peft_model(network, peft.LoraConfig(target_modules=["q_proj", "v_proj"]))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: _tv(name) for name in ("resnet18", "vgg11_bn", "mobilenet_v3_small", "convnext_tiny")},
    **{name: _tv(name) for name in ("swin_t", "densenet121", "regnet_y_400mf", "efficientnet_b0")},
    "torchvision vit": _tv("vit_b_16", image_size=SIZE),
    **{f"vit of {depth}": _vit(depth) for depth in (2, 3, 6, 12)},
    "vit without class token": _vit(6, class_token=False, global_pool="avg"),
    "vit with registers": _vit(6, reg_tokens=4),
    **{
        f"timm {name}": _timm(name)
        for name in ("convnext_atto", "mobilenetv3_small_050", "resnetv2_50", "efficientvit_b0")
    },
    **{
        f"timm {name}": _timm(name, img_size=SIZE)
        for name in ("swin_tiny_patch4_window7_224", "deit_tiny_distilled_patch16_224")
    },
    "timm pvt": _timm("pvt_v2_b0"),
    "timm hiera": _timm("hiera_tiny_224", img_size=128),
    "timm cait": _timm("cait_xxs24_224", img_size=SIZE, depth=6),
    "transformers vit": _hf("ViT", num_hidden_layers=6, **_HF_VIT),
    "transformers deit": _hf("DeiT", num_hidden_layers=6, **_HF_VIT),
    "transformers msn": _hf("ViTMSN", num_hidden_layers=6, **_HF_VIT),
    "transformers dinov2": _hf("Dinov2", num_hidden_layers=4, patch_size=16, **_HF_VIT),
    "transformers resnet": _hf("ResNet", depths=[1, 1, 1, 1], layer_type="basic"),
    "transformers pvt": _hf("Pvt", image_size=SIZE),
    "transformers swin": _hf("Swin", image_size=SIZE, depths=[1, 1, 1, 1], window_size=2),
    "compiled": _compiled,
    "compiled inside": _compiled_inside,
    "checkpointed": lambda: Checkpointed(reentrant=False),
    "checkpointed, reentrant": lambda: Checkpointed(reentrant=True),
    "timm checkpointed": _switched,
    "ensemble": Ensemble,
    "bfloat16": lambda: _tv("resnet18")().bfloat16(),
    "one logit": lambda: torchvision.models.resnet18(num_classes=1),
    "many labels": _sigmoids,
    "six channels": _six_channels,
    "vit_pytorch": _vit_pytorch,
    "open_clip": _open_clip,
    "peft": _peft,
}


def _state(network: nn.Module) -> dict[str, Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": [len(getattr(m, name)) for m in network.modules() for name in hooks],
        "modes": [module.training for module in network.modules()],
        "compiled": [module._compiled_call_impl for module in network.modules()],
        "values": [float(each.double().sum()) for each in network.state_dict().values()],
        "grads": [parameter.grad for parameter in network.parameters()],
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # peft
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's, reentrant
@pytest.mark.parametrize("name", NETWORKS)
def test_what_holds_for_every_network(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().train()
    for parameter in network.parameters():  # heads that begin with zeros tell of no class
        if parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    channels = 6 if name == "six channels" else 3
    size = 128 if name == "timm hiera" else SIZE
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    before = _state(network)
    model = naspix.wrap_model(
        network, input_size=size, mean=[0.5] * channels, std=[0.25] * channels
    )
    maps = model.activations(images, range(len(model.levels)))
    for level, each in zip(model.levels, maps, strict=True):
        assert not torch.equal(each[0], each[1]), level
    heat = naspix.saliency.GradCAMPlusPlus(model)(images)
    assert heat.flatten(1).amax(1).min() > 0
    found = model.probabilities(images)
    assert _state(network) == before

    network.eval()
    with torch.no_grad():
        own = network(model.standardize(images))
    own = getattr(own, "logits", own).float()
    if name == "many labels":
        expected = own
    elif own.shape[1] == 1:
        expected = torch.cat([(-own).sigmoid(), own.sigmoid()], 1)
    else:
        expected = own.softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
