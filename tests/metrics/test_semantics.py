"""Table 1: a literal loop over superpixels, closed forms, laws, and what is left out."""

import math

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from naspix.errors import InputError
from naspix.metrics import ClusterSaliency, cluster_saliency, saliency_by_cluster
from naspix.segmentation import Segmentation


def images(seed: int, n: int = 6, n_clusters: int = 4):
    """Blocky clusters, their superpixels, and random maps of two methods."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, n_clusters, (n, 4, 4), generator=generator)
    clusters = cells.repeat_interleave(3, 1).repeat_interleave(3, 2)
    saliency = {
        name: torch.randn(clusters.shape, generator=generator) for name in ("cam", "gradients")
    }
    return saliency, clusters, Segmentation(clusters).superpixels


def literal(heat, clusters, superpixels, n_clusters, weigh):
    """Sum and weight of each cluster of one image, pixel by pixel."""
    heat = (heat - heat.min()) / (heat.max() - heat.min())
    sums, weights = np.zeros(n_clusters), np.zeros(n_clusters)
    for number in superpixels.unique():
        inside = superpixels == number
        cluster = int(clusters[inside][0])
        weight = 1 if weigh == "superpixels" else int(inside.sum())
        sums[cluster] += weight * float(heat[inside].double().mean())
        weights[cluster] += weight
    return sums, weights


@pytest.mark.parametrize("weigh", ["superpixels", "area"])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_a_loop_over_superpixels(weigh: str, seed: int):
    saliency, clusters, superpixels = images(seed)
    measured = cluster_saliency(saliency, clusters, superpixels, n_clusters=5, weigh=weigh)
    right = torch.tensor([True, False, True, True, False, True])
    table = saliency_by_cluster(measured, right, n_resamples=10)
    for m, (method, maps) in enumerate(saliency.items()):
        each = [
            literal(*one, n_clusters=5, weigh=weigh)
            for one in zip(maps, clusters, superpixels, strict=True)
        ]
        for b, (sums, weights) in enumerate(each):
            np.testing.assert_allclose(measured.sums[b, m], sums, atol=1e-6)
            np.testing.assert_allclose(measured.weights[b], weights)
        for split, part in (("all", range(6)), ("right", [0, 2, 3, 5]), ("wrong", [1, 4])):
            sums = sum(each[b][0] for b in part)
            weights = sum(each[b][1] for b in part)
            means = sums[:4] / weights[:4]
            row = table.row(method, split)
            assert row.n_images == len(part)
            assert row.cluster == means.argmax()
            assert row.chosen == pytest.approx(means.max(), abs=1e-6)
            rest = np.arange(4) != row.cluster
            others = sums[:4][rest].sum() / weights[:4][rest].sum()
            assert row.others == pytest.approx(others, abs=1e-6)
            assert table.means[method, split][4].isnan()


def test_superpixels_count_alike_unless_weighed():
    heat = torch.tensor([[[0.0, 1.0, 1.0, 1.0, 0.5]]])
    clusters = torch.tensor([[[0, 0, 0, 0, 1]]])
    superpixels = torch.tensor([[[0, 1, 1, 1, 2]]])
    alike = cluster_saliency({"cam": heat}, clusters, superpixels, n_clusters=2)
    weighed = cluster_saliency({"cam": heat}, clusters, superpixels, n_clusters=2, weigh="area")
    assert alike.means[0, 0].tolist() == [0.5, 0.5]
    assert weighed.means[0, 0].tolist() == [0.75, 0.5]
    assert alike.area[0].tolist() == pytest.approx([0.8, 0.2])


@given(seed=st.integers(0, 500), scale=st.floats(0.1, 50), shift=st.floats(-9, 9))
def test_maps_are_scaled_so_their_units_do_not_matter(seed: int, scale: float, shift: float):
    saliency, clusters, superpixels = images(seed, n=2)
    other = {name: scale * heat.double() + shift for name, heat in saliency.items()}
    one = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    two = cluster_saliency(other, clusters, superpixels, n_clusters=4)
    torch.testing.assert_close(one.sums, two.sums, atol=1e-5, rtol=1e-5)


def test_batches_joined_are_the_whole():
    saliency, clusters, superpixels = images(1)
    whole = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    parts = [
        cluster_saliency(
            {name: heat[part] for name, heat in saliency.items()},
            clusters[part],
            superpixels[part],
            n_clusters=4,
        )
        for part in (slice(0, 2), slice(2, 6))
    ]
    joined = ClusterSaliency.join(parts)
    for name in ("sums", "weights", "area", "blank"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    with pytest.raises(InputError, match="nothing to join"):
        ClusterSaliency.join([])


def test_constant_and_nan_maps_count_as_zero_and_are_counted():
    saliency, clusters, superpixels = images(2)
    saliency["cam"][0] = 3.0
    saliency["cam"][1, 0, 0] = torch.nan
    measured = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    assert measured.sums[:2, 0].abs().sum() == 0
    assert measured.blank[:, 0].tolist() == [True, True, False, False, False, False]
    table = saliency_by_cluster(measured, torch.ones(6, dtype=torch.bool), n_resamples=10)
    assert table.row("cam").n_blank == 2
    assert table.row("gradients").n_blank == 0


def test_a_split_without_images_has_no_numbers():
    saliency, clusters, superpixels = images(0)
    measured = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    row = saliency_by_cluster(measured, torch.ones(6, dtype=torch.bool)).row("cam", "wrong")
    assert (row.n_images, row.cluster) == (0, -1)
    assert math.isnan(row.chosen)
    assert math.isnan(row.others_interval[0])


def test_intervals_are_scipys_percentile_bootstrap():
    saliency, clusters, superpixels = images(3, n=40)
    measured = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    row = saliency_by_cluster(
        measured, torch.ones(40, dtype=torch.bool), n_resamples=20_000, confidence=0.9
    ).row("cam")
    sums = measured.sums[:, 0, row.cluster].numpy()
    weights = measured.weights[:, row.cluster].numpy()
    expected = bootstrap(
        (sums, weights),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        random_state=0,
    ).confidence_interval
    width = expected.high - expected.low
    assert row.chosen_interval == pytest.approx((expected.low, expected.high), abs=0.04 * width)
    assert row.chosen_interval[0] < row.chosen < row.chosen_interval[1]


def test_stability_tells_a_clear_winner_from_a_draw():
    clusters = torch.tensor([[[0, 1, 2]]]).repeat(30, 1, 1)
    clear = torch.tensor([[[0.0, 0.2, 1.0]]]).repeat(30, 1, 1)
    drawn = clear.clone()
    drawn[::2] = torch.tensor([0.0, 1.0, 0.2])
    right = torch.ones(30, dtype=torch.bool)
    measured = cluster_saliency({"a": clear, "b": drawn}, clusters, clusters, n_clusters=3)
    table = saliency_by_cluster(measured, right)
    assert table.row("a").stability == 1
    assert 0.3 < table.row("b").stability < 0.7
    given_cluster = saliency_by_cluster(measured, right, cluster=0)
    assert given_cluster.row("a").cluster == 0
    assert given_cluster.row("a").chosen == 0
    assert given_cluster.row("a").stability == 0


def test_as_a_data_frame():
    saliency, clusters, superpixels = images(0)
    measured = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    table = saliency_by_cluster(measured, torch.arange(6) < 3).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 6
    assert {"method", "split", "cluster", "chosen", "chosen_low", "others_high"} <= {*table.columns}


def test_what_does_not_fit_is_refused_in_a_sentence():
    saliency, clusters, superpixels = images(0)
    with pytest.raises(InputError, match="no saliency maps"):
        cluster_saliency({}, clusters, superpixels, n_clusters=4)
    with pytest.raises(InputError, match="all must be the same"):
        cluster_saliency({"cam": saliency["cam"][:, :5]}, clusters, superpixels, n_clusters=4)
    with pytest.raises(InputError, match="with n_clusters = 3 they must be 0 to 2"):
        cluster_saliency(saliency, clusters, superpixels, n_clusters=3)
    measured = cluster_saliency(saliency, clusters, superpixels, n_clusters=4)
    right = torch.ones(6, dtype=torch.bool)
    with pytest.raises(InputError, match="6 are measured"):
        saliency_by_cluster(measured, right[:3])
    with pytest.raises(InputError, match="no cluster 4"):
        saliency_by_cluster(measured, right, cluster=4)
    with pytest.raises(InputError, match="confidence is 1"):
        saliency_by_cluster(measured, right, confidence=1)
    with pytest.raises(InputError, match="no row for 'lrp'"):
        saliency_by_cluster(measured, right).row("lrp")
    other = cluster_saliency({"cam": saliency["cam"]}, clusters, superpixels, n_clusters=4)
    with pytest.raises(InputError, match="different methods"):
        ClusterSaliency.join([measured, other])
