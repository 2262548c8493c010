"""XRAI against the authors' package: the same array, attribution and segments; and all at once."""

import numpy as np
import pytest
import saliency.core
import torch
from saliency.core import xrai as authors
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from skimage.morphology import disk
from torch import Tensor, nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.saliency.growing import grow_regions
from naspix.saliency.xrai import XRAI, _disk, felzenszwalb_masks

SIZE = (60, 72)


class _Curved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 5, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return 8 * self.head((x * x.sigmoid()).mean((2, 3)))


@pytest.fixture
def model() -> naspix.Classifier:
    return naspix.wrap_model(_Curved(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], input_size=SIZE)


@pytest.fixture
def images() -> Tensor:
    """Smooth colours, so that segments of many sizes are found."""
    noise = np.random.default_rng(2).normal(size=(2, *SIZE, 3))
    smooth = gaussian_filter(noise, (0, 5, 5, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return torch.from_numpy(smooth).float().permute(0, 3, 1, 2)


def _attribution(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return gaussian_filter(noise, (3, 3, 0)[: len(shape)])


def _theirs(array, segments, attribution, variant, area_threshold=1.0):
    parameters = saliency.core.XRAIParameters(
        algorithm=variant, area_threshold=area_threshold, return_xrai_segments=True
    )
    return saliency.core.XRAI().GetMaskWithDetails(
        array,
        None,
        segments=segments,
        base_attribution=attribution,
        extra_parameters=parameters,
    )


def _array(model: naspix.Classifier, image: Tensor) -> np.ndarray:
    return model.standardize(image[None])[0].permute(1, 2, 0).numpy()


def test_disk_is_scikit_images():
    assert np.array_equal(_disk(5), disk(5))


@pytest.mark.parametrize("frame", [SIZE, (224, 224), (230, 40)])
def test_segments_are_the_authors(frame):
    array = _attribution((*frame, 3), seed=1).astype(np.float32)
    expected = [np.flatnonzero(mask) for mask in authors._get_segments_felzenszwalb(array)]
    expected = [pixels for pixels in expected if len(pixels)]
    ours = felzenszwalb_masks(array)
    assert len(ours) == len(expected) > 6
    assert all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("area_threshold", [1.0, 0.3])
@pytest.mark.parametrize("variant", ["full", "fast"])
@pytest.mark.parametrize("seed", range(4))
def test_growing_is_the_authors(variant, seed, area_threshold):
    """Same masks and attribution: the same map to float64's rounding, the same order."""
    array = _attribution((*SIZE, 3), seed=seed)
    segments = authors._get_segments_felzenszwalb(array)
    attribution = _attribution((*SIZE, 3), seed=seed + 10)
    theirs = _theirs(array, segments, attribution, variant, area_threshold)
    ours = grow_regions(
        attribution.max(-1),
        [np.flatnonzero(mask) for mask in segments],
        variant=variant,
        area_threshold=area_threshold,
    )
    assert spearmanr(ours.density.ravel(), theirs.attribution_mask.ravel())[0] > 0.999
    np.testing.assert_allclose(ours.density, theirs.attribution_mask, atol=1e-12)
    np.testing.assert_array_equal(ours.ranks, theirs.segments)


def test_growing_leaves_small_and_uncovered_parts_together():
    attribution = np.arange(200.0).reshape(10, 20)
    masks = [np.arange(60), np.arange(40, 100), np.arange(10)]
    segments = [np.isin(np.arange(200).reshape(10, 20), mask) for mask in masks]
    for variant in ("full", "fast"):
        theirs = _theirs(attribution, segments, attribution, variant)
        ours = grow_regions(attribution, masks, variant=variant)
        np.testing.assert_allclose(ours.density, theirs.attribution_mask)
        np.testing.assert_array_equal(ours.ranks, theirs.segments)


def test_growing_without_any_mask_is_the_mean():
    grown = grow_regions(np.array([[1.0, 2.0, 6.0]]), [np.array([0, 1])])
    np.testing.assert_allclose(grown.density, 3.0)
    assert (grown.ranks == 1).all()


@pytest.mark.parametrize("variant", ["full", "fast"])
def test_a_given_attribution_and_segmenter(model, images, variant):
    """What the issue asks: the same array, attribution and segments in, the same map out."""
    segmenter = naspix.SLIC(n_segments=20)
    attribution = torch.from_numpy(np.stack([_attribution(SIZE, seed) for seed in (5, 6)]))
    method = XRAI(
        model,
        attribution=lambda images, target: attribution,
        segmenter=segmenter,
        variant=variant,
    )
    regions = method.regions(images, 1)
    superpixels = segmenter(images).superpixels.numpy()
    for index in range(2):
        labels = superpixels[index]
        segments = [labels == label for label in range(labels.max() + 1)]
        theirs = _theirs(
            _array(model, images[index]),
            segments,
            attribution[index].numpy()[..., None].repeat(3, -1),
            variant,
        )
        np.testing.assert_allclose(
            regions.map[index].numpy(), theirs.attribution_mask, rtol=1e-5, atol=1e-7
        )
        np.testing.assert_array_equal(regions.ranks[index].numpy(), theirs.segments)


@pytest.mark.parametrize("variant", ["full", "fast"])
def test_the_whole_call_is_the_authors(model, images, variant):
    """Array in, map out: their Integrated Gradients, segments and growing, all by themselves."""
    network = model.network.double()
    model.mean, model.std = model.mean.double(), model.std.double()

    def gradients(points, call_model_args=None, expected_keys=None):
        x = torch.from_numpy(points).permute(0, 3, 1, 2).requires_grad_()
        (gradient,) = torch.autograd.grad(network(x)[:, 3].sum(), x)
        return {"INPUT_OUTPUT_GRADIENTS": gradient.permute(0, 2, 3, 1).numpy()}

    method = XRAI(model, variant=variant, n_steps=12, batch_size=5)
    image = images[:1].double()
    ours = method.regions(image, 3)
    parameters = saliency.core.XRAIParameters(
        steps=12, algorithm=variant, return_xrai_segments=True
    )
    theirs = saliency.core.XRAI().GetMaskWithDetails(
        _array(model, image[0]), gradients, extra_parameters=parameters
    )
    assert spearmanr(ours.map[0].ravel(), theirs.attribution_mask.ravel())[0] > 0.999
    # both sum gradients in float32
    np.testing.assert_allclose(ours.map[0], theirs.attribution_mask, rtol=1e-3, atol=1e-7)


def test_several_segmenters_overlap(model, images):
    coarse, fine = naspix.Grid(n_segments=4), naspix.Grid(n_segments=16)
    attribution = torch.zeros(2, *SIZE)
    attribution[:, :15, :18] = 1.0  # one cell of the fine grid
    method = XRAI(model, attribution=lambda *_: attribution, segmenter=(coarse, fine))
    regions = method.regions(images, 0)
    assert (regions.map[:, :15, :18] == 1).all()
    assert (regions.map[:, 15:] == 0).all()
    assert (regions.ranks[:, :15, :18] == 1).all()


def test_attributions_may_have_channels(model, images):
    values = torch.randn(2, 3, *SIZE)
    segmenter = naspix.Grid(n_segments=9)
    with_channels = XRAI(model, attribution=lambda *_: values, segmenter=segmenter)
    reduced = XRAI(model, attribution=lambda *_: values.amax(1), segmenter=segmenter)
    assert torch.equal(with_channels(images), reduced(images))


def test_batch_equals_one_by_one(model, images):
    method = XRAI(model, n_steps=4)
    alone = torch.cat([method(image[None], 2) for image in images])
    torch.testing.assert_close(method(images, 2), alone, rtol=1e-5, atol=1e-6)


def test_a_constant_image_has_a_map(model):
    """The authors' package divides by zero there."""
    assert XRAI(model, n_steps=2)(torch.zeros(1, 3, *SIZE), 0).isfinite().all()


def test_what_is_refused(model, images):
    with pytest.raises(InputError, match=r"^XRAI: the attribution has shape \(1, 60, 72\)"):
        XRAI(model, attribution=lambda *_: torch.zeros(1, *SIZE))(images)
    with pytest.raises(ModelError, match=r"^XRAI: .* not finite"):
        XRAI(model, attribution=lambda *_: torch.full((2, *SIZE), torch.nan))(images)
    grid = naspix.Grid(n_segments=4)
    with pytest.raises(InputError, match=r"^XRAI: the segmenter's superpixels"):
        XRAI(model, n_steps=1, segmenter=lambda images: grid(images[..., :50]))(images)
    for setting in ({"min_pixels": 0}, {"n_steps": 0}, {"area_threshold": 2.0}):
        with pytest.raises(InputError, match=r"^XRAI: "):
            XRAI(model, **setting)
