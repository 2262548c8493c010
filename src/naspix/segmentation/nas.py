"""NAS: Neuro-Activated Superpixels (paper, section 3, Algorithm 1).

The activations of a classifier at several depths are upsampled to the image, normalised, weighted
and clustered, one image at a time; the connected parts of the clusters are the superpixels.
In: images ``(B, C, H, W)`` in [0, 1], or activations already at hand. Out: a ``Segmentation``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from naspix.clustering.components import superpixels_from_clusters
from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.kmeans import kmeans
from naspix.clustering.ward import ward
from naspix.errors import ActivationError, InputError, UnknownNameError
from naspix.images import read_image
from naspix.models import Classifier, as_classifier
from naspix.models.finite import why_not_finite
from naspix.models.functions import check_seen_into
from naspix.models.seen import crops
from naspix.segmentation.segmentation import Segmentation
from naspix.segmentation.tracking import Tracker

_ALGORITHMS = ("kmeans", "ward")


@final
@dataclass(frozen=True)
class ArraySegmenter:
    """A segmenter of one numpy image, as other libraries want one.

    In: an array ``(H, W, 3)``, eight-bit or in [0, 1]. Out: an array ``(H, W)`` of ids from 0
    without gaps. LIME's package, for one, counts ids by position and hides the wrong region where
    they have gaps or begin at 1.

    Args:
        segmenter: Any callable ``images -> Segmentation``.
        input_size: Height and width to which the picture is scaled before it is segmented; its own
            size if None. The regions always have the picture's own frame.
        channels: How many the segmenter takes: 3, or 1 for grey.

    Example:
        >>> from naspix.segmentation import Grid
        >>> segment = ArraySegmenter(Grid(n_segments=4))
        >>> segment(np.zeros((2, 2, 3), np.uint8))
        array([[0, 1],
               [2, 3]])
    """

    segmenter: Callable[[torch.Tensor], Segmentation]
    input_size: tuple[int, int] | None = None
    channels: int = 3

    def __call__(self, image: Shaped[np.ndarray, "H W C"]) -> Int64[np.ndarray, "H W"]:
        """Segment one picture.

        Args:
            image: Integers over their type's range (uint8: 0 to 255), or floats in [0, 1].

        Raises:
            InputError: If the array is no such picture.
        """
        pixels = read_image(image, channels=self.channels)[None]
        frame = (image.shape[0], image.shape[1])
        if self.input_size is not None:
            if len(self.input_size) != 2 or min(self.input_size) < 1:
                raise InputError(f"input_size is {self.input_size}; give (height, width) in pixels")
            pixels = functional.interpolate(
                pixels, self.input_size, mode="bilinear", antialias=True
            ).clamp(0, 1)
        segmentation = self.segmenter(pixels)
        if segmentation.size != frame:
            segmentation = segmentation.resize(frame)
        labels: np.ndarray = segmentation.superpixels[0].cpu().numpy()
        return labels


@final
@dataclass(frozen=True)
class NAS:
    """Cut images into the regions that a classifier tells apart.

    Args:
        model: The classifier whose activations are clustered.
        levels: Depths at which activations are taken: numbers (0 is shallow, 4 is deep) or names of
            modules of ``model.network``. Deep levels see objects and their parts, shallow ones
            edges and colours. By default the model's own: in the paper's networks 2, 3 and 4.
        n_clusters: K. More clusters make more and smaller superpixels; a cluster may fall into
            several superpixels, so K bounds their number from below only.
        algorithm: ``"kmeans"``, or ``"ward"``, which costs more and whose result can be cut into
            any other number of clusters at once by ``Segmentation.cut``.
        size: Frame ``(H, W)`` in pixels in which the regions are made, the images' own by default.
        seed: Of k-means; a seed gives the same labels on the same machine, for any batch.
        normalize: Whether each level's vector is divided by its norm at each pixel (line 10).
        weight: Whether each level is divided by one plus its number of channels (line 11).
        n_init: Number of k-means++ starts.
        max_iter: Most k-means steps on the full frame.
        tol: Share of the pixels that may still change cluster in the last step of k-means; 0 runs
            to the fixed point.
        connectivity: 4 joins pixels that share a side into one superpixel, 8 also those that share
            a corner.
        min_size: Superpixels of fewer pixels are merged into the neighbour whose mean feature is
            nearest; the paper keeps them all, and so does 0.

    Raises:
        InputError: If an argument is out of its range.
        UnknownNameError: If a level or the algorithm is not known.

    Source:
        Algorithm 1; the defaults are those of the paper's section 4. The paper does not say how
        k-means is started and stopped: ``n_init`` and ``tol`` are choices made here.

    Example:
        >>> import naspix, skimage.data
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> images = model.load_images([skimage.data.chelsea()])
        >>> seg = NAS(model, n_clusters=4)(images)
        >>> seg.clusters.shape, seg.clusters.unique()
        (torch.Size([1, 224, 224]), tensor([0, 1, 2, 3]))
    """

    title: ClassVar[str] = "NAS"

    model: Classifier
    _: KW_ONLY
    levels: Sequence[int | str] = ()
    n_clusters: int = 5
    algorithm: Literal["kmeans", "ward"] = "kmeans"
    size: tuple[int, int] | None = None
    seed: int = 0
    normalize: bool = True
    weight: bool = True
    n_init: int = 8
    max_iter: int = 300
    tol: float | int = 0.01
    connectivity: Literal[4, 8] = 4
    min_size: int = 0

    def __post_init__(self) -> None:
        model = as_classifier(self.model, "NAS")
        check_seen_into(model, "NAS", "activations")
        object.__setattr__(self, "model", model)
        levels = tuple(
            self.model.level_names(level)[0] if isinstance(level, nn.Module) else level
            for level in self.levels
        )
        levels = levels or self.model.default_levels
        object.__setattr__(self, "levels", levels)
        self.model.level_names(levels)
        if self.algorithm not in _ALGORITHMS:
            raise UnknownNameError.among("algorithm", self.algorithm, _ALGORITHMS)
        if self.n_clusters < 1 or self.n_clusters % 1:
            raise InputError(f"n_clusters is {self.n_clusters}; NAS needs a whole number from 1 up")
        object.__setattr__(self, "n_clusters", int(self.n_clusters))  # NumPy's too

    def __call__(self, images: Float[Tensor, "B C H W"]) -> Segmentation:
        """Segment images ``(B, C, H, W)`` in [0, 1], each on its own."""
        activations = self.model.activations(images, self.levels)
        return self.segment(activations, self.size or (images.shape[2], images.shape[3]))

    def segment(
        self,
        activations: Sequence[Tensor],
        size: tuple[int, int] | None = None,
    ) -> Segmentation:
        """Segment from activations already at hand.

        Args:
            activations: One ``(B, C, h, w)`` tensor a level, in the order of ``levels``.
            size: The frame ``(H, W)`` in pixels; that of the segmenter by default.

        Raises:
            InputError: If the activations do not belong together or no size is given.
            ActivationError: If an activation holds values that are not finite.
        """
        frame = size or self.size
        if frame is None:
            raise InputError("activations do not say how large the image was; give size=(H, W)")
        if len(activations) != len(self.levels):
            raise InputError(
                f"{len(activations)} activations were given for the {len(self.levels)} levels "
                f"{self.levels}; give one a level"
            )
        exactly = torch.autocast(activations[0].device.type, enabled=False)
        with exactly, torch.inference_mode(self.algorithm == "kmeans"), torch.no_grad():
            features = self._features(activations, frame)
        with exactly, torch.no_grad():
            return self._cluster(features)

    def _features(self, activations: Sequence[Tensor], frame: tuple[int, int]) -> UpsampledFeatures:
        return features_of(
            self.model,
            self.levels,
            activations,
            frame,
            normalize=self.normalize,
            weight=self.weight,
        )

    def track(self, frames: Iterable[Tensor]) -> Iterator[Segmentation]:
        """Segment the frames of a film so that regions keep their numbers.

        The centres of a frame start the next one, so that clusters keep their number; superpixels
        are matched to those of the frame before by the pixels that they share, and their lasting
        numbers are the segmentation's `tracks`. After a cut, which is noticed by how badly the
        centres before fit, numbers go on with new ones. Memory is that of one frame.

        Args:
            frames: Images ``(1, C, H, W)`` in [0, 1], one after the other.

        Yields:
            The segmentation of each frame, of one image.

        Raises:
            InputError: A frame is no single image, or the algorithm is Ward's.

        Example:
            >>> import naspix
            >>> nas = NAS(naspix.load_model("efficientnet_lite0"), n_clusters=3)
            >>> frame = torch.rand(1, 3, 64, 64)
            >>> first, second = nas.track([frame, frame])
            >>> torch.equal(first.tracks, second.tracks)
            True
        """
        follow = self.follower()

        def one(frame: Tensor) -> Segmentation:
            if frame.ndim != 4 or len(frame) != 1:
                raise InputError(
                    f"a frame is an image (1, C, H, W), not {tuple(frame.shape)}; give one at a "
                    "time"
                )
            activations = self.model.activations(frame, self.levels)
            return follow(activations, self.size or (frame.shape[2], frame.shape[3]))

        return map(one, frames)

    def follower(self) -> Callable[[Sequence[Tensor], tuple[int, int]], Segmentation]:
        """Return what `track` asks frame by frame, for activations that are at hand already.

        It takes the activations ``(1, C, h, w)`` of a frame and its height and width, and is for
        one film.

        Raises:
            InputError: The algorithm is Ward's.
        """
        if self.algorithm != "kmeans":
            raise InputError("frames are tracked by k-means; make NAS with algorithm='kmeans'")
        tracker = Tracker(
            self.n_clusters,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self.seed,
            connectivity=self.connectivity,
            min_size=self.min_size,
        )

        def follow(activations: Sequence[Tensor], size: tuple[int, int]) -> Segmentation:
            with torch.autocast(activations[0].device.type, enabled=False), torch.no_grad():
                clusters, superpixels, tracks = tracker(self._features(activations, size))
            return Segmentation(
                clusters,
                superpixels,
                source=repr(self),
                connectivity=self.connectivity,
                tracks=tracks,
            )

        return follow

    def as_lime(self, *, input_size: tuple[int, int] | None = None) -> ArraySegmenter:
        """Return this segmenter as the ``segmentation_fn`` of LIME's ``LimeImageExplainer``.

        Args:
            input_size: Height and width at which the network looks at the picture; the picture's
                own if None. The regions have the picture's frame either way.

        Example:
            >>> import naspix, skimage.data
            >>> nas = naspix.NAS(naspix.load_model("efficientnet_lite0"), n_clusters=4)
            >>> nas.as_lime(input_size=(224, 224))(skimage.data.chelsea()).shape
            (300, 451)
        """
        return ArraySegmenter(self, input_size, channels=self.model.in_channels)

    def _cluster(self, features: UpsampledFeatures) -> Segmentation:
        tree = None
        if self.algorithm == "ward":
            tree = ward(features)
            device = features.levels[0].device
            clusters = torch.stack([one.cut(self.n_clusters) for one in tree]).to(device)
        else:
            clusters = kmeans(
                features,
                self.n_clusters,
                n_init=self.n_init,
                max_iter=self.max_iter,
                tol=self.tol,
                seed=self.seed,
            )
        superpixels = None
        if self.min_size > 1:
            superpixels = superpixels_from_clusters(
                clusters, connectivity=self.connectivity, min_size=self.min_size, features=features
            )
        return Segmentation(
            clusters, superpixels, source=repr(self), tree=tree, connectivity=self.connectivity
        )


def features_of(
    model: Classifier,
    levels: Sequence[int | str | nn.Module],
    activations: Sequence[Tensor],
    frame: tuple[int, int],
    *,
    normalize: bool,
    weight: bool,
) -> UpsampledFeatures:
    """The features of Algorithm 1 of a network's activations, where the network sees its images.

    Args:
        model: Knows its levels' names and which part of its images it sees.
        levels: Whose activations these are.
        activations: One ``(B, C, h, w)`` tensor a level.
        frame: Height and width in pixels.
        normalize: Whether line 10 is done.
        weight: Whether line 11 is done.

    Raises:
        ActivationError: If an activation holds values that are not finite; with the cause.
    """
    # what made the activations has looked already; a network is not run to cut what is at hand
    seen = model.seen_part(frame) if crops(model.network) else None
    try:
        return UpsampledFeatures(
            [maps.detach() for maps in activations],
            frame,
            normalize=normalize,
            weight=weight,
            names=model.level_names(levels),
            seen=None if seen is None else (seen.rows, seen.columns),
        )
    except ActivationError as error:
        what = str(error).partition(", as half precision")[0]
        if what == str(error):
            raise
        raise ActivationError(f"{what}; {why_not_finite(model)}") from None
