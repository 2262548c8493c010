"""Quantus' own metrics run on our methods, pooled or not."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

import naspix
from naspix.errors import InputError
from naspix.interop.quantus import ExplainFunc
from naspix.saliency import GradCAM, IntegratedGradients, VanillaGradient

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import quantus

pytestmark = pytest.mark.filterwarnings("ignore")  # Quantus' own, many


@pytest.fixture
def batch(network, images) -> tuple[np.ndarray, np.ndarray]:
    return images.numpy(), network(images).argmax(1).numpy()


def _pooled(model: naspix.Classifier) -> naspix.NAS:
    return naspix.NAS(model, levels=(0, 1), n_clusters=3)


def test_maps_are_the_methods_own(network, images, batch):
    x, y = batch
    raw = ExplainFunc(VanillaGradient)(model=network, inputs=x, targets=y, device="cpu")
    expected = VanillaGradient(network)(images, torch.from_numpy(y))
    np.testing.assert_allclose(raw[:, 0], expected.numpy())
    pooled = ExplainFunc(VanillaGradient, _pooled)(model=network, inputs=images, targets=y)
    labels = _pooled(network)(images).superpixels
    np.testing.assert_allclose(pooled[:, 0], naspix.superpixelify(expected, labels), rtol=1e-6)


@pytest.mark.parametrize("segmenter", [None, _pooled, lambda model: naspix.SLIC(n_segments=6)])
@pytest.mark.parametrize(
    "metric",
    [
        partial(quantus.PixelFlipping, features_in_step=24 * 3, perturb_baseline="mean"),
        partial(quantus.RegionPerturbation, patch_size=6, regions_evaluation=4),
        partial(quantus.MaxSensitivity, nr_samples=2),
        quantus.Sparseness,
    ],
    ids=["pixel flipping", "region perturbation", "max sensitivity", "sparseness"],
)
def test_metrics_run(network, batch, metric, segmenter):
    x, y = batch
    scores = metric(disable_warnings=True, display_progressbar=False)(
        model=network,
        x_batch=x,
        y_batch=y,
        a_batch=None,
        device="cpu",
        explain_func=ExplainFunc(GradCAM, segmenter),
    )
    assert len(scores) == 2
    assert np.isfinite(np.asarray(scores, dtype=float)).all()


def test_pixel_flipping_is_what_quantus_computes_from_the_arrays(network, batch):
    """The metric gets from our function what it would get from the maps themselves."""
    x, y = batch
    explain = ExplainFunc(partial(IntegratedGradients, n_steps=8, tolerance=10.0))
    settings = {"features_in_step": 24 * 6, "disable_warnings": True, "perturb_baseline": "black"}
    given = {"model": network, "x_batch": x, "y_batch": y, "device": "cpu"}
    by_function = quantus.PixelFlipping(**settings)(a_batch=None, explain_func=explain, **given)
    maps = explain(model=network, inputs=x, targets=y)
    by_arrays = quantus.PixelFlipping(**settings)(a_batch=maps, **given)
    np.testing.assert_allclose(by_function, by_arrays, rtol=1e-5)


def test_randomised_models_are_the_ones_explained(network, batch):
    """MPRT hands over copies with new weights, which a method bound to one would miss."""
    x, y = batch
    scores = quantus.MPRT(
        disable_warnings=True, display_progressbar=False, return_average_correlation=True
    )(
        model=network,
        x_batch=x,
        y_batch=y,
        a_batch=None,
        device="cpu",
        explain_func=ExplainFunc(VanillaGradient),
    )
    values = np.asarray(scores, dtype=float)
    assert np.isfinite(values).all()
    assert (values < 0.95).all()


def test_another_module_is_refused(images):
    with pytest.raises(InputError, match="a naspix Classifier, not Linear"):
        ExplainFunc(GradCAM)(model=torch.nn.Linear(2, 2), inputs=images, targets=[0, 0])
