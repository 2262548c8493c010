"""Ward's tree of pixels as a tree of superpixels, for whoever wants a hierarchy of regions.

In: a ``WardTree`` and labels ``(H, W)`` of any superpixels. Out: SciPy's linkage matrix with a leaf
a superpixel. Owen values follow it (``naspix.interop.shap``).
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from naspix.clustering.ward import WardTree
from naspix.errors import InputError


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
