"""What holds for every saliency method of the registry.

On a network of a few hundred weights and with few samples: what is shown does not depend on either.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.registry import SALIENCY
from naspix.saliency import SaliencyMethod

SIZE = (12, 10)
FEW = {
    "integrated_gradients": {"n_steps": 8, "tolerance": 0.2},
    "smoothgrad": {"n_samples": 6},
    "rise": {"n_masks": 40},
    "relax": {"n_masks": 40},
    "xrai": {"n_steps": 6, "segmenter": naspix.Grid(n_segments=12), "min_pixels": 5},
    "lime": {"n_samples": 60, "segmenter": naspix.Grid(n_segments=12)},
    "kernel_shap": {"n_samples": 60, "segmenter": naspix.Grid(n_segments=12)},
    "shapley": {"n_pairs": 3, "max_exact": 6, "segmenter": naspix.Grid(n_segments=12)},
}
OF_A_CLASS = [name for name, kind in SALIENCY.items() if kind.asks_class]
SEEDED = [name for name, kind in SALIENCY.items() if "seed" in kind.__dataclass_fields__]


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(inplace=True), nn.Dropout())
        self.head = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


class _Attending(_Network):
    """The same parts, and attention over 6 x 5 patches between them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(8, 8, 2, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        nn.init.normal_(self.attention.in_proj_weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(self.first(x))
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        maps = tokens.transpose(1, 2).unflatten(2, patches.shape[2:])
        return self.head(self.second(maps).mean((2, 3)))


@pytest.fixture
def network(request) -> nn.Module:
    callspec = getattr(request.node, "callspec", None)
    attends = callspec is not None and "attention_rollout" in callspec.params.values()
    return _Attending() if attends else _Network()


def _model(network: nn.Module) -> naspix.Classifier:
    return naspix.wrap_model(
        network, mean=[0.5] * 3, std=[0.3] * 3, input_size=SIZE, levels=["first", "second"]
    )


def _method(name: str, network: nn.Module) -> SaliencyMethod:
    return SALIENCY[name](_model(network), **FEW.get(name, {}))


@pytest.fixture(params=SALIENCY)
def method(request, network) -> SaliencyMethod:
    return _method(request.param, network)


@pytest.fixture
def target(method) -> int | None:
    """A class, where the map is of one."""
    return 2 if method.asks_class else None


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, *SIZE)


@pytest.mark.parametrize("name", SALIENCY)
def test_settings_for_a_first_look(name, network, images):
    kind = SALIENCY[name]
    assert kind(_model(network), **kind.quick)(images[:1]).shape == (1, *SIZE)


def test_shape_and_protocol(method, images):
    assert isinstance(method, SaliencyMethod)
    heat = method(images)
    assert heat.shape == (3, *SIZE)
    assert heat.dtype == images.dtype
    assert heat.device == images.device
    assert not heat.requires_grad
    assert torch.equal(heat, method(images))


@pytest.mark.parametrize("method", OF_A_CLASS, indirect=True)
def test_targets(method, images):
    predicted = method.model(images).argmax(1)
    torch.testing.assert_close(method(images), method(images, predicted))
    torch.testing.assert_close(method(images, 2), method(images, torch.tensor([2, 2, 2])))
    assert not torch.equal(method(images, 2), method(images, 3))


@pytest.mark.parametrize("target", [6, -1, torch.tensor([0, 1, 9]), torch.tensor([0, 1]), (0, 5)])
def test_targets_out_of_range(method, images, target):
    with pytest.raises(InputError, match=f"^{type(method).__name__}: "):
        method(images, target)


def test_images_out_of_range(method, images):
    with pytest.raises(InputError, match=f"^{type(method).__name__}: .*0 to 255"):
        method(images * 255)
    images[1, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match=f"^{type(method).__name__}: .*(NaN|finite)"):
        method(images)


def test_scores_that_are_not_finite(method, network, images, target):
    broken = network.head if method.asks_class else network.first[0]
    with torch.no_grad():
        broken.weight[2] = torch.nan
    with pytest.raises(ModelError, match=f"^{type(method).__name__}: .* not finite"):
        method(images, target)


def test_batch_equals_one_by_one(method, images):
    together = method(images)
    alone = torch.cat([method(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_under_the_callers_modes(method, images):
    expected = method(images)
    with torch.no_grad():
        torch.testing.assert_close(method(images), expected)
    with torch.inference_mode():
        torch.testing.assert_close(method(images.clone()), expected)


def test_under_the_callers_default_type(method, images, target):
    """Another type of new tensors changes neither what is drawn nor how it is computed."""
    expected = method(images, target)
    torch.set_default_dtype(torch.float64)
    try:
        found = method(images, target)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_frozen_network(method, network, images):
    expected = method(images)
    network.requires_grad_(False)
    torch.testing.assert_close(method(images), expected)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(method, network, images, training):
    network.train(training)
    network.first.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    method(images)
    assert [m.training for m in network.second] == [training] * 3
    assert not network.first.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in network.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("method", SEEDED, indirect=True)
def test_a_seed_is_a_seed_in_every_thread(method, images, target):
    """Two threads on one network draw the same, and leave the caller's random numbers alone."""
    expected = method(images, target)
    torch.manual_seed(7)
    alone = [float(torch.rand(())) for _ in range(300)]
    with ThreadPoolExecutor(2) as pool:
        torch.manual_seed(7)
        asked = [pool.submit(method, images, target) for _ in range(4)]
        drawn = [float(torch.rand(())) for _ in range(100)]
        found = [each.result() for each in asked]
        drawn += [float(torch.rand(())) for _ in range(200)]
    for heat in found:
        torch.testing.assert_close(heat, expected)
    assert drawn == alone


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_draws_something_else(name, network, images):
    kind, model = SALIENCY[name], _model(network)
    target = 2 if kind.asks_class else None
    one, other = (kind(model, **FEW.get(name, {}), seed=seed)(images, target) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_repr_says_what_made_it(method):
    assert repr(method).startswith(f"{type(method).__name__}(model=")
    assert len(repr(method)) < 400
