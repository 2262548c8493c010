"""Ward's linkage on the features of Algorithm 1: one tree an image, to cut into any K clusters.

Linkage needs distances, not features, so every level is first turned by a QR decomposition into at
most as many dimensions as its activation has cells, which changes no distance; the tree itself is
fastcluster's. In: ``UpsampledFeatures``. Out: a ``WardTree`` an image: merges, and the leaf of each
pixel. Exact up to 96 x 96 pixels; for larger frames the tree is built on a grid of so many points.
Also here: the tree of superpixels that follows it, for whoever wants a hierarchy of regions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.ordering import canonical_order
from naspix.clustering.upsampling import upsampling_matrix
from naspix.errors import InputError

_SPLITS_BY_FEATURES = 63  # of a larger frame: further down, position decides
_ROWS_AT_ONCE = 256  # of the distance matrix
_MAPS_AT_ONCE = 8  # of a larger frame, to spare memory


@dataclass(frozen=True, eq=False)
class WardTree:
    """The tree of one image, from which every number of clusters can be cut.

    Attributes:
        linkage: SciPy's linkage matrix: with ``n`` leaves, row ``m`` joins two nodes into node
            ``n + m``; its columns are both nodes, the height, and the leaves below.
        leaves: The leaf each pixel belongs to.
    """

    linkage: Float64[np.ndarray, "n_merges 4"]
    leaves: Int64[Tensor, "H W"]

    @property
    def n_leaves(self) -> int:
        """The number of leaves: the largest number of clusters that can be cut."""
        return len(self.linkage) + 1

    def cut(self, n_clusters: int) -> Int64[Tensor, "H W"]:
        """Cut the tree into clusters; each cut refines every cut into fewer.

        Args:
            n_clusters: From 1 to the number of leaves.

        Returns:
            Labels in canonical order: the largest cluster is 0, ties go by first pixel. Where the
            tree was built on a coarser grid than the frame, a cluster may lie between the pixels;
            then there are fewer.

        Raises:
            InputError: If the tree has fewer leaves, or less than one cluster is asked for.

        Example:
            >>> tree = WardTree(
            ...     linkage=np.array([[0, 1, 0.5, 2], [2, 3, 2.0, 3]]),
            ...     leaves=torch.tensor([[0, 1, 2]]),
            ... )
            >>> tree.cut(2)
            tensor([[0, 0, 1]])
        """
        labels = _nodes_of_cut(self.linkage, n_clusters)
        return canonical_order(torch.from_numpy(labels).to(self.leaves.device)[self.leaves][None])[
            0
        ]

    def resized(self, size: tuple[int, int]) -> "WardTree":
        """Return the same tree over another frame, each leaf taken from the nearest pixel."""
        frame = self.leaves[None, None].cpu().double()  # which holds every index exactly
        resized = functional.interpolate(frame, size=size, mode="nearest-exact")
        return WardTree(self.linkage, resized[0, 0].long().to(self.leaves.device))


def ward(features: UpsampledFeatures, *, max_points: int = 96 * 96) -> list[WardTree]:
    """Build the tree of Ward's linkage for each image of the batch.

    Up to ``max_points`` pixels the tree is exact, with a leaf a pixel. A larger frame is first
    reduced to a grid of at most that many points, of the same shape. Then the pixels descend the
    tree: at each of the first 63 splits a pixel goes to the side whose mean feature is nearer, so
    that cuts into up to 64 clusters follow the pixels' own features, and each refines the one
    before. Finer cuts follow the grid.

    Time grows with the square of the points; memory is 8 bytes for each pair of them (340 MB for
    96 x 96, one image at a time).

    Args:
        features: Features of a batch.
        max_points: The most leaves a tree may have.

    Raises:
        InputError: If ``max_points`` is not positive.

    Source:
        Ward, "Hierarchical grouping to optimize an objective function", 1963; Müllner,
        "fastcluster: fast hierarchical, agglomerative clustering routines for R and Python", 2013.

    Example:
        >>> features = UpsampledFeatures([torch.rand(1, 8, 3, 3)], size=(6, 6))
        >>> (tree,) = ward(features)
        >>> tree.n_leaves, tree.cut(4).unique().tolist()
        (36, [0, 1, 2, 3])
    """
    if max_points < 1:
        raise InputError(f"max_points is {max_points}; a tree needs at least one leaf")
    return [_tree_of_image(features.image(b), max_points) for b in range(features.batch_size)]


def ward_of_points(points: Float[Tensor, "n d"]) -> WardTree:
    """Build the tree of Ward's linkage for points that need not be an image's pixels.

    Args:
        points: At least one; time and memory grow with the square of their number.

    Returns:
        A tree whose cuts are ``(1, n)``, in the order of the points.

    Example:
        >>> ward_of_points(torch.tensor([[0.0], [9.0], [0.1]])).cut(2)
        tensor([[0, 1, 0]])
    """
    leaves = torch.arange(len(points), device=points.device)[None]
    return WardTree(_linkage(points.double()), leaves)


def _tree_of_image(features: UpsampledFeatures, max_points: int) -> WardTree:
    height, width = features.size
    shrink = (max_points / (height * width)) ** 0.5
    device = features.levels[0].device
    if shrink >= 1:
        leaves = torch.arange(height * width, device=device).view(height, width)
        return WardTree(_linkage(reduced_points(features)), leaves)
    rows = min(max(1, int(height * shrink)), max_points)
    columns = min(max(1, int(width * shrink)), max_points // rows)
    grid = features.resized((rows, columns))
    linkage = _linkage(reduced_points(grid))
    return WardTree(linkage, _descend(linkage, grid, features))


def reduced_points(features: UpsampledFeatures) -> Float64[Tensor, "n d"]:
    """Return points with the same distances as one image's features, in fewer dimensions.

    With ``X = QR``, ``|X u - X v| = |R u - R v|``, and ``R`` has at most as many rows as a level
    has cells; a level's upsampling and scale stay what they are.

    Args:
        features: Features of one image.

    Example:
        >>> features = UpsampledFeatures([torch.rand(1, 512, 3, 3)], size=(6, 6))
        >>> reduced_points(features).shape
        torch.Size([36, 9])
    """
    parts = []
    for activation, scale in zip(features.levels, features.scales, strict=True):
        n_channels, *cells = activation.shape[1:]
        place = "cpu" if activation.device.type == "mps" else activation.device  # has no float64
        activation, scale = activation.to(place), scale.to(place)
        vertical, horizontal = (
            upsampling_matrix(n_cells, n_pixels, torch.float64, activation.device)
            for n_cells, n_pixels in zip(cells, features.size, strict=True)
        )
        matrix = activation[0].double().flatten(1)
        if n_channels > matrix.shape[1]:
            matrix = torch.linalg.qr(matrix, mode="r").R
        upsampled = vertical @ matrix.unflatten(1, tuple(cells)) @ horizontal.T
        parts.append((upsampled * scale.double()).flatten(1))
    return torch.cat(parts).T.contiguous()


def _linkage(points: Float64[Tensor, "n d"]) -> Float64[np.ndarray, "n_merges 4"]:
    """Return Ward's linkage of points, as SciPy writes it."""
    if len(points) == 1:
        return np.empty((0, 4))
    import fastcluster  # here, so that importing naspix stays fast

    distances, tree = _condensed_distances(points), np.empty((len(points) - 1, 4))
    # what fastcluster.linkage calls, which copies the distances first whatever it is told
    fastcluster.linkage_wrap(len(points), distances, tree, fastcluster.mthidx["ward"])
    return tree


