"""The result of every segmenter: two label maps of the same frame, clusters and superpixels.

In: label maps ``(B, H, W)`` int64, on any device. Out: what explanations and figures ask of them:
masks, boundaries, areas, neighbours, other cuts of the same tree, other sizes. Files are the
business of ``files.py``, looks of ``naspix.plots``; nothing here knows a network.
"""

from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn import functional

from naspix.clustering.components import superpixels_from_clusters, touching_pairs
from naspix.clustering.ward import WardTree
from naspix.errors import InputError
from naspix.models.devices import in_float64
from naspix.segmentation import files
from naspix.segmentation.given import labels_of_masks, numbered_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@final
class Segmentation:
    """The clusters of a batch of images, and the superpixels they fall into.

    Superpixels are the connected components of the clusters, computed when first asked for unless
    they are given. A segmentation never changes; two are equal when both label maps are.

    Attributes:
        clusters: Labels from 0; one cluster may lie in several places.
        source: What made it: the repr of the segmenter.
        tree: One tree an image where Ward's linkage made it, for ``cut``.
        connectivity: 4 or 8, how pixels hang together in a superpixel.
        tracks: ``(n_superpixels,)``, the lasting number of each superpixel of a film's frame
            (`NAS.track`); None elsewhere.

    Example:
        >>> seg = Segmentation(torch.tensor([[[0, 1, 0], [0, 1, 1]]]))
        >>> seg
        Segmentation(1 image of 2x3, 2 clusters, 3 superpixels)
        >>> seg.superpixels
        tensor([[[0, 1, 2], [0, 1, 1]]])
    """

    clusters: Int64[Tensor, "B H W"]
    source: str
    tree: tuple[WardTree, ...] | None
    connectivity: Literal[4, 8]
    tracks: Int64[Tensor, " n"] | None

    def __init__(
        self,
        clusters: Tensor,
        superpixels: Tensor | None = None,
        *,
        source: str = "",
        tree: Sequence[WardTree] | None = None,
        connectivity: Literal[4, 8] = 4,
        tracks: Tensor | None = None,
    ) -> None:
        """Hold label maps, computing the superpixels later if they are not given.

        Args:
            clusters: Labels from 0, ``(B, H, W)`` int64.
            superpixels: Ids from 0 without gaps in each image, ``(B, H, W)`` int64; the connected
                components of ``clusters`` by default.
            source: What made it.
            tree: One tree an image.
            connectivity: 4 joins pixels that share a side, 8 also those that share a corner.
            tracks: A number for each superpixel of one image.

        Raises:
            InputError: If a map is not ``(B, H, W)`` int64, ids have gaps, or there is not one tree
                an image.
        """
        _check_labels("clusters", clusters)
        if tree is not None and len(tree) != len(clusters):
            raise InputError(f"{len(tree)} trees for {len(clusters)} images; give one an image")
        if any(each.leaves.shape != clusters.shape[1:] for each in tree or ()):
            raise InputError("a tree has another frame than the clusters")
        given: dict[str, object] = {
            "clusters": clusters,
            "source": source,
            "tree": None if tree is None else tuple(tree),
            "connectivity": connectivity,
            "tracks": tracks,
        }
        if superpixels is not None:
            _check_superpixels(superpixels, clusters)
            given["superpixels"] = superpixels
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_clusters(
        cls,
        clusters: Tensor,
        *,
        connectivity: Literal[4, 8] = 4,
        source: str = "",
        tree: Sequence[WardTree] | None = None,
    ) -> "Segmentation":
        """Hold clusters whose superpixels are computed when first asked for."""
        return cls(clusters, connectivity=connectivity, source=source, tree=tree)

    @classmethod
    def joined(cls, parts: Sequence["Segmentation"]) -> "Segmentation":
        """Segmentations of one frame as one batch.

        Example:
            >>> one = Segmentation(torch.tensor([[[0, 1]]]))
            >>> Segmentation.joined([one, one])
            Segmentation(2 images of 1x2, 2 clusters, 2 superpixels)
        """
        first, *others = parts
        if not others:
            return first
        trees = [tree for part in parts for tree in part.tree or ()]
        return cls(
            torch.cat([part.clusters for part in parts]),
            torch.cat([part.superpixels for part in parts]),
            source=first.source,
            tree=trees if first.tree is not None else None,
            connectivity=first.connectivity,
        )

    @classmethod
    def from_labels(cls, labels: Any, *, source: str = "") -> "Segmentation":
        """Hold a label map that others made: each label is a superpixel as it is.

        ``from_clusters`` takes labels apart into what hangs together; this does not.

        Args:
            labels: An array or tensor ``(H, W)`` or ``(B, H, W)`` of whole numbers, with gaps or
                negative ones too; they are numbered anew from 0, in their order.
            source: What made it.

        Raises:
            InputError: If it is none of these.

        Example:
            >>> Segmentation.from_labels([[5, 5, -1], [7, 5, 7]]).superpixels
            tensor([[[1, 1, 0],
                     [2, 1, 2]]])
        """
        numbered = numbered_labels(labels)
        return cls(numbered, numbered, source=source)

    @classmethod
    def from_masks(cls, masks: Any, *, source: str = "") -> "Segmentation":
        """Hold masks that others made, such as SAM's, which may overlap and leave pixels over.

        A pixel belongs to the smallest mask that it lies in, so that parts stay visible on their
        wholes; pixels in no mask are one superpixel, the first. Masks are numbered in their order;
        one that smaller ones hide has no number.

        Args:
            masks: Those of one image: arrays or tensors ``(H, W)`` of true and false, one array
                ``(N, H, W)``, or dictionaries with ``"segmentation"``, as SAM's
                ``SamAutomaticMaskGenerator`` gives them; or a list of these for several images of
                one size.
            source: What made them.

        Raises:
            InputError: If they are none of these.

        Example:
            >>> masks = [[[True, True, False]], [[False, True, False]]]
            >>> Segmentation.from_masks([{"segmentation": one} for one in masks]).superpixels
            tensor([[[1, 2, 0]]])
        """
        numbered = labels_of_masks(masks)
        return cls(numbered, numbered, source=source)

    @cached_property
    def superpixels(self) -> Int64[Tensor, "B H W"]:
        """Ids from 0 without gaps in each image, in raster order of their first pixels."""
        return superpixels_from_clusters(self.clusters, connectivity=self.connectivity)

    # ----------------------------------------------------------------- what it holds

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame, in pixels."""
        height, width = self.clusters.shape[1:]
        return height, width

    @property
    def device(self) -> torch.device:
        """Where the label maps lie."""
        return self.clusters.device

    @property
    def n_clusters(self) -> Int64[Tensor, " B"]:
        """The number of clusters of each image, counting those that have a pixel."""
        counts = [labels.unique().numel() for labels in self.clusters]
        return torch.tensor(counts, device=self.device)

    @property
    def n_superpixels(self) -> Int64[Tensor, " B"]:
        """The number of superpixels of each image."""
        return self.superpixels.flatten(1).amax(1) + 1

    @property
    def feature_mask(self) -> Int64[Tensor, "B 1 H W"]:
        """The superpixels as captum's ``feature_mask``: ids from 0, one channel.

        ``skimage.measure.regionprops`` drops label 0: give it ``superpixels + 1``.
        """
        return self.superpixels[:, None]

    def __len__(self) -> int:
        return len(self.clusters)

    def __getitem__(self, index: int) -> "Segmentation":
        """Return one image's segmentation, as a batch of one."""
        image = range(len(self))[index]
        kept = slice(image, image + 1)
        return self._with(
            self.clusters[kept],
            self.superpixels[kept],
            tree=None if self.tree is None else self.tree[kept],
        )

    def to(self, device: torch.device | str) -> "Segmentation":
        """Return the segmentation with its label maps on another device."""
        tree = self.tree
        if tree is not None:
            tree = tuple(WardTree(each.linkage, each.leaves.to(device)) for each in tree)
        return self._with(self.clusters.to(device), self.superpixels.to(device), tree=tree)

    # ----------------------------------------------------------------- regions

    def masks(self, index: int = 0) -> Bool[Tensor, "n H W"]:
        """Return one mask for each superpixel of one image.

        Args:
            index: Which image of the batch.

        Example:
            The authors' ``saliency`` package takes a list of arrays as ``segments``:

            >>> seg = Segmentation(torch.tensor([[[0, 1]]]))
            >>> [mask.tolist() for mask in seg.masks().numpy()]
            [[[True, False]], [[False, True]]]
        """
        labels = self.superpixels[index]
        ids = torch.arange(int(labels.max()) + 1, device=labels.device)
        return labels == ids[:, None, None]

    def areas(self, index: int = 0) -> Int64[Tensor, " n"]:
        """Count the pixels of each superpixel of one image.

        Args:
            index: Which image of the batch.
        """
        return self.superpixels[index].flatten().bincount()

    def adjacency(self, index: int = 0) -> Int64[Tensor, "n_pairs 2"]:
        """List the superpixels of one image that share a pixel side, each pair once.

        Args:
            index: Which image of the batch.

        Example:
            >>> Segmentation(torch.tensor([[[0, 1, 2]]])).adjacency().tolist()
            [[0, 1], [1, 2]]
        """
        return torch.from_numpy(touching_pairs(self.superpixels[index].cpu().numpy()))

    def boundaries(self) -> Bool[Tensor, "B H W"]:
        """Mark the pixels whose right or lower neighbour lies in another superpixel.

        The lines are one pixel wide.

        Example:
            >>> Segmentation(torch.tensor([[[0, 0, 1, 1]]])).boundaries()
            tensor([[[False,  True, False, False]]])
        """
        labels = self.superpixels
        marked = torch.zeros_like(labels, dtype=torch.bool)
        marked[:, :, :-1] = labels[:, :, 1:] != labels[:, :, :-1]
        marked[:, :-1] |= labels[:, 1:] != labels[:, :-1]
        return marked

    # ----------------------------------------------------------------- other segmentations

    def cut(self, n_clusters: int) -> "Segmentation":
        """Cut the same tree into another number of clusters, at once.

        Each cut refines every cut into fewer. Fragments are not merged.

        Args:
            n_clusters: From 1 to the number of leaves of the tree.

        Raises:
            InputError: If there is no tree: only Ward's linkage makes one.
        """
        if self.tree is None:
            raise InputError(
                "this segmentation has no tree to cut; segment with NAS(..., algorithm='ward')"
            )
        labels = torch.stack([tree.cut(n_clusters) for tree in self.tree])
        made_by = self.source.split(".cut(")[0]
        return Segmentation(
            labels.to(self.device),
            source=f"{made_by}.cut({n_clusters})",
            tree=self.tree,
            connectivity=self.connectivity,
        )

    def resize(self, size: tuple[int, int]) -> "Segmentation":
        """Bring both label maps, and the tree, to another frame by nearest neighbour.

        A superpixel that falls apart on a coarser frame becomes several, one that vanishes leaves
        no gap: ids are numbered anew.

        Args:
            size: Height and width of the new frame, in pixels.

        Raises:
            InputError: If a side is not at least one pixel.
        """
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"size is {tuple(size)}; give (height, width) of at least 1 pixel")
        superpixels = superpixels_from_clusters(
            _nearest(self.superpixels, size), connectivity=self.connectivity
        )
        tree = self.tree
        if tree is not None:
            tree = tuple(each.resized(size) for each in tree)
        return self._with(_nearest(self.clusters, size), superpixels, tree=tree)

    def _with(
        self, clusters: Tensor, superpixels: Tensor, *, tree: Sequence[WardTree] | None
    ) -> "Segmentation":
        return Segmentation(
            clusters,
            superpixels,
            source=self.source,
            tree=tree,
            connectivity=self.connectivity,
        )

    # ----------------------------------------------------------------- files and formats

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to a compressed ``.npz`` file, without pickle, whole or not at all.

        Args:
            path: Where to; an existing file is replaced, no suffix is added.

        Raises:
            OutputError: If the file cannot be written.
        """
        files.write_segmentation(
            path,
            self.clusters.cpu().numpy(),
            self.superpixels.cpu().numpy(),
            source=self.source,
            tree=self.tree or (),
            connectivity=self.connectivity,
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Segmentation":
        """Read what ``save`` wrote.

        Raises:
            InputError: If the file is missing, damaged, or not such a file.
        """
        content = files.read_segmentation(path)
        try:
            return cls(**content)
        except InputError as error:
            raise InputError(f"{path} holds no whole segmentation: {error}") from error

    def save_png(
        self,
        path: str | PathLike[str],
        *,
        index: int = 0,
        labels: Literal["superpixels", "clusters"] = "superpixels",
    ) -> None:
        """Write one label map as a PNG whose pixel values are the ids.

        Up to 256 ids make a palette image with a colour for each, more make a 16-bit grey image;
        ``numpy.asarray(PIL.Image.open(path))`` gives the ids back either way.

        Args:
            path: Where to; an existing file is replaced.
            index: Which image of the batch.
            labels: Which map.

        Raises:
            InputError: If there are more than 65,536 ids.
            OutputError: If the file cannot be written.
        """
        label_map = self.superpixels if labels == "superpixels" else self.clusters
        files.write_label_png(path, label_map[index].cpu().numpy())

    def to_rle(self, index: int = 0) -> list[dict[str, Any]]:
        """Encode each superpixel of one image as COCO's uncompressed run lengths.

        Args:
            index: Which image of the batch.

        Returns:
            For each superpixel ``{"size": [H, W], "counts": [...]}``: lengths of runs down the
            columns, outside and inside by turns, outside first. ``pycocotools`` reads them by
            ``mask.frPyObjects``.

        Example:
            >>> Segmentation(torch.tensor([[[0, 1], [1, 1]]])).to_rle()
            [{'size': [2, 2], 'counts': [0, 1, 3]}, {'size': [2, 2], 'counts': [1, 3]}]
        """
        return files.run_lengths(self.superpixels[index].cpu().numpy())

    def to_coco(
        self,
        image_ids: Sequence[int] | None = None,
        *,
        file_names: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Describe the batch as a COCO instances dictionary, ready for ``json.dump``.

        Each superpixel is an annotation; its category is the cluster that most of its pixels belong
        to, numbered from 1 as COCO does (category 1 is cluster 0).

        Args:
            image_ids: One id an image; 1, 2, ... by default.
            file_names: One name an image.

        Raises:
            InputError: If there is not one id and one name for each image, or an id comes twice.
        """
        return files.instances(
            self.clusters.cpu().numpy(),
            self.superpixels.cpu().numpy(),
            image_ids=image_ids,
            file_names=file_names,
            made_by=self.source,
        )

    # ----------------------------------------------------------------- looks

    def plot(self, images: Tensor | None = None) -> "Figure":
        """Draw clusters and superpixels of the batch, over the images where they are given.

        Args:
            images: ``(B, C, H, W)`` in [0, 1].

        Returns:
            A matplotlib figure, one row an image.
        """
        from naspix.plots.segmentations import batch_figure  # here: matplotlib takes a while

        photos = None
        if images is not None:
            wanted = (len(self), *self.size)
            if images.ndim != 4 or (images.shape[0], *images.shape[2:]) != wanted:
                raise InputError(
                    f"images have the shape {tuple(images.shape)}, the segmentation is of "
                    f"{wanted[0]} images of {wanted[1]}x{wanted[2]} pixels; give the images that "
                    "were segmented"
                )
            photos = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
        return batch_figure(self.clusters.cpu().numpy(), self.superpixels.cpu().numpy(), photos)

    def _repr_html_(self) -> str:
        from naspix.plots.segmentations import batch_html

        clusters, superpixels = self.clusters.cpu().numpy(), self.superpixels.cpu().numpy()
        return batch_html(clusters, superpixels, self.source)

    def __repr__(self) -> str:
        height, width = self.size
        images = f"{len(self)} image{'s' if len(self) != 1 else ''} of {height}x{width}"
        clusters = _counted(self.n_clusters, "cluster")
        superpixels = _counted(self.n_superpixels, "superpixel")
        made_by = f", by {self.source}" if self.source else ""
        return f"Segmentation({images}, {clusters}, {superpixels}{made_by})"

    # ----------------------------------------------------------------- a value, not a variable

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Segmentation never changes; {name!r} cannot be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segmentation):
            return NotImplemented
        return torch.equal(self.clusters, other.clusters) and torch.equal(
            self.superpixels, other.superpixels
        )

    __hash__ = None  # type: ignore[assignment]  # equal by content, and tensors have no content hash


