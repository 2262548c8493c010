"""Recording: before anything overwrites, the last call, the right thread, and gradients."""

import threading
from collections import OrderedDict, namedtuple

import pytest
import torch
from networks import ConvNet, HubLikeViT
from torch import Tensor, nn

import naspix
from naspix.errors import ActivationError, UnknownNameError
from naspix.models.activations import recording, tracing
from naspix.models.outputs import first_tensor


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the head was reached")


class Twice(nn.Module):
    """One convolution, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(x).relu_()).relu_().mean((2, 3)))


def test_a_convolution_is_recorded_before_the_in_place_relu() -> None:
    import torchvision

    network = torchvision.models.vgg11(num_classes=3).eval()
    model = naspix.wrap_model(network)
    images = torch.rand(1, 3, 32, 32)
    x, convolved, before_pools = images, images, []
    with torch.no_grad():
        for layer in network.features:
            if isinstance(layer, nn.MaxPool2d):
                before_pools.append(convolved)
            x = layer(x.clone())
            if isinstance(layer, nn.Conv2d):
                convolved = x.clone()
    for found, wanted in zip(model.activations(images, range(5)), before_pools, strict=True):
        assert torch.equal(found, wanted)
        assert found.min() < 0


def test_forward_stops_at_the_deepest_level_also_in_the_first_call() -> None:
    import torchvision

    network = torchvision.models.resnet18(num_classes=3)
    network.layer4 = Raises()
    model = naspix.wrap_model(network, levels=None)
    images = torch.rand(1, 3, 32, 32)
    assert len(model.activations(images, (3, 1))) == 2
    with pytest.raises(naspix.errors.ModelError, match="the head was reached"):
        model.activations(images, (4,))


def test_forward_of_an_unknown_network_stops_once_its_calls_are_counted() -> None:
    network = ConvNet()
    model = naspix.wrap_model(network)
    assert model.levels[1] == "body.4"
    network.head = Raises()
    (found,) = model.activations(torch.rand(1, 3, 32, 32), [1])
    assert found.shape == (1, 6, 16, 16)


def test_a_module_called_twice_gives_its_last_call() -> None:
    network = Twice().eval()
    model = naspix.wrap_model(network)
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        first = network.conv(images)
        last = network.conv(first.relu())
    (found,) = model.activations(images, ["conv"])
    assert torch.equal(found, last)
    assert not torch.equal(found, first)


def test_levels_come_in_the_order_asked_for_and_may_repeat() -> None:
    model = naspix.wrap_model(ConvNet())
    images = torch.rand(1, 3, 32, 32)
    deep, shallow, again = model.activations(images, [4, "body.1", 4])
    assert torch.equal(deep, again)
    assert shallow.shape[-1] > deep.shape[-1]


@pytest.mark.parametrize("detach", [False, True])
def test_recording_changes_no_logit(detach: bool) -> None:
    for network, names in (
        (ConvNet().eval(), ["body.0", "body.3", "body"]),
        (HubLikeViT().eval(), ["vit.encoder.layer.2", "vit.encoder.layer.11"]),
    ):
        images = torch.rand(2, 3, 32, 32)
        plain = network(images)
        with recording(network, names, detach=detach) as maps:
            recorded = network(images)
        plain, recorded = (getattr(x, "logits", x) for x in (plain, recorded))
        assert torch.equal(plain, recorded)
        assert list(maps) == names
        assert all(found.requires_grad != detach for found in maps.values())


def test_gradients_reach_a_map_before_an_in_place_relu() -> None:
    network = ConvNet().eval()
    with recording(network, ["body.12"]) as maps:
        logits = network(torch.rand(1, 3, 32, 32))
    (gradient,) = torch.autograd.grad(logits[0, 1], maps["body.12"])
    # closed form: head(mean(relu(map)))
    size = maps["body.12"].shape[-2:].numel()
    literal = network.head.weight[1][None, :, None, None] * (maps["body.12"] > 0) / size
    torch.testing.assert_close(gradient, literal)


def test_gradients_reach_a_map_of_tokens() -> None:
    network = HubLikeViT(depth=3).eval()
    images = torch.rand(2, 3, 32, 16)
    with recording(network, ["vit.encoder.layer.1"]) as maps:
        logits = network(images).logits
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), maps["vit.encoder.layer.1"])
    assert gradient.shape == (2, 16, 4, 2)
    # against the same network cut in two by hand
    held = {}

    def cut_here(module: nn.Module, args: object, output: tuple[Tensor]) -> tuple[Tensor]:
        held["x"] = output[0].detach().clone().requires_grad_()
        return (held["x"].clone(),)

    handle = network.vit.encoder.layer[1].register_forward_hook(cut_here)
    cut = network(images).logits
    handle.remove()
    (literal,) = torch.autograd.grad(cut[:, 2].sum(), held["x"])
    wanted = literal[:, 1:].reshape(2, 4, 2, 16).permute(0, 3, 1, 2)
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("kind", ["list", "tuple", "named", "dict"])
def test_outputs_in_containers_are_recorded_and_replaced(kind: str) -> None:
    Pair = namedtuple("Pair", ["first", "second"])

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> object:
            y = x * 2
            made = {"dict": OrderedDict(a=None, b=y), "named": Pair(y, 3), "list": [y, y]}
            return made.get(kind, (y, None))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            output = self.inner(x)
            y = output["b"] if kind == "dict" else output[0]
            y += 1  # overwrites
            return y.mean((2, 3))

    network, images = Outer(), torch.rand(1, 3, 4, 4, requires_grad=True)
    with recording(network, ["inner"]) as maps:
        logits = network(images)
    assert torch.equal(maps["inner"], images * 2)
    (gradient,) = torch.autograd.grad(logits.sum(), maps["inner"])
    torch.testing.assert_close(gradient, torch.full_like(gradient, 1 / 16))


def test_first_tensor() -> None:
    x, y = torch.zeros(1), torch.ones(1)
    assert first_tensor((None, x, y)) is x
    assert first_tensor({"a": y, "last_hidden_state": x}) is x
    assert first_tensor("no tensor") is None
    assert first_tensor([]) is None


def test_what_has_no_map_says_so() -> None:
    model = naspix.wrap_model(ConvNet())
    images = torch.rand(2, 3, 32, 32)
    with pytest.raises(
        ActivationError, match=r"level 'head' has no spatial map: its output is 2 x 4"
    ):
        model.activations(images, ["head"])
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(2))
    network.spare = nn.Conv2d(3, 3, 3)
    network.forward = lambda x: network[2](network[1](network[0](x)))
    with pytest.raises(ActivationError, match="'spare' is not reached"):
        naspix.wrap_model(network).activations(images, ["spare"])


def test_a_network_not_given_images_says_so() -> None:
    inner = nn.Conv2d(3, 2, 1)

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: list[str]) -> Tensor:
            return self.inner(torch.zeros(1, 3, 4, 4))

    odd, silent = Odd(), nn.Sequential(nn.Identity(), Textual())
    with pytest.raises(ActivationError, match="not given images"), recording(odd, ["inner"]):
        odd(["text"])
    with pytest.raises(ActivationError, match="output is no tensor"), recording(silent, ["1"]):
        silent(torch.zeros(1, 3, 4, 4))


class Textual(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "text"


def test_torchscript_says_what_to_give_instead() -> None:
    pytest.importorskip("torch.jit")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(ConvNet().eval(), torch.rand(1, 3, 32, 32))
    model = naspix.wrap_model(scripted)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    with pytest.raises(ActivationError, match="TorchScript"):
        model.activations(torch.rand(1, 3, 32, 32), [0])


def test_wrong_names_list_near_matches() -> None:
    model = naspix.wrap_model(ConvNet())
    with pytest.raises(UnknownNameError, match=r"no level 'body\.99'; did you mean 'body\.9'"):
        model.activations(torch.rand(1, 3, 32, 32), ["body.99"])
    with pytest.raises(UnknownNameError, match="has 5 levels, from 0 to 4"):
        model.level_names([5])
    with pytest.raises(UnknownNameError, match="no level -1"):
        model.level_names([-1])
    with pytest.raises(UnknownNameError, match="no level"):
        model.level_names([""])
    assert model.level_names(2) == ("body.7",)
    assert model.level_names("body") == ("body",)
    with pytest.raises(naspix.errors.InputError, match="at least one"):
        model.level_names([])


def test_threads_do_not_hear_each_other() -> None:
    """Two threads at once, one of which stops early, on a network in train mode."""
    model = naspix.wrap_model(ConvNet().train())
    images = [torch.rand(1, 3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        logits = [model(image) for image in images]
    maps = [model.activations(image, [1])[0] for image in images]
    failures: list[str] = []

    def work(i: int) -> None:
        for _ in range(40):
            with torch.no_grad():
                if not torch.equal(model(images[i]), logits[i]):
                    failures.append("logits")
            if not torch.equal(model.activations(images[i], [1])[0], maps[i]):
                failures.append("maps")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(module.training for module in model.network.modules())
    assert not any(module._forward_hooks for module in model.network.modules())


def test_tracing_lists_calls_in_order() -> None:
    network = Twice().eval()
    with tracing(network) as calls:
        network(torch.rand(2, 3, 8, 8))
    kinds = [type(call.module).__name__ for call in calls]
    assert kinds == ["Conv2d", "Conv2d", "Linear", "Twice"]
    assert [call.size for call in calls] == [(8, 8), (8, 8), None, None]


def test_tracing_keeps_the_random_state() -> None:
    class Noisy(ConvNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.randn_like(x))

    model = naspix.wrap_model(Noisy())
    before = torch.get_rng_state()
    assert len(model.levels) == 5
    assert torch.equal(torch.get_rng_state(), before)
