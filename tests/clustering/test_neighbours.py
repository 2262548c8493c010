"""Nearest labels: a closed form, and scikit-learn on the dense matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from naspix.clustering import UpsampledFeatures, nearest_labels
from naspix.errors import InputError


def random_features(seed: int, *, normalize: bool = True, size=(20, 13)) -> UpsampledFeatures:
    generator = torch.Generator().manual_seed(seed)
    maps = [
        torch.randn(2, channels, *cells, generator=generator, dtype=torch.float64)
        for channels, cells in ((6, (5, 4)), (9, (3, 2)))
    ]
    return UpsampledFeatures(maps, size, normalize=normalize, weight=normalize)


def test_pixels_of_a_ramp_go_to_the_nearer_end():
    ramp = torch.arange(8.0).view(1, 1, 1, 8)
    features = UpsampledFeatures([ramp], (1, 8), normalize=False, weight=False)
    points, labels = torch.tensor([[0.0], [7.0]]), torch.tensor([4, 2])
    assert nearest_labels(features, points, labels).tolist() == [[[4, 4, 4, 4, 2, 2, 2, 2]]]


def test_of_equally_frequent_labels_the_smallest_wins():
    features = UpsampledFeatures([torch.ones(1, 1, 1, 1)], (1, 1), normalize=False, weight=False)
    points = torch.tensor([[1.0], [2.0], [50.0]])
    labels = torch.tensor([3, 1, 0])
    assert nearest_labels(features, points, labels, n_neighbors=1).item() == 3
    assert nearest_labels(features, points, labels, n_neighbors=2).item() == 1


@given(
    seed=st.integers(0, 1000),
    n_neighbors=st.integers(1, 12),
    normalize=st.booleans(),
    n_points=st.integers(12, 60) | st.integers(100, 700),  # few, and so many that they are grouped
)
def test_the_same_as_scikit_learn_on_the_dense_matrix(seed, n_neighbors, normalize, n_points):
    features = random_features(seed, normalize=normalize)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randint(0, features.n_pixels, (2, n_points), generator=generator)
    points = features.at(pixels).flatten(0, 1)
    points = points + 1e-3 * points.std() * torch.randn(
        points.shape, generator=generator, dtype=points.dtype
    )
    labels = torch.randint(0, 4, (len(points),), generator=generator)
    found = nearest_labels(features, points, labels, n_neighbors=n_neighbors)
    oracle = KNeighborsClassifier(n_neighbors, algorithm="brute").fit(
        points.numpy(), labels.numpy()
    )
    for image, ours in zip(features.dense(), found, strict=True):
        expected = oracle.predict(image.flatten(1).T.numpy()).reshape(features.size)
        np.testing.assert_array_equal(ours, expected)


def test_more_neighbours_than_points_are_refused():
    features = random_features(0)
    points = features.at(torch.tensor([[0, 1], [2, 3]]))[0]
    with pytest.raises(InputError, match="with 2 points it must be from 1 to 2"):
        nearest_labels(features, points, torch.tensor([0, 1]), n_neighbors=3)
