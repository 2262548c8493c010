"""Classifier and wrap_model: logits from whatever comes back, targets, categories, mode, device."""

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from networks import ConvNet, HubLikeViT
from torch import Tensor, nn

import naspix
from naspix.errors import DeviceError, InputError, ModelError
from naspix.models.asking import evaluating


class Returns(nn.Module):
    """Mean colour through a linear layer, handed over as ``form`` makes it."""

    def __init__(self, form: Any, channels: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(channels, 4)
        self.form = form

    def forward(self, x: Tensor) -> object:
        return self.form(self.head(x.mean((2, 3))))


@pytest.mark.parametrize(
    ("form", "logits"),
    [
        (lambda x: x, None),
        (lambda x: (x, x + 1), None),
        (lambda x: [None, x], None),
        (lambda x: {"aux": x + 1, "logits": x}, None),
        (lambda x: {"out": x}, None),
        (lambda x: SimpleNamespace(logits=x, loss=None), None),
        (lambda x: (x + 1, x), 1),
        (lambda x: {"aux": x + 1, "main": x}, "main"),
        (lambda x: SimpleNamespace(scores=x), "scores"),
        (lambda x: [[x]], lambda output: output[0][0]),
        (lambda x: x[:, :, None, None], None),
    ],
)
def test_logits_are_picked_out_of_any_output(form: Any, logits: Any) -> None:
    network = Returns(form)
    model = naspix.wrap_model(network, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], logits=logits)
    images = torch.rand(2, 3, 6, 5)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]))
    literal = network.head(((images - mean) / std).mean((2, 3)))
    torch.testing.assert_close(model(images), literal)
    assert model.n_classes == 4


@pytest.mark.parametrize(
    ("form", "logits"),
    [
        (lambda x: "text", None),
        (lambda x: x.sum(), None),
        (lambda x: x[:1], None),
        (lambda x: x[:, :, None, None].expand(-1, -1, 3, 3), None),
        (lambda x: {"a": x}, "b"),
        (lambda x: (x,), 3),
    ],
)
def test_no_logits_is_a_sentence(form: Any, logits: Any) -> None:
    model = naspix.wrap_model(Returns(form), logits=logits)
    with pytest.raises(ModelError, match="logits="):
        model(torch.rand(2, 3, 4, 4))


def test_one_logit_a_picture_is_two_directions() -> None:
    images = torch.rand(2, 3, 4, 4)
    network = Returns(lambda x: x[:, 0])
    scores = naspix.wrap_model(network)(images)
    torch.testing.assert_close(scores, torch.stack([-network(images), network(images)], 1))
    assert naspix.wrap_model(network, output="none")(images).shape == (2, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels(channels: int) -> None:
    network = ConvNet(channels)
    model = naspix.wrap_model(network, input_size=(32, 48))
    assert model.in_channels == channels
    assert model.load_images(torch.rand(3, 50, 60)).shape == (1, channels, 32, 48)
    assert model(torch.rand(2, channels, 32, 48)).shape == (2, 4)
    with pytest.raises(InputError, match=f"takes images of {channels} channel"):
        model(torch.rand(2, 4 - channels, 32, 48))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precision(dtype: torch.dtype) -> None:
    reference = ConvNet()
    network = copy.deepcopy(reference).to(dtype)
    model = naspix.wrap_model(network)
    assert model.dtype == dtype
    images = torch.rand(1, 3, 32, 32)
    logits, maps = model(images), model.activations(images, [0, 4])
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wanted = naspix.wrap_model(reference)
    # bfloat16 keeps 8 bits, five layers deep
    torch.testing.assert_close(logits.float(), wanted(images), rtol=0.05, atol=0.02)
    for found, exact in zip(maps, wanted.activations(images, [0, 4]), strict=True):
        assert found.dtype == logits.dtype
        torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.02)


def test_autocast() -> None:
    model = naspix.wrap_model(ConvNet())
    images = torch.rand(1, 3, 32, 32)
    plain = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(images)
        (found,) = model.activations(images, [2])
    assert cast.dtype == found.dtype == torch.float32
    assert not torch.equal(plain, cast)  # autocast did work inside
    torch.testing.assert_close(plain, cast, rtol=0.05, atol=0.02)


def test_data_parallel_is_passed_by_and_not_changed() -> None:
    network = ConvNet()
    wrapped = nn.DataParallel(network)
    model = naspix.wrap_model(wrapped)
    assert model.network is network
    assert model.levels == naspix.wrap_model(network).levels
    assert [name for name, _ in wrapped.named_children()] == ["module"]


def test_train_mode_reaches_neither_the_answer_nor_the_network() -> None:
    network = ConvNet().train()
    model = naspix.wrap_model(network)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))  # dropout is off
    model.eval()
    assert network.training
    assert network.drop.training
    network.eval()
    model.train()
    assert model.training
    assert not network.drop.training


def test_overlapping_evaluations_restore_once() -> None:
    network = ConvNet().train()
    network.drop.eval()
    with evaluating(network):
        with evaluating(network):
            assert not network.training
        assert not network.training
    assert network.training
    assert not network.drop.training


def test_pixels_get_their_gradient() -> None:
    network = Returns(lambda x: x)
    model = naspix.wrap_model(network, std=0.5)
    images = torch.rand(2, 3, 2, 2, requires_grad=True)
    model(images)[:, 1].sum().backward()
    literal = network.head.weight[1] / 0.5 / 4
    torch.testing.assert_close(images.grad, literal[None, :, None, None].expand(2, 3, 2, 2))


