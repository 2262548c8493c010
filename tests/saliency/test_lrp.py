"""LRP: closed forms, zennit's own attributor, conservation on every family.

zennit is right on torchvision's VGG and ResNet, with its canonizers. On other networks the law is
that the map and what constants took make up the score: a residual counted twice, a batch norm
forgotten or an activation unseen would break it.
"""

import pytest
import timm
import torch
import torchvision
from torch import nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.saliency.lrp import LRP

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _randomized(network: nn.Module) -> nn.Module:
    """Statistics and weights in batch norms, and blocks that do something from the start.

    timm's ResNet begins with last batch norms of weight zero, ConvNeXt with layer scales of 1e-6,
    torchvision's ViT with a head of zeros: each would hide a wrong rule.
    """
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in network.named_parameters():
        if "weight" in name and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
        elif "gamma" in name or "layer_scale" in name:
            nn.init.ones_(parameter)
    return network


def _wrapped(network: nn.Module, size=64, levels=None) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=MEAN, std=STD, input_size=size, levels=levels)


def _images(n: int = 2, size: int = 64) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(3))


# -- closed forms --


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "gamma"])
def test_linear_network_is_weight_times_standardised_image(composite):
    """One linear layer on the pixels; z+ and gamma are for convolutions, or need no bias here."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4, bias=False))
    model = _wrapped(network, size=4, levels=["0"])
    images = _images(2, 4)
    heat = LRP(model, composite=composite).attributions(images, 2)
    x = model.standardize(images)
    if composite == "gamma":
        contributions = x * network[1].weight[2].view(3, 4, 4)
        sign = contributions.sum((1, 2, 3), keepdim=True).sign()
        contributions = contributions * torch.where(contributions * sign > 0, 1.05, 1.0)
        expected = contributions / contributions.sum((1, 2, 3), keepdim=True)
        expected = expected * model(images)[:, 2, None, None, None]
    else:
        expected = x * network[1].weight[2].view(3, 4, 4)
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    assert not heat.absorbed.any()


@pytest.mark.parametrize("in_place", [False, True])
def test_epsilon_is_input_times_gradient_without_biases(in_place):
    """On ReLU networks LRP-0 is the gradient times the (standardised) input: Shrikumar 2016."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.ReLU(in_place),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.ReLU(in_place),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5, bias=False),
    ).double()
    model = naspix.wrap_model(network, mean=MEAN, std=STD, input_size=12, levels=["0"])
    images = _images(2, 12).double()
    heat = LRP(model, composite="epsilon", epsilon=1e-12).attributions(images, 1)
    x = model.standardize(images).requires_grad_()
    (gradient,) = torch.autograd.grad(network.eval()(x)[:, 1].sum(), x)
    torch.testing.assert_close(heat.values, (x * gradient).detach(), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(heat.values.sum((1, 2, 3)), model(images)[:, 1].detach())


def test_a_network_that_looks_at_one_quadrant():
    class Quadrant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.first(x[..., :4, 4:]).relu().mean((2, 3)))

    heat = LRP(_wrapped(Quadrant(), size=8, levels=["first"]))(_images(2, 8), 0)
    assert heat[:, :4, 4:].abs().min() > 0
    assert not heat[:, 4:].any()
    assert not heat[:, :, :4].any()


# -- zennit's own attributor --

ZENNIT_FAMILIES = {
    "vgg16": lambda: torchvision.models.vgg16(weights=None),
    "vgg16_bn": lambda: torchvision.models.vgg16_bn(weights=None),
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "resnet50": lambda: torchvision.models.resnet50(weights=None),
}


def _by_zennit(network: nn.Module, family: str, composite: str, x, target: int, bounds):
    zennit = pytest.importorskip("zennit")
    from zennit import attribution, composites, torchvision  # noqa: F401

    canonizer = (
        zennit.torchvision.VGGCanonizer()
        if "vgg" in family
        else zennit.torchvision.ResNetCanonizer()
    )
    made = {
        "epsilon_plus": lambda: composites.EpsilonPlus(canonizers=[canonizer]),
        "epsilon_plus_flat": lambda: composites.EpsilonPlusFlat(canonizers=[canonizer]),
        "epsilon_alpha2_beta1": lambda: composites.EpsilonAlpha2Beta1(canonizers=[canonizer]),
        "epsilon_alpha2_beta1_flat": lambda: composites.EpsilonAlpha2Beta1Flat(
            canonizers=[canonizer]
        ),
        "epsilon_gamma_box": lambda: composites.EpsilonGammaBox(*bounds, canonizers=[canonizer]),
    }[composite]()
    with attribution.Gradient(model=network, composite=made) as attributor:
        _, relevance = attributor(
            x, lambda logits: torch.eye(logits.shape[1])[[target] * len(logits)] * logits.detach()
        )
    return relevance


