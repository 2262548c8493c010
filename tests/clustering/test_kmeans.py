"""k-means against scikit-learn on the dense matrix, from the same centres; and its own promises."""

import itertools
import math
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from naspix.clustering import UpsampledFeatures, canonical_order, kmeans, starts
from naspix.clustering.starts import best_start, first_best
from naspix.errors import InputError, NaspixWarning

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from algorithm_1 import inertia, literal_features, literal_kmeans, points_of

kmeans_module = sys.modules["naspix.clustering.kmeans"]  # naspix.clustering.kmeans is the function


def smooth_activations(seed: int, n_images: int = 1, dtype=torch.float32) -> list[Tensor]:
    """Activations like a network's: not negative, smooth over the image, sparse in channels."""
    generator = torch.Generator().manual_seed(seed)

    def level(n_channels: int, side: int) -> Tensor:
        coarse = torch.randn(n_images, n_channels, 4, 4, generator=generator, dtype=dtype)
        return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").relu()

    return [level(64, 12), level(96, 6), level(128, 3)]


@pytest.mark.parametrize("size", [(48, 48), (33, 57)], ids=str)
@pytest.mark.parametrize("n_clusters", [2, 5, 11])
@pytest.mark.parametrize("seed", range(4))
def test_labels_equal_scikit_learns_from_the_same_centres(seed, n_clusters, size):
    activations = smooth_activations(seed, dtype=torch.float64)
    points = points_of(literal_features(activations, size))
    chosen = np.random.default_rng(seed).choice(len(points), n_clusters, replace=False)
    theirs = literal_kmeans(points, points[chosen])
    features = UpsampledFeatures(activations, size)
    ours = kmeans(
        features, n_clusters, tol=0, max_iter=1000, init=torch.from_numpy(points[chosen])[None]
    )
    wanted = canonical_order(torch.from_numpy(theirs.labels_).long().view(1, *size))
    assert torch.equal(ours, wanted)  # float64: to the last pixel


@pytest.mark.parametrize("seed", range(3))
def test_in_float32_nearly_all_labels_are_the_same(seed):
    activations = smooth_activations(seed)
    points = points_of(literal_features(activations, (48, 48)))
    chosen = np.random.default_rng(seed).choice(len(points), 5, replace=False)
    theirs = literal_kmeans(points.astype(np.float64), points[chosen].astype(np.float64))
    init = torch.from_numpy(points[chosen])[None]
    ours = kmeans(UpsampledFeatures(activations, (48, 48)), 5, tol=0, init=init)
    labels = ours.flatten().numpy()
    # pixels on a boundary may fall to either side by rounding: 0.1 % of labels, no inertia
    wanted = canonical_order(torch.from_numpy(theirs.labels_).long().view(1, 48, 48))
    assert (ours == wanted).float().mean() > 0.999
    assert inertia(points, labels) == pytest.approx(theirs.inertia_, rel=1e-5)


def test_its_own_starts_reach_what_scikit_learns_reach():
    ratios = []
    for seed in range(12):
        activations = smooth_activations(seed)
        points = points_of(literal_features(activations, (96, 96)))
        theirs = np.mean(
            [KMeans(5, n_init=1, random_state=s).fit(points).inertia_ for s in range(3)]
        )
        ours = kmeans(UpsampledFeatures(activations, (96, 96)), 5)
        ratios.append(inertia(points, ours.flatten().numpy()) / theirs)
    assert np.mean(ratios) < 1.001  # the bar; four starts usually do better than their one


def test_a_large_frame_goes_from_large_tiles_over_small_ones_to_the_fixed_point():
    activations = smooth_activations(0)
    size = (200, 176)
    features = UpsampledFeatures(activations, size)
    ours = kmeans(features, 5, seed=0)
    points = points_of(literal_features(activations, size))
    theirs = KMeans(5, n_init=1, random_state=0).fit(points)
    # 1.001 is the goal of a mean over photos; here is one, with the usual stop at 1 % changes
    assert inertia(points, ours.flatten().numpy()) <= 1.01 * theirs.inertia_


def test_labels_can_take_part_in_a_gradient():
    clusters = kmeans(UpsampledFeatures(smooth_activations(1), (20, 20)), 3)
    weights = torch.ones(3, requires_grad=True)
    weights[clusters].sum().backward()
    assert weights.grad is not None
    assert weights.grad.sum() == 400


def test_the_fixed_point_is_one():
    """With ``tol=0`` no pixel is nearer to another cluster's mean, rounding aside."""
    activations = smooth_activations(3, dtype=torch.float64)
    features = UpsampledFeatures(activations, (64, 64))
    clusters = kmeans(features, 6, tol=0, max_iter=1000)
    membership = torch.nn.functional.one_hot(clusters).permute(0, 3, 1, 2).double()
    means = features.cluster_sums(membership) / membership.sum((2, 3))[..., None]
    distances = features.squared_distances(means)
    own = distances.gather(1, clusters[:, None])[:, 0]
    assert bool((own <= distances.amin(1) + 1e-15).all())


