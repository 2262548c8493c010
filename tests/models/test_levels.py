"""Rules for finding levels, beside the architectures of the contract."""

import warnings

import pytest
import timm
import torch
import torchvision
from networks import ConvNet, HubLikeViT
from torch import Tensor, nn

import naspix
from naspix.errors import ActivationError, ModelError, UnknownNameError
from naspix.models.levels import family_levels, spread, traced_levels


@pytest.mark.parametrize(
    ("n", "numbers"),
    [
        (12, [3, 5, 7, 9, 11]),
        (24, [6, 10, 14, 18, 22]),
        (6, [2, 3, 4, 5, 6]),
        (4, [1, 2, 3, 4]),
        (1, [1]),
    ],
)
def test_spread(n: int, numbers: list[int]) -> None:
    assert [i + 1 for i in spread(n)] == numbers


def test_spread_has_no_doubles() -> None:
    for n in range(5, 60):
        found = spread(n)
        assert len(set(found)) == 5
        assert found == sorted(found)
        assert 0 <= found[0] < found[-1] < n


def test_a_family_is_known_inside_of_a_larger_module() -> None:
    network = nn.ModuleDict({"backbone": torchvision.models.resnet18(), "extra": nn.Linear(2, 2)})
    assert next(family_levels(network)) == tuple(
        f"backbone.{name}" for name in ("maxpool", "layer1", "layer2", "layer3", "layer4")
    )


def test_depth_of_a_transformer_does_not_matter() -> None:
    levels = naspix.wrap_model(HubLikeViT(depth=4)).levels
    assert levels == tuple(f"vit.encoder.layer.{i}" for i in range(4))


def test_traced_levels_pass_over_pools_and_attention() -> None:
    calls = [
        ("stem", (16, 16)),
        ("attention", (64, 64)),
        ("a", (16, 16)),
        ("reduced", (2, 2)),
        ("b", (8, 8)),
        ("c", (2, 2)),
        ("pool", (1, 1)),
        ("head", None),
        ("", (1, 1)),
    ]
    assert traced_levels(calls) == ("a", "b", "c")
    assert traced_levels([]) == ()


STAGES = tuple(f"stages.{i}" for i in range(4))


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [
        ("mvitv2_tiny", {"img_size": 64}, STAGES),  # not the pools and projections inside attention
        ("mvitv2_small_cls", {"img_size": 128}, STAGES),  # not two blocks of its second stage
        ("levit_128s", {}, ("stem", *STAGES[:2])),  # untrained, its last tokens are all alike
        (
            "coat_tiny",  # one module puts out maps of several resolutions, the finest first
            {"img_size": 64},
            ("parallel_blocks.5", *(f"serial_blocks{i}.1" for i in (2, 3, 4))),
        ),
    ],
)
def test_hierarchical_transformers_have_a_level_a_stage(
    name: str, options: dict[str, int], levels: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **options)
    model = naspix.wrap_model(network, input_size=options.get("img_size", 224))
    assert model.levels == levels
    maps = model.activations(torch.rand(1, 3, *model.input_size), levels)
    sizes = [each.shape[2] for each in maps]
    assert sizes == sorted(sizes, reverse=True)


def test_blocks_that_are_no_modules_leave_those_that_are_in_them() -> None:
    """As vit_pytorch's ViT, whose layers are lists of an attention and a perceptron."""

    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 8, 8)
            self.layers = nn.ModuleList(
                nn.ModuleList(
                    [
                        nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)),
                        nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)),
                    ]
                )
                for _ in range(3)
            )
            self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).mT
            for first, second in self.layers:
                x = x + first(x)
                x = x + second(x)
            return self.head(self.norm(x).mean(1))

    torch.manual_seed(0)
    found = naspix.wrap_model(Lists(), input_size=32).levels
    assert found == ("layers.0.1", "layers.1.0", "layers.1.1", "layers.2.0", "layers.2.1")


def test_a_map_handed_over_beside_other_tensors_is_no_level() -> None:
    """As Hugging Face's Swin, whose classifier goes on from the pooled tensor, not from the map."""

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.GroupNorm(1, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.norm(self.conv(x))
            return {"last_hidden_state": x, "pooler_output": x.mean((2, 3))}

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.backbone(x)["pooler_output"])

    model = naspix.wrap_model(Network(), input_size=8)
    assert model.levels == ("backbone.norm",)
    assert naspix.saliency.GradCAM(model)(torch.rand(1, 3, 8, 8)).shape == (1, 8, 8)


