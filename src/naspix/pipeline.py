"""One batch in, everything that is asked of it out: the network's forward runs once.

Images ``(B, C, H, W)`` in; logits, segmentations, saliency maps, pooled maps and greedy orders out.
One forward gives the logits, the activations of every NAS setting, and the maps of every CAM's
layer, whose backward is added. Each method is asked once, each segmenter once. `explain`,
`evaluate`, `concepts`, the explorer and the paper's experiments go through here.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics import greedy_lerf, random_segmentation
from naspix.models import Classifier, check_images
from naspix.models.activations import recording
from naspix.models.asking import evaluating
from naspix.models.batches import batch_size_on, in_batches
from naspix.models.finite import why_not_finite
from naspix.saliency.base import gradients_enabled, target_for
from naspix.saliency.cam import ClassActivationMap
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import superpixelify
from naspix.targets import Target, as_given, check_length, part_of, pick_scores

Method = Callable[..., Tensor]  # (images, target) -> (B, H, W)
Segmenter = Callable[[Tensor], Segmentation]

RAW = "none"  # the segmenter of a map as it is
_MANY_IMAGES = 2**31


@final
@dataclass(frozen=True)
class RandomRegions:
    """The control: random connected regions as many and as large as another segmenter's.

    Attributes:
        of: The other segmenter's name.
        seed: Of the regions.
    """

    of: str = "nas"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Answers:
    """What the network says of a batch, and how that is explained.

    Attributes:
        images: ``(B, C, H, W)`` in [0, 1].
        logits: ``(B, n_classes)``.
        target: ``(B,)``, the classes that are explained; ``(B, 2)`` for contrasts.
        segmentations: Segmenter's name -> its segmentation of the images.
        raw: Method's name -> saliency ``(B, H, W)``.
        hidden_first: Segmenter's name -> for each image its superpixels in the order in which the
            greedy search hides them; empty unless asked for.
        activations: Module's name -> ``(B, C, h, w)``, float32 at least.
        wanted: The methods and segmenters that are asked for together; None for each with each.
    """

    images: Float[Tensor, "B C H W"]
    logits: Float[Tensor, "B n_classes"]
    target: Int64[Tensor, "B ..."]
    segmentations: Mapping[str, Segmentation]
    raw: Mapping[str, Float[Tensor, "B H W"]]
    hidden_first: Mapping[str, tuple[Int64[Tensor, " _"], ...]]
    activations: Mapping[str, Tensor]
    wanted: Collection[tuple[str, str]] | None = None

    def wants(self, method: str, segmenter: str) -> bool:
        """Whether a method is asked for together with a segmenter."""
        return self.wanted is None or (method, segmenter) in self.wanted

    @property
    def predicted(self) -> Int64[Tensor, " B"]:
        """The likeliest class of each image."""
        return self.logits.argmax(1)

    @classmethod
    def joined(cls, parts: "Sequence[Answers]") -> "Answers":
        """Answers about several batches as about one."""

        def over(of: Callable[[Answers], Mapping[str, Tensor]]) -> dict[str, Tensor]:
            return {name: torch.cat([of(part)[name] for part in parts]) for name in of(parts[0])}

        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat([part.logits for part in parts]),
            torch.cat([part.target for part in parts]),
            {
                name: Segmentation.joined([part.segmentations[name] for part in parts])
                for name in parts[0].segmentations
            },
            over(lambda part: part.raw),
            {
                name: tuple(order for part in parts for order in part.hidden_first[name])
                for name in parts[0].hidden_first
            },
            over(lambda part: part.activations),
        )

    def maps(
        self, *, blank: bool = False
    ) -> Iterator[tuple[str, str, Float[Tensor, "B H W"], Tensor | None]]:
        """Method, segmenter, saliency and superpixels of each setting, each method's raw map first.

        Args:
            blank: Whether maps that are not finite become zero everywhere, as wsolevaluation has
                them; otherwise they are refused when they are pooled.
        """
        for method, found in self.raw.items():
            heat = found
            if blank:
                finite = found.isfinite().flatten(1).all(1)[:, None, None]
                heat = torch.where(finite, found, torch.zeros_like(found))
            else:
                check_map(method, heat)
            if self.wants(method, RAW):
                yield method, RAW, heat, None
            for segmenter, segmentation in self.segmentations.items():
                if not self.wants(method, segmenter):
                    continue
                superpixels = segmentation.superpixels
                yield method, segmenter, superpixelify(heat, superpixels), superpixels


def check_map(method: str, heat: Tensor, model: Classifier | None = None) -> None:
    """Refuse a map that is not finite, by its method's name; of weights that are not, say so."""
    if not bool(heat.isfinite().all()):
        why = "" if model is None else why_not_finite(model)
        raise InputError(
            f"saliency method {method!r} returned values that are not finite (NaN or infinite)"
            + (f"; {why}" if "weights" in why else "")
        )