@given(st.integers(0, 2**31), st.integers(2, 8))
def test_a_batch_gives_what_one_by_one_gives(seed, n_clusters):
    activations = smooth_activations(seed % 1000, n_images=3)
    features = UpsampledFeatures(activations, (40, 40))
    together = kmeans(features, n_clusters, seed=seed)
    apart = [kmeans(features.image(i), n_clusters, seed=seed) for i in range(3)]
    assert torch.equal(together, torch.cat(apart))


def test_images_of_one_chunk_settle_each_at_its_own_step(monkeypatch):
    """On a GPU a chunk holds many images; here the CPU is made to do so in float64."""
    activations = smooth_activations(5, n_images=4, dtype=torch.float64)
    features = UpsampledFeatures(activations, (48, 48))
    apart = torch.cat([kmeans(features.image(i), 5, tol=0.002) for i in range(4)])
    monkeypatch.setattr(kmeans_module, "_images_at_once", lambda features, n_clusters: 4)
    assert torch.equal(kmeans(features, 5, tol=0.002), apart)


def test_only_off_the_cpu_are_images_iterated_together():
    features = UpsampledFeatures([torch.rand(2, 40, 3, 3)], (8, 8))
    assert kmeans_module._images_at_once(features, 5) == 1
    elsewhere = SimpleNamespace(levels=(torch.empty(1, device="meta"),), n_pixels=96 * 96)
    assert kmeans_module._images_at_once.__wrapped__(elsewhere, 5) > 256


@pytest.mark.parametrize("max_iter", [1, 2])
def test_it_stops_after_so_many_steps(max_iter):
    features = UpsampledFeatures(smooth_activations(2), (48, 48))
    assert kmeans(features, 6, tol=0, max_iter=max_iter).max() == 5


def test_a_seed_gives_the_same_labels_in_two_threads_at_once():
    features = [UpsampledFeatures(smooth_activations(s), (64, 64)) for s in (1, 2)]
    wanted = [kmeans(each, 5) for each in features]
    got: dict[int, list[Tensor]] = {0: [], 1: []}

    def work(index: int) -> None:
        for _ in range(10):
            got[index].append(kmeans(features[index], 5))

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        assert len(got[index]) == 10
        assert all(torch.equal(labels, wanted[index]) for labels in got[index])


def test_labels_are_ordered_by_size():
    clusters = kmeans(UpsampledFeatures(smooth_activations(8), (48, 48)), 7)
    sizes = clusters.flatten().bincount()
    assert len(sizes) == 7
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)
    assert torch.equal(canonical_order(clusters), clusters)


def two_regions(n_images: int = 1) -> list[Tensor]:
    """Constant activations left and right: with nearest cells only three kinds of feature."""
    activation = torch.zeros(n_images, 40, 1, 4)
    activation[:, 0, :, :2] = 1
    activation[:, 1, :, 2:] = 1
    return [activation]


def test_fewer_distinct_features_than_clusters_give_fewer_clusters_and_a_warning():
    constant = [torch.ones(1, 40, 3, 3)]
    with pytest.warns(NaspixWarning, match="fewer distinct features than n_clusters=4"):
        clusters = kmeans(UpsampledFeatures(constant, (24, 24)), 4)
    assert clusters.unique().tolist() == [0]
    zero = [torch.zeros(1, 40, 3, 3)]
    with pytest.warns(NaspixWarning, match="down to 1"):
        assert kmeans(UpsampledFeatures(zero, (24, 24)), 3).unique().tolist() == [0]


def test_an_exact_tie_goes_to_the_first_cluster():
    features = UpsampledFeatures(two_regions(), (1, 4))
    corner = features.at(torch.tensor([[0]]))
    init = torch.cat([corner, corner, features.at(torch.tensor([[3]]))], dim=1)  # two are one
    membership, sizes = first_best(
        features.inner_products(init) - init.square().sum(2)[..., None, None] / 2, dim=1
    )
    assert membership.sum(1).eq(1).all()
    assert sizes.tolist() == [[2.0, 0.0, 2.0]]


def test_an_empty_cluster_is_reseeded_at_the_farthest_pixel_as_scikit_learn_does():
    activations = smooth_activations(11, dtype=torch.float64)
    size = (32, 32)
    points = points_of(literal_features(activations, size))
    far_away = np.full((1, points.shape[1]), -1.0)  # nearest to nothing: empty at once
    centers = np.concatenate([points[[10, 500, 900]], far_away])
    theirs = literal_kmeans(points, centers)
    ours = kmeans(
        UpsampledFeatures(activations, size), 4, tol=0, init=torch.from_numpy(centers)[None]
    )
    assert len(ours.unique()) == 4
    wanted = canonical_order(torch.from_numpy(theirs.labels_).long().view(1, *size))
    assert torch.equal(ours, wanted)


