"""The atlas: patches whose place is known, shares, the best kept of a stream, and its pictures."""

import numpy as np
import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError
from naspix.plots import highlight_picture
from naspix.segmentation import ClassClustering


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    """A network whose only level is the colours themselves."""
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3)[:, :, None, None])
    return naspix.wrap_model(
        network, mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(24, 24), levels=("0",)
    )


RED, GREEN = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.9, 0.1])


def meadow(*red_squares: int) -> torch.Tensor:
    """Green images; a red square of so many pixels a side in the lower right corner of each."""
    images = GREEN.view(1, 3, 1, 1).repeat(len(red_squares), 1, 24, 24)
    for image, side in zip(images, red_squares, strict=True):
        image[:, 24 - side :, 24 - side :] = RED.view(3, 1, 1)
    return images


@pytest.fixture(scope="module")
def clusters(model):
    fitted = ClassClustering(model, levels=(0,), n_clusters=2, n_samples=400)
    return fitted.fit(meadow(8, 8, 8, 8)).named({1: "poppies"})


def test_patches_lie_where_the_cluster_is(clusters):
    atlas = clusters.atlas(meadow(8, 0))
    green, red = atlas.entries
    assert (green.title, red.title) == ("cluster 0", "poppies")
    (example,) = red.examples
    assert example.image == 0
    assert example.box == (16, 16, 24, 24)  # a third of 24 pixels
    assert example.mask.sum() == 64
    np.testing.assert_array_equal(example.patch[0, 0], [230, 26, 26])
    assert example.patch.shape == (8, 8, 3)
    assert len(green.examples) == 2


def test_area_and_frequency(clusters):
    red = clusters.atlas(meadow(8, 0, 1, 12)).entries[1]
    assert red.area == pytest.approx((64 + 1 + 144) / (4 * 576))
    assert red.frequency == 0.5  # one pixel of 576 is less than half a percent


def test_the_strongest_of_a_stream_are_kept_in_order(clusters):
    sides = [2, 7, 0, 5, 3, 6, 4]
    stream = (meadow(side) for side in sides)
    red = clusters.atlas(stream, n_examples=3).entries[1]
    assert [sides[example.image] for example in red.examples] == [7, 6, 5]
    strengths = [example.strength for example in red.examples]
    assert strengths == sorted(strengths, reverse=True)
    # the strength is the margin times the share of the patch that is red
    assert strengths[1] / strengths[0] == pytest.approx(36 / 49, rel=1e-3)


def test_batches_do_not_matter(clusters):
    images = meadow(3, 8, 5, 5, 7)
    whole, single = clusters.atlas(images), clusters.atlas(images.split(1))
    for one, other in zip(whole.entries, single.entries, strict=True):
        assert [e.image for e in one.examples] == [e.image for e in other.examples]
        assert (one.area, one.frequency) == (other.area, other.frequency)


def test_it_can_be_drawn(clusters):
    figure = clusters.atlas(meadow(8, 6, 0)).plot(n_examples=2)
    assert len(figure.axes) == 8
    assert "poppies: in 67% of the images" in {ax.get_title("left") for ax in figure.axes}
    assert repr(clusters.atlas(meadow(8))).startswith("Atlas(2 clusters, 1 images")


def test_one_cluster_alone_has_an_atlas(model):
    one = ClassClustering(model, levels=(0,), n_clusters=1, n_samples=50).fit(meadow(8))
    (entry,) = one.atlas(meadow(8)).entries
    assert (entry.area, entry.frequency, len(entry.examples)) == (1.0, 1.0, 1)


def test_nothing_to_show_is_said(clusters):
    with pytest.raises(InputError, match="no images to make an atlas of"):
        clusters.atlas([])
    with pytest.raises(InputError, match="n_examples is 0"):
        clusters.atlas(meadow(8), n_examples=0)


def test_a_highlight_leaves_the_mask_as_it_is_and_dims_the_rest():
    image = np.full((6, 8, 3), 0.5)
    image[..., 0] = 1.0
    mask = np.zeros((6, 8), bool)
    mask[:, :4] = True
    picture = highlight_picture(image, mask)
    np.testing.assert_array_equal(picture[:, 0], [[255, 128, 128]] * 6)
    assert (picture[:, -1] == picture[0, -1, :1]).all()  # grey
    assert picture[0, -1, 0] < 80
    assert (picture[:, 3] == 255).all()  # the line