def _check_labels(name: str, labels: object) -> None:
    if not isinstance(labels, Tensor) or labels.ndim != 3 or labels.dtype != torch.int64:
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, Tensor)
            else type(labels).__name__
        )
        raise InputError(f"{name} are {got}; give a (B, H, W) int64 tensor")
    if 0 in labels.shape:
        raise InputError(
            f"{name} have the shape {tuple(labels.shape)}; at least one pixel is needed"
        )


def _check_superpixels(superpixels: Tensor, clusters: Tensor) -> None:
    _check_labels("superpixels", superpixels)
    if superpixels.shape != clusters.shape:
        raise InputError(
            f"superpixels have the shape {tuple(superpixels.shape)}, clusters "
            f"{tuple(clusters.shape)}; both must be the same"
        )
    for image, ids in enumerate(superpixels.flatten(1)):
        if ids.min() != 0 or not ids.bincount().all():
            raise InputError(
                f"the superpixel ids of image {image} do not count from 0 without gaps"
            )


def _nearest(labels: Int64[Tensor, "B H W"], size: tuple[int, int]) -> Int64[Tensor, "B h w"]:
    """Sample labels at the nearest pixel; float64 holds every id exactly."""
    frame = in_float64(labels[:, None])
    resized = functional.interpolate(frame, size=tuple(size), mode="nearest-exact")
    return resized[:, 0].long().to(labels.device)


def _counted(numbers: Tensor, word: str) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    count = str(low) if low == high else f"{low} to {high}"
    return f"{count} {word}{'s' if high != 1 else ''}"
