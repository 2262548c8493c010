"""The tree of superpixels: SciPy accepts it, its first splits are Ward's own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import hierarchy

from naspix.clustering import UpsampledFeatures, WardTree, superpixels_from_clusters, ward
from naspix.clustering.ward import superpixel_linkage
from naspix.errors import InputError


def _tree(seed: int) -> WardTree:
    generator = torch.Generator().manual_seed(seed)
    features = UpsampledFeatures(
        [torch.rand(1, 6, 3, 4, generator=generator), torch.rand(1, 4, 6, 8, generator=generator)],
        size=(12, 14),
    )
    return ward(features)[0]


@given(seed=st.integers(0, 2**16), n_clusters=st.integers(2, 9))
def test_cuts_are_the_trees_own(seed, n_clusters):
    """Cutting the superpixels' tree into j clusters is cutting the pixels' tree into j."""
    tree = _tree(seed)
    superpixels = superpixels_from_clusters(tree.cut(n_clusters)[None])[0]
    linkage = superpixel_linkage(tree, superpixels)
    assert hierarchy.is_valid_linkage(linkage)
    assert hierarchy.is_monotonic(linkage)
    assert linkage[-1, 3] == int(superpixels.max()) + 1
    for j in range(2, n_clusters + 1):
        below = hierarchy.cut_tree(linkage, n_clusters=[j])[:, 0]
        expected = tree.cut(j)
        pairs = {(int(a), int(b)) for a, b in zip(below[superpixels].ravel(), expected.ravel())}  # noqa: B905
        assert len(pairs) == j  # the same parts under other names
    heights = tree.linkage[len(tree.linkage) + 1 - n_clusters :, 2]
    np.testing.assert_allclose(linkage[-(n_clusters - 1) :, 2], heights[-(n_clusters - 1) :])


@given(seed=st.integers(0, 2**16))
def test_any_superpixels_may_descend(seed):
    tree = _tree(seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 7, (12, 14), generator=generator)
    superpixels = labels.unique(return_inverse=True)[1]
    linkage = superpixel_linkage(tree, superpixels)
    assert hierarchy.is_valid_linkage(linkage)
    assert hierarchy.is_monotonic(linkage)


def test_by_hand():
    """Pixels 0 1 | 2 3: superpixel 1 has two pixels on the right and one on the left."""
    tree = WardTree(
        linkage=np.array([[0, 1, 1.0, 2], [2, 3, 2.0, 2], [4, 5, 5.0, 4]]),
        leaves=torch.tensor([[0, 1, 2, 3]]),
    )
    assert superpixel_linkage(tree, torch.tensor([[0, 1, 1, 1]])).tolist() == [[0, 1, 5.0, 2]]
    three = superpixel_linkage(tree, torch.tensor([[0, 1, 2, 2]])).tolist()
    assert three == [[0, 1, 1.0, 2], [2, 3, 5.0, 3]]


def test_superpixels_that_no_split_parts_are_joined_at_height_0():
    tree = WardTree(linkage=np.array([[0, 1, 3.0, 2]]), leaves=torch.tensor([[0, 0, 0, 1]]))
    linkage = superpixel_linkage(tree, torch.tensor([[0, 1, 2, 3]]))
    assert linkage.tolist() == [[0, 1, 0, 2], [2, 4, 0, 3], [3, 5, 3, 4]]


def test_one_superpixel_has_no_merges():
    assert superpixel_linkage(_tree(0), torch.zeros(12, 14, dtype=torch.int64)).shape == (0, 4)


def test_frames_must_agree():
    with pytest.raises(InputError, match="they must be the same"):
        superpixel_linkage(_tree(0), torch.zeros(3, 3, dtype=torch.int64))
