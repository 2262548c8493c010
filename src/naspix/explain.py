"""The front door: photos, and a question about a network, in; an ``Explanation`` out.

Names become methods and segmenters here, photos of any kind become a batch, and `pipeline.py` asks
everything at once.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix import pipeline, registry
from naspix.errors import ImageError, InputError
from naspix.explanation import Explanation
from naspix.images import Photo, Resize, check_shape, expand_paths, shown, unique_names
from naspix.metrics import DecidingSets, deciding_sets
from naspix.models import Classifier, Model, as_classifier
from naspix.models.batches import batch_size_on
from naspix.pipeline import Answers, Pipeline, check_map
from naspix.progress import progress_of_items
from naspix.report import Prediction
from naspix.saliency.base import Attribution
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import superpixelify
from naspix.targets import (
    Each,
    Number,
    Target,
    as_given,
    asks_number,
    check_length,
    part_of,
)
from naspix.tiling import MOST_TILES, OverTiles, Tile, ask_tiles, corners_of, covering

Method = str | pipeline.Method
Segmenter = str | pipeline.Segmenter

_Asked = TypeVar("_Asked", bound=Callable[..., object])

_Segments = TypeVar("_Segments")

_N_PREDICTIONS = 5


def explain(
    model: Model,
    images: object,
    target: Target | Each = None,
    *,
    method: Method | Sequence[Method] = "grad_cam_plus_plus",
    segmenter: Segmenter | Sequence[Segmenter] = "nas",
    greedy: bool = False,
    sets: bool = False,
    names: Sequence[str] | None = None,
    threshold: float = 0.5,
    resize: Resize | Literal["model", "none"] | None = "model",
    tiles: bool | int = False,
    batch_size: int | None = None,
    progress: bool = False,
    told: Callable[[str], None] | None = None,
) -> Explanation:
    """Explain a classifier's decisions by superpixels.

    The default method is Grad-CAM++: one forward and one backward, where Integrated Gradients takes
    fifty and more, and its blurred map is what superpixels sharpen. The default segmenter is NAS
    with the model's own activations.

    Args:
        model: From ``load_model`` or ``wrap_model``; or a name, which ``load_model`` is asked for;
            a network of timm's or a pipeline of transformers, which say how they want their images;
            or a function from images to scores.
        images: A tensor ``(B, C, H, W)`` in [0, 1], or whatever ``model.load_images`` takes: paths,
            PIL images, arrays, or a list of these; folders and patterns among paths stand for the
            images in them.
        target: The class to explain: one for all by number or name, a list or tensor with one for
            each image, None for the predicted ones; a ``naspix.Contrast`` of two, why the one and
            not the other; ``naspix.targets.Each`` of several, which makes an entry for each image
            and class, in this order; or any callable from what the network returns to one number
            an image, such as those of ``naspix.targets``.
        method: A name in ``naspix.registry.SALIENCY``, ``"all"`` those of a class, a callable
            ``(images, target) -> (B, H, W)``, or several of these.
        segmenter: A name in ``naspix.registry.SEGMENTERS``, ``"all"`` of them, a callable
            ``images -> Segmentation``, or several of these.
        greedy: Whether the order is searched in which superpixels can be hidden at the least cost
            to the score, for each segmenter: about half the square of their number in forwards, an
            image.
        sets: Whether the few superpixels are searched that suffice for the class, and the few that
            it needs, for each method and segmenter: at most three forwards a superpixel.
        names: One for each image; file names by default.
        threshold: From which probability on a class is among the predictions, where an image may
            have several classes at once (a sigmoid's).
        resize: How photos are made to fit, as ``model.load_images`` takes it; a tensor is never
            resized.
        tiles: Whether a large photo is covered whole, by squares of the network's size at the
            photo's own scale that overlap by a quarter: activations and maps are blended over
            them, regions cross them, and all are asked about one class, by default that of the
            highest mean score. At most 64 unless a larger number is given in place of True.
        batch_size: How many images are explained at a time, which bounds the memory; None for what
            suits the device, and for all at once where a function of yours is among methods and
            segmenters.
        progress: Whether a bar is shown on a terminal or in a notebook.
        told: Called with the name of each segmenter and method before it is asked of a batch.

    Raises:
        InputError: images, a target or a name that cannot be used.

    Example:
        >>> import naspix
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> explanation = naspix.explain(model, torch.rand(1, 3, 64, 64))
        >>> explanation
        Explanation(1 image, methods: grad_cam_plus_plus, segmenters: nas)
        >>> explanation.ranking()[0].rank
        1
    """
    images = _with_folders(images)
    _check_paths(images)  # before a network is loaded
    model = known = as_classifier(model, "explain")
    batch, sources, fittings = _loaded(model, images, None if tiles or resize == "none" else resize)
    if tiles:
        model.require_size()
        batch = covering(batch, model.input_size)
        fittings = tuple(_tiled(model, one) for one in batch)
    if names is not None and len(names) != len(batch):
        raise InputError(f"there are {len(batch)} images but {len(names)} names")
    named = list(sources if names is None else names)
    asked: Target
    if isinstance(target, Each):
        n_each, n_images = len(target.classes), len(batch)
        ends = [model.resolve_target(batch, one).view(n_images, -1) for one in target.classes]
        width = max(end.shape[1] for end in ends)
        if any(end.shape[1] != width for end in ends):
            raise InputError("Each takes classes or contrasts, not both at once")
        asked = as_given(torch.stack(ends, 1).flatten(0, 1).squeeze(1))
        batch = batch.repeat_interleave(n_each, 0)
        named = [
            f"{Path(name).stem}-{_words(model, end[index])}".replace(".", " ").replace("/", " ")
            for index, name in enumerate(named)
            for end in ends
        ]
        sources = tuple(source for source in sources for _ in range(n_each))
        fittings = tuple(fitting for fitting in fittings for _ in range(n_each))
    else:
        asked = 0 if asks_number(target) else target
    methods = {
        name: registry.find_method(one)(known) if isinstance(one, str) else one
        for name, one in named_apart("method", method).items()
    }
    segmenters = {
        name: _segmenter(one, known) if isinstance(one, str) else one
        for name, one in named_apart("segmenter", segmenter).items()
    }
    if sets and (asks_number(target) or not known.scores.are_probabilities):
        raise InputError(
            "sets=True searches what a class needs, and here a number is asked about; leave it out"
        )
    if asks_number(target):
        model, methods, segmenters = asking_number(known, target, methods, segmenters)

    if batch_size is None:
        known_kinds = (*registry.SALIENCY.values(), *registry.SEGMENTERS.values())
        own = all(type(ask) in known_kinds for ask in (*methods.values(), *segmenters.values()))
        batch_size = batch_size_on(model.device, None, backwards=True) if own else len(batch)
    elif batch_size < 1:
        raise InputError(f"batch_size is at least 1, not {batch_size}")
    check_length(asked, len(batch))
    n_batches = len(batch) if tiles else -(-len(batch) // batch_size)
    with progress_of_items(hidden=not progress) as bar:
        n_steps, n_done = n_batches * (1 + len(methods) + len(segmenters)) + int(sets), 0

        def watch(step: str) -> AbstractContextManager[None]:
            nonlocal n_done
            doing = step.partition(" ")[2]
            if told is not None and doing:
                told(doing)
            bar(doing or "scores", min(n_done, n_steps), n_steps)
            n_done += 1
            return nullcontext()

        all_tiles: tuple[tuple[Tile, ...], ...] = ()
        if tiles:
            most = MOST_TILES if tiles is True else int(tiles)
            answers, all_tiles = ask_tiles(
                model, methods, segmenters, batch, asked, most=most, greedy=greedy, watch=watch
            )
        else:
            ask_all = Pipeline(model, methods, segmenters, greedy=greedy, watch=watch)
            parts = []
            for start in range(0, len(batch), batch_size):
                part = slice(start, start + batch_size)
                found = ask_all(batch[part], part_of(asked, part))
                parts.append(replace(found, activations={}))
            answers = Answers.joined(parts)
        for name, heat in answers.raw.items():
            check_map(name, heat, model)
        pooled = {
            (m, s): superpixelify(heat, segmentation.superpixels)
            for m, heat in answers.raw.items()
            for s, segmentation in answers.segmentations.items()
        }
        deciding = {}
        if sets:
            watch("search sets")
            deciding = search_sets(
                OverTiles(model) if tiles else model,
                batch,
                pooled,
                answers.segmentations,
                answers.target,
                threshold,
            )
    probabilities = model.scores.probabilities(answers.logits.cpu().double())
    return Explanation(
        images=batch,
        names=tuple(unique_names(named)),
        sources=sources,
        predictions=tuple(likeliest(model, row, threshold) for row in probabilities),
        target=answers.target,
        target_predictions=tuple(
            target_prediction(model, row, of)
            for row, of in zip(probabilities, answers.target, strict=True)
        ),
        segmentations=answers.segmentations,
        raw=answers.raw,
        pooled=pooled,
        hidden_first=answers.hidden_first,
        deciding=deciding,
        settings={
            "model": model.name,
            "scores": str(model.scores),
            "methods": {name: described(ask) for name, ask in methods.items()},
            "segmenters": {name: described(ask) for name, ask in segmenters.items()},
        },
        seed=next((ask.seed for ask in segmenters.values() if isinstance(ask, NAS)), 0),
        shown=model.shown,
        fittings=fittings,
        tiles=all_tiles,
    )


def search_sets(
    model: Classifier | OverTiles,
    images: Float[Tensor, "B C H W"],
    pooled: Mapping[tuple[str, str], Float[Tensor, "B H W"]],
    segmentations: Mapping[str, Segmentation],
    target: Int64[Tensor, "B ..."],
    threshold: float,
) -> dict[tuple[str, str], tuple[DecidingSets, ...]]:
    """What suffices and what is needed, by each method over each segmenter."""
    return {
        (method, segmenter): deciding_sets(
            model,
            images,
            heat,
            segmentations[segmenter].superpixels,
            as_given(target),
            threshold=threshold,
        )
        for (method, segmenter), heat in pooled.items()
    }


def asking_number(
    model: Classifier,
    number: Number,
    methods: Mapping[str, pipeline.Method],
    segmenters: Mapping[str, _Segments],
) -> tuple[Classifier, dict[str, pipeline.Method], dict[str, _Segments]]:
    """A model, methods and segmenters that are asked about a number in place of a class."""
    asker = model.asking(number)
    return (
        asker,
        {name: _asking(ask, model, asker, number) for name, ask in methods.items()},
        {
            name: replace(ask, model=asker) if isinstance(ask, NAS) and ask.model is model else ask
            for name, ask in segmenters.items()
        },
    )


def _asking(
    ask: pipeline.Method, model: Classifier, asker: Classifier, number: Number
) -> pipeline.Method:
    """The method for what a callable makes of the network's output."""
    if isinstance(ask, Attribution):
        if not ask.asks_class:
            return ask
        made = ask.asking(number)  # and of the methods within it
        return replace(made, model=asker) if ask.model is model else made
    bridge: Any = ask  # to another library
    if is_dataclass(bridge) and getattr(bridge, "model", None) is model:
        return cast("pipeline.Method", replace(bridge, model=asker))  # type: ignore[type-var]
    return lambda images, _: ask(images, number)


def _segmenter(name: str, model: Classifier) -> Callable[[Tensor], Segmentation]:
    kind = registry.find_segmenter(name)
    made: Callable[[Tensor], Segmentation] = kind(model) if kind is NAS else kind()
    return made


def named_apart(
    kind: Literal["method", "segmenter"], given: str | _Asked | Sequence[str | _Asked]
) -> dict[str, str | _Asked]:
    """Each callable, and each name, under a name of its own."""
    alone = isinstance(given, str) or callable(given) or not isinstance(given, Iterable)
    several: list[Any] = [given] if alone else list(given)  # type: ignore[arg-type]
    if not several:
        raise InputError("at least one saliency method and one segmenter are needed")
    found: dict[str, str | _Asked] = {}
    for one in registry.with_all(kind, several):
        _check_asked(kind, one)
        name = base = one if isinstance(one, str) else _name_of(one)
        number = 1
        while name in found:
            number += 1
            name = f"{base}_{number}"
        found[name] = one
    return found


def _check_asked(kind: Literal["method", "segmenter"], one: object) -> None:
    """Refuse what is no name and cannot be called, and a class that was meant to be made."""
    known: Mapping[str, type] = registry.SALIENCY if kind == "method" else registry.SEGMENTERS
    if isinstance(one, type):
        name = next((name for name, each in known.items() if each is one), "")
        needs_model = kind == "method" or one is NAS
        raise InputError(
            f"{kind}={one.__name__} is a class; give {one.__name__}({'model' * needs_model}) "
            + (f"or its name, {name!r}" if name else "instead")
        )
    if not isinstance(one, str) and not callable(one):
        given = "None" if one is None else type(one).__name__
        raise InputError(
            f"{kind} is a name, such as {next(iter(known))!r}, a function, or several of these, "
            f"not {given}"
        )


def _name_of(ask: Callable[..., object]) -> str:
    """The registered name of its class, else its own."""
    for names in (registry.SALIENCY, registry.SEGMENTERS):
        for name, kind in names.items():
            if type(ask) is kind:
                return name
    return getattr(ask, "__name__", type(ask).__name__).strip("<>")


def described(ask: Callable[..., object]) -> str:
    """A function's name, or the repr of what has settings."""
    return getattr(ask, "__qualname__", None) or repr(ask)


def _with_folders(images: object) -> object:
    """The files of folders and patterns among paths, as on the command line."""
    single = isinstance(images, str | os.PathLike)
    if not (single or isinstance(images, list | tuple)):
        return images
    several: list[object] = []
    for one in [images] if single else cast("Sequence[object]", images):
        is_path = isinstance(one, str | os.PathLike)
        if is_path and not os.path.isfile(cast("str", one)):
            several += expand_paths([cast("str", one)])
        else:
            several.append(one)
    return several[0] if single and len(several) == 1 else several


def _check_paths(images: object) -> None:
    """Refuse paths to nothing."""
    several = images if isinstance(images, list | tuple) else [images]
    for one in several:
        if isinstance(one, str | os.PathLike) and not os.path.lexists(one):
            raise ImageError(f"there is no image file {os.fspath(one)!r}")


def _loaded(
    model: Classifier, images: object, resize: Resize | Literal["model"] | None
) -> tuple[Float[Tensor, "B C H W"], tuple[str, ...], tuple[str, ...]]:
    """The batch on the model's device, where each image came from, and what of it is shown."""
    if isinstance(images, Tensor):
        batch = check_shape(images, model.in_channels).to(model.device)
        return batch, tuple(f"image-{index}" for index in range(len(batch))), ()
    single = isinstance(images, str | os.PathLike) or hasattr(images, "convert")
    if isinstance(images, np.ndarray):  # four axes are a batch
        single = images.ndim != 4
    several = list(images) if isinstance(images, Iterable) and not single else [images]
    batch = model.load_images(several, resize)  # type: ignore[arg-type]  # it refuses what it cannot
    sources = tuple(
        shown(one) if isinstance(one, str | os.PathLike) else f"image-{index}"
        for index, one in enumerate(several)
    )
    if len(sources) != len(batch):
        sources = tuple(f"image-{index}" for index in range(len(batch)))
    fittings = tuple(_fitting(model, one, resize) for one in several)
    return batch, sources, fittings if len(fittings) == len(batch) and all(fittings) else ()


def _fitting(model: Classifier, source: object, resize: Resize | Literal["model"] | None) -> str:
    """What of a photo the network sees, in words; empty where that is not known."""
    if isinstance(source, str | os.PathLike):
        size = Photo("", "", Path(source)).size()
    elif isinstance(source, Tensor) or not hasattr(source, "shape"):
        return ""
    else:
        size = source.shape[0], source.shape[1]
    fitted = model.fitting(size, resize)
    return "" if fitted is None else fitted.told(size)


def _tiled(model: Classifier, image: Tensor) -> str:
    """The same for a photo in tiles."""
    (height, width), tile = image.shape[1:], model.input_size
    n_tiles = len(corners_of((height, width), tile))
    return f"all of its {width} x {height} pixels, in {n_tiles} tiles of {tile[1]} x {tile[0]}"


def likeliest(
    model: Classifier, probabilities: Float[Tensor, " n"], threshold: float = 0.5
) -> tuple[Prediction, ...]:
    """The likeliest classes of one image, likeliest first.

    Args:
        model: Knows what its scores mean.
        probabilities: Of all classes.
        threshold: From which on a class counts where an image may have several at once; then all of
            these are told, and at least the likeliest.
    """
    n_told = min(_N_PREDICTIONS, len(probabilities))
    if model.scores.multi_label:
        n_told = max(1, int((probabilities >= threshold).sum()))
    order = probabilities.topk(n_told).indices
    return tuple(target_prediction(model, probabilities, index) for index in order)


def target_prediction(
    model: Classifier, probabilities: Float[Tensor, " n"], target: Int64[Tensor, "..."]
) -> Prediction:
    """A class with its probability; of a contrast the first class with the name of both."""
    index = int(target.flatten()[0])
    return Prediction(
        index, _words(model, target), float(probabilities[index]), model.scores.are_probabilities
    )


def _words(model: Classifier, target: Int64[Tensor, "..."]) -> str:
    return " rather than ".join(model.category(int(index)) for index in target.flatten())
