"""The front door: which superpixels of these photos speak for the class, in one call.

Images (B, C, H, W) -> predictions, segmentations, saliency maps, and the maps pooled over the
superpixels (the paper's superpixelification), for any number of methods and segmenters at once.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix import registry
from naspix.errors import InputError
from naspix.models import Classifier, check_images
from naspix.report import PhotoExplanation, Prediction, ResultsFolder, RunRecord, page, unique_names
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import RankedSuperpixel, rank_superpixels, superpixelify

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = str | Callable[[Tensor, int | Tensor | None], Tensor]
Segmenter = str | Callable[[Tensor], Segmentation]

_Asked = TypeVar("_Asked", bound=Callable[..., object])

_N_PREDICTIONS = 5
_SHOWN_IN_NOTEBOOK = 4


@dataclass(frozen=True, eq=False)
class Explanation:
    """Photos, what the network says of them, and which regions it says so by.

    Attributes:
        images: ``(B, C, H, W)`` in [0, 1].
        names: One for each image, no two alike.
        sources: Where each image came from.
        predictions: The likeliest classes of each image, likeliest first.
        target: ``(B,)``, the class explained for each image.
        target_predictions: The same with names and probabilities.
        segmentations: Segmenter's name -> its segmentation of the images.
        raw: Method's name -> saliency maps ``(B, H, W)``.
        pooled: ``(method, segmenter)`` -> maps constant on superpixels.
        settings: What made them: model, methods, segmenters.
        seed: That of everything random.
    """

    images: Float[Tensor, "B C H W"]
    names: tuple[str, ...]
    sources: tuple[str, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    target: Int64[Tensor, " B"]
    target_predictions: tuple[Prediction, ...]
    segmentations: Mapping[str, Segmentation]
    raw: Mapping[str, Float[Tensor, "B H W"]]
    pooled: Mapping[tuple[str, str], Float[Tensor, "B H W"]]
    settings: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        methods, segmenters = ", ".join(self.raw), ", ".join(self.segmentations)
        thing = "image" if len(self) == 1 else "images"
        return f"Explanation({len(self)} {thing}, methods: {methods}, segmenters: {segmenters})"

    def ranking(
        self, index: int = 0, *, method: str | None = None, segmenter: str | None = None
    ) -> list[RankedSuperpixel]:
        """Return the superpixels of one image, the most salient first.

        Args:
            index: Which image.
            method: Whose saliency; the first method's by default.
            segmenter: Whose superpixels; the first segmenter's by default.
        """
        pair = (
            _first_or(method, self.raw, "saliency method"),
            _first_or(segmenter, self.segmentations, "segmenter"),
        )
        superpixels = self.segmentations[pair[1]].superpixels
        return rank_superpixels(self.pooled[pair][index], superpixels[index])

    def photos(self) -> Iterator[PhotoExplanation]:
        """Yield what is shown of each image, as numpy arrays."""
        for index in range(len(self)):
            yield self._photo(index)

    def plot(self, index: int = 0) -> "Figure":
        """Draw one image's maps: a row for each segmenter, a column for each method.

        Args:
            index: Which image.
        """
        from naspix import plots

        photo = self._photo(index)
        first, target = photo.predictions[0], photo.target
        title = f"{first.name} ({first.probability:.0%})"
        if target.index != first.index:
            title += f", explained for {target.name} ({target.probability:.0%})"
        return plots.explanation_figure(
            photo.image,
            {photo.title(name): maps for name, maps in photo.segmentations.items()},
            {photo.title(name): heat for name, heat in photo.raw.items()},
            {(photo.title(m), photo.title(s)): heat for (m, s), heat in photo.pooled.items()},
            title=title,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write pictures, ``report.html`` and ``results.json`` into a folder.

        Args:
            folder: Made if it is not there. Files of the same names are replaced.

        Raises:
            OutputError: something cannot be written.
        """
        with ResultsFolder(folder, self.run) as results:
            for photo in self.photos():
                results.add(photo)

    def to_html(self) -> str:
        """Return the report: one page that needs nothing from elsewhere."""
        return page(self.photos(), self.run)

    @cached_property
    def run(self) -> RunRecord:
        """What made the results, with versions and date."""
        return RunRecord(settings=dict(self.settings), seed=self.seed)

    def _repr_html_(self) -> str:
        shown = range(min(len(self), _SHOWN_IN_NOTEBOOK))
        figures = "".join(f"<div>{_figure_html(self.plot(index))}</div>" for index in shown)
        more = len(self) - len(shown)
        return figures + (f"<p>and {more} more</p>" if more else "")

    def _photo(self, index: int) -> PhotoExplanation:
        return PhotoExplanation(
            name=self.names[index],
            source=self.sources[index],
            image=_array(self.images[index].permute(1, 2, 0)),
            predictions=self.predictions[index],
            target=self.target_predictions[index],
            segmentations={
                name: (_array(seg.clusters[index]), _array(seg.superpixels[index]))
                for name, seg in self.segmentations.items()
            },
            raw={name: _array(heat[index]) for name, heat in self.raw.items()},
            pooled={pair: _array(heat[index]) for pair, heat in self.pooled.items()},
            ranking={
                (method, segmenter): self.ranking(index, method=method, segmenter=segmenter)
                for method, segmenter in self.pooled
            },
            titles={name: _title(name) for name in (*self.raw, *self.segmentations)},
        )


def explain(
    model: Classifier,
    images: object,
    target: int | Tensor | None = None,
    *,
    method: Method | Sequence[Method] = "grad_cam_plus_plus",
    segmenter: Segmenter | Sequence[Segmenter] = "nas",
    names: Sequence[str] | None = None,
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
        names: One for each image; file names by default.

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
    segmentations = {name: ask(batch) for name, ask in segmenters.items()}
    raw = {name: _saliency(name, ask, batch, classes) for name, ask in methods.items()}
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


def _first_or(name: str | None, known: Mapping[str, object], kind: str) -> str:
    from naspix.errors import UnknownNameError

    if name is None:
        return next(iter(known))
    if name not in known:
        raise UnknownNameError.among(kind, name, known)
    return name


def _title(name: str) -> str:
    """How people write it; of two of a kind, the second is numbered."""
    base, _, number = name.rpartition("_")
    if name not in registry.TITLES and number.isdigit() and base in registry.TITLES:
        return f"{registry.TITLES[base]} {number}"
    return registry.TITLES.get(name, name)


def _array(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def _figure_html(figure: "Figure") -> str:
    html = figure._repr_html_()
    return "" if html is None else html
