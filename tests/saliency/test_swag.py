"""SWAG: gradients averaged over superpixels, by SciPy and scikit-image themselves."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from skimage.segmentation import slic
from torch import Tensor, nn

import naspix
from naspix.errors import InputError
from naspix.saliency.swag import SWAG

SIZE = (40, 48)


@pytest.fixture
def model() -> naspix.Classifier:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 5)
    )
    return naspix.wrap_model(network, mean=[0.5] * 3, std=[0.3] * 3, input_size=SIZE)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE)


def _gradients(model: naspix.Classifier, images: Tensor, target: int) -> Tensor:
    images = images.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(model(images)[:, target].sum(), images)
    return gradients.abs().sum(1)


def _means(heat: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return scipy.ndimage.mean(heat, labels, np.arange(labels.max() + 1))[labels]


def test_any_segmenter(model, images):
    segmenter = naspix.Felzenszwalb(scale=20)
    heat = SWAG(model, segmenter=segmenter)(images, 2)
    labels, gradients = segmenter(images).superpixels.numpy(), _gradients(model, images, 2)
    for index in range(2):
        expected = _means(gradients[index].numpy(), labels[index])
        np.testing.assert_allclose(heat[index].numpy(), expected, rtol=1e-5)


def test_on_colors_alone_the_superpixels_are_slics(model, images):
    heat = SWAG(model, follow="image", n_segments=20)(images, 1)
    gradients = _gradients(model, images, 1)
    for index, image in enumerate(images):
        # SLIC changes colours to Lab in float32 there, and is given them here
        labels = slic(image.permute(1, 2, 0).numpy(), n_segments=20, start_label=0)
        np.testing.assert_allclose(heat[index], _means(gradients[index].numpy(), labels), rtol=1e-4)


@pytest.mark.parametrize("follow", ["gradients", "image+gradients"])
def test_superpixels_follow_gradients(model, follow):
    """On a plain image only the gradients can draw a border: here around a quadrant."""
    images = torch.full((1, 3, *SIZE), 0.5)
    given = torch.zeros(1, *SIZE)
    given[:, 8:29, 13:35] = 1.0
    method = SWAG(model, follow=follow, gradients=lambda *_: given, n_segments=12)
    assert torch.equal(method(images, 0), given)
    on_colors = SWAG(model, follow="image", gradients=lambda *_: given, n_segments=12)
    assert not torch.equal(on_colors(images, 0), given)


def test_contrasts_reach_the_gradients(model, images):
    linear = SWAG(
        model, segmenter=naspix.Grid(), gradients=naspix.saliency.IntegratedGradients(model)
    )
    difference = linear(images, 2) - linear(images, 3)
    # as exact as the integrals' sums
    torch.testing.assert_close(
        linear(images, naspix.Contrast(2, 3)), difference, rtol=0.05, atol=1e-5
    )


def test_grey_images():
    network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    model = naspix.wrap_model(network, mean=[0.5], std=[0.3], input_size=(12, 12))
    assert SWAG(model)(torch.rand(1, 1, 12, 12)).shape == (1, 12, 12)


def test_what_is_refused(model, images):
    with pytest.raises(InputError, match=r"^SWAG: the gradients have shape \(2, 3\)"):
        SWAG(model, gradients=lambda *_: torch.zeros(2, 3))(images)
    with pytest.raises(InputError, match=r"^SWAG: n_segments"):
        SWAG(model, n_segments=0)
