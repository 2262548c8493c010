"""Gradients: closed forms, captum's own results, guidance on every family, no hidden rectifiers."""

import captum.attr
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import naspix
from naspix.errors import DeviceError, InputError, ModelError
from naspix.saliency.base import reduce_channels
from naspix.saliency.gradients import GuidedBackprop, InputXGradient, SmoothGrad, VanillaGradient

METHODS = [VanillaGradient, InputXGradient, SmoothGrad, GuidedBackprop]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def _wrapped(network: nn.Module, size=(12, 10), levels=("0",)) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=MEAN, std=STD, input_size=size, levels=levels)


def _small(activation: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        activation,
        nn.Conv2d(8, 8, 3, padding=1),
        activation,
        nn.Flatten(),
        nn.Linear(8 * 12 * 10, 4),
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 12, 10)


@pytest.mark.parametrize("method", METHODS)
def test_linear_network_gives_its_weights(images, method):
    model = _wrapped(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(360, 4)))
    zero = torch.zeros(1, 3, 12, 10, requires_grad=True)
    (weight,) = torch.autograd.grad(model(zero)[0, 2], zero)
    expected = weight.expand_as(images)
    if method is InputXGradient:
        expected = expected * images
    found = method(model).attributions(images, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for rule in ("sum", "max_abs"):
        torch.testing.assert_close(
            method(model, reduce=rule)(images, 2), reduce_channels(found, rule)
        )


def test_input_times_gradient_keeps_a_linear_networks_score(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(360, 4, bias=False))
    model = naspix.wrap_model(network, input_size=(12, 10), levels=["0"])
    torch.testing.assert_close(
        InputXGradient(model)(images, 1).sum((1, 2)), model(images)[:, 1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (VanillaGradient, captum.attr.Saliency, {"abs": False}),
        (InputXGradient, captum.attr.InputXGradient, {}),
    ],
)
def test_equals_captum(images, ours, theirs, settings):
    model = _wrapped(_small(nn.GELU()))
    target = torch.tensor([0, 3, 1])
    points = images.clone().requires_grad_()
    expected = theirs(model).attribute(points, target=target, **settings).detach()
    torch.testing.assert_close(ours(model).attributions(images, target), expected)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_equals_captum_where_captum_guides(images):
    """Modules of their own, not in place: the case that its hooks are made for."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(960, 4),
    )
    model = _wrapped(network)
    expected = captum.attr.GuidedBackprop(model).attribute(
        images.clone().requires_grad_(), target=2
    )
    torch.testing.assert_close(GuidedBackprop(model).attributions(images, 2), expected)
    assert not torch.allclose(VanillaGradient(model).attributions(images, 2), expected)


def test_smoothgrad_equals_captum_on_the_same_noise(images, monkeypatch):
    model = _wrapped(_small(nn.GELU()))
    one = images[:1] * 0.5 + 0.1
    generator = torch.Generator().manual_seed(7)
    noise = torch.stack([torch.randn(3, 12, 10, generator=generator) for _ in range(6)])
    monkeypatch.setattr(torch, "normal", lambda mean, std: mean + std * noise)
    oracle = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    expected = oracle.attribute(
        one.clone().requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=6,
        stdevs=0.2 * float(one.max() - one.min()),
        target=1,
        abs=False,
    )
    method = SmoothGrad(model, noise=0.2, n_samples=6, seed=7)
    torch.testing.assert_close(method.attributions(one, 1), expected, rtol=1e-4, atol=1e-7)


def test_smoothgrad_is_the_same_for_any_batch_size(images):
    model = _wrapped(_small(nn.GELU()))
    one_pass = SmoothGrad(model, n_samples=7, batch_size=64)(images)
    for batch_size in (1, 4):
        found = SmoothGrad(model, n_samples=7, batch_size=batch_size)(images)
        torch.testing.assert_close(found, one_pass, rtol=1e-5, atol=1e-7)
    alone = torch.cat([SmoothGrad(model, n_samples=7)(image[None]) for image in images])
    torch.testing.assert_close(alone, one_pass, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(SmoothGrad(model, n_samples=7, seed=1)(images), one_pass)


def test_smoothgrad_without_noise_is_the_gradient(images):
    model = _wrapped(_small(nn.GELU()))
    torch.testing.assert_close(
        SmoothGrad(model, noise=0, n_samples=3).attributions(images, 0),
        VanillaGradient(model).attributions(images, 0),
    )


def test_memory_that_ends_halves_the_batch(images, monkeypatch):
    model = _wrapped(_small(nn.ReLU()))
    expected = VanillaGradient(model)(images)
    forward = type(model).forward

    def small_memory(self, points):
        if len(points) > 1 and points.requires_grad:
            raise DeviceError("memory of cpu ran out")
        return forward(self, points)

    monkeypatch.setattr(type(model), "forward", small_memory)
    torch.testing.assert_close(VanillaGradient(model)(images), expected)


# -- guided: each rectifier, as a module, a function, a method, in place or not --


class _Functional(nn.Module):
    def __init__(self, activation) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(960, 4)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.activation(self.first(x)).flatten(1))


def _overwritten(x: torch.Tensor) -> torch.Tensor:
    F.relu_(x)
    return x  # and not what the call returned


RELUS = {
    "module in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "method": torch.Tensor.relu,
    "torch": torch.relu,
    "function in place": lambda x: F.relu(x, inplace=True),
    "method in place": torch.Tensor.relu_,
    "overwritten": _overwritten,
    "clamp": lambda x: x.clamp(min=0),
    "keyword": lambda x: torch.relu(input=x),
    "threshold": nn.Threshold(0.0, 0.0),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("relu", RELUS)
def test_every_way_to_write_relu_is_guided(images, relu):
    network = _Functional(RELUS[relu])
    model = _wrapped(network, levels=["first"])
    found = GuidedBackprop(model).attributions(images, 2)
    oracle = _Functional(nn.ReLU())
    oracle.load_state_dict(network.state_dict())
    expected = captum.attr.GuidedBackprop(_wrapped(oracle, levels=["first"])).attribute(
        images.clone().requires_grad_(), target=2
    )
    torch.testing.assert_close(found, expected)


SMOOTH = {
    "relu6": (F.relu6, F.relu6),
    "hardtanh": (nn.Hardtanh(0.0, 6.0, inplace=True), F.relu6),
    "leaky": (nn.LeakyReLU(0.1, inplace=True), lambda x: F.leaky_relu(x, 0.1)),
    "silu": (nn.SiLU(inplace=True), F.silu),
    "swish by hand": (lambda x: x * x.sigmoid(), F.silu),
    "quick gelu": (lambda x: x * torch.sigmoid(1.702 * x), lambda x: x * (1.702 * x).sigmoid()),
    "gelu": (nn.GELU(), F.gelu),
    "gelu of tanh": (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "hardswish": (nn.Hardswish(inplace=True), F.hardswish),
    "mish": (F.mish, F.mish),
    "elu": (nn.ELU(inplace=True), F.elu),
    "softplus": (F.softplus, F.softplus),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_rectifiers_follow_the_positive_gradient_rule(images, name):
    activation, plain = SMOOTH[name]
    network = _Functional(activation)
    model = _wrapped(network, levels=["first"])
    found = GuidedBackprop(model).attributions(images, 1)
    # by hand: max(0, f'(z) g) between the two layers
    z = network.first(model.standardize(images)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(plain(z).sum(), z)
    g = network.second.weight[1].view(1, 8, 12, 10)
    points = images.clone().requires_grad_()
    below = network.first(model.standardize(points))
    (expected,) = torch.autograd.grad(below, points, (slope * g).clamp(min=0).detach())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


FAMILIES = {
    "torchvision vgg": (lambda: torchvision.models.vgg11_bn(weights=None), 64),
    "torchvision resnet": (lambda: torchvision.models.resnet18(weights=None), 64),
    "torchvision densenet": (lambda: torchvision.models.densenet121(weights=None), 64),
    "torchvision mobilenet": (lambda: torchvision.models.mobilenet_v3_small(weights=None), 64),
    "torchvision efficientnet": (lambda: torchvision.models.efficientnet_b0(weights=None), 64),
    "torchvision convnext": (lambda: torchvision.models.convnext_tiny(weights=None), 64),
    "torchvision swin": (lambda: torchvision.models.swin_t(weights=None), 64),
    "torchvision vit": (lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64), 64),
    "timm resnet": (lambda: timm.create_model("resnet18"), 64),
    "timm lite": (lambda: timm.create_model("tf_efficientnet_lite0"), 64),
    "timm efficientnet": (lambda: timm.create_model("efficientnet_b0"), 64),
    "timm convnext": (lambda: timm.create_model("convnext_atto"), 64),
    "timm vit": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=10),
        64,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_guided_differs_from_the_gradient_on_every_family(family):
    torch.manual_seed(0)
    build, size = FAMILIES[family]
    network = build()
    for name, parameter in network.named_parameters():
        if not parameter.any() and "weight" in name:  # torchvision's ViT begins with no head
            nn.init.normal_(parameter, std=0.02)
        elif "gamma" in name or "layer_scale" in name:  # ConvNeXt begins with no blocks
            nn.init.ones_(parameter)
    model = naspix.wrap_model(network, mean=MEAN, std=STD, input_size=size)
    images = torch.rand(1, 3, size, size)
    plain = VanillaGradient(model).attributions(images, 3).flatten()
    guided = GuidedBackprop(model).attributions(images, 3).flatten()
    assert guided.abs().max() > 0
    # GELU of a random network works near zero, where it is half the identity
    assert torch.corrcoef(torch.stack([plain, guided]))[0, 1] < 0.95


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x > 0)


def _erf_gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


@pytest.mark.parametrize(
    ("activation", "says"),
    [
        (_Own.apply, "computes _Own where"),
        (_erf_gelu, "the network's own forward writes GELU out by erf"),
        (torch.tanh, "has no rectifier"),
        (torch.sigmoid, "has no rectifier"),
    ],
)
def test_what_cannot_be_guided_is_refused(images, activation, says):
    model = _wrapped(_Functional(activation), levels=["first"])
    with pytest.raises(ModelError, match=says):
        GuidedBackprop(model)(images)
    VanillaGradient(model)(images)


@pytest.mark.filterwarnings("ignore:.torch.jit", "ignore:`torch.jit")
def test_a_scripted_layer_is_refused(images):
    network = _Functional(torch.jit.script(nn.Sequential(nn.ReLU(), nn.ReLU())))
    model = _wrapped(network, levels=["first"])
    for _ in range(3):  # TorchScript optimises itself on the way
        with pytest.raises(ModelError, match="layer 'activation' is scripted"):
            GuidedBackprop(model)(images)


def test_one_module_called_twice_is_guided_twice(images):
    shared = nn.ReLU()
    twice, separate = _small(shared), _small(nn.ReLU())
    separate[3] = nn.ReLU()
    separate.load_state_dict(twice.state_dict())
    torch.testing.assert_close(
        GuidedBackprop(_wrapped(twice))(images, 0), GuidedBackprop(_wrapped(separate))(images, 0)
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_gradients_is_refused(images, method):
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x.detach()).relu().mean((2, 3))

    with pytest.raises(ModelError, match=f"{method.__name__}: no gradients reach the pixels"):
        method(_wrapped(Blind(), levels=["first"]))(images)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_size": 0}, "SmoothGrad: batch_size is at least 1, not 0"),
        ({"n_samples": 0}, "SmoothGrad: n_samples is at least 1, not 0"),
        ({"noise": -0.1}, "SmoothGrad: noise is a share"),
        ({"noise": float("nan")}, "SmoothGrad: noise is a share"),
    ],
)
def test_bad_settings(change, says):
    with pytest.raises(InputError, match=says):
        SmoothGrad(_wrapped(_small(nn.ReLU())), **change)


@pytest.mark.parametrize("method", METHODS)
def test_contrast_and_low_precision(images, method):
    model = _wrapped(_small(nn.ReLU()))
    contrast = method(model, reduce="sum")(images, naspix.Contrast(1, 2))
    if method is not GuidedBackprop:  # guidance is not linear in the scores
        difference = method(model, reduce="sum")(images, 1) - method(model, reduce="sum")(images, 2)
        torch.testing.assert_close(contrast, difference, rtol=1e-4, atol=1e-6)
    half = _wrapped(_small(nn.ReLU()).bfloat16())
    heat = method(half)(images, 1)
    assert heat.dtype == images.dtype
    assert heat.isfinite().all()


# -- sanity: does the map depend on what the network has learnt? --


def _rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    ranks = torch.stack([x.flatten().argsort().argsort().float() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


@pytest.fixture(scope="module")
def photo_and_networks():
    """A photo, the default network, and it with a random head, and random from block 4 up."""
    skimage_data = pytest.importorskip("skimage.data")
    trained = naspix.load_model("efficientnet_lite0")
    models = {"trained": trained}
    for name, stages in (("head", []), ("upper half", [4, 5, 6])):
        torch.manual_seed(0)
        model = models[name] = naspix.load_model("efficientnet_lite0")
        nn.init.normal_(model.network.classifier.weight, std=0.01)
        upper = [model.network.blocks[i] for i in stages] + [model.network.conv_head] * bool(stages)
        for module in (module for part in upper for module in part.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trained.load_images(skimage_data.chelsea()), models


def _change(method, photo_and_networks, part: str, **settings) -> float:
    images, models = photo_and_networks
    heat = [method(models[name], **settings)(images, 282) for name in ("trained", part)]
    return _rank_correlation(*heat)


@pytest.mark.parametrize("method", [VanillaGradient, InputXGradient])
def test_gradients_forget_a_network_made_random_from_the_top(method, photo_and_networks):
    """Adebayo et al. 2018; over three photos the signed maps' mean correlation was 0.00."""
    assert abs(_change(method, photo_and_networks, "upper half", reduce="sum")) < 0.1
    # magnitudes keep what the photo itself and the first stages give: 0.28 and 0.41
    assert _change(method, photo_and_networks, "upper half", reduce="sum_abs") < 0.6


def test_guided_backprop_does_not_as_its_documentation_says(photo_and_networks):
    """The figures in the docstring: 1.00 with a random head, 0.86 with random upper stages."""
    assert _change(GuidedBackprop, photo_and_networks, "head", reduce="sum") > 0.95
    assert _change(GuidedBackprop, photo_and_networks, "upper half", reduce="sum") > 0.7
