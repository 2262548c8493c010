"""Cuts and their description: runs give the labels back, ranks are the ranking's, trees nest."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from naspix.app.photos import sample_image
from naspix.app.regions import Cut, Cutter, described, mean_saliency, ranks, run_lengths
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import rank_superpixels, superpixelify


@given(
    arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3))
)
def test_run_lengths_give_the_labels_back(labels):
    runs = run_lengths(labels)
    restored = [label for label, n in zip(runs[::2], runs[1::2], strict=True) for _ in range(n)]
    assert restored == labels.ravel().tolist()
    assert all(a != b for a, b in zip(runs[::2], runs[2::2], strict=False))


def test_description_of_a_small_one():
    clusters = torch.tensor([[[0, 1, 1], [0, 1, 0]]])
    heat = torch.tensor([[[1.0, 4.0, 4.0], [3.0, 4.0, 9.0]]])
    found = described(Segmentation(clusters), heat)
    assert found["n"] == 3
    assert found["n_clusters"] == 2
    assert found["cluster"] == [0, 1, 0]
    assert found["area"] == pytest.approx([2 / 6, 3 / 6, 1 / 6], abs=1e-6)
    assert found["saliency"] == [2.0, 4.0, 9.0]
    assert found["rank"] == [3, 2, 1]
    assert found["middle"][2] == (2, 1)
    assert len(found["heat"]) == 3
    assert found["colours"] == ["#0072b2", "#e69f00"]


def test_ranks_and_means_are_those_of_the_ranking():
    clusters = torch.randint(0, 4, (1, 12, 9))
    segmentation, heat = Segmentation(clusters), torch.rand(1, 12, 9).round(decimals=1)
    pooled = superpixelify(heat, segmentation.superpixels)
    expected = rank_superpixels(pooled[0], segmentation.superpixels[0])
    means = mean_saliency(segmentation, heat)
    places = ranks(means.round(9))
    by_label = {one.label: one for one in expected}
    for label, mean in enumerate(means):
        assert by_label[label].saliency == pytest.approx(mean, abs=1e-6)
    assert sorted(places) == [*range(1, len(means) + 1)]
    assert (np.diff(means.round(9)[np.argsort(places)]) <= 0).all()


def test_one_huge_superpixel_leaves_the_others_their_colours():
    clusters = torch.zeros(1, 20, 20, dtype=torch.int64)
    clusters[0, 3, 3], clusters[0, 9, 9] = 1, 2
    heat = torch.tensor([0.5, 1.0, 3.0])[clusters]
    found = described(Segmentation(clusters), heat)
    assert (found["scale"]["low"], found["scale"]["high"]) == (0.5, 3.0)
    assert len({*found["heat"]}) == 3


def test_middles_lie_inside():
    segmentation = Segmentation(torch.randint(0, 3, (1, 20, 15)))
    for number, (x, y) in enumerate(described(segmentation, torch.rand(1, 20, 15))["middle"]):
        assert int(segmentation.superpixels[0, y, x]) == number


def test_cuts_are_those_of_the_python_interface(model):
    images = model.load_images(sample_image("chelsea"))
    cutter = Cutter(model, images)
    for cut in (Cut(levels=(3, 4)), Cut(n_clusters=8, levels=(2, 4)), Cut(levels=(3, 4))):
        expected = NAS(model, levels=cut.levels, n_clusters=cut.n_clusters)(images)
        assert cutter.segmentation(cut)[0] == expected


def test_a_tree_is_built_once_and_its_cuts_nest(model):
    images = torch.nn.functional.interpolate(model.load_images(sample_image("coffee")), (48, 48))
    cutter, cut = Cutter(model, images), Cut("ward", 2, (3, 4))
    assert not cutter.has_tree((3, 4))
    coarser, _ = cutter.segmentation(cut)
    assert cutter.has_tree((3, 4))
    assert not cutter.has_tree((4,))
    built = NAS(model, levels=(3, 4), algorithm="ward", n_clusters=2)(images)
    assert coarser == built
    for k in (3, 7, 20, 40):
        finer, seconds = cutter.segmentation(Cut("ward", k, (3, 4)))
        assert finer == built.cut(k)
        assert seconds < 0.5  # nothing is clustered again
        pairs = torch.stack([finer.clusters.flatten(), coarser.clusters.flatten()]).unique(dim=1)
        assert pairs.shape[1] == len(finer.clusters.unique())  # each lies in one of the coarser
        coarser = finer


def test_fragments_rank_last_so_that_a_list_without_them_has_no_gaps() -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[0, :, 32:] = 1
    labels[0, 0, 0] = 2  # below 0.1 % of the frame, and the most salient
    heat = torch.tensor([1.0, 2.0, 9.0])[labels]
    found = described(Segmentation(labels, labels), heat)
    assert found["rank"] == [2, 1, 3]
