"""Occlusion, LIME and KernelSHAP: closed forms on additive models, captum's and lime's own."""

import dataclasses

import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge
from torch import Tensor, nn

import naspix
from naspix.errors import InputError
from naspix.saliency import LIME, KernelSHAP, Occlusion

SIZE = (12, 16)
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
GRID = naspix.Grid(n_segments=12)


def _wrapped(network: nn.Module) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=MEAN, std=STD, input_size=SIZE)


@pytest.fixture
def additive() -> naspix.Classifier:
    """Linear in the pixels: a superpixel's share is the sum of weight times standardised value."""
    return _wrapped(nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 16, 5)))


@pytest.fixture
def curved() -> naspix.Classifier:
    return _wrapped(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 140, 5))
    )


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE)


def _shares(model: naspix.Classifier, images: Tensor, labels: Tensor, target: int) -> Tensor:
    """Each superpixel's part of an additive score, drawn."""
    weight = model.network[1].weight[target].detach().view(3, *SIZE)
    terms = (weight * model.standardize(images)).sum(1)
    return naspix.superpixelify(terms, labels, reduce="sum")


@pytest.mark.parametrize("method", [Occlusion, KernelSHAP])
def test_an_additive_model_gives_each_superpixels_share(additive, images, method):
    labels = GRID(images).superpixels
    heat = method(additive, segmenter=GRID)(images, 3)
    # KernelSHAP solves in float32 with weights up to 1e6
    torch.testing.assert_close(heat, _shares(additive, images, labels, 3), rtol=1e-3, atol=1e-3)


def test_an_additive_model_gives_lime_its_shares_but_for_the_penalty(additive, images):
    method = LIME(additive, segmenter=GRID, ridge=1e-6, n_samples=200)
    expected = _shares(additive, images, GRID(images).superpixels, 3)
    torch.testing.assert_close(method(images, 3), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [Occlusion, LIME, KernelSHAP])
def test_superpixels_that_do_not_matter_get_nothing_and_equals_get_the_same(method):
    class Two(nn.Module):
        """Looks at two superpixels, symmetrically."""

        def forward(self, x: Tensor) -> Tensor:
            left, right = x[:, 0, :4, :4].mean((1, 2)), x[:, 0, 8:, 12:].mean((1, 2))
            both = left * right + left + right
            return torch.stack([both, -both], 1)

    heat = method(_wrapped(Two()), segmenter=GRID)(torch.ones(1, 3, *SIZE), 0)[0]
    seen = torch.zeros(SIZE, dtype=torch.bool)
    seen[:4, :4] = seen[8:, 12:] = True
    # 3 after standardisation: 9 + 3 + 3, of which hiding one takes 12, and Shapley gives 7.5 each.
    # KernelSHAP and LIME sample, so that their values are noisy; LIME's are no closed form
    loose = {"Occlusion": 1e-4, "KernelSHAP": 0.5, "LIME": 1.0}[method.__name__]
    expected = {"Occlusion": 12.0, "KernelSHAP": 7.5, "LIME": 8.5}[method.__name__]
    assert (heat[~seen].abs() < loose).all()
    assert ((heat[seen] - expected).abs() < loose).all()


def test_kernel_shap_is_complete(curved, images):
    heat = KernelSHAP(curved, segmenter=GRID, n_samples=500)(images, 1)
    labels = GRID(images).superpixels
    totals = [
        sum(float(one[numbers == i].mean()) for i in range(int(numbers.max()) + 1))
        for one, numbers in zip(heat, labels, strict=True)
    ]
    hidden = curved.mean.expand_as(images)
    difference = (curved(images) - curved(hidden))[:, 1]
    np.testing.assert_allclose(totals, difference.detach().numpy(), rtol=1e-2, atol=1e-3)


def test_lime_is_limes(curved, images):
    """The authors' regression on all choices of 6 superpixels, which ours samples."""
    grid = naspix.Grid(n_segments=6)
    labels = grid(images).superpixels[0]
    n = int(labels.max()) + 1
    choices = torch.tensor([[i >> bit & 1 for bit in range(n)] for i in range(2**n)])
    kept = choices[:, labels][:, None].float()
    hidden = curved.mean
    with torch.no_grad():
        scores = curved(hidden + (images[:1] - hidden) * kept)[:, 2].double().numpy()
    choices = np.vstack([np.ones(n), choices.numpy()])
    scores = np.r_[scores[-1], scores]
    distances = 1 - np.sqrt(choices.mean(1))
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)))
    weights = dict(
        base.explain_instance_with_data(
            choices, scores[:, None], distances, 0, n, model_regressor=Ridge(alpha=1e-6)
        )[1]
    )
    heat = LIME(curved, segmenter=grid, n_samples=4000, ridge=1e-6)(images[:1], 2)[0]
    expected = np.array([weights[i] for i in range(n)])
    ours = np.array([float(heat[labels == i].mean()) for i in range(n)])
    # ours are sampled: noise of the curvature over the root of 4000
    assert np.corrcoef(ours, expected)[0, 1] > 0.99
    np.testing.assert_allclose(ours, expected, atol=0.1 * np.abs(expected).max())