def test_probabilities() -> None:
    model = naspix.wrap_model(ConvNet())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.probabilities(images).sum(1), torch.ones(2))
    assert torch.equal(model.probabilities(images), model(images).softmax(1))


def test_targets() -> None:
    model = naspix.wrap_model(ConvNet())
    images = torch.rand(3, 3, 32, 32)
    predicted = model(images).argmax(1)
    assert torch.equal(model.resolve_target(images, None), predicted)
    assert model.resolve_target(images, None, torch.eye(3)).tolist() == [0, 1, 2]
    assert model.resolve_target(images, 3).tolist() == [3, 3, 3]
    assert model.resolve_target(images, torch.tensor(2)).tolist() == [2, 2, 2]
    assert model.resolve_target(images, torch.tensor([2, 0, 1])).tolist() == [2, 0, 1]
    for wrong, said in (
        (4, "no class 4: ConvNet has 4 classes, from 0 to 3"),
        (-1, "no class -1"),
        (torch.tensor([0, 9, 0]), "no class 9"),
        (torch.tensor([0, 1]), "one for each of the 3 images"),
        (torch.zeros(3, 1, dtype=torch.int64), "one for each of the 3 images"),
        (torch.tensor(1.0), "whole number"),
        (torch.tensor(True), "whole number"),
    ):
        with pytest.raises(InputError, match=said):
            model.resolve_target(images, wrong)


def test_categories() -> None:
    model = naspix.wrap_model(ConvNet(), categories=["a", "b", "c", "d"])
    assert model.category(3) == "d"
    with pytest.raises(InputError, match="no class 4"):
        model.category(4)
    assert naspix.wrap_model(ConvNet()).category(7) == "class 7"
    hub = naspix.wrap_model(HubLikeViT())
    assert hub.categories == ("a", "b", "c2", "c3", "c4", "c5", "c6")
    assert hub.input_size == (64, 64)
    wrong = naspix.wrap_model(ConvNet(), categories=["a", "b"])
    with pytest.raises(ModelError, match="returns 4 logits, but 2 names"):
        wrong(torch.rand(1, 3, 32, 32))
    with pytest.raises(InputError, match="a list of names"):
        naspix.wrap_model(ConvNet(), categories="abcd")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mean": [123.7, 116.3, 103.5]}, "divide mean and std by 255"),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5]}, "std must hold 3 numbers"),
        ({"mean": []}, "mean must hold"),
        ({"std": [0.5, 0.0, 0.5]}, "std must be positive"),
        ({"input_size": (0, 224)}, r"must be \(height, width\)"),
        ({"input_size": 0}, r"must be \(height, width\)"),
    ],
)
def test_senseless_settings(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        naspix.wrap_model(ConvNet(), **options)


def test_numbers_may_stand_for_all_channels() -> None:
    model = naspix.wrap_model(ConvNet(), mean=0.5, std=0.25, input_size=48)
    assert model.mean.flatten().tolist() == [0.5] * 3
    assert model.std.flatten().tolist() == [0.25] * 3
    assert model.input_size == (48, 48)
    assert naspix.wrap_model(ConvNet(), mean=[0.5], std=[0.25]).in_channels == 1


def test_images_that_are_none() -> None:
    model = naspix.wrap_model(ConvNet())
    with pytest.raises(InputError, match=r"add a batch axis with images\[None\]"):
        model(torch.rand(3, 32, 32))
    with pytest.raises(InputError, match=r"images\.float\(\) / 255"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(InputError, match="permute"):
        model(torch.rand(1, 32, 32, 3))
    with pytest.raises(InputError, match="empty"):
        model(torch.rand(0, 3, 32, 32))
    with pytest.raises(InputError, match="divide them by 255"):
        model.activations(torch.rand(1, 3, 32, 32) * 255, [0])
    with pytest.raises(InputError, match="before"):
        model.activations(torch.rand(1, 3, 32, 32) - 0.5, [0])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="NaN or infinite"):
            model.activations(torch.full((1, 3, 32, 32), bad), [0])


def test_memory_that_runs_out_suggests_a_smaller_batch() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(DeviceError, match="batch of 8 x 3 x 4 x 4; use a smaller batch size"):
        naspix.wrap_model(Full())(torch.rand(8, 3, 4, 4))


def test_copies_pickles_and_moves() -> None:
    model = naspix.wrap_model(ConvNet(), mean=0.5)
    images = torch.rand(1, 3, 32, 32)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images), model(images))
        assert other.levels == model.levels
    assert "mean" not in model.state_dict()
    double = copy.deepcopy(model).double()
    assert double(images).dtype == torch.float64
    assert naspix.wrap_model(nn.Flatten()).device == torch.device("cpu")
    assert naspix.wrap_model(nn.Flatten()).dtype == torch.float32


def test_repr_says_what_it_is() -> None:
    model = naspix.load_model("efficientnet_lite0")
    assert repr(model) == (
        "Classifier(efficientnet_lite0, 3 x 224 x 224, classes: 1000, "
        "levels: blocks.0, blocks.1, blocks.2, blocks.4, blocks.6)"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda() -> None:
    network = ConvNet()
    model = naspix.wrap_model(network)
    images = torch.rand(2, 3, 32, 32)
    logits, maps = model(images), model.activations(images, [1, 3])
    network.cuda()  # its owner moves it
    assert model.device.type == "cuda"
    torch.testing.assert_close(model(images).cpu(), logits, rtol=1e-3, atol=1e-4)
    for found, wanted in zip(model.activations(images.cuda(), [1, 3]), maps, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=1e-4)
    assert model.load_images(torch.rand(3, 40, 40)).device.type == "cuda"
    assert model.resolve_target(images, 1).device.type == "cuda"
