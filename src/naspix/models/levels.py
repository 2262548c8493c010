"""Which modules are a network's levels: the paper's for VGG, ResNet and ViT, else found.

DESIGN section 5. `family_levels` reads the structure alone and runs nothing: torchvision's, timm's
and Hugging Face's layouts, also where the network is a part of a larger module; `tracing.py` sees
whether a pass bears it out. For the rest, `traced_levels` takes the last map at each of the last
five resolutions of that pass; where maps are of tokens, `block_levels` takes the last block. Names
in, names out, shallow first; what the modules put out is `activations.py`'s business.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import nn

from naspix.models.grids import PREFIX_TOKEN

N_LEVELS = 5

_STEMS = ("stem", "patch_embed", "patch_embeds.0")
_TORCHVISION = {  # by class name, which needs no import; the same modules as timm's feature_info
    "ConvNeXt": tuple(f"features.{i}" for i in (0, 1, 3, 5, 7)),
    "SwinTransformer": tuple(f"features.{i}" for i in (0, 1, 3, 5, 7)),
    "MaxVit": ("stem", *(f"blocks.{i}" for i in range(4))),
    "RegNet": ("stem", *(f"trunk_output.block{i}" for i in range(1, 5))),
    "DenseNet": (
        "features.relu0",
        *(f"features.denseblock{i}" for i in range(1, 4)),
        "features.norm5",
    ),
    "Inception3": ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
}
_NARROW = ("EfficientNet", "MobileNetV3")  # timm's, MobileNetV2 being an EfficientNet there
_ENCODER = re.compile(r"(?:^|\.)(?:layer|layers|blocks|resblocks|block)$")
_POSITIONS = re.compile(
    r"(?:^|[._])pos(?:ition|itional)?_?(?:emb|embed|embedding|embeddings)(?:\.weight)?$"
)


def family_levels(network: nn.Module) -> Iterator[tuple[str, ...]]:
    """The levels of networks of known families, of the whole first, then of parts; or nothing.

    * ResNet and its kin: the first max-pool, then the four blocks.
    * VGG: the convolution before each max-pool, with batch norm its output, in both cases before
      the ReLU.
    * Vision transformers: of twelve encoder layers the 3rd, 5th, 7th, 9th and 11th; of ``n`` the
      layers number ``n * (3, 5, 7, 9, 11) / 12``, rounded up; all, if there are five or fewer.
    * ConvNeXt, Swin, MaxViT, RegNet: the stem (patch embedding), then the four stages.
    * DenseNet, Inception: as timm's ``feature_info`` has them.
    * Whatever else timm describes in ``feature_info``: its last five modules; if they are four,
      the stem goes before them.

    Example:
        >>> import torchvision
        >>> next(family_levels(torchvision.models.resnet18()))
        ('maxpool', 'layer1', 'layer2', 'layer3', 'layer4')
    """
    for path, module in network.named_modules():
        for rule in (_resnet, _vgg, _staged, _feature_info, _transformer):
            levels = rule(module)
            if levels:
                yield tuple(f"{path}.{name}" if path else name for name in levels)


def default_levels(network: nn.Module, n_levels: int) -> tuple[int, ...]:
    """The levels taken where none are asked for: the paper's 2, 3 and 4, or the last three.

    In timm's EfficientNets and MobileNets the last two: their level 2 has so few channels (40 of
    320 in the default network) that the paper's weight 1 / (1 + C) makes it drown the deeper ones.
    On 107 photos of kangaroos, K = 5, levels 3 and 4 gave 14 superpixels a photo in place of 127,
    at about the same localisation (MaxBoxAcc at IoU 70: Grad-CAM++ 23 against 27, Integrated
    Gradients 34 against 28, and 11 and 15 without superpixels).

    Example:
        >>> import torchvision
        >>> default_levels(torchvision.models.resnet18(), 5)
        (2, 3, 4)
    """
    narrow = any(
        type(module).__name__ in _NARROW and hasattr(module, "feature_info")
        for module in network.modules()
    )
    return tuple(range(max(0, n_levels - (2 if narrow else 3)), n_levels))


def traced_levels(calls: Sequence[tuple[str, tuple[int, int] | None]]) -> tuple[str, ...]:
    """The last map at each of the last five resolutions, from a forward pass's module calls.

    Pooled maps of one pixel are no levels, nor are maps finer than the first (attention weights).

    Args:
        calls: Name and map size `(h, w)` of each call, in the order in which the calls ended.

    Example:
        >>> traced_levels([("a", (8, 8)), ("b", (8, 8)), ("c", (4, 4)), ("pool", (1, 1))])
        ('b', 'c')
    """
    maps = [(size[0] * size[1], name) for name, size in calls if size and name]
    last = {area: name for area, name in maps if 1 < area <= maps[0][0]}
    return tuple(last[area] for area in sorted(last, reverse=True)[-N_LEVELS:])


def block_levels(
    calls: Sequence[tuple[str, tuple[int, int] | None]], modules: Mapping[str, nn.Module]
) -> tuple[str, ...]:
    """The last block at each of the last five resolutions of a network whose maps are of tokens.

    A block has parts, and stands in a row: its name ends with a number. What runs inside of one,
    such as queries and keys that are still as many as before, is no level. Where there is no block
    the last other map is taken. Of a network of one resolution they are spread over its blocks.

    Args:
        calls: Name and map size `(h, w)` of each call, in the order in which the calls ended.
        modules: The network's, by name.

    Example:
        >>> rows = {f"stages.{i}": nn.Sequential(nn.Linear(2, 2)) for i in range(2)}
        >>> inside = {f"{name}.0": row[0] for name, row in rows.items()}
        >>> calls = [("stages.0", (8, 8)), ("stages.1.0", (8, 8)), ("stages.1", (4, 4))]
        >>> block_levels(calls, rows | inside)
        ('stages.0', 'stages.1')
    """
    blocks = {
        name
        for name, size in calls
        if size and name.rpartition(".")[2].isdigit() and _children(modules[name])
    }
    outer = [
        (name, size)
        for name, size in calls
        if not any(name.startswith(f"{block}.") for block in blocks)
    ]
    levels = traced_levels(outer)
    last = {size: name for name, size in calls if name in blocks}
    if len(levels) == 1 and len(last) == 1:
        rows = list(dict.fromkeys(name for name, _ in outer if name in blocks))
        rows = [name for name in rows if type(modules[name]) is type(modules[rows[-1]])]
        return tuple(rows[i] for i in spread(len(rows)))
    sizes = dict(outer)
    return tuple(last.get(sizes[name], name) for name in levels)


def spread(n: int) -> list[int]:
    """Positions, from 0, of the levels among ``n`` equal layers: of twelve, 2, 4, 6, 8 and 10."""
    if n <= N_LEVELS:
        return list(range(n))
    return [math.ceil(n * k / 12) - 1 for k in (3, 5, 7, 9, 11)]


def _has(module: nn.Module, names: Iterable[str]) -> bool:
    try:
        return all(module.get_submodule(name) is not None for name in names)
    except (AttributeError, RuntimeError):  # no such module, or TorchScript
        return False


def _children(module: nn.Module) -> dict[str, nn.Module]:
    return dict(module.named_children())


def _resnet(module: nn.Module) -> tuple[str, ...] | None:
    children = _children(module)
    layouts = {
        "maxpool": ("maxpool", "layer1", "layer2", "layer3", "layer4"),
        "embedder": ("embedder", *(f"encoder.stages.{i}" for i in range(4))),  # Hugging Face's
        "embeddings": ("embeddings", *(f"encoder.stages.{i}" for i in range(4))),  # its ConvNeXt
    }
    for first, names in layouts.items():
        if first in children and _has(module, names):
            return names
    if type(module).__name__ == "ResNetV2":  # timm: the stem ends with the pool
        return ("stem", *(f"stages.{i}" for i in range(4)))
    return None


def _vgg(module: nn.Module) -> tuple[str, ...] | None:
    features = _children(module).get("features")
    if not isinstance(features, nn.Sequential):
        return None
    levels: list[str] = []
    last = ""
    for name, layer in features.named_children():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            last = f"features.{name}"
        elif isinstance(layer, nn.MaxPool2d):
            levels.append(last)
        elif next(layer.children(), None) is not None:
            return None
    return tuple(levels) if len(levels) == N_LEVELS and all(levels) else None


def _staged(module: nn.Module) -> tuple[str, ...] | None:
    """What torchvision calls the stages of networks that have few enough of them to be named."""
    names = _TORCHVISION.get(type(module).__name__, ())
    return names if names and _has(module, names) else None


def _feature_info(module: nn.Module) -> tuple[str, ...] | None:
    """What timm says about a network's features."""
    info = getattr(module, "feature_info", None)
    if callable(info):  # of blocks that describe themselves to timm
        return None
    entries = [entry for entry in info or () if isinstance(entry, dict)]
    names = [str(entry.get("module", "")) for entry in entries]
    if not names or not all(names) or not _has(module, names):
        return None
    names = [_called(module, name) for name in names]
    if len(set(names)) < len(names):  # one module puts out maps of several resolutions
        return None
    if len({entry.get("reduction") for entry in entries}) == 1:
        return tuple(names[i] for i in spread(len(names)))
    if len(names) < N_LEVELS:
        names = [*(stem for stem in _STEMS if _has(module, [stem])), *names][-N_LEVELS:]
    return tuple(names[-N_LEVELS:])


def _called(module: nn.Module, name: str) -> str:
    """The last module of a list, since a list itself is not called."""
    row = module.get_submodule(name)
    return f"{name}.{len(row) - 1}" if isinstance(row, nn.ModuleList) and len(row) else name


def _transformer(module: nn.Module) -> tuple[str, ...] | None:
    """A row of equal encoder layers in a module with class tokens or learnt positions."""
    parameters = [name for name, _ in module.named_parameters()]
    if not any(PREFIX_TOKEN.search(name) or _POSITIONS.search(name) for name in parameters):
        return None
    for path, row in module.named_modules():
        if not isinstance(row, nn.ModuleList | nn.Sequential) or not _ENCODER.search(path):
            continue
        kinds = {type(layer) for layer in row}
        if len(kinds) == 1 and len(row) > 1 and not kinds & {nn.Linear, nn.Conv2d}:
            inside = set(row.modules())
            if any(type(one) in kinds and one not in inside for one in module.modules()):
                return (
                    None  # stages of a hierarchical one, or a row for texts beside that for images
                )
            names = [name for name, _ in row.named_children()]
            return tuple(f"{path}.{names[i]}" for i in spread(len(names)))
    return None
