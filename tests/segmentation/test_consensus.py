"""The consensus of many segmentations, against scikit-learn and cases with a known answer."""

from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from naspix.errors import InputError
from naspix.segmentation import Segmentation, consensus


def noisy_halves(n, noise, *, size=(16, 20), seed=0):
    """``n`` segmentations into left and right, some pixels wrong, names shuffled."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(1, *size, dtype=torch.int64)
    truth[..., size[1] // 2 :] = 1
    made = []
    for _ in range(n):
        wrong = torch.rand(truth.shape, generator=generator) < noise
        names = torch.randperm(2, generator=generator)
        made.append(Segmentation(names[truth ^ wrong]))
    return truth, made


def test_the_vote_finds_what_noise_hides():
    truth, made = noisy_halves(15, 0.2)
    agreed = consensus(made)
    wrong = 1 - adjusted_rand_score(truth.flatten(), agreed.mean.clusters.flatten())
    alone = [1 - adjusted_rand_score(truth.flatten(), each.clusters.flatten()) for each in made]
    assert wrong < 0.1
    assert wrong < 0.25 * min(alone)


def test_names_do_not_matter():
    _, made = noisy_halves(5, 0.1)
    renamed = [Segmentation(5 - each.clusters) for each in made]
    first, second = consensus(made), consensus(renamed)
    assert first.mean.superpixels.equal(second.mean.superpixels)
    assert torch.equal(first.boundary_frequency, second.boundary_frequency)
    assert first.cluster_ari == pytest.approx(second.cluster_ari)


def test_ari_is_scikit_learns_mean_over_pairs():
    _, made = noisy_halves(4, 0.05)
    agreed = consensus(made)
    for name in ("cluster", "superpixel"):
        maps = [getattr(each, name + "s").flatten() for each in made]
        expected = np.mean([adjusted_rand_score(a, b) for a, b in combinations(maps, 2)])
        assert getattr(agreed, name + "_ari") == pytest.approx(expected)


def test_boundary_frequency_is_the_mean_of_the_boundaries():
    _, made = noisy_halves(3, 0.05)
    expected = torch.stack([each.boundaries()[0] for each in made]).float().mean(0)
    assert torch.equal(consensus(made).boundary_frequency, expected)


def test_equal_segmentations_agree_fully():
    _, (one,) = noisy_halves(1, 0.1)
    agreed = consensus([one, one, one])
    assert agreed.cluster_ari == agreed.superpixel_ari == 1
    assert agreed.mean == one
    assert set(agreed.boundary_frequency.unique().tolist()) <= {0.0, 1.0}
    assert agreed.n_segmentations == 3


def test_a_batch_counts_as_many():
    _, made = noisy_halves(4, 0.1)
    batch = Segmentation(torch.cat([each.clusters for each in made]))
    assert consensus(batch).mean == consensus(made).mean
    assert consensus([batch, made[0]]).n_segmentations == 5


def test_different_numbers_of_clusters_can_vote():
    coarse = Segmentation(torch.tensor([[[0, 0, 0, 1, 1, 1]]]))
    fine = Segmentation(torch.tensor([[[0, 0, 2, 1, 1, 1]]]))
    agreed = consensus([coarse, coarse, fine])
    assert agreed.mean.clusters.tolist() == [[[0, 0, 0, 1, 1, 1]]]


def test_a_tie_goes_to_the_reference():
    left = Segmentation(torch.tensor([[[0, 0, 0, 1, 1, 1]]]))
    right = Segmentation(torch.tensor([[[0, 0, 1, 1, 1, 1]]]))
    assert consensus([left, right]).mean.clusters.tolist() == left.clusters.tolist()
    assert consensus([right, left]).mean.clusters.tolist() == right.clusters.tolist()


def test_connectivity_of_the_mean_is_theirs():
    checks = Segmentation(torch.tensor([[[0, 1], [1, 0]]]), connectivity=8)
    assert consensus([checks, checks]).mean.n_superpixels.tolist() == [2]


def test_refuses_a_single_one_and_different_frames():
    one = Segmentation(torch.zeros(1, 3, 3, dtype=torch.int64))
    for too_few in ([], [one], one):
        with pytest.raises(InputError, match="at least two"):
            consensus(too_few)
    with pytest.raises(InputError, match="resize them"):
        consensus([one, one.resize((4, 4))])
