"""The control: random connected regions, as many and as large as a segmentation's superpixels.

Labels (B, H, W) and a seed in, labels of the same shape out. Pooling a map over them shows how much
of a pooled score comes from mere coarseness, and how much from where the regions lie.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

Path = Int64[np.ndarray, " pixels"]


def random_segmentation(
    superpixels: Integer[Tensor, "B H W"], seed: int = 0
) -> Int64[Tensor, "B H W"]:
    """Cut each image at random into connected regions of exactly its superpixels' sizes.

    A random path passes every pixel once, from neighbour to neighbour: a walk around a random
    spanning tree of the image's 2 x 2 blocks. Cut into pieces of the superpixels' sizes, in random
    order, it leaves regions that are 4-connected and have exactly those sizes, in images of any
    size; their borders are more winding than a segmenter's.

    Args:
        superpixels: Any integers; only how many pixels each has counts.
        seed: With the image's place in the batch, what is random.

    Returns:
        Labels from 0, as many as there are superpixels in each image.

    Source:
        naspix. Mazes for the path: a Hamiltonian cycle around a spanning tree.

    Example:
        >>> labels = torch.tensor([[[0, 0, 1], [0, 0, 1], [0, 2, 2]]])
        >>> random = random_segmentation(labels, seed=1)
        >>> sorted(torch.bincount(random.flatten()).tolist())
        [2, 2, 5]
    """
    maps = [
        _random_regions(labels, np.random.default_rng([seed, place]))
        for place, labels in enumerate(superpixels.cpu().numpy())
    ]
    return torch.from_numpy(np.stack(maps)).to(superpixels.device)


def _random_regions(
    labels: Integer[np.ndarray, "H W"], generator: np.random.Generator
) -> Int64[np.ndarray, "H W"]:
    sizes = generator.permutation(np.unique(labels, return_counts=True)[1])
    regions = np.empty(labels.size, np.int64)
    regions[random_path(labels.shape[0], labels.shape[1], generator)] = np.repeat(
        np.arange(len(sizes)), sizes
    )
    return regions.reshape(labels.shape)


def random_path(height: int, width: int, generator: np.random.Generator) -> Path:
    """The pixels of a frame in an order in which each is beside the one before.

    Example:
        >>> path = random_path(5, 7, np.random.default_rng(0))
        >>> steps = np.abs(np.diff(np.stack(np.divmod(path, 7)))).sum(0)
        >>> len(set(path)), set(steps.tolist())
        (35, {1})
    """
    if min(height, width) == 1:
        return np.arange(height * width)
    after = _walk_around(*_random_tree(height // 2, width // 2, generator), width, height * width)
    if height % 2:
        left = (height - 2) * width + np.arange(0, width - width % 2, 2)
        _detour(after, left + 1, left, width)
    if width % 2:
        top = np.arange(0, height - height % 2, 2) * width + width - 2
        _detour(after, top, top + width, 1)
    corner = height * width - 1
    odd = bool(height % 2 and width % 2)  # no closed walk exists: begin in the corner
    path = [corner - 1 if odd else int(generator.integers(height * width))]
    following = after.tolist()
    for _ in range(height * width - 1 - odd):
        path.append(following[path[-1]])
    return np.array([corner, *path] if odd else path)


def _random_tree(
    rows: int, columns: int, generator: np.random.Generator
) -> tuple[Bool[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"]]:
    """A random spanning tree of a grid: which nodes it joins to their right, and downwards."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    nodes = np.arange(rows * columns).reshape(rows, columns)
    starts = np.concatenate([nodes[:, :-1].ravel(), nodes[:-1].ravel()])
    ends = np.concatenate([nodes[:, 1:].ravel(), nodes[1:].ravel()])
    weights = 1 + generator.random(len(starts))
    shape = (nodes.size, nodes.size)
    tree = minimum_spanning_tree(coo_array((weights, (starts, ends)), shape).tocsr()).tocoo()
    first, second = np.minimum(*tree.coords), np.maximum(*tree.coords)
    right, down = np.zeros(nodes.size, np.bool_), np.zeros(nodes.size, np.bool_)
    sideways = (second - first == 1) & (first % columns != columns - 1)
    right[first[sideways]] = True
    down[first[~sideways]] = True
    return right.reshape(nodes.shape), down.reshape(nodes.shape)


def _walk_around(
    right: Bool[np.ndarray, "rows columns"],
    down: Bool[np.ndarray, "rows columns"],
    width: int,
    n_pixels: int,
) -> Path:
    """The pixel after each pixel on the walk around the tree, clockwise through the blocks."""
    rows, columns = np.indices(right.shape)
    top_left = 2 * rows * width + 2 * columns
    top_right, bottom_left, bottom_right = top_left + 1, top_left + width, top_left + width + 1
    up, left = np.zeros_like(down), np.zeros_like(right)
    up[1:], left[:, 1:] = down[:-1], right[:, :-1]
    after = np.full(n_pixels, -1)
    after[top_left] = np.where(up, top_left - width, top_right)
    after[top_right] = np.where(right, top_right + 1, bottom_right)
    after[bottom_right] = np.where(down, bottom_right + width, bottom_left)
    after[bottom_left] = np.where(left, bottom_left - 1, top_left)
    return after


def _detour(
    after: Path, starts: Int64[np.ndarray, " n"], ends: Int64[np.ndarray, " n"], offset: int
) -> None:
    """Let every step from a start to its end pass the two pixels beside them, at an offset."""
    after[starts] = starts + offset
    after[starts + offset] = ends + offset
    after[ends + offset] = ends
