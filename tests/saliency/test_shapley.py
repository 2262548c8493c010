"""Shapley values: captum's and shap's where all coalitions can be had, and the axioms."""

import dataclasses
import itertools
import warnings

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.saliency.shapley import Shapley

with warnings.catch_warnings():
    # shap makes its colours by functions that matplotlib is about to deprecate
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    import shap

SIZE = (12, 16)


def _wrapped(network: nn.Module) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], input_size=SIZE)


@pytest.fixture
def model() -> naspix.Classifier:
    network = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 96, 5))
    with torch.no_grad():
        network[-1].weight *= 5
    return _wrapped(network)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE)


def _grid(n: int) -> naspix.Grid:
    return naspix.Grid(n_segments=n)


def _difference(model: naspix.Classifier, images: Tensor, target: int) -> Tensor:
    with torch.no_grad():
        return (model(images) - model(model.mean.expand_as(images)))[:, target]


def test_equals_captums(model, images):
    mask = _grid(4)(images).feature_mask
    assert int(mask.max()) >= 3
    heat = Shapley(model, segmenter=_grid(4))(images, 3)
    for index in range(2):
        expected = captum.attr.ShapleyValues(lambda x: model(x)[:, 3]).attribute(
            images[index : index + 1],
            baselines=model.mean.expand(1, 3, *SIZE),
            feature_mask=mask[index : index + 1],
        )
        torch.testing.assert_close(heat[index], expected[0, 0].detach(), rtol=1e-4, atol=1e-5)


def test_equals_shaps(model, images):
    labels = _grid(6)(images).superpixels[0]
    n = int(labels.max()) + 1

    def game(choices: np.ndarray) -> np.ndarray:
        kept = torch.from_numpy(choices.astype(bool))[:, labels][:, None]
        with torch.no_grad():
            return model(torch.where(kept, images[:1], model.mean))[:, 2].double().numpy()

    explainer = shap.explainers.Exact(game, shap.maskers.Independent(np.zeros((1, n))))
    (found,) = Shapley(model, segmenter=_grid(6)).values(images[:1], 2)
    np.testing.assert_allclose(found.values, explainer(np.ones((1, n))).values[0], atol=1e-5)
    assert found.n_coalitions == 2**n
    assert not found.standard_error.any()


@pytest.mark.parametrize("max_exact", [12, 0])
def test_values_sum_to_the_scores_difference(model, images, max_exact):
    method = Shapley(model, segmenter=_grid(9), max_exact=max_exact)
    totals = torch.stack([each.values.sum() for each in method.values(images, 1)])
    expected = _difference(model, images, 1).double()
    torch.testing.assert_close(totals, expected, rtol=1e-4, atol=1e-5)


def test_the_superpixels_that_matter_share_equally_and_the_others_get_nothing():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            both = x[:, 0, 0, 0] * x[:, 0, -1, -1]
            return torch.stack([both, -both], 1)

    grid = _grid(4)
    images = torch.ones(1, 3, *SIZE)
    labels = grid(images).superpixels[0]
    for max_exact in (12, 0):  # each order gives all to one: pairs of orders give each a half
        heat = Shapley(_wrapped(Two()), segmenter=grid, max_exact=max_exact)(images, 0)[0]
        for label in range(int(labels.max()) + 1):
            matters = label in (labels[0, 0], labels[-1, -1])
            # 3 * 3 after standardisation
            torch.testing.assert_close(
                heat[labels == label].mean(), torch.tensor(4.5 if matters else 0.0)
            )


def test_sampling_comes_to_the_exact_values_within_its_standard_error(model, images):
    exact = Shapley(model, segmenter=_grid(9)).values(images, 1)
    method = Shapley(model, segmenter=_grid(9), max_exact=0, n_pairs=60)
    for truth, found in zip(exact, method.values(images, 1), strict=True):
        off = (found.values - truth.values).abs() / found.standard_error
        assert (off < 4).all()  # of t distributed values
        assert 0.3 < off.square().mean().sqrt() < 2
        assert found.standard_error.max() < 0.2 * truth.values.abs().max()


def test_each_coalition_is_asked_for_once(images):
    seen = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.extend(image.numpy().tobytes() for image in x)
            return x.mean((2, 3))

    model = _wrapped(Watched())
    for method in (
        Shapley(model, segmenter=_grid(6)),
        Shapley(model, segmenter=_grid(6), max_exact=0, n_pairs=30, batch_size=7),
    ):
        model.n_classes  # noqa: B018  (asks the network once)
        seen.clear()
        (found,) = method.values(images[:1], 0)
        assert len(seen) == len(set(seen)) == found.n_coalitions


def test_batches_seeds_and_sizes(model, images):
    method = Shapley(model, n_pairs=3)  # SLIC: more superpixels than can be enumerated
    together = method(images, 2)
    for image, heat in itertools.zip_longest(images, together):
        torch.testing.assert_close(method(image[None], 2)[0], heat, rtol=1e-4, atol=1e-5)
    small = dataclasses.replace(method, batch_size=5)(images, 2)
    torch.testing.assert_close(small, together, rtol=1e-4, atol=1e-5)
    assert not torch.equal(dataclasses.replace(method, seed=1)(images, 2), together)


def test_contrasts(model, images):
    method = Shapley(model, segmenter=_grid(5))
    torch.testing.assert_close(
        method(images, naspix.Contrast(1, 3)),
        method(images, 1) - method(images, 3),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_is_refused(model, images):
    with pytest.raises(InputError, match=r"^Shapley: n_pairs is at least 2"):
        Shapley(model, n_pairs=1)
    with pytest.raises(InputError, match=r"^Shapley: there is no class 9"):
        Shapley(model)(images, 9)
    with torch.no_grad():
        model.network[-1].bias.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"^Shapley: "):
        Shapley(model, segmenter=_grid(2))(images, 0)