def _from_numpy(heat: Any, images: Tensor) -> Any:
    """A map that a method returned as an array, as a tensor; anything else as it is."""
    if isinstance(heat, np.ndarray) and heat.dtype.kind in "fiub":
        return torch.from_numpy(heat.astype(np.float32)).to(images.device)
    return heat


def _unwatched(step: str) -> AbstractContextManager[None]:
    return nullcontext()


@final
@dataclass(frozen=True)
class Pipeline:
    """Asks everything of a batch at once.

    Attributes:
        model: The classifier.
        methods: Name -> saliency method, any callable ``(images, target) -> (B, H, W)``.
        segmenters: Name -> segmenter, any callable ``images -> Segmentation``, or labels
            ``(B, H, W)``; those of ``RandomRegions`` after the one that they imitate.
        greedy: Whether the order is searched in which superpixels can be hidden at the least cost.
        levels: Modules whose activations are wanted besides NAS's.
        watch: Opened around each step with its name: ``"forward"``, ``"segmenter nas"``,
            ``"method lrp"``.

    Example:
        >>> from naspix.models import load_model
        >>> from naspix.saliency import GradCAM
        >>> model = load_model("efficientnet_lite0")
        >>> ask = Pipeline(model, {"grad_cam": GradCAM(model)}, {"nas": NAS(model)})
        >>> [(method, segmenter) for method, segmenter, *_ in ask(torch.rand(1, 3, 64, 64)).maps()]
        [('grad_cam', 'none'), ('grad_cam', 'nas')]
    """

    model: Classifier
    methods: Mapping[str, Method] = field(default_factory=dict)
    segmenters: Mapping[str, Segmenter | RandomRegions] = field(default_factory=dict)
    greedy: bool = False
    levels: tuple[str, ...] = ()
    watch: Callable[[str], AbstractContextManager[None]] = field(
        default=_unwatched, compare=False, repr=False
    )

    def __call__(
        self,
        images: Float[Tensor, "B C H W"],
        target: Target = None,
        *,
        indices: Sequence[int] | None = None,
    ) -> Answers:
        """Ask everything about images of one size.

        Args:
            images: Values in [0, 1].
            target: A class for all by number or name, a list or tensor with one for each image,
                None for the predicted ones, or a ``naspix.Contrast``.
            indices: The images' places in a data set, which random regions are drawn by.

        Raises:
            NaspixError: One of the images cannot be explained.
        """
        check_images(images, self.model.in_channels)
        with self.watch("forward"), evaluating(self.model.network):
            logits, classes, activations, cams = self._forward(images, target)
        segmentations: dict[str, Segmentation] = {}
        hidden_first = {}
        for name, segmenter in self.segmenters.items():
            with self.watch(f"segmenter {name}"):
                if isinstance(segmenter, RandomRegions):
                    like = segmentations[segmenter.of].superpixels
                    segmentations[name] = _random_each(like, segmenter.seed, indices)
                else:
                    segmentations[name] = self._segment(name, segmenter, images, activations)
                if self.greedy:
                    superpixels = segmentations[name].superpixels
                    best = greedy_lerf(self.model, images, superpixels, as_given(classes))
                    hidden_first[name] = best.order
        raw = {}
        for name, method in self.methods.items():
            with self.watch(f"method {name}"):
                asked = target_for(method, as_given(classes))
                heat = cams[name]() if name in cams else method(images, asked)
            expected = (len(images), *images.shape[-2:])
            heat = _from_numpy(heat, images)
            if not isinstance(heat, Tensor) or tuple(heat.shape) != expected:
                shape = tuple(heat.shape) if isinstance(heat, Tensor) else type(heat).__name__
                raise InputError(f"saliency method {name!r} returned {shape} instead of {expected}")
            raw[name] = heat.detach() if heat.is_floating_point() else heat.float()
        return Answers(images, logits, classes, segmentations, raw, hidden_first, activations)

    def _forward(
        self, images: Float[Tensor, "B C H W"], target: Target
    ) -> tuple[Tensor, Int64[Tensor, "B ..."], dict[str, Tensor], dict[str, Callable[[], Tensor]]]:
        """Logits, classes, activations, and how each CAM makes its map: of one pass."""
        model = self.model
        cams = {
            name: method
            for name, method in self.methods.items()
            if isinstance(method, ClassActivationMap) and method.model is model
        }
        layers = {name: method.layer_name for name, method in cams.items()}
        wanted = [*self.levels]
        for segmenter in self.segmenters.values():
            if isinstance(segmenter, NAS) and segmenter.model is model:
                wanted += model.level_names(segmenter.levels)

        check_length(target, len(images))
        seen = model.seen_part((images.shape[2], images.shape[3])) if wanted or cams else None

        def ask(part: slice) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor | None]]:
            some = images[part]
            given = part_of(target, part)
            if not cams:
                with torch.no_grad():
                    if not wanted:  # also of a network whose modules cannot be recorded
                        logits, maps = model(some), {}
                    else:
                        with recording(model.network, wanted, detach=True) as maps:
                            logits = model(some)
                return logits, model.resolve_target(some, given, logits), maps, {}
            with gradients_enabled(), recording(model.network, [*wanted, *layers.values()]) as maps:
                # gradients reach the layers through the pixels, so that frozen networks are served
                logits = model(some.clone().requires_grad_())
                classes = model.resolve_target(some, given, logits).clone()
                scores = pick_scores(logits, classes)
                of_layer = {}
                for layer in dict.fromkeys(layers.values()):
                    if layer in maps:  # one that did not run is refused where the block ends
                        asker = next(cams[name] for name in cams if layers[name] == layer)
                        of_layer[layer] = asker.differentiate(
                            scores, maps[layer], retain_graph=len(layers) > 1
                        )
            found = {name: _float32(each.detach()) for name, each in maps.items()}
            return logits.detach(), classes, found, of_layer

        size = batch_size_on(model.device, None, backwards=True) if cams else len(images)
        parts = list(in_batches(ask, len(images), size))
        logits, classes = (
            torch.cat([part[0] for part in parts]),
            torch.cat([part[1] for part in parts]),
        )
        activations = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}

        def map_of(name: str) -> Callable[[], Tensor]:
            layer = layers[name]
            gradients = [part[3][layer] for part in parts]
            known = [each for each in gradients if each is not None]
            whole = torch.cat(known) if len(known) == len(parts) else None
            return lambda: cams[name].from_gradients(activations[layer], whole, images, classes)

        placed = {
            name: each if seen is None else seen.place(each) for name, each in activations.items()
        }
        return logits, classes, placed, {name: map_of(name) for name in cams}

    def _segment(
        self,
        name: str,
        segmenter: Segmenter,
        images: Float[Tensor, "B C H W"],
        activations: Mapping[str, Tensor],
    ) -> Segmentation:
        if isinstance(segmenter, NAS) and segmenter.model is self.model:
            maps = [activations[level] for level in self.model.level_names(segmenter.levels)]
            return segmenter.segment(maps, segmenter.size or (images.shape[2], images.shape[3]))
        return segment_by(name, segmenter, images)