COMPOSITES = [
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
]


@pytest.mark.parametrize(
    ("family", "composite"),
    [
        ("vgg16", "epsilon_plus"),
        ("resnet50", "epsilon_plus"),
        *((family, composite) for family in ("vgg16_bn", "resnet18") for composite in COMPOSITES),
    ],
)
def test_equals_zennit(family, composite):
    network = _randomized(ZENNIT_FAMILIES[family]()).eval()
    model = _wrapped(network)
    images = _images(1)
    ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 64, 64)
    bounds = model.standardize(ends).split(1)
    x = model.standardize(images).requires_grad_()
    expected = _by_zennit(network, family, composite, x, 7, bounds).detach()
    found = LRP(model, composite=composite).attributions(images, 7).values
    # float32 through up to 50 layers of divisions; a wrong rule anywhere is off by some 0.1
    assert (found - expected).norm() < 1e-3 * expected.norm()


# -- conservation --

FAMILIES = {
    "torchvision vgg": lambda: torchvision.models.vgg11_bn(weights=None),
    "torchvision resnet": lambda: torchvision.models.resnet18(weights=None),
    "torchvision densenet": lambda: torchvision.models.densenet121(weights=None),
    "torchvision convnext": lambda: torchvision.models.convnext_tiny(weights=None),
    "torchvision swin": lambda: torchvision.models.swin_t(weights=None),
    "torchvision regnet": lambda: torchvision.models.regnet_y_400mf(weights=None),
    "timm resnet18": lambda: timm.create_model("resnet18"),
    "timm resnet50": lambda: timm.create_model("resnet50"),
    "timm seresnet": lambda: timm.create_model("seresnet50"),
    "timm preactivation": lambda: timm.create_model("resnetv2_50"),
    "timm group norm": lambda: timm.create_model("resnetv2_50x1_bit"),
    "timm convnext": lambda: timm.create_model("convnext_atto"),
    "timm vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_relevance_is_conserved(family):
    model = _wrapped(_randomized(FAMILIES[family]()))
    result = LRP(model).attributions(_images(), torch.tensor([1, 4]))
    total = result.values.sum((1, 2, 3)) + result.absorbed
    torch.testing.assert_close(total, result.scores, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        result.scores, model(_images()).gather(1, torch.tensor([[1], [4]]))[:, 0].detach()
    )


@pytest.mark.parametrize("build", ["torchvision", "timm"])
def test_vit_b16_by_the_published_rules(build):
    """Biases, class token and position embeddings take their part; the rest is the map's."""
    if build == "timm":
        network = timm.create_model("vit_base_patch16_224", img_size=64)
    else:
        network = torchvision.models.VisionTransformer(64, 16, 12, 12, 768, 3072)
    model = _wrapped(_randomized(network))
    result = LRP(model).attributions(_images(1), 3)
    total = result.values.sum((1, 2, 3)) + result.absorbed
    torch.testing.assert_close(total, result.scores, rtol=1e-2, atol=1e-6)
    assert result.values.abs().max() > 0


@pytest.mark.parametrize(
    ("family", "low", "high"),
    [("torchvision resnet", 0.8, 1.0), ("timm resnet18", 0.8, 1.0), ("timm resnet50", 0.6, 1.0)],
)
def test_residuals_are_not_counted_twice(family, low, high):
    """The map alone: a residual counted twice at each of 16 blocks would make it 65536 scores."""
    model = _wrapped(_randomized(FAMILIES[family]()))
    result = LRP(model).attributions(_images(1), 0)
    assert low < float(result.values.sum() / result.scores) < high


def test_conserved_on_the_default_network_and_a_photo():
    skimage_data = pytest.importorskip("skimage.data")
    model = naspix.load_model("efficientnet_lite0")
    images = model.load_images(skimage_data.chelsea())[:, :, ::2, ::2]
    result = LRP(model).attributions(images, 282)
    total = result.values.sum((1, 2, 3)) + result.absorbed
    torch.testing.assert_close(total, result.scores, rtol=1e-3, atol=0)
    # the map alone sums to the network without biases' share; it is not noise around zero
    assert float(result.values.sum()) > 0.5 * float(result.values.abs().sum())


def test_epsilon_conserves_on_relu_networks_without_bias():
    network = timm.create_model("resnet18")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias = None
            module.running_mean.zero_()
            nn.init.uniform_(module.weight, 0.5, 1.5)
    network.fc.bias = None
    model = _wrapped(network)
    result = LRP(model, composite="epsilon").attributions(_images(), 5)
    torch.testing.assert_close(result.values.sum((1, 2, 3)), result.scores, rtol=1e-3, atol=1e-6)
    assert not result.absorbed.any()


def test_z_plus_remembers_the_first_stages_as_its_documentation_says():
    """A random head changes little but the sign: 0.90 over three photos, see the docstring."""
    skimage_data = pytest.importorskip("skimage.data")
    maps = []
    for randomized in (False, True):
        model = naspix.load_model("efficientnet_lite0")
        images = model.load_images(skimage_data.chelsea())
        if randomized:
            torch.manual_seed(0)
            nn.init.normal_(model.network.classifier.weight, std=0.01)
        result = LRP(model).attributions(images, 282)
        heat = result.values.sum(1) * result.scores.sign()
        maps.append(heat.flatten().argsort().argsort().float())
    assert torch.corrcoef(torch.stack(maps))[0, 1] > 0.8


# -- settings --


def test_auto_takes_gamma_with_layer_norm_and_epsilon_plus_without():
    images = _images(1)
    for network, name in (
        (timm.create_model("resnet18"), "epsilon_plus"),
        (timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2), "gamma"),
    ):
        model = _wrapped(_randomized(network))
        torch.testing.assert_close(
            LRP(model)(images, 0), LRP(model, composite=name)(images, 0), rtol=0, atol=0
        )


