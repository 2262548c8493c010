"""Baselines are scikit-image's own labels; their knobs are refused where they make no sense."""

import warnings

import numpy as np
import pytest
import torch
from skimage import color, data, filters, segmentation

from naspix.errors import InputError
from naspix.segmentation import (
    SLIC,
    Felzenszwalb,
    Grid,
    NormalizedCut,
    Quickshift,
    Segmentation,
    Watershed,
)


@pytest.fixture(scope="module")
def photo():
    """Eighty by a hundred pixels of a cat, float in [0, 1], channels last."""
    return np.ascontiguousarray(data.chelsea()[60:220:2, 60:260:2] / 255).astype(np.float32)


@pytest.fixture(scope="module")
def images(photo):
    return torch.from_numpy(photo).permute(2, 0, 1)[None]


def test_slic_is_scikit_images(photo, images):
    expected = segmentation.slic(photo, n_segments=30, compactness=5, sigma=1, start_label=0)
    found = SLIC(n_segments=30, compactness=5, sigma=1)(images)
    np.testing.assert_array_equal(found.clusters[0], expected)


def test_felzenszwalb_is_scikit_images(photo, images):
    expected = segmentation.felzenszwalb(photo, scale=50, sigma=0.5, min_size=10)
    found = Felzenszwalb(scale=50, sigma=0.5, min_size=10)(images)
    np.testing.assert_array_equal(found.clusters[0], expected)


def test_quickshift_is_scikit_images(photo, images):
    expected = segmentation.quickshift(
        photo, kernel_size=3, max_dist=8, ratio=0.7, sigma=0.5, rng=4
    )
    found = Quickshift(kernel_size=3, max_dist=8, ratio=0.7, sigma=0.5, seed=4)(images)
    np.testing.assert_array_equal(found.clusters[0], expected)


def test_watershed_is_scikit_images_on_the_gradient(photo, images):
    gradient = filters.sobel(color.rgb2gray(photo))
    expected = segmentation.watershed(gradient, markers=40, compactness=0.002)
    found = Watershed(n_segments=40, compactness=0.002)(images)
    np.testing.assert_array_equal(found.clusters[0], expected - 1)


def test_normalized_cut_joins_whole_slic_regions(images):
    regions = SLIC(n_segments=60, compactness=20)(images).clusters
    parts = NormalizedCut(n_regions=60)(images).clusters
    pairs = torch.stack([regions.flatten(), parts.flatten()]).unique(dim=1)
    assert pairs.shape[1] == regions.unique().numel(), "a region was cut"
    assert 1 < parts.unique().numel() < regions.unique().numel()


def test_normalized_cut_parts_two_colours():
    images = torch.zeros(1, 3, 24, 24)
    images[..., 12:] = 1
    clusters = NormalizedCut(n_regions=36)(images).clusters[0]
    assert clusters.unique().numel() == 2
    assert (clusters[:, :12] == clusters[0, 0]).all()
    assert (clusters[:, 12:] == clusters[0, -1]).all()


def test_normalized_cut_survives_noise_flat_images_and_few_pixels():
    for images in (torch.rand(1, 3, 30, 30), torch.zeros(1, 3, 30, 30), torch.rand(1, 3, 4, 4)):
        assert NormalizedCut()(images).clusters.shape[1:] == images.shape[2:]


@pytest.mark.parametrize(
    ("size", "n_segments", "expected"),
    [((20, 20), 25, 25), ((20, 40), 8, 8), ((1, 9), 3, 3), ((9, 1), 3, 3), ((4, 4), 16, 16)],
)
def test_grid_has_about_as_many_cells_of_nearly_equal_size(size, n_segments, expected):
    found = Grid(n_segments=n_segments)(torch.rand(1, 3, *size))
    assert found.n_superpixels.tolist() == [expected]
    assert torch.equal(found.clusters, found.superpixels)
    areas = found.areas()
    assert areas.max() <= areas.min() + max(size)


def test_superpixels_are_the_connected_parts_of_the_labels(images):
    found = Felzenszwalb(scale=20, min_size=0)(images)
    assert found == Segmentation(found.clusters)
    assert found.n_superpixels[0] >= found.n_clusters[0]


def test_the_source_is_what_made_it(images):
    segmenter = SLIC(n_segments=20)
    assert segmenter(images).source == repr(segmenter)
    assert eval(repr(segmenter), {"SLIC": SLIC}) == segmenter


@pytest.mark.parametrize(
    "make",
    [
        lambda: SLIC(n_segments=0),
        lambda: SLIC(compactness=0),
        lambda: SLIC(sigma=-1),
        lambda: SLIC(max_num_iter=0),
        lambda: SLIC(sigma=float("nan")),
        lambda: Felzenszwalb(scale=0),
        lambda: Felzenszwalb(min_size=-1),
        lambda: Quickshift(kernel_size=0.5),
        lambda: Quickshift(max_dist=0),
        lambda: Watershed(n_segments=0),
        lambda: Watershed(compactness=-1),
        lambda: NormalizedCut(n_regions=0),
        lambda: NormalizedCut(threshold=0),
        lambda: Grid(n_segments=-4),
    ],
)
def test_refuses_impossible_knobs(make):
    with pytest.raises(InputError, match=r"it must (be|not be)"):
        make()


@pytest.mark.parametrize("kind", [SLIC, Watershed, Grid])
def test_refuses_more_segments_than_pixels(kind):
    with pytest.raises(InputError, match="more than the 16 pixels"):
        kind(n_segments=17)(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize("kind", [SLIC, Felzenszwalb, Quickshift, Watershed, NormalizedCut, Grid])
def test_many_channels_are_taken_without_a_warning(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kind()(torch.rand(1, 5, 16, 20)).clusters.shape == (1, 16, 20)


# --------------------------------------------------------------------------- match


@pytest.mark.parametrize(
    ("segmenter", "wanted", "within"),
    [
        (SLIC(), 40, 2),
        (SLIC(), 7, 2),
        (Felzenszwalb(), 40, 6),  # its count jumps as regions merge
        (Quickshift(), 40, 4),
        (Watershed(), 40, 5),  # seeds lie on a regular grid, so not every number is to be had
        (NormalizedCut(n_regions=80), 25, 4),
        (Grid(), 42, 4),
    ],
)
def test_match_reaches_about_the_number_and_says_which(images, segmenter, wanted, within):
    match = segmenter.match(images, wanted)
    assert type(match.segmenter) is type(segmenter)
    assert match.wanted == wanted
    assert abs(match.n_superpixels - wanted) <= within
    assert match(images).n_superpixels.double().mean() == match.n_superpixels


def test_match_keeps_the_other_knobs(images):
    match = SLIC(compactness=3, sigma=0.5).match(images, 30)
    assert (match.segmenter.compactness, match.segmenter.sigma) == (3, 0.5)


def test_match_over_several_images_reaches_the_number_on_average(images):
    both = torch.cat([images, images.flip(3) * 0.5])
    match = Felzenszwalb().match(both, 40)
    counts = match(both).n_superpixels.double()
    assert match.n_superpixels == counts.mean()
    assert abs(counts.mean() - 40) <= 6


def test_match_takes_the_best_there_is_where_the_number_cannot_be_had():
    match = Felzenszwalb().match(torch.zeros(1, 3, 16, 16), 50)
    assert match.n_superpixels == 1  # a flat image has one region at any scale


@pytest.mark.parametrize("wanted", [0, -3, float("nan")])
def test_match_refuses_less_than_one(images, wanted):
    with pytest.raises(InputError, match="at least one"):
        SLIC().match(images, wanted)
