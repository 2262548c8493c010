"""Ward's tree against SciPy on the dense matrix, and the laws of its cuts."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from sklearn.metrics import adjusted_rand_score

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.ordering import canonical_order
from naspix.clustering.ward import WardTree, reduced_points, ward, ward_of_points
from naspix.errors import InputError


def make_features(shapes, size, *, seed=0, batch=1, dtype=torch.float64, **options):
    generator = torch.Generator().manual_seed(seed)
    activations = [
        torch.randn(batch, *shape, generator=generator, dtype=dtype).relu() for shape in shapes
    ]
    return UpsampledFeatures(activations, size, **options)


def dense_matrix(features):
    return features.dense()[0].flatten(1).T.double().numpy()


CASES = {
    "more channels than cells": ([(64, 6, 6), (128, 3, 3)], (24, 24), {}),
    "more cells than channels": ([(5, 8, 8)], (20, 20), {}),
    "odd, not square, scaled down": ([(7, 9, 5), (40, 3, 2)], (7, 11), {}),
    "one cell": ([(6, 1, 1), (10, 4, 4)], (12, 10), {}),
    "without lines 10 and 11": (
        [(12, 4, 4), (3, 2, 5)],
        (13, 9),
        {"normalize": False, "weight": False},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_tree_equals_scipy_on_the_dense_matrix(case):
    shapes, size, options = CASES[case]
    features = make_features(shapes, size, **options)
    (tree,) = ward(features)
    expected = hierarchy.ward(dense_matrix(features))
    # 1e-5 of a height, 1e-7 of the largest where heights vanish: distances come from inner products
    # in double precision, which lose half of their digits near zero
    np.testing.assert_allclose(
        tree.linkage[:, 2], expected[:, 2], rtol=1e-5, atol=1e-7 * expected[-1, 2]
    )
    for n_clusters in (2, 5, 17):
        labels = hierarchy.fcluster(expected, n_clusters, "maxclust")
        assert len(np.unique(labels)) == n_clusters  # no ties at this cut
        assert adjusted_rand_score(labels, tree.cut(n_clusters).flatten()) == 1


def test_float32_features_give_the_same_tree():
    shapes, size = [(64, 6, 6), (128, 3, 3)], (24, 24)
    exact = make_features(shapes, size, dtype=torch.float64)
    single = UpsampledFeatures([level.float() for level in exact.levels], size)
    (expected,), (tree,) = ward(exact), ward(single)
    # single precision knows features to about 1e-7 of their norm, heights here are 1e-2 of it
    np.testing.assert_allclose(tree.linkage[:, 2], expected.linkage[:, 2], rtol=1e-4)
    assert torch.equal(tree.cut(8), expected.cut(8))


def test_reduced_points_have_the_distances_of_the_features():
    features = make_features([(300, 4, 5), (3, 6, 6)], (9, 8))
    points = reduced_points(features)
    assert points.shape == (72, 20 + 3)  # min(C, h * w), level by level
    dense = torch.from_numpy(dense_matrix(features))
    torch.testing.assert_close(
        torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist"),
        torch.cdist(dense, dense, compute_mode="donot_use_mm_for_euclid_dist"),
        rtol=1e-9,
        atol=1e-12,
    )


def test_a_batch_equals_its_images_one_by_one():
    features = make_features([(9, 4, 4)], (10, 12), batch=3)
    for b, tree in enumerate(ward(features)):
        (alone,) = ward(features.image(b))
        np.testing.assert_array_equal(tree.linkage, alone.linkage)
        assert torch.equal(tree.leaves, alone.leaves)


def test_every_cut_of_a_large_tree_has_its_number_and_refines_the_one_before():
    (tree,) = ward(make_features([(30, 5, 5)], (16, 16)))
    assert tree.n_leaves == 256
    coarser = tree.cut(1)
    for n_clusters in range(2, 257):
        finer = tree.cut(n_clusters)
        assert len(finer.unique()) == n_clusters
        assert_refines(finer, coarser)
        assert torch.equal(finer, canonical_order(finer[None])[0])
        coarser = finer


def assert_refines(finer, coarser):
    pairs = torch.stack([finer.flatten(), coarser.flatten()]).unique(dim=1)
    assert pairs.shape[1] == finer.unique().numel(), "a cluster was split between two coarser ones"


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_cut_equals_scipys_for_any_tree(n_leaves, n_clusters, seed):
    n_clusters = min(n_clusters, n_leaves)
    points = np.random.default_rng(seed).normal(size=(n_leaves, 3))
    linkage = hierarchy.ward(points)
    tree = WardTree(linkage, torch.arange(n_leaves).view(1, -1))
    expected = hierarchy.cut_tree(linkage, n_clusters)[:, 0]
    assert torch.equal(
        tree.cut(n_clusters), canonical_order(torch.from_numpy(expected).long()[None, None])[0]
    )


@pytest.mark.parametrize("n_clusters", [0, -3, 26])
def test_refuses_a_cut_that_the_tree_has_not(n_clusters):
    (tree,) = ward(make_features([(4, 3, 3)], (5, 5)))
    with pytest.raises(InputError, match="cut into 1 to 25 clusters"):
        tree.cut(n_clusters)


def test_equal_features_everywhere_can_still_be_cut():
    (tree,) = ward(UpsampledFeatures([torch.ones(1, 3, 1, 1)], (4, 4)))
    assert len(tree.cut(3).unique()) == 3
    assert tree.linkage[:, 2].max() < 1e-6


def test_all_zero_activations_give_a_flat_tree_without_nan():
    (tree,) = ward(UpsampledFeatures([torch.zeros(1, 3, 2, 2)], (4, 4)))
    assert (tree.linkage[:, 2] == 0).all()


def test_a_single_pixel_is_a_tree_of_one_leaf():
    (tree,) = ward(make_features([(4, 2, 2)], (1, 1)))
    assert tree.n_leaves == 1
    assert tree.cut(1).tolist() == [[0]]


# --------------------------------------------------------------------------- larger frames


def test_exact_as_long_as_the_frame_has_no_more_pixels_than_points():
    features = make_features([(6, 4, 4)], (4, 30))  # longer than 11, but 120 pixels in all
    (tree,) = ward(features, max_points=120)
    assert tree.n_leaves == 120
    (tree,) = ward(features, max_points=119)
    assert tree.n_leaves < 120


def test_a_larger_frame_takes_its_tree_from_a_grid_of_the_same_shape():
    features = make_features([(20, 5, 5)], (40, 20))
    (tree,) = ward(features, max_points=200)
    (on_grid,) = ward(features.resized((20, 10)))
    np.testing.assert_array_equal(tree.linkage, on_grid.linkage)
    assert tree.leaves.shape == (40, 20)


def test_pixels_of_a_larger_frame_descend_to_the_nearer_mean():
    """Literally: at each split a pixel goes to the child whose mean is nearer."""
    features = make_features([(20, 5, 5)], (30, 22))
    (tree,) = ward(features, max_points=150)
    grid = features.resized((14, 10))
    points, pixels = dense_matrix(grid), dense_matrix(features)
    n = tree.n_leaves
    assert n == 140
    members = {i: [i] for i in range(n)}
    for m, (i, j, *_) in enumerate(tree.linkage):
        members[n + m] = members[int(i)] + members[int(j)]
    node_of = np.full(len(pixels), 2 * n - 2)
    for step in range(30):
        node = 2 * n - 2 - step
        children = tree.linkage[node - n, :2].astype(int)
        distances = [np.linalg.norm(pixels - points[members[c]].mean(0), axis=1) for c in children]
        here = node_of == node
        node_of[here] = np.where(distances[0] <= distances[1], *children)[here]
        expected = torch.from_numpy(node_of).view(1, 30, 22)
        assert torch.equal(tree.cut(step + 2), canonical_order(expected)[0])


def test_cuts_of_a_larger_frame_refine_each_other_all_the_way_down():
    (tree,) = ward(make_features([(20, 5, 5)], (30, 22)), max_points=150)
    coarser = tree.cut(1)
    for n_clusters in range(2, tree.n_leaves + 1):
        finer = tree.cut(n_clusters)
        assert len(finer.unique()) <= n_clusters
        assert_refines(finer, coarser)
        coarser = finer


def test_a_pixel_takes_its_own_grid_points_leaf_where_both_are_in_one_cluster():
    features = make_features([(20, 3, 3)], (20, 20))
    (tree,) = ward(features, max_points=100)
    own = torch.arange(100).view(10, 10).repeat_interleave(2, 0).repeat_interleave(2, 1)
    same = tree.leaves == own
    assert same.float().mean() > 0.5
    on_grid = WardTree(tree.linkage, torch.arange(100).view(10, 10))
    full, coarse = tree.cut(64), on_grid.cut(64)
    # names may differ between the frames: compare which pixel agrees with which grid point
    names = {
        int(coarse.flatten()[leaf]): int(full[tree.leaves == leaf][0])
        for leaf in tree.leaves.unique()
    }
    repeated = coarse.repeat_interleave(2, 0).repeat_interleave(2, 1)
    agree = torch.tensor([[names.get(int(c), -1) for c in row] for row in repeated]) == full
    assert torch.equal(same, agree)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (3, 40)])
def test_frames_too_thin_for_their_shape_still_get_a_tree(size):
    (tree,) = ward(make_features([(6, 2, 2)], size), max_points=10)
    assert tree.n_leaves <= 10
    assert tree.leaves.shape == size
    assert len(tree.cut(2).unique()) == 2


def test_refuses_a_tree_without_leaves():
    with pytest.raises(InputError, match="max_points is 0"):
        ward(make_features([(4, 3, 3)], (5, 5)), max_points=0)


def test_resized_takes_the_nearest_pixels_leaf():
    tree = WardTree(np.empty((0, 4)), torch.tensor([[0, 1], [2, 3]]))
    assert tree.resized((4, 2)).leaves.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert tree.resized((1, 1)).leaves.shape == (1, 1)


def test_the_distances_are_in_memory_only_once():
    points = torch.rand(600, 4)
    ward_of_points(points[:2])  # what is imported on the way does not count
    tracemalloc.start()
    ward_of_points(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 8 * (600 * 599 // 2)