def test_attention_weights_that_look_like_a_map_are_no_level() -> None:
    """Of 16 tokens each: as large as the map of 16 x 16 that came before them."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.down = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 4, 4)
            self.drop, self.head = nn.Dropout(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.down(self.stem(x)).flatten(2)
            weights = self.drop((tokens.mT @ tokens).softmax(2)[:, None])
            return self.head((tokens @ weights[:, 0].mT).mean(2))

    assert naspix.wrap_model(Attending(), input_size=32).levels == ("stem", "down")


def test_learnt_positions_tell_a_transformer_without_a_class_token() -> None:
    """As SigLIP, whose positions are an ``nn.Embedding``."""
    network = HubLikeViT(n_prefix=1)
    embeddings = network.vit.embeddings
    del embeddings.cls_token
    embeddings.position_embedding = nn.Embedding(64, 16)
    assert next(family_levels(network)) == tuple(f"vit.encoder.layer.{i}" for i in (2, 4, 6, 8, 10))


def test_fewer_resolutions_make_fewer_levels() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(2)
    )
    network.append(nn.AdaptiveAvgPool1d(1))
    model = naspix.wrap_model(network, input_size=16)
    assert model.levels == ("0", "2")
    with pytest.raises(UnknownNameError, match="no level 2: Sequential has 2 levels, from 0 to 1"):
        model.level_names([2])


def test_a_network_without_maps_says_so_only_when_levels_are_asked_for() -> None:
    model = naspix.wrap_model(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), input_size=2)
    assert model.n_classes == 2
    assert "found when first needed" in repr(model)
    with pytest.raises(ModelError, match="no module of Sequential puts out a map"):
        _ = model.levels


def test_valid_convolutions_on_oblong_images_are_traced() -> None:
    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 6, 5)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.b(self.pool(self.a(x)))).mean((2, 3))

    model = naspix.wrap_model(LeNet(), input_size=(28, 40))
    assert model.in_channels == 1
    assert model.levels == ("a", "pool", "b") or len(model.levels) == 4


def test_named_levels_are_checked_when_wrapping() -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        naspix.wrap_model(ConvNet(), levels=["bodi.1"])
    assert naspix.wrap_model(ConvNet(), levels=["body.1", "body"]).levels == ("body.1", "body")


def test_a_quantised_network_is_said_to_be_one() -> None:
    """Its stub hands the photo on, and is no level, quantised or only prepared for it."""
    quantization = torch.ao.quantization

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
            self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.first(self.quant(x)).relu()).mean((2, 3))
            return self.dequant(self.head(x))

    network = Small().eval()
    assert naspix.wrap_model(network, input_size=32).levels == ("first", "second")
    before = torch.backends.quantized.engine
    supported = [one for one in torch.backends.quantized.supported_engines if one != "none"]
    if not supported:
        pytest.skip("this torch has no engine of quantisation")
    try:
        torch.backends.quantized.engine = engine = supported[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, deprecated there
            network.qconfig = quantization.get_default_qconfig(engine)
            prepared = quantization.prepare(network)
            prepared(torch.rand(4, 3, 32, 32))
            network = quantization.convert(prepared)
        model = naspix.wrap_model(network, input_size=32, mean=[0.5] * 3, std=[0.25] * 3)
        with pytest.raises(ModelError, match="Small is quantised, and has no maps"):
            _ = model.levels
        with pytest.raises(ActivationError, match="'quant' is quantised"):
            model.activations(torch.rand(1, 3, 32, 32), "quant")
        with pytest.raises(ModelError, match="Small is quantised"):
            naspix.NAS(model)
    finally:
        torch.backends.quantized.engine = before


def test_modules_that_hand_the_photo_on_are_no_levels() -> None:
    network = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Conv2d(3, 4, 2, 2), nn.Flatten())
    network.append(nn.LazyLinear(3))
    network(torch.rand(1, 3, 16, 16))
    assert naspix.wrap_model(network, input_size=16).levels == ("2",)