def test_contrast_is_the_difference():
    model = _wrapped(_randomized(FAMILIES["timm resnet18"]()))
    images = _images()
    method = LRP(model)
    difference = method(images, 1) - method(images, 2)
    found = method(images, naspix.Contrast(1, 2))
    torch.testing.assert_close(found, difference, rtol=1e-3, atol=1e-3 * float(found.abs().max()))


def test_batch_equals_one_by_one_and_any_batch_size():
    model = _wrapped(_randomized(FAMILIES["timm resnet18"]()))
    images = _images(3)
    together = LRP(model).attributions(images, 1)
    for batch_size in (1, 2):
        parts = LRP(model, batch_size=batch_size).attributions(images, 1)
        scale = float(together.values.abs().max())
        torch.testing.assert_close(parts.values, together.values, rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(parts.absorbed, together.absorbed, rtol=1e-4, atol=1e-6)


def test_bfloat16():
    model = _wrapped(_randomized(FAMILIES["timm resnet18"]()))
    expected = LRP(model)(_images(), 1)
    half = _wrapped(_randomized(FAMILIES["timm resnet18"]()).bfloat16())
    heat = LRP(half)(_images(), 1)
    assert heat.dtype == torch.float32
    maps = torch.stack([expected.flatten(), heat.flatten()])
    assert torch.corrcoef(maps)[0, 1] > 0.8  # 8 bits of mantissa through 20 layers


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 0}, "LRP: epsilon is above 0"),
        ({"batch_size": 0}, "LRP: batch_size is at least 1"),
    ],
)
def test_bad_settings(change, says):
    with pytest.raises(InputError, match=says):
        LRP(_wrapped(nn.Sequential(nn.Conv2d(3, 4, 1)), levels=["0"]), **change)


@pytest.mark.parametrize(("name", "choices"), [("composite", "auto, epsilon_plus"), ("reduce", "")])
def test_unknown_choices(name, choices):
    """Set past the type checker that is on in tests, which would refuse it first."""
    method = LRP(_wrapped(nn.Sequential(nn.Conv2d(3, 4, 1)), levels=["0"]))
    object.__setattr__(method, name, "mean")
    with pytest.raises(InputError, match=f"LRP: {name} is one of {choices}.*not 'mean'"):
        method.__post_init__()


def test_the_box_is_refused_where_the_first_layer_sees_something_else():
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x * 2).relu().mean((2, 3))

    model = _wrapped(Doubled(), size=8, levels=["first"])
    with pytest.raises(ModelError, match="epsilon_gamma_box needs a network that"):
        LRP(model, composite="epsilon_gamma_box")(_images(1, 8), 0)
