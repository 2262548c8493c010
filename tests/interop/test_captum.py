"""captum's attributions over superpixels: known answers of a linear network, and captum by hand."""

from functools import partial

import pytest
import torch
from captum.attr import (
    FeatureAblation,
    IntegratedGradients,
    KernelShap,
    LayerActivation,
    Lime,
    ShapleyValueSampling,
)

import naspix
from naspix.errors import InputError
from naspix.interop.captum import CaptumMethod


@pytest.mark.parametrize(
    "attribute",
    [
        lambda model: FeatureAblation(model).attribute,
        lambda model: partial(ShapleyValueSampling(model).attribute, n_samples=3),
        lambda model: partial(KernelShap(model).attribute, n_samples=300),
    ],
    ids=["ablation", "shapley", "kernel shap"],
)
def test_a_superpixel_is_worth_what_it_adds_to_a_linear_score(linear, attribute):
    images = torch.rand(2, 3, 8, 8)
    grid = naspix.Grid(n_segments=4)
    method = CaptumMethod(attribute(linear), linear, grid, reduce="max")
    heat = method(images, torch.tensor([0, 2]))
    labels = grid(images).superpixels
    for image, label, values, channel in zip(images, labels, heat, (0, 2), strict=True):
        for region in range(4):
            inside = label == region
            expected = (2 * (image[channel] - 0.25))[inside].sum() / 64
            # pixels carry the worth of their region; KernelSHAP's regression is not exact
            torch.testing.assert_close(
                values[inside], expected.expand(int(inside.sum())), atol=3e-3, rtol=3e-2
            )


def test_lime_finds_the_region_that_matters(linear):
    images = torch.full((1, 3, 8, 8), 0.25)
    images[:, 1, :4, :4] = 1.0
    grid = naspix.Grid(n_segments=4)
    method = CaptumMethod(partial(Lime(linear).attribute, n_samples=200), linear, grid, "max")
    heat = method(images, 1)
    assert (heat[0, :4, :4] > heat[0, 4:].max()).all()
    assert (heat[0, :4, :4] > heat[0, :4, 4:].max()).all()


def test_gradients_as_captum_has_them(network, images):
    target = torch.tensor([1, 3])
    baselines = torch.zeros_like(images)
    method = CaptumMethod(
        partial(IntegratedGradients(network).attribute, baselines=baselines, n_steps=8), network
    )
    pixels = images.clone().requires_grad_()
    expected = IntegratedGradients(network).attribute(pixels, baselines, target, n_steps=8).sum(1)
    with torch.inference_mode():  # as a caller may be
        heat = method(images, target)
    torch.testing.assert_close(heat, expected.detach())


def test_what_is_no_map_of_the_image_is_refused(network, images):
    layer = LayerActivation(network, network.network[0])
    method = CaptumMethod(lambda pixels, target: layer.attribute(pixels), network)
    with pytest.raises(InputError, match="layer attributions are not maps of the image"):
        method(images, 0)


def test_feature_mask_is_captums_own(network, images):
    """The bare line, without our class: the mask is what captum's documentation asks for."""
    seg = naspix.NAS(network, levels=(0, 1), n_clusters=3)(images[:1])
    heat = FeatureAblation(network).attribute(images[:1], target=1, feature_mask=seg.feature_mask)
    for region in range(int(seg.n_superpixels[0])):
        inside = seg.superpixels == region
        hidden = images[:1].masked_fill(inside[:, None], 0.0)
        drop = network(images[:1])[0, 1] - network(hidden)[0, 1]
        torch.testing.assert_close(heat[0, 0][inside[0]], drop.expand(int(inside.sum())))
