"""RISE against the authors' definition taken literally, closed forms, and its own promises."""

import dataclasses

import numpy as np
import pytest
import torch
from skimage.transform import resize
from torch import Tensor, nn

import naspix
from naspix.errors import DeviceError, InputError, NaspixWarning
from naspix.saliency.rise import RISE, draw_masks, make_masks

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def _wrapped(network: nn.Module, size=(24, 20)) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=MEAN, std=STD, input_size=size)


def _literal_masks(grids: np.ndarray, shifts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The authors' ``generate_masks`` for given random numbers."""
    s = grids.shape[1]
    cell_size = np.ceil(np.array(size) / s)
    up_size = (s + 1) * cell_size
    masks = np.empty((len(grids), *size))
    for i, (x, y) in enumerate(shifts):
        upsampled = resize(
            grids[i].astype(float), up_size, order=1, mode="reflect", anti_aliasing=False
        )
        masks[i] = upsampled[x : x + size[0], y : y + size[1]]
    return masks


class _Curved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 5, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return 8 * self.head(self.convolution(x).relu().mean((2, 3)))


class _Pixels(nn.Module):
    """Two classes, whose log-odds grow with the mean of the red channel in a window.

    Images of ones are 3 after standardisation; half hidden they are near 1.5, even odds.
    """

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.window = rows, columns
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        score = 4 * (x[:, 0][:, *self.window].mean((1, 2)) - 1.5)
        return torch.stack([score, torch.zeros_like(score)], 1)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 24, 20)