def segment_by(name: str, segmenter: Segmenter, images: Float[Tensor, "B C H W"]) -> Segmentation:
    """A segmenter's regions of images; labels and arrays are taken too.

    Raises:
        InputError: It returns something else; by its name.
    """
    found: object = segmenter(images)
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(found)
    if isinstance(found, Tensor):
        expected = (len(images), *images.shape[-2:])
        if found.is_floating_point() or tuple(found.shape) != expected:
            raise InputError(
                f"segmenter {name!r} returned {found.dtype} labels of {tuple(found.shape)}; "
                f"they should be whole numbers of {expected}"
            )
        return Segmentation.from_clusters(found.long())
    if not isinstance(found, Segmentation):
        raise InputError(
            f"segmenter {name!r} returned a {type(found).__name__}; it should return a "
            "Segmentation, or labels (B, H, W)"
        )
    return found


def _random_each(
    superpixels: Int64[Tensor, "B H W"], seed: int, indices: Sequence[int] | None
) -> Segmentation:
    """Random regions by an image's place in the data set, whatever that in the batch."""
    places = range(len(superpixels)) if indices is None else indices
    regions = [
        random_segmentation(labels[None], seed * _MANY_IMAGES + index)
        for labels, index in zip(superpixels, places, strict=True)
    ]
    return Segmentation(torch.cat(regions))


def _float32(maps: Tensor) -> Tensor:
    """Half precision as float32; memory in the order of the axes."""
    if maps.dtype in (torch.float16, torch.bfloat16):
        maps = maps.float()
    return maps.contiguous()
