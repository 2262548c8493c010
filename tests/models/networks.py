"""Networks for the tests of this folder: small ones written out, and a list of known ones."""

from collections.abc import Callable
from types import SimpleNamespace

import timm
import torch
import torchvision
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Five resolutions, an in-place ReLU after each convolution, no known family."""

    def __init__(self, channels: int = 3, n_classes: int = 4) -> None:
        super().__init__()
        widths = [channels, 4, 6, 8, 10, 12]
        self.body = nn.Sequential()
        for i in range(5):
            self.body.append(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1))
            self.body.append(nn.ReLU(inplace=True))
            if i < 4:
                self.body.append(nn.MaxPool2d(2))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x).mean((2, 3))))


class Block(nn.Module):
    """An encoder layer that returns a tuple, as Hugging Face's do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        change = self.mlp(self.norm(x.clone())) + x.mean(1, keepdim=True)
        x += change  # overwrites what came in
        return (x,)


class HubLikeViT(nn.Module):
    """The layout and the manners of Hugging Face's ViTForImageClassification, in a small."""

    def __init__(self, depth: int = 12, n_prefix: int = 1, patch: int = 8, width: int = 16) -> None:
        super().__init__()
        self.vit = nn.Module()
        self.vit.embeddings = nn.Module()
        self.vit.embeddings.cls_token = nn.Parameter(torch.randn(1, 1, width))
        if n_prefix > 1:
            self.vit.embeddings.register_tokens = nn.Parameter(torch.randn(1, n_prefix - 1, width))
        self.vit.embeddings.projection = nn.Conv2d(3, width, patch, patch)
        self.vit.encoder = nn.Module()
        self.vit.encoder.layer = nn.ModuleList(Block(width) for _ in range(depth))
        self.classifier = nn.Linear(width, 7)
        self.config = SimpleNamespace(image_size=64, id2label={1: "b", 0: "a", **_names(2, 7)})

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        parts = self.vit.embeddings
        patches = parts.projection(pixel_values).flatten(2).transpose(1, 2)
        front = [parts.cls_token]
        if hasattr(parts, "register_tokens"):
            front.append(parts.register_tokens)
        x = torch.cat([token.expand(len(patches), -1, -1) for token in front] + [patches], 1)
        for layer in self.vit.encoder.layer:
            x = layer(x)[0]
        return SimpleNamespace(logits=self.classifier(x[:, 0]), loss=None)


def _names(start: int, stop: int) -> dict[int, str]:
    return {i: f"c{i}" for i in range(start, stop)}


def _tv(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=5, **options)


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=5, **options)


def _stages(pattern: str, indices: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(pattern.format(i) for i in indices)


_RESNET = ("maxpool", "layer1", "layer2", "layer3", "layer4")
_ODD = (2, 4, 6, 8, 10)  # the 3rd, 5th, ... encoder layer
_FEATURES = _stages("features.{}", (0, 1, 3, 5, 7))

# name -> (how to build it, frame, the levels expected, how their outputs are laid out)
KNOWN: dict[str, tuple[Callable[[], nn.Module], int, tuple[str, ...] | None, str]] = {
    "resnet18": (_tv("resnet18"), 64, _RESNET, "first"),
    "resnet50": (_tv("resnet50"), 64, _RESNET, "first"),
    "resnext": (_tv("resnext50_32x4d"), 64, _RESNET, "first"),
    "vgg11": (_tv("vgg11"), 64, _stages("features.{}", (0, 3, 8, 13, 18)), "first"),
    "vgg16_bn": (_tv("vgg16_bn"), 64, _stages("features.{}", (4, 11, 21, 31, 41)), "first"),
    "vit_b_16": (
        _tv("vit_b_16", image_size=64),
        64,
        _stages("encoder.layers.encoder_layer_{}", _ODD),
        "tokens",
    ),
    "convnext": (_tv("convnext_tiny"), 64, _FEATURES, "first"),
    "swin": (_tv("swin_t"), 64, _FEATURES, "last"),
    "densenet": (
        _tv("densenet121"),
        64,
        ("features.relu0", *_stages("features.denseblock{}", (1, 2, 3)), "features.norm5"),
        "first",
    ),
    "regnet": (
        _tv("regnet_y_400mf"),
        64,
        ("stem", *_stages("trunk_output.block{}", (1, 2, 3, 4))),
        "first",
    ),
    "efficientnet": (_tv("efficientnet_b0"), 64, None, "first"),
    "mobilenet": (_tv("mobilenet_v3_small"), 64, None, "first"),
    "timm_resnet": (_timm("resnet18"), 64, _RESNET, "first"),
    "timm_resnetv2": (
        _timm("resnetv2_50"),
        64,
        ("stem", *_stages("stages.{}", (0, 1, 2, 3))),
        "first",
    ),
    "timm_vgg_bn": (
        _timm("vgg11_bn"),
        32,
        _stages("features.{}", (1, 5, 12, 19, 26)),
        "first",
    ),
    "timm_vit": (
        _timm("vit_tiny_patch16_224", img_size=64),
        64,
        _stages("blocks.{}", _ODD),
        "tokens",
    ),
    "timm_convnext": (
        _timm("convnext_atto"),
        64,
        ("stem", *_stages("stages.{}", (0, 1, 2, 3))),
        "first",
    ),
    "timm_swin": (
        _timm("swin_tiny_patch4_window7_224", img_size=64),
        64,
        ("patch_embed", *_stages("layers.{}", (0, 1, 2, 3))),
        "last",
    ),
    "timm_efficientnet": (
        _timm("tf_efficientnet_lite0"),
        64,
        _stages("blocks.{}", (0, 1, 2, 4, 6)),
        "first",
    ),
    "hub_vit": (HubLikeViT, 64, _stages("vit.encoder.layer.{}", _ODD), "tokens"),
    "unknown": (
        ConvNet,
        64,
        ("body.1", "body.4", "body.7", "body.10", "body"),
        "first",
    ),
}
