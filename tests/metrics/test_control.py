"""The random control: regions of exactly the sizes asked for, each in one piece."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from naspix.metrics import random_segmentation
from naspix.metrics.control import random_path


@given(height=st.integers(1, 13), width=st.integers(1, 13), seed=st.integers(0, 99))
def test_sizes_are_exact_and_regions_connected(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(6, (2, height, width), generator=generator) * 3 - 4
    found = random_segmentation(labels, seed)
    for one, random in zip(labels.numpy(), found.numpy(), strict=True):
        wanted = np.unique(one, return_counts=True)[1]
        assert sorted(np.bincount(random.ravel())) == sorted(wanted)
        for name in np.unique(random):
            assert label(random == name)[1] == 1


@given(height=st.integers(1, 15), width=st.integers(1, 15), seed=st.integers(0, 99))
def test_the_path_passes_every_pixel_once_from_neighbour_to_neighbour(height, width, seed):
    path = random_path(height, width, np.random.default_rng(seed))
    assert sorted(path.tolist()) == list(range(height * width))
    rows, columns = np.divmod(path, width)
    assert (np.abs(np.diff(rows)) + np.abs(np.diff(columns)) == 1).all()


def test_seeds_and_images_differ_and_repeat():
    labels = torch.arange(4).repeat_interleave(64).view(1, 16, 16).expand(2, -1, -1)
    first = random_segmentation(labels, 0)
    assert torch.equal(first, random_segmentation(labels, 0))
    assert not torch.equal(first, random_segmentation(labels, 1))
    assert not torch.equal(first[0], first[1])


def test_where_regions_lie_is_random():
    """Over many seeds every pixel is equally often in the region of a quarter of the pixels."""
    labels = torch.zeros(200, 12, 12, dtype=torch.int64)
    labels[:, :3] = 1
    found = random_segmentation(labels, 5)
    small = torch.stack([each == each.flatten().bincount().argmin() for each in found])
    share = small.double().mean(0)
    assert share.mean().item() == pytest.approx(0.25)
    assert share.min() > 0.1
    assert share.max() < 0.4
