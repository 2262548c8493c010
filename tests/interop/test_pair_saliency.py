"""XRAI of its authors over NAS regions, and their gradients of our model."""

import numpy as np
import pytest
import saliency.core
import torch

import naspix
from naspix.errors import InputError
from naspix.interop.pair_saliency import AuthorsXRAI, call_model_function, segments


@pytest.fixture
def large() -> torch.Tensor:
    """XRAI leaves out what adds fewer than 50 pixels."""
    return torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def test_segments_cover_the_image_once(large):
    seg = naspix.Grid(n_segments=4)(large)
    masks = segments(seg, 1)
    assert all(mask.dtype == bool and mask.shape == (40, 40) for mask in masks)
    assert (np.sum(masks, 0) == 1).all()


def test_gradients_are_those_of_the_standardised_picture(network, large):
    array = network.standardize(large).permute(0, 2, 3, 1).numpy()
    with torch.inference_mode():
        answer = call_model_function(network, 2)(array, expected_keys=["INPUT_OUTPUT_GRADIENTS"])
    x = network.standardize(large).requires_grad_()
    (expected,) = torch.autograd.grad(network.network(x)[:, 2].sum(), x)
    np.testing.assert_allclose(
        answer["INPUT_OUTPUT_GRADIENTS"], expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(
        answer["OUTPUT_LAYER_VALUES"], network(large)[:, 2].detach(), rtol=1e-5
    )
    with pytest.raises(InputError, match="not CONVOLUTION_LAYER_VALUES"):
        call_model_function(network, 2)(array, expected_keys=["CONVOLUTION_LAYER_VALUES"])


@pytest.mark.parametrize("variant", ["full", "fast"])
def test_theirs_is_ours(network, large, variant):
    """Their package and our XRAI, the same segmenter, the same steps: the same map."""
    grid = naspix.Grid(n_segments=9)
    theirs = AuthorsXRAI(network, grid, variant=variant, n_steps=12)
    ours = naspix.saliency.XRAI(network, segmenter=grid, variant=variant, n_steps=12)
    target = torch.tensor([1, 3])
    a, b = theirs(large, target), ours(large, target)
    assert a.shape == b.shape == (2, 40, 40)
    for one, other in zip(a, b, strict=True):
        assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0.999


def test_their_integrated_gradients_of_our_model(network, large):
    array = network.standardize(large)[0].permute(1, 2, 0).numpy()
    ask = call_model_function(network, 1)
    heat = saliency.core.IntegratedGradients().GetMask(array, ask, x_steps=60, batch_size=20)
    black = np.zeros_like(array)[None]
    scores = [ask(x)["OUTPUT_LAYER_VALUES"][0] for x in (array[None], black)]
    assert heat.sum() == pytest.approx(scores[0] - scores[1], rel=0.05, abs=0.02)


def test_their_own_regions_without_a_segmenter(network):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert AuthorsXRAI(network, n_steps=4)(image, 0).shape == (1, 32, 32)
