"""Asking: one call from photos to an ``Explanation``, for any methods and segmenters at once.

Names become methods and segmenters here, photos of any kind become a batch, and each method is
asked once about all images. What comes back is ``explanation.py``'s business.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix import registry
from naspix.errors import InputError
from naspix.explain.explanation import Explanation
from naspix.metrics import greedy_lerf
from naspix.models import Classifier, check_images
from naspix.report import Prediction, unique_names
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import superpixelify

Method = str | Callable[[Tensor, int | Tensor | None], Tensor]
Segmenter = str | Callable[[Tensor], Segmentation]

_Asked = TypeVar("_Asked", bound=Callable[..., object])

_N_PREDICTIONS = 5


def explain(
    model: Classifier,
    images: object,
    target: int | Tensor | None = None,
    *,
    method: Method | Sequence[Method] = "grad_cam_plus_plus",
    segmenter: Segmenter | Sequence[Segmenter] = "nas",
    greedy: bool = False,
    names: Sequence[str] | None = None,
    told: Callable[[str], None] | None = None,
) -> Explanation:
    """Explain a classifier's decisions by superpixels.

    The default method is Grad-CAM++: one forward and one backward, where Integrated Gradients takes
    fifty and more, and its blurred map is what superpixels sharpen. The default segmenter is NAS
    with the model's own activations.

    Args:
        model: From ``load_model`` or ``wrap_model``.
        images: A tensor ``(B, C, H, W)`` in [0, 1], or whatever ``model.load_images`` takes: paths,
            PIL images, arrays, or a list of these.
        target: The class to explain: one for all, one for each image, or the predicted ones.
        method: A name in ``naspix.registry.SALIENCY``, a callable ``(images, target) ->
            (B, H, W)``, or several of these.
        segmenter: A name in ``naspix.registry.SEGMENTERS``, a callable ``images ->
            Segmentation``, or several of these.
        greedy: Whether the order is searched in which superpixels can be hidden at the least cost
            to the score, for each segmenter: about half the square of their number in forwards, an
            image.
        names: One for each image; file names by default.
        told: Called with the name of each segmenter and method before it is asked, for progress.

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
    batch, sources = _loaded(model, images)
    check_images(batch, model.in_channels)
    if names is not None and len(names) != len(batch):
        raise InputError(f"there are {len(batch)} images but {len(names)} names")
    methods = _named(method, lambda name: registry.find_method(name)(model))
    segmenters = _named(segmenter, lambda name: _segmenter(name, model))

    with torch.no_grad():
        logits = model(batch)
    probabilities = logits.double().softmax(1).cpu()
    classes = model.resolve_target(batch, target, logits)
    tell = told or (lambda name: None)
    segmentations = {}
    hidden_first = {}
    for name, cut in segmenters.items():
        tell(name)
        segmentations[name] = cut(batch)
        if greedy:
            superpixels = segmentations[name].superpixels
            hidden_first[name] = greedy_lerf(model, batch, superpixels, classes).order
    raw = {}
    for name, ask in methods.items():
        tell(name)
        raw[name] = _saliency(name, ask, batch, classes)
    return Explanation(
        images=batch,
        names=tuple(unique_names(sources if names is None else names)),
        sources=sources,
        predictions=tuple(_likeliest(model, row) for row in probabilities),
        target=classes,
        target_predictions=tuple(
            _prediction(model, row, int(index))
            for row, index in zip(probabilities, classes, strict=True)
        ),
        segmentations=segmentations,
        raw=raw,
        pooled={
            (m, s): superpixelify(heat, segmentation.superpixels)
            for m, heat in raw.items()
            for s, segmentation in segmentations.items()
        },
        hidden_first=hidden_first,
        settings={
            "model": model.name,
            "methods": {name: _described(ask) for name, ask in methods.items()},
            "segmenters": {name: _described(ask) for name, ask in segmenters.items()},
        },
        seed=next((ask.seed for ask in segmenters.values() if isinstance(ask, NAS)), 0),
    )


def _segmenter(name: str, model: Classifier) -> Callable[[Tensor], Segmentation]:
    kind = registry.find_segmenter(name)
    made: Callable[[Tensor], Segmentation] = kind(model) if kind is NAS else kind()
    return made


def _named(
    given: str | _Asked | Sequence[str | _Asked], make: Callable[[str], _Asked]
) -> dict[str, _Asked]:
    """Each callable under a name of its own; names are made into what they name."""
    several = [given] if isinstance(given, str) or callable(given) else list(given)
    if not several:
        raise InputError("at least one saliency method and one segmenter are needed")
    found: dict[str, _Asked] = {}
    for one in several:
        ask = make(one) if isinstance(one, str) else one
        name = base = one if isinstance(one, str) else _name_of(ask)
        number = 1
        while name in found:
            number += 1
            name = f"{base}_{number}"
        found[name] = ask
    return found


def _name_of(ask: Callable[..., object]) -> str:
    """The registered name of its class, else its own."""
    for names in (registry.SALIENCY, registry.SEGMENTERS):
        for name, kind in names.items():
            if type(ask) is kind:
                return name
    return getattr(ask, "__name__", type(ask).__name__).strip("<>")


def _described(ask: Callable[..., object]) -> str:
    """A function's name, or the repr of what has settings."""
    return getattr(ask, "__qualname__", None) or repr(ask)


def _loaded(model: Classifier, images: object) -> tuple[Float[Tensor, "B C H W"], tuple[str, ...]]:
    """The batch on the model's device, and where each image came from."""
    if isinstance(images, Tensor):
        batch = images.to(model.device)
        return batch, tuple(f"image-{index}" for index in range(len(batch)))
    several = (
        list(images)
        if isinstance(images, Iterable)
        and not isinstance(images, str | os.PathLike | np.ndarray)
        and not hasattr(images, "convert")
        else [images]
    )
    batch = model.load_images(several)  # type: ignore[arg-type]  # which refuses what it cannot
    sources = tuple(
        os.fspath(one) if isinstance(one, str | os.PathLike) else f"image-{index}"
        for index, one in enumerate(several)
    )
    if len(sources) != len(batch):
        sources = tuple(f"image-{index}" for index in range(len(batch)))
    return batch, sources


def _saliency(
    name: str,
    ask: Callable[[Tensor, int | Tensor | None], Tensor],
    images: Float[Tensor, "B C H W"],
    target: Int64[Tensor, " B"],
) -> Float[Tensor, "B H W"]:
    heat = ask(images, target)
    expected = (len(images), *images.shape[-2:])
    if not isinstance(heat, Tensor) or tuple(heat.shape) != expected:
        shape = tuple(heat.shape) if isinstance(heat, Tensor) else type(heat).__name__
        raise InputError(f"saliency method {name!r} returned {shape} instead of {expected}")
    return heat.detach()


def _likeliest(model: Classifier, probabilities: Float[Tensor, " n"]) -> tuple[Prediction, ...]:
    order = probabilities.topk(min(_N_PREDICTIONS, len(probabilities))).indices
    return tuple(_prediction(model, probabilities, int(index)) for index in order)


def _prediction(model: Classifier, probabilities: Float[Tensor, " n"], index: int) -> Prediction:
    return Prediction(index, model.category(index), float(probabilities[index]))
