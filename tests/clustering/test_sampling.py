"""The stratified sample: shares, randomness, and what it holds while images come."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from naspix.clustering import StratifiedSample, UpsampledFeatures


def numbered(first: int, n_images: int, size=(4, 4)) -> UpsampledFeatures:
    """Images whose every pixel's feature is the number of the image."""
    values = torch.arange(first, first + n_images, dtype=torch.float32)
    maps = values.view(-1, 1, 1, 1).expand(-1, 1, *size).contiguous()
    return UpsampledFeatures([maps], size, normalize=False, weight=False)


def shares(n_points: int, batches: list[int], seed: int = 0) -> torch.Tensor:
    sample, first = StratifiedSample(n_points, seed=seed), 0
    for n_images in batches:
        sample.add(numbered(first, n_images))
        first += n_images
    return sample.points()[:, 0].round().long().bincount(minlength=first)


@given(n_points=st.integers(1, 60), n_images=st.integers(1, 90), seed=st.integers(0, 5))
def test_every_image_gives_its_share(n_points: int, n_images: int, seed: int):
    counts = shares(n_points, [1] * n_images, seed)
    assert counts.sum() == min(n_points, 16 * n_images)
    assert counts.max() - counts.min() <= 1
    assert len(counts) == n_images


@given(batches=st.lists(st.integers(1, 9), min_size=1, max_size=12), n_points=st.integers(1, 40))
def test_batches_do_not_matter(batches: list[int], n_points: int):
    together = shares(n_points, [sum(batches)])
    assert torch.equal(together, shares(n_points, batches))


def test_pixels_are_distinct_and_every_one_has_its_chance():
    maps = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    features = UpsampledFeatures([maps], (4, 4), normalize=False, weight=False)
    seen = torch.zeros(17)
    for seed in range(200):
        sample = StratifiedSample(4, seed=seed)
        sample.add(features)
        values = sample.points()[:, 0].round().long()
        assert len(values.unique()) == 4
        seen[values] += 1
    assert seen[1:].min() > 20  # 50 expected, standard deviation 6
    assert seen[1:].max() < 80


def test_every_image_of_a_long_stream_has_the_same_chance():
    first_half = sum(int(shares(10, [1] * 100, seed)[:50].sum()) for seed in range(40))
    assert 200 - 60 < first_half < 200 + 60  # 200 expected, standard deviation 10


@pytest.mark.parametrize("n_images", [30, 600])
def test_memory_does_not_grow_with_the_images(n_images: int):
    sample = StratifiedSample(20, seed=0)
    for first in range(n_images):
        sample.add(numbered(first, 1))
        assert sum(len(points) for _, points in sample._drawn) <= 60
