"""Classifier: a network one can ask about. Images in [0, 1] in; logits, probabilities, activations.

It standardises the images, asks the network in eval mode, picks the logits out of whatever comes
back, knows the names of categories and the network's levels (DESIGN sections 1 and 5). The network
itself is never changed: not its mode, hooks, weights, gradients or random state. It does not train.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from itertools import chain, takewhile
from numbers import Integral
from typing import Any, Literal, Self, TypeGuard

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn

from naspix.errors import InputError, ModelError, UnknownNameError
from naspix.images import (
    MAX_PIXELS,
    Resize,
    Source,
    as_batch,
    check_images,
    check_shape,
    read_eight_bit,
    read_images,
)
from naspix.images.fitting import Fit, fit
from naspix.models.activations import recording
from naspix.models.answers import Logits
from naspix.models.asking import ask, unwrapped
from naspix.models.functions import Forward, check_seen_into
from naspix.models.levels import default_levels, family_levels
from naspix.models.scores import (
    Output,
    ScoreMeaning,
    ScoreReader,
    check_output,
    find_reader,
    plain_reader,
)
from naspix.models.seen import SeenPart, find_part
from naspix.models.tracing import Trace, differentiate_levels, no_levels, trace_network
from naspix.targets import (
    Number,
    Target,
    asks_predicted,
    find_class,
    name_of,
    resolve,
    with_class_numbers,
)

Level = int | str | nn.Module


class Classifier(nn.Module):
    """A network with what an explanation has to know about it.

    Made by `load_model` or `wrap_model`. ``train()`` does not reach the network, which is always
    asked in eval mode and handed back as it was; ``to()`` moves it, like any module.

    Args:
        network: The module that turns standardised images into logits; `DataParallel` and
            compiled wrappers are taken off.
        name: What to call it in reports.
        input_size: Height and width that `load_images` makes; None takes them of the first photo.
        mean: Of each channel on the scale of [0, 1]; the images' mean is subtracted first.
        std: Of each channel, the same scale; divides second.
        categories: The classes' names in the order of the logits.
        levels: Module names, shallow first; None finds them.
        logits: Key, position or function that picks the logits from what the network returns.
        output: What the scores are: ``"softmax"`` of one class of many, ``"sigmoid"`` of each class
            on its own, ``"none"`` for numbers that are no classes'; None finds out (`scores`).
        resize: How `load_images` makes photos fit, if it is not told.
        crop_pct: Share of the scaled picture that ``resize="crop"`` keeps.
        interpolation: How `load_images` resizes.
        preprocess: Makes `(C, H, W)` in [0, 1] of a PIL image, in place of cropping and resizing.
        forward: Calls the network with standardised images and whatever else it needs.
        shown: Which channels pictures show as red, green and blue, or one as grey; the first three.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        input_size: tuple[int, int] | None,
        mean: Sequence[float],
        std: Sequence[float],
        categories: Sequence[str] | None = None,
        levels: Sequence[str] | None = None,
        logits: Logits | None = None,
        output: Output | None = None,
        resize: Resize = "crop",
        crop_pct: float = 0.875,
        interpolation: str = "bilinear",
        preprocess: Callable[[Image.Image], Tensor] | None = None,
        forward: Forward | None = None,
        shown: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.training = False
        self.network = unwrapped(network)
        self.wrapper = None if self.network is network else type(network).__name__
        self.name = name
        self._input_size = input_size
        self.in_channels = len(mean)
        self.shown = None if shown is None else tuple(shown)
        if self.shown is not None and (
            len(self.shown) not in (1, 3) or not set(self.shown) <= set(range(len(mean)))
        ):
            raise InputError(
                f"shown={self.shown}: name three of the channels 0 to {len(mean) - 1}, or one"
            )
        check_output(output)
        self._names = None if categories is None else tuple(categories)
        self._output: Output | None = output
        self._reader: ScoreReader | None = None
        self.resize = resize
        self.crop_pct = crop_pct
        self.interpolation = interpolation
        self.preprocess = preprocess
        self.called_by = forward
        self.register_buffer("mean", _per_channel(mean, self.device), persistent=False)
        self.register_buffer("std", _per_channel(std, self.device), persistent=False)
        self._logits = logits
        # a single name may be that of one direction of two
        self._n_classes = len(self._names) if self._names and len(self._names) > 1 else None
        self._look: Trace | None = None
        self._reached: tuple[str, ...] | None = None  # levels that gradients come to
        self._levels: tuple[str, ...] | None = None
        if levels is not None:
            self._levels = self.level_names(tuple(levels))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that `load_images` makes; 224 as long as nobody has said or shown it."""
        return self._input_size or (224, 224)

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
        """The levels' module names, shallow first; the network is traced once for them.

        Raises:
            ModelError: If tracing fails, or finds no map.
        """
        if self._levels is None:
            check_seen_into(self, "a level", "activations")
            look = self._traced()
            self._levels = look.levels or None
            if self._levels is None:
                raise no_levels(look, self.network, self.name)
        return self._levels

    @property
    def default_levels(self) -> tuple[int, ...]:
        """What NAS takes where no levels are asked for: 2, 3 and 4 in the paper's networks."""
        return default_levels(self.network, len(self.levels))

    @property
    def deepest_level(self) -> int:
        """The deepest level that the scores' gradients come to: the default layer of CAMs.

        A transformer that classifies by its class token alone has no gradients at the patches of
        its last layer. Where they come to no level, it is the last.
        """
        levels = self.levels
        if self._reached is None:
            self._ready()
            self._reached = differentiate_levels(
                self.network, self.forward, levels, self._noise(1, self.input_size)
            )
        reached = [i for i, name in enumerate(levels) if name in self._reached]
        return max(reached, default=len(levels) - 1)

    @property
    def categories(self) -> tuple[str, ...] | None:
        """The classes' names in the order of the scores, if they are known.

        Of a network with one score and one name, class 0 is called ``"not "`` that name.
        """
        if self._names is not None and len(self._names) == 1 and self.scores.one_score:
            return f"not {self._names[0]}", self._names[0]
        return self._names

    @property
    def scores(self) -> ScoreMeaning:
        """What the scores mean, and how that was found out; the network is asked if need be."""
        return self._ready().meaning

    @property
    def n_classes(self) -> int:
        """How many scores an image has: the network's logits, and 2 where it returns one."""
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
            Scores: logits, float32 (float64 if the network's weights are). Of a network that ends
            in a softmax or sigmoid they are what enters it, or the logarithm; of one that returns
            a single logit they are two, its negative for class 0 and itself for class 1.

        Raises:
            InputError: If the images have the wrong shape, type or number of channels.
            ModelError: If the network fails on them, or returns no logits.
            DeviceError: If memory runs out.
        """
        inputs = self.standardize(images)
        batch = len(inputs)
        if self._reader is None:
            answer = self._ask(inputs)
            reader = plain_reader(
                self.network,
                answer,
                output=self._output,
                logits=self._logits,
                batch=batch,
                name=self.name,
            )
            if reader is not None:
                self._reader = reader
                return self._counted(reader.read(answer, batch=batch, name=self.name))
            self._reader = find_reader(
                self.network,
                self._ask,
                inputs,
                output=self._output,
                logits=self._logits,
                n_names=None if self._names is None else len(self._names),
                name=self.name,
            )
        return self._counted(
            self._reader(
                self.network,
                lambda: self._ask(inputs),
                batch=batch,
                name=self.name,
            )
        )

    def probabilities(self, images: Tensor) -> Float[Tensor, "B n_classes"]:
        """The classes' probabilities, by what `scores` says: rows of a softmax sum to one.

        Where scores are numbers of no class (``"none"``), they are returned as they are.
        """
        scores: Tensor = self(images)
        return self.scores.probabilities(scores)

    def answer(self, images: Tensor) -> object:
        """What the network itself returns for images in [0, 1], before scores are picked."""
        return self._ask(self.standardize(images))

    def find_scores(self, images: Tensor) -> ScoreMeaning:
        """What the scores mean, found on these images where it is not known yet.

        Who watches the network in a pass asks this first, so that no other pass is watched.
        """
        return self._ready(images).meaning

    def standardize(self, images: Tensor) -> Float[Tensor, "B C H W"]:
        """Images as the network gets them: its device and type, mean removed, divided by std."""
        check_shape(images, self.in_channels)
        device, dtype = self.device, self.dtype
        working = torch.promote_types(torch.float32, images.dtype)
        images = images.to(device, working)
        return ((images - self.mean.to(device)) / self.std.to(device)).to(dtype)

    def level_names(self, levels: Level | Iterable[Level]) -> tuple[str, ...]:
        """Module names of levels given by number, by module name, or as modules.

        Raises:
            UnknownNameError: If there is no such level, with the modules named most like it.
        """
        wanted = [levels] if isinstance(levels, int | str | Integral | nn.Module) else list(levels)
        if not wanted:
            raise InputError("no levels are given; choose at least one")
        return tuple(self._level_name(level) for level in wanted)

    def activations(
        self, images: Tensor, levels: Level | Iterable[Level] = (2, 3, 4)
    ) -> list[Float[Tensor, "B C h w"]]:
        """What chosen levels put out, detached; the forward pass stops at the deepest.

        Tokens are laid out as a grid without class and register tokens; values are as the level's
        module hands them over, before anything overwrites them. A module that runs more than once
        in a pass gives its last call. Values that are not finite are passed on as they are. Of a
        network that crops its images maps are zero around what it sees (`seen_part`).

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
        seen = self.seen_part((images.shape[2], images.shape[3]))
        stop_after: dict[str, int] | None = None
        with suppress(ModelError):  # said by the pass below, which then runs to its end
            counts = self._traced((images.shape[2], images.shape[3])).counts
            stop_after = {name: counts.get(name) or 1 for name in names}
        with (
            torch.no_grad(),
            recording(self.network, names, detach=True, stop_after=stop_after) as maps,
        ):
            self.answer(images)
        return [maps[name] if seen is None else seen.place(maps[name]) for name in names]

    def seen_part(self, frame: tuple[int, int] | None = None) -> SeenPart | None:
        """Which part of its images the network sees, where it crops them itself; None if all.

        Looked at once a size: maps are laid over this part, and are zero around it.

        Args:
            frame: The images' height and width; ``input_size`` by default.
        """
        frame = frame or self.input_size
        return find_part(
            self.network,
            frame,
            self._ask,
            lambda: self.standardize(self._noise(1, frame)),
        )

    def load_images(
        self,
        sources: Source | Iterable[Source],
        resize: Resize | Literal["model", "none"] | None = "model",
        *,
        max_pixels: int = MAX_PIXELS,
        exif: bool = True,
        channels: Sequence[int] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Read pictures as this network wants them, on its device.

        Args:
            sources: One path, PIL image, array `(H, W, 3)` or tensor `(C, H, W)`, or several. Of a
                network with other than one or three channels, arrays `(H, W, bands)` or tensors
                `(bands, H, W)`.
            resize: ``"model"`` does what the network wants: its own preprocessing, or else what its
                `resize` says, ``"crop"`` as a rule. ``"crop"`` scales and takes the middle;
                ``"squash"`` keeps the whole picture but not its shape; ``"pad"`` keeps both and
                fills the rest with the mean colour; None, or ``"none"``, keeps its own size.
            max_pixels: Larger pictures are refused.
            exif: Whether pictures are turned upright as their EXIF says; else they stay as stored.
            channels: Which bands of arrays and tensors the network gets, in its order, counted from
                0; all by default.

        Where nothing says how large the network wants its images, the first photo does.

        Raises:
            ImageError: If a source cannot be read as a picture, naming it, or has other channels.
            InputError: If there are none, or their sizes differ and ``resize`` is None; or if
                nothing says a size and the first photo is large.

        Example:
            >>> import naspix, skimage
            >>> model = naspix.load_model("efficientnet_lite0")
            >>> model.load_images(skimage.data.chelsea()).shape
            torch.Size([1, 3, 224, 224])
        """
        resize = None if resize == "none" else resize
        if self.preprocess is not None and resize == "model":
            pictures = read_eight_bit(
                sources, channels=self.in_channels, max_pixels=max_pixels, exif=exif
            )
            images = [self.preprocess(picture) for picture in pictures]
            for image in images:
                if not isinstance(image, Tensor) or image.shape[:-2] != (self.in_channels,):
                    given = type(image).__name__
                    given += f" {tuple(image.shape)}" if isinstance(image, Tensor) else ""
                    raise InputError(
                        f"preprocess makes a tensor ({self.in_channels}, H, W) in [0, 1] of a "
                        f"picture, but made {given}"
                    )
            return as_batch(images).to(self.device)
        batch = read_images(
            sources,
            self._input_size,
            channels=self.in_channels,
            resize=self.resize if resize == "model" else resize,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            fill=self.mean.flatten().tolist(),
            max_pixels=max_pixels,
            exif=exif,
            bands=channels,
        )
        if self._input_size is None and resize is not None:
            self._input_size = int(batch.shape[2]), int(batch.shape[3])
        return batch.to(self.device)

    def fitting(
        self, photo: tuple[int, int], resize: Resize | Literal["model"] | None = "model"
    ) -> Fit | None:
        """How `load_images` fits a photo; None where that is preprocessing of the network's own.

        Args:
            photo: Its height and width.
            resize: As for `load_images`.
        """
        if resize == "model" and self.preprocess is not None:
            return None
        way = self.resize if resize == "model" else resize
        return fit(photo, self.input_size, way, self.crop_pct)

    def require_size(self) -> None:
        """Refuse a network of unknown size, where photos are read apart and are to be alike.

        Raises:
            InputError: With what to do.
        """
        if self._input_size is None:
            raise InputError(
                f"nothing says how large {self.name} wants its images; give wrap_model their "
                "height and width, input_size=(H, W)"
            )

    def category(self, index: int) -> str:
        """The name of a class; without names ``"class 7"``, ``"output 7"`` where it is none."""
        if self.categories is None:
            numbers = self._reader is not None and self._reader.meaning.output == "none"
            return f"output {index}" if numbers else f"class {index}"
        if not 0 <= index < len(self.categories):
            raise InputError(
                f"there is no class {index}: {self.name} has {len(self.categories)} classes, from "
                f"0 to {len(self.categories) - 1}"
            )
        return self.categories[index]

    def find_class(self, target: str | int) -> int:
        """The number of a class that is given by its number, as a word too, or by its name.

        Raises:
            InputError: There is no class of that number, or several have that name.
            UnknownNameError: There is no class of that name; with the names most like it.

        Example:
            >>> import naspix
            >>> naspix.load_model("efficientnet_lite0").find_class("Tiger cat")
            282
        """
        return find_class(target, self.n_classes, self.categories, self.name)

    def resolve_target(
        self, images: Tensor, target: Target, logits: Tensor | None = None
    ) -> Int64[Tensor, "B ..."]:
        """The class asked about for each image, ``(B,)``; two, ``(B, 2)``, for a contrast.

        Args:
            images: `(B, C, H, W)`.
            target: A class for all images by number or name, a list or tensor with one for each,
                None for the predicted ones, or a ``naspix.Contrast``.
            logits: Of these images, if at hand; otherwise the network is asked where need be.

        Raises:
            InputError: If a target is no class, or there are not as many as images.
        """
        predicted = None
        if asks_predicted(target):
            if logits is None:
                with torch.no_grad():
                    logits = self(images)
            predicted = logits.detach().argmax(1)
        n_classes = self.n_classes if logits is None else logits.shape[1]
        classes = resolve(target, len(images), predicted, n_classes, self.categories, self.name)
        return classes.to(self.device if logits is None else logits.device)

    def asking(self, number: Number) -> "Classifier":
        """The same network with one score an image: what a callable makes of its output.

        Args:
            number: From what the network returns for a batch to ``(B,)``, such as those in
                ``naspix.targets``. Its name is the only category's.

        Raises:
            InputError: It is a class rather than one of its instances, or asks about a class by a
                name that is not known.

        Example:
            >>> import naspix
            >>> model = naspix.load_model("efficientnet_lite0")
            >>> model.asking(naspix.targets.ClassScore("tabby"))(torch.rand(2, 3, 64, 64)).shape
            torch.Size([2, 1])
        """
        if isinstance(number, type):
            raise InputError(f"a target is a {number.__name__}(...), not {number.__name__} itself")
        asked = with_class_numbers(number, self._names, self.name)
        name = name_of(number)
        other = copy(self)
        other._names, other._n_classes = (name,), 1
        other._reader = ScoreReader(ScoreMeaning("none", f"{name}, as asked"), number=asked)
        return other

    def renamed(
        self, categories: Sequence[str] | None, output: Output | None = None
    ) -> "Classifier":
        """The same network with other names of classes, whose scores are looked at anew."""
        other = copy(self)
        other._names = None if categories is None else tuple(categories)
        other._n_classes = len(categories) if categories and len(categories) > 1 else None
        other._output, other._reader = output or self._output, None
        return other

    def extra_repr(self) -> str:
        """Name, size, classes and levels, for ``repr``."""
        height, width = self.input_size
        classes = "unknown" if self._n_classes is None else self._n_classes
        names = self._levels
        if names is None:  # told from names alone where these leave no doubt
            families = list(family_levels(self.network))
            names = families[0] if _in_one_place(families) else None
        levels = "found when first needed" if names is None else ", ".join(names)
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

    def _ready(self, images: Tensor | None = None) -> ScoreReader:
        """The reader of scores, found on one of the images (a blank one by default) if need be."""
        if self._reader is None:
            with torch.no_grad():
                self(self._blank(1) if images is None else images[:1])
        assert self._reader is not None  # set by forward
        return self._reader

    def _counted(self, scores: Tensor) -> Tensor:
        self._n_classes = int(scores.shape[1])
        n_names = len(self._names or ())
        one_of_two = n_names == 1 and self.scores.one_score
        if self._names is not None and n_names != self._n_classes and not one_of_two:
            raise ModelError(
                f"{self.name} returns {self._n_classes} logits, but {n_names} names "
                "of categories are given"
            )
        return scores

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
        if isinstance(level, nn.Module):
            found = [name for name, module in names.items() if module is level and name]
            if not found:
                raise UnknownNameError(
                    f"the {type(level).__name__} given as a level is no module inside {self.name}"
                )
            return str(found[0])
        if isinstance(level, str) and level and level in names:
            return level
        raise UnknownNameError.among("level", level, filter(None, names))

    def _ask(self, standardized: Tensor) -> object:
        return ask(self.network, standardized, self.name, self.called_by)

    def _blank(self, batch: int) -> Tensor:
        return torch.full((batch, self.in_channels, *self.input_size), 0.5, device=self.device)

    def _traced(self, frame: tuple[int, int] | None = None) -> Trace:
        """What one pass tells of the network, at its own size of images or at that of some."""
        if self._look is None:
            self.seen_part(frame)  # which tells where maps lie
            images = self._noise(2, frame or self.input_size)
            try:
                self._look = trace_network(self.network, self.answer, images)
            except ModelError:
                rule = next(family_levels(self.network), None)
                if rule is None:
                    raise
                return Trace({}, rule)  # of a size that the network is not made for, maybe
        return self._look

    def _noise(self, batch: int, frame: tuple[int, int]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (batch, self.in_channels, *frame)
        images = torch.rand(shape, generator=generator, dtype=torch.float32)
        return images.to(self.device)


def _in_one_place(families: Sequence[Sequence[str]]) -> bool:
    """Whether levels by name lie within each other's modules, as those of two encoders do not."""
    if not families:
        return False
    first, *others = map(_place, families)
    return all(place[: len(first)] == first[: len(place)] for place in others)


def _place(names: Sequence[str]) -> list[str]:
    """The names of the modules around levels, from the outside."""
    shared = takewhile(
        lambda parts: len(set(parts)) == 1, zip(*(n.split(".") for n in names), strict=False)
    )
    return [parts[0] for parts in shared]


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor([float(value) for value in values], device=device).view(1, -1, 1, 1)
