"""Owen values along the network's tree: by hand, by efficiency, by linearity."""

import warnings

import numpy as np
import pytest
import torch

import naspix
from naspix.errors import InputError
from naspix.interop.shap import OwenValues, SuperpixelMasker, scores_fn, superpixel_masker


@pytest.fixture(scope="module")
def nas(network) -> naspix.NAS:
    return naspix.NAS(network, levels=(0, 1), n_clusters=4, algorithm="ward")


def test_hidden_superpixels_show_the_mean_colour(network, images, nas):
    seg = nas(images)
    masker = superpixel_masker(network, seg, index=1)
    assert masker.shape == (1, int(seg.n_superpixels[1]))
    image = images[1].numpy()
    mask = np.ones(masker.shape[1], dtype=bool)
    mask[2] = False
    (masked,) = masker(mask, image)
    inside = (seg.superpixels[1] == 2).numpy()
    assert np.allclose(masked[0][:, inside], 0.4)
    assert np.array_equal(masked[0][:, ~inside], image[:, ~inside])
    # the network sees what is hidden as zero
    standard = network.standardize(torch.from_numpy(masked))
    assert standard[0][:, inside].abs().max() < 1e-6


def test_values_sum_to_what_the_picture_adds(network, images, nas):
    method = OwenValues(network, nas, max_evals=300)
    target = torch.tensor([1, 3])
    heat = method(images, target)
    superpixels = nas(images).superpixels
    hidden = torch.full_like(images, 0.4)
    difference = (network(images) - network(hidden)).detach().gather(1, target[:, None])[:, 0]
    for values, labels, expected in zip(heat, superpixels, difference, strict=True):
        worth = [values[labels == region].unique() for region in range(int(labels.max()) + 1)]
        assert all(len(one) == 1 for one in worth)
        assert float(torch.cat(worth).sum()) == pytest.approx(float(expected), abs=1e-4)
    torch.testing.assert_close(method(images, target), heat)


def test_equal_to_shapley_values_where_the_score_is_linear(linear):
    images = torch.rand(1, 3, 8, 8) / 4
    images[:, 0, :5, :3] += 0.7
    images[:, 1, 4:, 2:] += 0.6
    nas = naspix.NAS(linear, levels=(0,), n_clusters=3, algorithm="ward")
    heat = OwenValues(linear, nas)(images, 0)
    labels = nas(images).superpixels[0]
    for region in range(int(labels.max()) + 1):
        inside = labels == region
        expected = (2 * (images[0, 0] - 0.25))[inside].sum() / 64
        assert float(heat[0][inside][0]) == pytest.approx(float(expected), abs=1e-5)


def test_owen_values_of_three_regions_by_hand():
    """Regions 1 and 2 are a group: the orders that keep it together count alike."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    masker = SuperpixelMasker(
        np.array([[0, 1, 2]]),
        np.array([[1.0, 2.0, 0.5, 2.0], [0.0, 3.0, 1.0, 3.0]]),
        np.zeros(1, dtype=np.float32),
    )
    worth = {(): 0, (0,): 1, (1,): 2, (2,): 4, (0, 1): 9, (0, 2): 3, (1, 2): 7, (0, 1, 2): 20}

    def game(pictures: np.ndarray) -> np.ndarray:
        return np.array([[worth[tuple(np.flatnonzero(p[0, 0]))]] for p in pictures], dtype=float)

    explainer = shap.PartitionExplainer(game, masker)
    values = explainer(np.ones((1, 1, 1, 3), np.float32), max_evals=200, outputs=[0], silent=True)
    orders = [(0, 1, 2), (0, 2, 1), (1, 2, 0), (2, 1, 0)]  # those that keep the group together
    expected = np.zeros(3)
    for order in orders:
        for place, player in enumerate(order):
            before, after = sorted(order[:place]), sorted(order[: place + 1])
            expected[player] += (worth[tuple(after)] - worth[tuple(before)]) / len(orders)
    np.testing.assert_allclose(np.asarray(values.values).ravel(), expected)


def test_scores_are_logits(network, images):
    np.testing.assert_allclose(
        scores_fn(network)(images.numpy()), network(images).detach().numpy(), rtol=1e-6
    )


def test_a_segmentation_without_hierarchy_is_refused(network, images):
    with pytest.raises(InputError, match="has no hierarchy; segment with NAS"):
        superpixel_masker(network, naspix.Grid(n_segments=4)(images))
    one = naspix.NAS(network, levels=(0, 1), n_clusters=1, algorithm="ward")(images)
    with pytest.raises(InputError, match="a single superpixel"):
        superpixel_masker(network, one)


def test_numpys_random_state_is_left_alone(network, images, nas):
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    OwenValues(network, nas, max_evals=20)(images[:1], 0)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
