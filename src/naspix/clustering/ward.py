"""placeholder head (rewritten below)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from naspix.errors import InputError


@dataclass(frozen=True, eq=False)
class WardTree:
    """The tree of one image, from which every number of clusters can be cut.

    Attributes:
        linkage: SciPy's linkage matrix: row ``m`` joins two nodes into node ``n + m`` at a height,
            with the number of leaves below; ``n`` leaves, rows by rising height.
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
            Labels in canonical order: the largest cluster is 0, ties go by first pixel.

        Raises:
            InputError: If the tree has no such number of leaves.

        Example:
            >>> tree = WardTree(
            ...     linkage=np.array([[0, 1, 0.5, 2], [2, 3, 2.0, 3]]),
            ...     leaves=torch.tensor([[0, 1, 2]]),
            ... )
            >>> tree.cut(2)
            tensor([[0, 0, 1]])
        """
        from naspix.clustering.ordering import canonical_order

        n = self.n_leaves
        if not 1 <= n_clusters <= n:
            raise InputError(f"n_clusters is {n_clusters}; this tree can be cut into 1 to {n}")
        parent = np.arange(2 * n - 1)
        merges = self.linkage[: n - n_clusters, :2].astype(np.int64)
        parent[merges] = n + np.arange(len(merges))[:, None]
        while not np.array_equal(grandparent := parent[parent], parent):
            parent = grandparent  # twice as far up each time
        labels = torch.from_numpy(parent[:n]).to(self.leaves.device)[self.leaves]
        return canonical_order(labels[None])[0]

    def resized(self, size: tuple[int, int]) -> "WardTree":
        """Return the tree over a frame of another size, by nearest neighbour."""
        frame = self.leaves[None, None].double()
        resized = torch.nn.functional.interpolate(frame, size=size, mode="nearest-exact")
        return WardTree(self.linkage, resized[0, 0].long())
