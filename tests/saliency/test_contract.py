"""What holds for every saliency method of the registry."""

import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError
from naspix.registry import SALIENCY
from naspix.saliency import SaliencyMethod


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


@pytest.fixture
def network() -> nn.Module:
    return _Network()


@pytest.fixture(params=SALIENCY)
def method(request, network) -> SaliencyMethod:
    model = naspix.wrap_model(
        network, mean=[0.5] * 3, std=[0.3] * 3, input_size=(12, 10), levels=["first", "second"]
    )
    return SALIENCY[request.param](model)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 12, 10)


def test_shape_and_protocol(method, images):
    assert isinstance(method, SaliencyMethod)
    heat = method(images)
    assert heat.shape == (3, 12, 10)
    assert heat.dtype == images.dtype
    assert not heat.requires_grad


def test_targets(method, images):
    predicted = method.model(images).argmax(1)
    torch.testing.assert_close(method(images), method(images, predicted))
    torch.testing.assert_close(method(images, 2), method(images, torch.tensor([2, 2, 2])))
    assert not torch.equal(method(images, 2), method(images, 3))


@pytest.mark.parametrize("target", [6, -1, torch.tensor([0, 1, 9]), torch.tensor([0, 1])])
def test_targets_out_of_range(method, images, target):
    with pytest.raises(InputError, match=f"^{type(method).__name__}: "):
        method(images, target)


def test_images_out_of_range(method, images):
    with pytest.raises(InputError, match="0 to 255"):
        method(images * 255)


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


def test_repr_says_what_made_it(method):
    assert repr(method).startswith(f"{type(method).__name__}(model=")
    assert len(repr(method)) < 400