def _condensed_distances(points: Float64[Tensor, "n d"]) -> Float64[np.ndarray, " n_pairs"]:
    """Return the distances of all pairs in SciPy's order: (0, 1), (0, 2), ..., (1, 2), ...

    ``|x - y|^2 = |x|^2 + |y|^2 - 2 <x, y>`` about the mean, in double precision, in strips.
    """
    n = len(points)
    centered = points - points.mean(0)
    norms = centered.square().sum(1)
    condensed = np.empty(n * (n - 1) // 2)
    filled = 0
    for start in range(0, n - 1, _ROWS_AT_ONCE):
        rows = centered[start : start + _ROWS_AT_ONCE]
        squares = torch.addmm(norms[start:], rows, centered[start:].T, alpha=-2)
        squares += norms[start : start + len(rows), None]
        block = squares.clamp_min_(0).sqrt_().cpu().numpy()
        for i, row in enumerate(block):
            condensed[filled : filled + len(row) - i - 1] = row[i + 1 :]
            filled += len(row) - i - 1
    return condensed


def _nodes_of_cut(
    linkage: Float64[np.ndarray, "n_merges 4"], n_clusters: int
) -> Int64[np.ndarray, " n_leaves"]:
    """Return, for each leaf, the node that stands for its cluster."""
    n = len(linkage) + 1
    if not 1 <= n_clusters <= n:
        raise InputError(f"n_clusters is {n_clusters}; this tree can be cut into 1 to {n} clusters")
    merges = linkage[: n - n_clusters, :2].astype(np.int64)
    parent = np.arange(2 * n - 1)
    parent[merges] = n + np.arange(len(merges))[:, None]
    while not np.array_equal(grandparent := parent[parent], parent):
        parent = grandparent  # twice as far up each time
    return parent[:n]


def _descend(
    linkage: Float64[np.ndarray, "n_merges 4"],
    grid: UpsampledFeatures,
    features: UpsampledFeatures,
) -> Int64[Tensor, "H W"]:
    """Return the leaf of each full-frame pixel, given the tree of a coarser grid."""
    n = len(linkage) + 1
    device = features.levels[0].device
    n_splits = min(_SPLITS_BY_FEATURES, n - 1)
    splits = range(2 * n - 2, 2 * n - 2 - n_splits, -1)  # node numbers, the root first
    bottom = torch.from_numpy(_nodes_of_cut(linkage, n_splits + 1)).to(device).view(grid.size)
    means = _node_means(linkage, splits, bottom, grid)
    nodes = torch.full(features.size, 2 * n - 2, device=device)
    for start in range(0, n_splits, _MAPS_AT_ONCE):
        some = splits[start : start + _MAPS_AT_ONCE]
        pairs = [(int(linkage[node - n, 0]), int(linkage[node - n, 1])) for node in some]
        left = torch.stack([means[i] for i, _ in pairs])
        right = torch.stack([means[j] for _, j in pairs])
        middle = (left.square().sum(1) - right.square().sum(1)) / 2
        side = features.inner_products((left - right)[None])[0] - middle[:, None, None]
        for node, (i, j), lean in zip(some, pairs, side, strict=True):
            here = nodes == node
            nodes[here & (lean >= 0)] = i
            nodes[here & (lean < 0)] = j
    return _nearest_leaves(nodes, bottom)


def _node_means(
    linkage: Float64[np.ndarray, "n_merges 4"],
    splits: range,
    bottom: Int64[Tensor, "h w"],
    grid: UpsampledFeatures,
) -> dict[int, Float[Tensor, " D"]]:
    """Return the mean feature of every node below the splits, from the bottom up."""
    n = len(linkage) + 1
    ends = bottom.unique()
    dtype = grid.levels[0].dtype
    masks = (bottom == ends[:, None, None]).to(dtype)
    sums = dict(zip(ends.tolist(), grid.cluster_sums(masks[None])[0], strict=True))
    counts = dict(zip(ends.tolist(), masks.sum((1, 2)).tolist(), strict=True))
    for node in reversed(splits):
        i, j = (int(child) for child in linkage[node - n, :2])
        sums[node] = sums[i] + sums[j]
        counts[node] = counts[i] + counts[j]
    return {node: sums[node] / counts[node] for node in sums}


def _nearest_leaves(
    nodes: Int64[Tensor, "H W"], bottom: Int64[Tensor, "h w"]
) -> Int64[Tensor, "H W"]:
    """Return each pixel's own grid point if that is in its cluster, else the nearest there."""
    from scipy.ndimage import distance_transform_edt

    (height, width), (rows, columns) = nodes.shape, bottom.shape
    y = (2 * torch.arange(height, device=nodes.device) + 1) * rows // (2 * height)
    x = (2 * torch.arange(width, device=nodes.device) + 1) * columns // (2 * width)
    cells = y[:, None] * columns + x
    leaves = torch.empty_like(nodes)
    for node in nodes.unique():
        elsewhere = (bottom != node).cpu().numpy()
        row, column = distance_transform_edt(elsewhere, return_distances=False, return_indices=True)
        nearest = torch.from_numpy(row.astype(np.int64) * columns + column).to(nodes.device)
        here = nodes == node
        leaves[here] = nearest.flatten()[cells[here]]
    return leaves


def superpixel_linkage(
    tree: WardTree, superpixels: Int64[Tensor, "H W"]
) -> Float64[np.ndarray, "n_merges 4"]:
    """Let superpixels descend the tree of their pixels, and join them where they part.

    At each node a superpixel goes to the side where most of its pixels are. The superpixels of one
    cluster of a cut stay together as long as the cluster does, so that the first splits are the
    tree's own; superpixels that no split parts are joined at height 0.

    Args:
        tree: Of the same frame.
        superpixels: Ids from 0 without gaps.

    Returns:
        With ``n`` superpixels, row ``m`` joins two nodes into node ``n + m``: both nodes, the
        height at which Ward's linkage joins them, the number of superpixels below.

    Raises:
        InputError: If the frames differ.

    Example:
        >>> tree = WardTree(
        ...     linkage=np.array([[0, 1, 0.5, 2], [2, 3, 2.0, 3]]),
        ...     leaves=torch.tensor([[0, 1, 2, 2]]),
        ... )
        >>> superpixel_linkage(tree, torch.tensor([[0, 1, 2, 2]])).tolist()
        [[0.0, 1.0, 0.5, 2.0], [2.0, 3.0, 2.0, 3.0]]
    """
    if tree.leaves.shape != superpixels.shape:
        raise InputError(
            f"the tree is of a frame {tuple(tree.leaves.shape)} and the superpixels of one "
            f"{tuple(superpixels.shape)}; they must be the same"
        )
    counts = _pixels_of_nodes(tree, superpixels)
    joins = _joins(tree, counts)
    # children always stand before their parents, and no parent is lower than its children
    order = np.argsort([height for height, _, _ in joins], kind="stable")
    n = counts.shape[1]
    number = {n + place: n + row for row, place in enumerate(order.tolist())}
    sizes = dict.fromkeys(range(n), 1)
    rows = []
    for row, place in enumerate(order.tolist()):
        height, left, right = joins[place]
        pair = sorted((number.get(left, left), number.get(right, right)))
        sizes[n + row] = sizes[pair[0]] + sizes[pair[1]]
        rows.append([*pair, height, sizes[n + row]])
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _pixels_of_nodes(
    tree: WardTree, superpixels: Int64[Tensor, "H W"]
) -> Int64[np.ndarray, "nodes n"]:
    """How many pixels of each superpixel lie below each node."""
    n_superpixels = int(superpixels.max()) + 1
    leaves, labels = tree.leaves.flatten().cpu(), superpixels.flatten().cpu()
    counts = np.zeros((2 * tree.n_leaves - 1, n_superpixels), dtype=np.int64)
    pairs = torch.bincount(leaves * n_superpixels + labels, minlength=tree.n_leaves * n_superpixels)
    counts[: tree.n_leaves] = pairs.view(tree.n_leaves, n_superpixels).numpy()
    for row, (left, right) in enumerate(tree.linkage[:, :2].astype(np.int64)):
        counts[tree.n_leaves + row] = counts[left] + counts[right]
    return counts


def _joins(tree: WardTree, counts: Int64[np.ndarray, "nodes n"]) -> list[tuple[float, int, int]]:
    """Height and both parts of each join, children first; ``n + place`` names a join."""
    n_leaves, (n_nodes, n) = tree.n_leaves, counts.shape
    joins: list[tuple[float, int, int]] = []

    def joined(parts: list[int], height: float) -> int:
        first = parts[0]
        for other in parts[1:]:
            joins.append((height, first, other))
            first = n + len(joins) - 1
        return first

    # two visits a node: on the way down to part its superpixels, on the way up to join its sides
    made: list[int] = []
    waiting: list[tuple[int, np.ndarray | None]] = [(n_nodes - 1, np.arange(n))]
    while waiting:
        node, members = waiting.pop()
        if members is None:
            right, left = made.pop(), made.pop()
            made.append(joined([left, right], float(tree.linkage[node - n_leaves, 2])))
            continue
        while node >= n_leaves and len(members) > 1:
            a, b = tree.linkage[node - n_leaves, :2].astype(np.int64)
            to_left = counts[a, members] >= counts[b, members]
            if 0 < to_left.sum() < len(members):
                break
            node = int(a) if to_left.all() else int(b)
        if node < n_leaves or len(members) == 1:
            made.append(joined(members.tolist(), 0.0))
            continue
        waiting += [(node, None), (int(b), members[~to_left]), (int(a), members[to_left])]
    return joins
