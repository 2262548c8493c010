"""Classifier: a network one can ask about. Images in [0, 1] in; logits, probabilities, activations.

It standardises the images, asks the network in eval mode, picks the logits out of whatever comes
back, knows the names of categories and the network's levels (DESIGN sections 1 and 5). The network
itself is never changed: not its mode, hooks, weights, gradients or random state. It does not train.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from numbers import Integral
from typing import Any, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from naspix.errors import DeviceError, InputError, ModelError, NaspixError, UnknownNameError
from naspix.images import (
    MAX_PIXELS,
    Resize,
    Source,
    check_images,
    check_shape,
    read_images,
)
from naspix.models.activations import recording, tracing
from naspix.models.batches import is_out_of_memory
from naspix.models.levels import default_levels, family_levels, traced_levels
from naspix.models.scores import Logits, pick_logits

Level = int | str

_modes: dict[int, tuple[int, list[nn.Module]]] = {}
_modes_lock = threading.Lock()


class Classifier(nn.Module):
    """A network with what an explanation has to know about it.

    Made by `load_model` or `wrap_model`. ``train()`` does not reach the network, which is always
    asked in eval mode and handed back as it was; ``to()`` moves it, like any module.

    Args:
        network: The module that turns standardised images into logits; `DataParallel` and
            compiled wrappers are taken off.
        name: What to call it in reports.
        input_size: Height and width that `load_images` makes.
        mean: Of each channel on the scale of [0, 1]; the images' mean is subtracted first.
        std: Of each channel, the same scale; divides second.
        categories: The classes' names in the order of the logits.
        levels: Module names, shallow first; None finds them.
        logits: Key, position or function that picks the logits from what the network returns.
        crop_pct: Share of the scaled picture that ``resize="crop"`` keeps.
        interpolation: How `load_images` resizes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        input_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        categories: Sequence[str] | None = None,
        levels: Sequence[str] | None = None,
        logits: Logits | None = None,
        crop_pct: float = 0.875,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        self.training = False
        self.network = unwrapped(network)
        self.wrapper = None if self.network is network else type(network).__name__
        self.name = name
        self.input_size = input_size
        self.in_channels = len(mean)
        self.categories = None if categories is None else tuple(categories)
        self.crop_pct = crop_pct
        self.interpolation = interpolation
        self.register_buffer("mean", _per_channel(mean, self.device), persistent=False)
        self.register_buffer("std", _per_channel(std, self.device), persistent=False)
        self._logits = logits
        self._n_classes = None if categories is None else len(categories)
        self._calls: dict[str, int] | None = None  # how often each module runs in a pass
        self._levels = family_levels(self.network) if levels is None else None
        self._family = frozenset(self._levels or ())
        if levels is not None:
            self._levels = self.level_names(tuple(levels))

    @property
    def device(self) -> torch.device:
        """Where the network's parameters are; the CPU if it has none."""
        tensors = chain(self.network.parameters(), self.network.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in: its first floating-point parameter's type."""
        for parameter in self.network.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return torch.float32

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels' module names, shallow first; an unknown network is traced once for them.

        Raises:
            ModelError: If tracing fails, or finds no map.
        """
        if self._levels is None:
            self._trace()
            if not self._levels:
                raise ModelError(
                    f"no module of {self.name} puts out a map (B, C, h, w) to be a level; "
                    "name some with levels="
                )
        return self._levels

    @property
    def default_levels(self) -> tuple[int, ...]:
        """What NAS takes where no levels are asked for: 2, 3 and 4 in the paper's networks."""
        return default_levels(self.network, len(self.levels))

    @property
    def n_classes(self) -> int:
        """How many logits the network returns for an image."""
        if self._n_classes is None:
            with torch.no_grad():
                self(self._blank(1))
        assert self._n_classes is not None  # set by forward
        return self._n_classes

    def train(self, mode: bool = True) -> Self:
        """Set this module's own flag; the network's mode is left to its owner."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Float[Tensor, "B n_classes"]:
        """Standardise the images and ask the network in eval mode.

        Args:
            images: `(B, C, H, W)` in [0, 1]; those on another device are moved.

        Returns:
            Logits, float32 (float64 if the network's weights are).

        Raises:
            InputError: If the images have the wrong shape, type or number of channels.
            ModelError: If the network fails on them, or returns no logits.
            DeviceError: If memory runs out.
        """
        logits = pick_logits(self._ask(images), self._logits, batch=len(images), name=self.name)
        self._n_classes = int(logits.shape[1])
        if self.categories is not None and len(self.categories) != self._n_classes:
            raise ModelError(
                f"{self.name} returns {self._n_classes} logits, but {len(self.categories)} names "
                "of categories are given"
            )
        return logits

    def probabilities(self, images: Tensor) -> Float[Tensor, "B n_classes"]:
        """Softmax of the logits; each row sums to one."""
        logits: Tensor = self(images)
        return logits.softmax(1)

    def standardize(self, images: Tensor) -> Float[Tensor, "B C H W"]:
        """Images as the network gets them: its device and type, mean removed, divided by std."""
        check_shape(images, self.in_channels)
        device, dtype = self.device, self.dtype
        working = torch.promote_types(torch.float32, images.dtype)
        images = images.to(device, working)
        return ((images - self.mean.to(device)) / self.std.to(device)).to(dtype)

    def level_names(self, levels: Level | Iterable[Level]) -> tuple[str, ...]:
        """Module names of levels given by number or by module name.

        Raises:
            UnknownNameError: If there is no such level, with the modules named most like it.
        """
        wanted = [levels] if isinstance(levels, int | str | Integral) else list(levels)
        if not wanted:
            raise InputError("no levels are given; choose at least one")
        return tuple(self._level_name(level) for level in wanted)

    def activations(
        self, images: Tensor, levels: Level | Iterable[Level] = (2, 3, 4)
    ) -> list[Float[Tensor, "B C h w"]]:
        """What chosen levels put out, detached; the forward pass stops at the deepest.

        Tokens are laid out as a grid without class and register tokens; values are as the level's
        module hands them over, before anything overwrites them. A module that runs more than once
        in a pass gives its last call. Values that are not finite are passed on as they are.

        Args:
            images: `(B, C, H, W)` in [0, 1].
            levels: Level numbers or module names, repeated if you like.

        Raises:
            InputError: If the images are not in [0, 1], or not images.
            UnknownNameError: If there is no such level.
            ActivationError: If a level has no spatial map.

        Example:
            >>> import naspix, torch
            >>> model = naspix.load_model("efficientnet_lite0")
            >>> [tuple(a.shape) for a in model.activations(torch.rand(1, 3, 64, 64), [2, 4])]
            [(1, 40, 8, 8), (1, 320, 2, 2)]
        """
        names = self.level_names(levels)
        check_images(images, self.in_channels)
        stop_after = dict.fromkeys(names, 1)
        if not self._family.issuperset(names):
            if self._calls is None:
                self._trace(images[:1])
            assert self._calls is not None  # set by _trace
            stop_after = {name: self._calls[name] or 1 for name in names}
        with (
            torch.no_grad(),
            recording(self.network, names, detach=True, stop_after=stop_after) as maps,
        ):
            self._ask(images)
        return [maps[name] for name in names]

    def load_images(
        self,
        sources: Source | Iterable[Source],
        resize: Resize | None = "crop",
        *,
        max_pixels: int = MAX_PIXELS,
    ) -> Float[Tensor, "B C H W"]:
        """Read pictures as this network wants them, on its device.

        Args:
            sources: One path, PIL image, array `(H, W, 3)` or tensor `(C, H, W)`, or several.
            resize: ``"crop"`` scales and takes the middle, as the network was tested; ``"squash"``
                keeps the whole picture but not its shape; None keeps the picture at its own size.
            max_pixels: Larger pictures are refused, as are those with a side of more than three
                times its square root.

        Raises:
            ImageError: If a source cannot be read as a picture, naming it.
            InputError: If there are none, or their sizes differ and ``resize`` is None.

        Example:
            >>> import naspix, skimage
            >>> model = naspix.load_model("efficientnet_lite0")
            >>> model.load_images(skimage.data.chelsea()).shape
            torch.Size([1, 3, 224, 224])
        """
        return read_images(
            sources,
            self.input_size,
            channels=self.in_channels,
            resize=resize,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            max_pixels=max_pixels,
        ).to(self.device)

    def category(self, index: int) -> str:
        """The name of a class, or ``"class 7"`` where names are not known."""
        if self.categories is None:
            return f"class {index}"
        if not 0 <= index < len(self.categories):
            raise InputError(f"there is no class {index}: {self._class_range(self.n_classes)}")
        return self.categories[index]

    def resolve_target(
        self, images: Tensor, target: int | Tensor | None, logits: Tensor | None = None
    ) -> Int64[Tensor, " B"]:
        """The class asked about for each image.

        Args:
            images: `(B, C, H, W)`.
            target: A class for all images, one for each, or None for the predicted ones.
            logits: Of these images, if at hand; otherwise the network is asked where need be.

        Raises:
            InputError: If a target is no class, or there are not as many as images.
        """
        if target is None:
            if logits is None:
                with torch.no_grad():
                    logits = self(images)
            return logits.detach().argmax(1)
        classes = torch.as_tensor(target)
        if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
            raise InputError(f"a target must be a whole number, a class; {target!r} is not")
        if classes.ndim > 1 or (classes.ndim == 1 and len(classes) != len(images)):
            raise InputError(
                f"there must be one target, or one for each of the {len(images)} images, but the "
                f"shape given is {tuple(classes.shape)}"
            )
        n_classes = self.n_classes if logits is None else logits.shape[1]
        wrong = [int(i) for i in classes.flatten() if not 0 <= i < n_classes]
        if wrong:
            raise InputError(f"there is no class {wrong[0]}: {self._class_range(n_classes)}")
        device = self.device if logits is None else logits.device
        return classes.to(device, torch.int64).expand(len(images)).clone()

    def extra_repr(self) -> str:
        """Name, size, classes and levels, for ``repr``."""
        height, width = self.input_size
        classes = "unknown" if self._n_classes is None else self._n_classes
        levels = "found when first needed" if self._levels is None else ", ".join(self._levels)
        return (
            f"{self.name}, {self.in_channels} x {height} x {width}, classes: {classes}, "
            f"levels: {levels}"
        )

    def __repr__(self) -> str:
        return f"Classifier({self.extra_repr()})"

    def __getattr__(self, name: str) -> Any:
        if name == "check":
            raise AttributeError("Classifier has no check() any more; call naspix.check(model)")
        return super().__getattr__(name)

    def _class_range(self, n_classes: int) -> str:
        return f"{self.name} has {n_classes} classes, from 0 to {n_classes - 1}"

    def _level_name(self, level: Level) -> str:
        if _is_whole(level):
            levels = self.levels
            if 0 <= int(level) < len(levels):
                return levels[int(level)]
            raise UnknownNameError(
                f"there is no level {level}: {self.name} has {len(levels)} levels, "
                f"from 0 to {len(levels) - 1} ({', '.join(levels)})"
            )
        names = dict(self.network.named_modules(remove_duplicate=False))
        if isinstance(level, str) and level and level in names:
            return level
        raise UnknownNameError.among("level", level, filter(None, names))

    def _ask(self, images: Tensor) -> object:
        return ask(self.network, self.standardize(images), self.name)

    def _blank(self, batch: int) -> Tensor:
        return torch.full((batch, self.in_channels, *self.input_size), 0.5, device=self.device)

    def _trace(self, images: Tensor | None = None) -> None:
        """One forward pass that finds levels and how often modules run; random state kept."""
        images = self._blank(2) if images is None else images
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            torch.no_grad(),
            tracing(self.network) as calls,
        ):
            self._ask(images)
        counts: dict[nn.Module, int] = {}
        for call in calls:
            counts[call.module] = counts.get(call.module, 0) + 1
        names = {module: name for name, module in self.network.named_modules()}
        self._calls = {
            name: counts.get(module, 0)
            for name, module in self.network.named_modules(remove_duplicate=False)
        }
        if self._levels is None and len(images) > 1:
            own = [call for call in calls if call.own]
            self._levels = traced_levels([(names[call.module], call.size) for call in own])


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor([float(value) for value in values], device=device).view(1, -1, 1, 1)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `DataParallel`, `DistributedDataParallel` and compiled wrappers."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; after it, every submodule has its own training flag again.

    Blocks may overlap, in one thread or several: the last to end restores what the first found.
    """
    key = id(network)
    with _modes_lock:
        depth, training = _modes.get(key, (0, []))
        if depth == 0:
            training = [module for module in network.modules() if module.training]
            for module in training:
                module.training = False
        _modes[key] = depth + 1, training
    try:
        yield
    finally:
        with _modes_lock:
            depth, training = _modes.pop(key)
            if depth > 1:
                _modes[key] = depth - 1, training
            else:
                for module in training:
                    module.training = True


def ask(network: nn.Module, standardized: Tensor, name: str) -> object:
    """The network's own answer in eval mode, its failures as one sentence.

    Raises:
        ModelError: If the network fails on these images.
        DeviceError: If memory runs out.
    """
    with evaluating(network):
        try:
            return network(standardized)
        except NaspixError:
            raise
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
            size = " x ".join(map(str, standardized.shape))
            if is_out_of_memory(error):
                raise DeviceError(
                    f"memory of {standardized.device} ran out on a batch of {size}; "
                    "use a smaller batch size"
                ) from None
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"{name} fails on images of {size}, which may not be the size or the number of "
                f"channels that it was made for: {reason}"
            ) from error
