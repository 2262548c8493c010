"""Colours that mean what they say, pictures of the right size, figures without pyplot."""

import sys

import numpy as np
import pytest

from naspix import plots

HALVES = np.repeat([[0, 0, 1, 1]], 4, axis=0)
PHOTO = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
HEAT = np.arange(16, dtype=np.float32).reshape(4, 4)


def test_cluster_colours_are_distinct_and_stable():
    many = plots.cluster_colours(60)
    assert len(np.unique(many, axis=0)) == 60
    for n in (1, 5, 10, 11):
        np.testing.assert_array_equal(plots.cluster_colours(n), many[:n])


def test_first_colours_differ_for_the_colour_blind():
    """Simulated deuteranopia and protanopia (Machado 2009, severity 1, on linear RGB)."""
    linear = (plots.cluster_colours(6) / 255) ** 2.2
    deutan = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    protan = [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    for matrix in (np.eye(3), np.array(deutan), np.array(protan)):
        seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        # matplotlib's default red and green come to 0.16 here; black and white to 1.73
        assert distances[np.triu_indices(6, 1)].min() > 0.25


def test_scales():
    assert plots.saliency_scale(HEAT) == plots.Scale(0.0, 15.0, signed=False)
    assert plots.saliency_scale(HEAT - 5) == plots.Scale(-10.0, 10.0, signed=True)
    assert plots.saliency_scale(HEAT, signed=True).low == -15
    spiked = np.append(np.ones(999), 1e6)
    assert plots.saliency_scale(spiked, outliers=0.005).high == 1
    constant = plots.Scale(2.0, 2.0, signed=False)
    np.testing.assert_array_equal(constant.position(np.full(3, 2.0)), 0)


def test_saliency_colours_run_from_dark_to_light():
    picture = plots.saliency_picture(HEAT, plots.saliency_scale(HEAT))
    luminance = picture @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance.ravel()) > 0)
    middle = plots.saliency_picture(np.zeros((1, 1)), plots.Scale(-1.0, 1.0, signed=True))
    assert middle.min() > 230  # nothing is nearly white


def test_boundaries_are_white_lines_between_superpixels():
    picture = plots.boundary_picture(np.zeros((4, 4, 3)), HALVES)
    np.testing.assert_array_equal(picture[:, 1], 255)
    assert picture[:, [0, 2, 3]].max() == 0


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("zoom", [1, 3])
def test_pictures_have_the_photos_frame(channels, zoom):
    image = np.full((4, 6, channels), 0.5, dtype=np.float32)
    labels, heat = np.zeros((4, 6), dtype=np.int64), np.ones((4, 6), dtype=np.float32)
    scale = plots.saliency_scale(heat)
    for picture in (
        plots.photo_picture(image, zoom=zoom),
        plots.boundary_picture(image, labels, zoom=zoom),
        plots.cluster_picture(image, labels, labels, zoom=zoom),
        plots.saliency_picture(heat, scale, zoom=zoom),
        plots.overlay_picture(image, heat, scale, zoom=zoom),
    ):
        assert picture.shape == (4 * zoom, 6 * zoom, 3)
        assert picture.dtype == np.uint8


def test_colour_bar_stands_beside_the_picture():
    scale = plots.saliency_scale(HEAT)
    picture = plots.saliency_picture(HEAT, scale, zoom=50)
    beside = plots.with_colour_bar(picture, scale)
    np.testing.assert_array_equal(beside[:, :200], picture)
    strip = beside[:, 200:]
    assert strip.shape[1] < 100
    assert (strip == 255).mean() > 0.3  # paper, with colours and words on it
    assert len(np.unique(strip.reshape(-1, 3), axis=0)) > 50


def test_figure_of_several_methods_and_segmenters():
    heats = {"one": HEAT, "two": HEAT - 8}
    figure = plots.explanation_figure(
        PHOTO,
        {"nas": (HALVES, HALVES), "grid": (HALVES, HALVES)},
        heats,
        {(m, s): heat for m, heat in heats.items() for s in ("nas", "grid")},
        title="a title",
    )
    titles = {ax.get_title() for ax in figure.axes}
    assert {"photo", "nas: 2 superpixels", "two over grid"} <= titles
    assert figure._repr_html_().startswith("<img ")
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_drawing_alone_and_on_given_axes():
    ax = plots.draw_photo(PHOTO)
    assert plots.draw_segmentation(PHOTO, HALVES, HALVES, ax) is ax
    assert plots.draw_overlay(PHOTO, HEAT, ax) is ax
    assert len(plots.draw_saliency(HEAT).figure.axes) == 2
    assert len(plots.draw_saliency(HEAT, bar=False).figure.axes) == 1
    assert len(plots.segmentation_figure(PHOTO, HALVES, HALVES, "title").axes) == 2


def test_unit_scale_brings_any_map_to_0_to_1():
    heat = np.random.default_rng(0).normal(size=(20, 20)) - 3
    position = plots.unit_scale(heat).position(heat)
    assert (position.min(), position.max()) == (0, 1)
    np.testing.assert_allclose(position, (heat - heat.min()) / np.ptp(heat))
    clipped = plots.unit_scale(heat, outliers=0.1).position(heat)
    assert (clipped == 0).mean() == pytest.approx(0.05, abs=0.005)
    assert (clipped == 1).mean() == pytest.approx(0.05, abs=0.005)


def test_order_goes_from_blue_to_red():
    order = np.repeat(np.repeat([[0, 1], [2, 3]], 8, 0), 8, 1)
    picture = plots.order_picture(order, zoom=2).astype(int)
    assert picture.shape == (32, 32, 3)
    redness = [picture[y, x, 0] - picture[y, x, 2] for y, x in ((4, 4), (4, 28), (28, 4), (28, 28))]
    assert redness == sorted(redness)
    assert redness[0] < -80
    assert redness[-1] > 80
    assert plots.draw_order(np.zeros((4, 4), np.int64)).images