def _by_captum(kind, model, images, target, mask, **settings):
    """A captum attribution of superpixels, drawn from the process' generator seeded by 0."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = kind(model).attribute(
            images,
            target=target,
            baselines=model.mean.expand_as(images).contiguous(),
            feature_mask=mask[:, None],
            perturbations_per_eval=8,
            **settings,
        )
    return found[:, 0]


def test_lime_and_kernel_shap_are_captums(curved, images):
    """The same draws and the same regressions, but for captum's in single precision."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import KernelShap, Lime

    def similarity(whole, hidden, kept, **_):
        return float(np.exp(-((1 - float(kept.float().mean()) ** 0.5) ** 2) / (2 * 0.25**2)))

    def lime(model):
        return Lime(model, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=similarity)

    labels = GRID(images).superpixels
    for kind, ours in ((lime, LIME), (KernelShap, KernelSHAP)):
        heat = ours(curved, segmenter=GRID, n_samples=80)(images[:1], 2)
        expected = _by_captum(kind, curved, images[:1], 2, labels[:1], n_samples=80)
        torch.testing.assert_close(heat, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 4), (12, 7)])
def test_occlusion_is_captums(curved, images, window, stride):
    """Also where the windows' strides do not end at the border."""
    from captum.attr import FeatureAblation
    from captum.attr import Occlusion as CaptumOcclusion

    with torch.no_grad():
        expected = CaptumOcclusion(curved).attribute(
            images,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=curved.mean.expand_as(images).contiguous(),
            target=2,
        )[:, 0]
    heat = Occlusion(curved, window=window, stride=stride)(images, 2)
    torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-5)
    labels = GRID(images).superpixels
    whole = _by_captum(FeatureAblation, curved, images[:1], 2, labels[:1])
    torch.testing.assert_close(
        Occlusion(curved, segmenter=GRID)(images[:1], 2), whole, rtol=1e-4, atol=1e-5
    )


def test_occlusion_by_windows_taken_literally(curved, images):
    heat = Occlusion(curved, window=4, stride=2)(images, 2)
    total, count = torch.zeros(2, *SIZE), torch.zeros(SIZE)
    with torch.no_grad():
        whole = curved(images)[:, 2]
        for top in range(0, SIZE[0] - 2, 2):
            for left in range(0, SIZE[1] - 2, 2):
                part = slice(top, top + 4), slice(left, left + 4)
                hidden = images.clone()
                hidden[:, :, *part] = curved.mean
                total[:, *part] += (whole - curved(hidden)[:, 2])[:, None, None]
                count[*part] += 1
    torch.testing.assert_close(heat, total / count, rtol=1e-4, atol=1e-5)


def test_occlusion_of_one_pixel_finds_it():
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, 7, 3], -x[:, 0, 7, 3]], 1)

    heat = Occlusion(_wrapped(One()), window=1)(torch.ones(1, 3, *SIZE), 0)
    expected = torch.zeros(1, *SIZE)
    expected[0, 7, 3] = 3.0
    torch.testing.assert_close(heat, expected)


@pytest.mark.parametrize(
    "method",
    [
        lambda model: Occlusion(model),
        lambda model: Occlusion(model, segmenter=GRID),
        lambda model: LIME(model, n_samples=30),
        lambda model: KernelSHAP(model, n_samples=30),
    ],
)
def test_batches_seeds_and_the_callers_randomness(curved, images, method):
    method = method(curved)
    state = torch.get_rng_state()
    together = method(images, 2)
    assert torch.equal(torch.get_rng_state(), state)
    alone = torch.cat([method(image[None], 2) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    small = dataclasses.replace(method, batch_size=3)
    torch.testing.assert_close(together, small(images, 2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [LIME, KernelSHAP])
def test_another_seed_draws_other_samples(curved, images, method):
    first = method(curved, n_samples=30)
    assert not torch.equal(first(images), dataclasses.replace(first, seed=1)(images))


def test_an_out_of_memory_halves_the_batch(curved, images):
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = curved.network

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.inner(x)

    heat = LIME(_wrapped(Small()), n_samples=30)(images, 1)
    torch.testing.assert_close(heat, LIME(curved, n_samples=30)(images, 1), rtol=1e-3, atol=1e-4)


def test_one_superpixel_has_it_all(curved, images):
    heat = KernelSHAP(curved, segmenter=naspix.Grid(n_segments=1))(images, 1)
    difference = (curved(images) - curved(curved.mean.expand_as(images)))[:, 1]
    expected = difference.detach()[:, None, None].expand_as(heat)
    torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-5)


def test_what_is_refused(curved, images):
    with pytest.raises(InputError, match=r"^Occlusion: a window of 13 pixels is larger"):
        Occlusion(curved, window=13)(images)
    with pytest.raises(InputError, match=r"^Occlusion: a stride of 5"):
        Occlusion(curved, window=4, stride=5)
    with pytest.raises(InputError, match=r"^LIME: n_samples"):
        LIME(curved, n_samples=0)
    with pytest.raises(InputError, match=r"^LIME: kernel_width"):
        LIME(curved, kernel_width=0.0)
    with pytest.raises(InputError, match=r"^KernelSHAP: there is no class 5"):
        KernelSHAP(curved)(images, 5)
