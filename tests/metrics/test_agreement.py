"""Agreement: closed forms, scikit-learn, scikit-image and SciPy, and laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score, mutual_info_score

from naspix.errors import InputError
from naspix.metrics import saliency_agreement, segmentation_agreement


def partitions(seed: int, n: int = 3, size: int = 12) -> torch.Tensor:
    """Blocky random maps, with gaps in their numbers."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 4, (n, size // 4, size // 4), generator=generator)
    return 3 * cells.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_a_boundary_moved_by_two_pixels():
    labels = torch.zeros(2, 8, 20, dtype=torch.int64)
    labels[0, :, 10:] = 1
    labels[1, :, 12:] = 1
    assert segmentation_agreement(labels, tolerance=1).boundary_f[0, 1] == 0
    assert segmentation_agreement(labels, tolerance=2).boundary_f[0, 1] == 1


def test_boundary_score_is_the_harmonic_mean_of_both_shares():
    labels = torch.zeros(2, 6, 30, dtype=torch.int64)
    labels[0, :, 10:] = 1
    labels[1, :, 10:] = 1
    labels[1, :, 20:] = 2  # a second line: half of its boundary is not the other's
    precision, recall = 1.0, 0.5
    expected = 2 * precision * recall / (precision + recall)
    agreement = segmentation_agreement(labels)
    assert agreement.boundary_f[0, 1] == pytest.approx(expected)
    assert agreement.boundary_f[1, 0] == pytest.approx(expected)


def test_boundary_score_where_there_is_no_boundary():
    labels = torch.zeros(3, 4, 4, dtype=torch.int64)
    labels[2, 2:] = 1
    score = segmentation_agreement(labels).boundary_f
    assert score[0, 1] == 1
    assert score[0, 2] == 0


def test_halves_of_halves_are_one_bit_apart():
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    labels[0, :, 2:] = 1
    labels[1] = labels[0]
    labels[1, 2:] += 2
    information = segmentation_agreement(labels).variation_of_information
    assert information[0, 1] == pytest.approx(1.0)
    assert information[0, 0] == 0


@pytest.mark.parametrize("seed", range(5))
def test_indices_are_those_of_scikit_learn(seed: int):
    labels = partitions(seed)
    agreement = segmentation_agreement(labels)
    flat = labels.flatten(1).numpy()
    for i in range(3):
        for j in range(3):
            assert agreement.ari[i, j] == pytest.approx(adjusted_rand_score(flat[i], flat[j]))
            entropies = mutual_info_score(flat[i], flat[i]) + mutual_info_score(flat[j], flat[j])
            nats = entropies - 2 * mutual_info_score(flat[i], flat[j])
            bits = nats / math.log(2)
            assert agreement.variation_of_information[i, j] == pytest.approx(bits, abs=1e-9)
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert agreement.means["ari"] == pytest.approx(
        np.mean([adjusted_rand_score(flat[i], flat[j]) for i, j in pairs])
    )


@given(seed=st.integers(0, 1000), shift=st.integers(1, 50))
def test_renaming_labels_changes_nothing(seed: int, shift: int):
    labels = partitions(seed)
    renamed = labels.clone()
    renamed[1] = 1000 - shift * renamed[1]
    one, other = segmentation_agreement(labels), segmentation_agreement(renamed)
    for name in one.means:
        torch.testing.assert_close(getattr(one, name), getattr(other, name))
        matrix = getattr(one, name)
        assert torch.equal(matrix, matrix.T)


@pytest.mark.parametrize("seed", range(4))
def test_saliency_agreement_is_scipys_spearman_over_superpixels(seed: int):
    generator = torch.Generator().manual_seed(seed)
    saliency = torch.randn(2, 3, 9, 9, generator=generator)
    saliency[:, 2] = saliency[:, 2].round()  # ties
    labels = torch.randint(0, 12, (2, 9, 9), generator=generator) * 5
    agreement = saliency_agreement(saliency, labels)
    assert agreement.shape == (2, 3, 3)
    for b in range(2):
        means = [[saliency[b, m][labels[b] == k].mean() for k in labels[b].unique()]
                 for m in range(3)]  # fmt: skip
        expected = spearmanr(np.array(means), axis=1).statistic
        np.testing.assert_allclose(agreement[b], expected, atol=1e-12)


def test_a_method_that_ranks_nothing_agrees_with_nothing():
    saliency = torch.rand(1, 2, 6, 6)
    saliency[:, 1] = 0.1
    labels = torch.arange(36).view(1, 6, 6) // 5
    agreement = saliency_agreement(saliency.double(), labels)
    assert agreement[0, 0, 0] == pytest.approx(1)
    assert agreement[0, 1].isnan().all()
    assert agreement[0, :, 1].isnan().all()


def test_what_cannot_be_compared_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="at least two"):
        segmentation_agreement(torch.zeros(1, 4, 4, dtype=torch.int64))
    with pytest.raises(InputError, match=r"\(n, H, W\) integers"):
        segmentation_agreement(torch.zeros(2, 4, 4))
    with pytest.raises(InputError, match="tolerance is -1"):
        segmentation_agreement(torch.zeros(2, 4, 4, dtype=torch.int64), tolerance=-1)
    with pytest.raises(InputError, match="not finite"):
        saliency_agreement(torch.full((1, 2, 4, 4), torch.nan), torch.ones(1, 4, 4).long())
    with pytest.raises(InputError, match=r"\(B, M, H, W\)"):
        saliency_agreement(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4).long())