def test_one_cluster_and_as_many_clusters_as_pixels():
    features = UpsampledFeatures([torch.randn(1, 40, 4, 4).double()], (4, 4))
    assert kmeans(features, 1).unique().tolist() == [0]
    assert sorted(kmeans(features, 16).flatten().tolist()) == list(range(16))


@pytest.mark.parametrize("lines", [(False, True), (True, False), (False, False)], ids=str)
def test_without_lines_10_and_11_labels_still_equal_scikit_learns(lines):
    normalize, weight = lines
    activations = smooth_activations(4, dtype=torch.float64)
    points = points_of(literal_features(activations, (40, 40), normalize=normalize, weight=weight))
    init = points[[3, 444, 888, 1500]]
    features = UpsampledFeatures(activations, (40, 40), normalize=normalize, weight=weight)
    ours = kmeans(features, 4, tol=0, max_iter=1000, init=torch.from_numpy(init)[None])
    wanted = literal_kmeans(points, init).labels_
    assert torch.equal(ours, canonical_order(torch.from_numpy(wanted).long().view(1, 40, 40)))


@given(st.integers(0, 1000))
def test_duplicating_a_level_changes_little_and_flipping_flips(seed):
    activations = smooth_activations(seed, dtype=torch.float64)
    features = UpsampledFeatures(activations, (32, 32))
    init = features.at(torch.tensor([[5, 300, 700, 1000]]))
    clusters = kmeans(features, 4, tol=0, init=init)
    # every level twice: all distances double, so nothing else changes
    doubled = UpsampledFeatures([*activations, *activations], (32, 32))
    assert torch.equal(kmeans(doubled, 4, tol=0, init=torch.cat([init, init], dim=2)), clusters)
    flipped = UpsampledFeatures([maps.flip(3) for maps in activations], (32, 32))
    mirrored = canonical_order(kmeans(flipped, 4, tol=0, init=init).flip(2))
    assert torch.equal(mirrored, clusters)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"n_clusters": 0}, "choose 1 to 64"),
        ({"n_clusters": 65}, "choose 1 to 64"),
        ({"n_init": 0}, "at least 1"),
        ({"max_iter": 0}, "at least 1"),
        ({"tol": 1.0}, "tol is a share"),
        ({"tol": -0.1}, "tol is a share"),
        ({"init": torch.zeros(1, 3, 40)}, r"give \(B, K, D\) = \(1, 2, 40\)"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, complaint):
    features = UpsampledFeatures([torch.rand(1, 40, 3, 3)], (8, 8))
    with pytest.raises(InputError, match=complaint):
        kmeans(features, **{"n_clusters": 2, **settings})


@pytest.mark.parametrize(
    ("size", "n_clusters"),
    [
        *itertools.product([(96, 96), (224, 224), (600, 50)], [1, 5, 40, 5000]),
        *itertools.product([(10, 7)], [1, 5, 40]),
        *itertools.product([(64, 96)], [208, 224, 700]),
        ((1, 1), 1),
    ],
    ids=str,
)
def test_tiles_get_smaller_and_are_enough(size, n_clusters):
    sides = kmeans_module._tile_sides(size, n_clusters)
    assert sides == sorted(set(sides), reverse=True)
    n_tiles = math.ceil(size[0] / sides[0]) * math.ceil(size[1] / sides[0])
    assert n_tiles >= n_clusters
    assert n_tiles <= max(400, 4096, 4 * 2 * n_clusters)
    if size == (64, 96):  # the frame itself would be sixteen times the work
        assert n_tiles == 32 * 48


def test_starts_are_the_same_however_many_are_held_at_once(monkeypatch):
    tiles = UpsampledFeatures(smooth_activations(3, n_images=2), (36, 36))
    together = best_start(tiles, 20, n_init=5, seed=1)
    monkeypatch.setattr(starts, "_MOST_OF_STARTS", 2 * 2 * 20 * tiles.n_pixels)  # two at once
    apart = best_start(tiles, 20, n_init=5, seed=1)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other)


def test_starts_by_way_of_the_cells_are_those_by_all_pairs_of_tiles(monkeypatch):
    activations = [each[..., ::3, ::3] for each in smooth_activations(3, dtype=torch.float64)]
    tiles = UpsampledFeatures(activations, (16, 16))
    assert 2 * tiles.n_cells < tiles.n_pixels
    by_cells = best_start(tiles, 6, n_init=3, seed=1)
    monkeypatch.setattr(UpsampledFeatures, "n_cells", 10**6)
    by_pairs = best_start(tiles, 6, n_init=3, seed=1)
    for one, other in zip(by_cells, by_pairs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_hundreds_of_clusters_reach_what_scikit_learns_reach(dtype):
    features = UpsampledFeatures(smooth_activations(1, dtype=dtype), (64, 64))
    points = points_of(features.dense())
    labels = kmeans(features, 250)
    theirs = KMeans(250, n_init=1, random_state=0).fit(points).inertia_
    assert inertia(points, labels[0].flatten().numpy()) <= 1.02 * theirs