@pytest.mark.parametrize(
    ("cells", "size"), [(8, (32, 32)), (7, (24, 20)), (3, (10, 31)), (1, (4, 4))]
)
def test_masks_are_the_authors(cells, size):
    grids, shifts = draw_masks(20, cells, 0.5, size, seed=3)
    assert (shifts >= 0).all()
    assert (shifts < torch.tensor([-(-side // cells) for side in size])).all()
    expected = _literal_masks(grids.numpy(), shifts.numpy(), size)
    # ours are float32
    np.testing.assert_allclose(make_masks(grids, shifts, size).numpy(), expected, atol=1e-5)


def test_shifts_and_cells_take_every_value_as_often():
    grids, shifts = draw_masks(4000, 5, 0.3, (20, 35), seed=0)
    # the standard error of the mean of 100,000 cells is 0.0015
    assert abs(grids.float().mean() - 0.3) < 0.006
    for axis, cell in enumerate((4, 7)):
        counts = torch.bincount(shifts[:, axis], minlength=cell)
        assert len(counts) == cell
        # five standard deviations of a binomial
        assert (counts - 4000 / cell).abs().max() < 5 * (4000 / cell) ** 0.5


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_map_is_the_authors(images, p):
    """``explanations.RISE.forward`` on the standardised image: hidden is zero there."""
    network = _Curved()
    n_masks = 150  # more than a round
    method = RISE(_wrapped(network), n_masks=n_masks, cells=4, p=p, seed=9, batch_size=7)
    grids, shifts = draw_masks(n_masks, 4, p, (24, 20), seed=9)
    masks = torch.from_numpy(_literal_masks(grids.numpy(), shifts.numpy(), (24, 20))).float()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    heats = method(images, torch.tensor([1, 4]))
    for image, target, heat in zip(images, (1, 4), heats, strict=True):
        stack = masks[:, None] * ((image - mean) / std)
        with torch.no_grad():
            probabilities = network(stack).softmax(1)
        saliency = probabilities.T @ masks.flatten(1)
        expected = saliency.view(5, 24, 20)[target] / n_masks / p
        torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-6)


def test_a_network_of_one_pixel():
    """The map is the covariance of the masks with that pixel: largest there."""
    images = torch.ones(1, 3, 24, 20)
    model = _wrapped(_Pixels(slice(9, 10), slice(14, 15)))
    heat = RISE(model, n_masks=1500, cells=6)(images, 0)[0]
    row, column = divmod(int(heat.argmax()), 20)
    # a cell has 4 x 4 pixels, within which masks hardly differ
    assert abs(row - 9) <= 2
    assert abs(column - 14) <= 2


def test_a_network_of_one_quadrant():
    images = torch.ones(1, 3, 24, 20)
    heat = RISE(_wrapped(_Pixels(slice(12, 24), slice(0, 10))), n_masks=1000)(images, 0)[0]
    inside = heat[13:23, 1:9]
    outside = torch.cat([heat[:10].flatten(), heat[:, 13:].flatten()])
    assert inside.min() > outside.max()


def test_a_network_that_sees_nothing_gives_the_probability(images):
    """Expected: p(class) * E[mask] / p = p(class), up to the noise of the masks alone."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 20, 4))
    nn.init.zeros_(network[1].weight)
    method = RISE(_wrapped(network), n_masks=2000)
    estimate = method.estimate(images, 2)
    probability = network[1].bias.softmax(0)[2].detach()
    # five standard errors in each of 960 pixels
    assert ((estimate.map - probability).abs() < 5 * estimate.standard_error).all()


def test_standard_error_is_that_of_the_mean(images):
    """The spread of independent runs is what one run says of itself."""
    method = RISE(_wrapped(_Curved()), n_masks=200, cells=4)
    estimates = [dataclasses.replace(method, seed=seed).estimate(images, 1) for seed in range(40)]
    maps = torch.stack([estimate.map for estimate in estimates])
    said = torch.stack([estimate.standard_error.square() for estimate in estimates]).mean(0).sqrt()
    # over all pixels; a variance from 40 runs is known to a fifth, and pixels are correlated
    ratio = (maps.var(0).mean() / said.square().mean()).sqrt()
    assert 0.75 < ratio < 1.3


def test_running_variance_is_the_variance(images):
    model = _wrapped(_Curved())
    method = RISE(model, n_masks=300, cells=4)
    grids, shifts = draw_masks(300, 4, 0.5, (24, 20), seed=0)
    masks = make_masks(grids, shifts, (24, 20)).double()
    mean = torch.tensor(MEAN).view(3, 1, 1)
    with torch.no_grad():
        seen = mean + (images[0] - mean) * masks[:, None].float()
        scores = model.probabilities(seen)[:, 3].double()
    expected = (scores[:, None, None] * masks / 0.5).std(0) / 300**0.5
    said = method.estimate(images[:1], 3)
    torch.testing.assert_close(said.standard_error[0].double(), expected, rtol=1e-3, atol=1e-7)
    assert said.n_masks.tolist() == [300]


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_batch_size_changes_nothing(images, batch_size):
    method = RISE(_wrapped(_Curved()), n_masks=140, cells=4, until=0.05)
    with pytest.warns(NaspixWarning):
        expected = method(images)
    with pytest.warns(NaspixWarning):
        heat = dataclasses.replace(method, batch_size=batch_size)(images)
    torch.testing.assert_close(heat, expected, rtol=1e-5, atol=1e-6)


def test_until_stops_each_image_by_itself():
    """A pixel that decides is found sooner than nothing at all."""
    images = torch.stack(
        [torch.ones(3, 24, 20), torch.tensor(MEAN).view(3, 1, 1).expand(3, 24, 20)]
    )
    model = _wrapped(_Pixels(slice(8, 14), slice(8, 14)))
    method = RISE(model, n_masks=1000, cells=4, until=0.1)
    with pytest.warns(NaspixWarning, match=r"after 1000 masks .* 1 of 2"):
        together = method.estimate(images, 0)
    assert together.n_masks[0] < 1000
    assert together.n_masks[1] == 1000
    assert together.relative_error[0] <= 0.1 < together.relative_error[1]
    alone = method.estimate(images[:1], 0)
    assert alone.n_masks[0] == together.n_masks[0]
    torch.testing.assert_close(alone.map[0], together.map[0], rtol=1e-5, atol=1e-6)


def test_seeds(images):
    method = RISE(_wrapped(_Curved()), n_masks=40)
    assert torch.equal(method(images), method(images))
    assert not torch.equal(method(images), dataclasses.replace(method, seed=1)(images))


def test_contrast_is_the_difference(images):
    method = RISE(_wrapped(_Curved()), n_masks=40)
    difference = method(images, 2) - method(images, 0)
    torch.testing.assert_close(
        method(images, naspix.Contrast(2, 0)), difference, rtol=1e-4, atol=1e-6
    )


def test_half_precision(images):
    """bfloat16 keeps 8 bits: maps agree to its rounding."""
    network = _Curved()
    expected = RISE(_wrapped(network), n_masks=60)(images, 1)
    heat = RISE(_wrapped(network.bfloat16()), n_masks=60)(images, 1)
    assert heat.dtype == images.dtype
    torch.testing.assert_close(heat, expected, rtol=0.05, atol=0.02)


def test_an_out_of_memory_halves_the_batch(images):
    class Small(_Curved):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    network = Small()
    heat = RISE(_wrapped(network), n_masks=40, batch_size=32)(images)
    torch.testing.assert_close(
        heat, RISE(_wrapped(network), n_masks=40, batch_size=6)(images), rtol=1e-5, atol=1e-6
    )

    class Tiny(_Curved):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(DeviceError, match="memory"):
        RISE(_wrapped(Tiny()), n_masks=40)(images, 0)


@pytest.mark.parametrize(
    "setting",
    [{"n_masks": 0}, {"cells": 0}, {"p": 0.0}, {"p": 1.5}, {"until": 0.0}, {"batch_size": 0}],
)
def test_settings_out_of_range(setting):
    with pytest.raises(InputError, match=f"^RISE: {next(iter(setting))} "):
        RISE(_wrapped(_Curved()), **setting)
