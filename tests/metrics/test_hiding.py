"""What hidden pixels show: colours, blurred images, and neighbours' means as a literal loop has."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

import naspix
from naspix.errors import InputError
from naspix.metrics import Blurred, Inpainted
from naspix.metrics.hiding import hider_of

INDEX = torch.tensor([0, 1, 1])


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 13, 11)


@pytest.fixture
def hidden() -> Tensor:
    return torch.rand(3, 13, 11) < 0.6


def _plain(images: Tensor) -> Tensor:
    return images.mean((2, 3))


def _check(hider, images: Tensor, hidden: Tensor, shown: Tensor) -> None:
    found = hider(INDEX, hidden)
    expected = torch.where(hidden[:, None], shown.expand_as(images)[INDEX], images[INDEX])
    torch.testing.assert_close(found, expected)


def test_the_mean_colour_is_the_models_where_it_has_one(images, hidden):
    mean = torch.tensor([0.1, 0.6, 0.9])
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = naspix.wrap_model(network, mean=mean.tolist(), std=[1, 1, 1], input_size=(13, 11))
    for baseline in (None, "mean"):
        _check(hider_of(model, images, baseline), images, hidden, mean.view(1, 3, 1, 1))
        own = images.mean((2, 3), keepdim=True)
        _check(hider_of(_plain, images, baseline), images, hidden, own)


@pytest.mark.parametrize(
    ("baseline", "shown"),
    [
        ("black", torch.zeros(1, 1, 1, 1)),
        (0.25, torch.full((1, 1, 1, 1), 0.25)),
        (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)),
        (torch.full((2, 3, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.5)),
    ],
)
def test_colours(images, hidden, baseline, shown):
    _check(hider_of(_plain, images, baseline), images, hidden, shown)


def test_images_and_functions(images, hidden):
    others = torch.rand_like(images)
    _check(hider_of(_plain, images, others), images, hidden, others)
    _check(hider_of(_plain, images, lambda batch: batch.flip(-1)), images, hidden, images.flip(-1))
    for baseline in ("blurred", Blurred()):
        _check(hider_of(_plain, images, baseline), images, hidden, Blurred()(images))


def test_blurring_is_a_gaussian(images):
    offsets = torch.arange(-2, 3).float()
    weights = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = torch.outer(weights, weights)
    kernel = (kernel / kernel.sum()).expand(3, 1, 5, 5)
    expected = conv2d(pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)
    torch.testing.assert_close(Blurred(kernel=5, sigma=1.5)(images), expected)


def _literal_inpainting(image: np.ndarray, hidden: np.ndarray, sweeps: int, empty) -> np.ndarray:
    _, height, width = image.shape
    filled = image.copy()
    for y, x in np.argwhere(hidden):
        side = 1
        while True:
            side *= 2
            rows, columns = (slice(at // side * side, at // side * side + side) for at in (y, x))
            visible = ~hidden[rows, columns]
            if visible.any():
                filled[:, y, x] = image[:, rows, columns][:, visible].mean(1)
                break
            if side > 2 * max(height, width):
                filled[:, y, x] = empty
                break
    for _ in range(sweeps):
        before = np.pad(filled, ((0, 0), (1, 1), (1, 1)), mode="edge")
        for y, x in np.argwhere(hidden):
            around = [(y, x + 1), (y + 2, x + 1), (y + 1, x), (y + 1, x + 2)]
            filled[:, y, x] = np.mean([before[:, i, j] for i, j in around], axis=0)
    return filled


@pytest.mark.parametrize("sweeps", [0, 3])
def test_inpainting_as_a_literal_loop(images, hidden, sweeps):
    hidden[1] = True
    hidden[2, :9] = True
    found = hider_of(_plain, images, Inpainted(sweeps=sweeps))(INDEX, hidden)
    for i, which in enumerate(INDEX.tolist()):
        image = images[which].double().numpy()
        empty = image.mean((1, 2))
        expected = _literal_inpainting(image, hidden[i].numpy(), sweeps, empty)
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_inpainting_by_name(images, hidden):
    by_name = hider_of(_plain, images, "inpainted")(INDEX, hidden)
    assert torch.equal(by_name, hider_of(_plain, images, Inpainted())(INDEX, hidden))
    # many sweeps leave a smooth image: a plane is its own neighbours' mean
    plane = torch.linspace(0, 1, 11).expand(1, 1, 13, 11).contiguous()
    inner = torch.zeros(1, 13, 11, dtype=torch.bool)
    inner[:, 3:9, 3:8] = True
    found = hider_of(_plain, plane, Inpainted(sweeps=400))(torch.tensor([0]), inner)
    torch.testing.assert_close(found, plane, atol=1e-3, rtol=0)


def test_wrong_baselines_are_refused(images):
    for call, match in [
        (lambda: Blurred(kernel=4), "odd number"),
        (lambda: Blurred(sigma=0), "sigma more than 0"),
        (lambda: Blurred(kernel=27)(images), "too large for images of 13 x 11"),
        (lambda: Inpainted(sweeps=-1), "not be negative"),
        (lambda: hider_of(_plain, images, torch.zeros(2, 3, 5, 5)), "the baseline has the shape"),
    ]:
        with pytest.raises(InputError, match=match):
            call()
