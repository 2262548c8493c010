"""Grad-CAM and Grad-CAM++ against torchcam, pytorch-grad-cam and closed forms."""

import pytest
import torch
import torchcam.methods
import torchvision
from scipy.stats import spearmanr
from torch import nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.saliency import GradCAM, GradCAMPlusPlus


def _resnet(scale: float) -> nn.Module:
    """A ResNet18 whose logits, and so its gradients, are multiplied.

    The other libraries add a constant to a denominator of the gradient's square. Random weights
    give gradients near that constant's root, where their maps depend on it and ours do not, so the
    comparison is made where gradients are as large as in trained networks, or larger.
    """
    torch.manual_seed(3)
    network = torchvision.models.resnet18(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    with torch.no_grad():
        network.fc.weight *= scale
    return network


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return _resnet(300.0)


@pytest.fixture(scope="module")
def model(network) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=MEAN, std=STD, input_size=(96, 128))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 96, 128, generator=torch.Generator().manual_seed(5))


class _TorchcamGradCAMPlusPlus(torchcam.methods.GradCAMpp):
    """torchcam's extraction with the coefficients its docstring gives.

    torchcam 0.5.0 departs from them twice: it divides a copy (``alpha[mask].div_``), so that
    its weights are the sums of g² ReLU(g), and its denominator takes g³ inside the sum over
    positions, where the paper has the third derivative at the one position outside. What it does
    around them (hooks, gradients, sum, ReLU) is left as it is.
    """

    def _get_weights(self, class_idx, scores, **kwargs):
        self._backprop(scores, class_idx, **kwargs)
        (gradients,), (activations,) = self.hook_g, self.hook_a
        total = activations.sum((2, 3), keepdim=True)
        denominators = 2 * gradients**2 + total * gradients**3
        alpha = torch.where(gradients != 0, gradients**2 / denominators, 0.0)
        return [(alpha * gradients.relu()).sum((2, 3))]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(GradCAM, torchcam.methods.GradCAM), (GradCAMPlusPlus, _TorchcamGradCAMPlusPlus)],
)
@pytest.mark.parametrize("layer", ["layer4", "layer3"])
def test_agrees_with_torchcam(network, model, images, ours, theirs, layer):
    # the predicted classes: of others a random network's map may be zero throughout
    target = model(images).argmax(1).tolist()
    heat = ours(model, layer=layer)(images, torch.tensor(target))
    standardised = model.standardize(images).requires_grad_()
    with theirs(network, layer) as extract:
        (expected,) = extract(target, network(standardised), normalized=False)
    expected = torch.nn.functional.interpolate(
        expected.detach()[:, None], (96, 128), mode="bilinear", align_corners=False
    )[:, 0]
    for found, wanted in zip(heat, expected, strict=True):
        assert wanted.max() > 0
        assert spearmanr(found.flatten(), wanted.flatten()).statistic > 0.999
        # no constant anywhere: equal, not only in rank; their powers of g cost some digits
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6 * float(wanted.max()))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(GradCAM, "GradCAM"), (GradCAMPlusPlus, "GradCAMPlusPlus")]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agrees_with_pytorch_grad_cam(network, model, images, ours, theirs):
    pytorch_grad_cam = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    target = model(images).argmax(1)
    heat = ours(model)(images, target)
    with getattr(pytorch_grad_cam, theirs)(network, [network.layer4]) as extract:
        expected = extract(
            model.standardize(images), [ClassifierOutputTarget(int(one)) for one in target]
        )
    for found, wanted in zip(heat, expected, strict=True):
        assert spearmanr(found.flatten(), wanted.flatten()).statistic > 0.99


def test_equals_the_papers_formula(network, model, images):
    """Equations 10 and 19 with three loops, in float64."""
    from naspix.models import recording

    with recording(model.network, ["layer3"]) as maps:
        score = model(images[:1].requires_grad_())[0, 5]
    (gradient,) = torch.autograd.grad(score, maps["layer3"])
    activation, g = maps["layer3"][0].detach().double(), gradient[0].double()
    heat = torch.zeros(activation.shape[1:], dtype=torch.float64)
    for a_k, g_k in zip(activation, g, strict=True):
        weight = 0.0
        for i in range(a_k.shape[0]):
            for j in range(a_k.shape[1]):
                g_ij = float(g_k[i, j])
                if g_ij > 0:
                    weight += g_ij * g_ij**2 / (2 * g_ij**2 + float(a_k.sum()) * g_ij**3)
        heat += weight * a_k
    heat = torch.nn.functional.interpolate(
        heat.relu()[None, None], (96, 128), mode="bilinear", align_corners=False
    )[0, 0]
    found = GradCAMPlusPlus(model, layer="layer3")(images[:1], 5)[0]
    torch.testing.assert_close(found.double(), heat, rtol=1e-4, atol=1e-5 * float(heat.max()))


def test_one_channel_closed_form():
    """score = 2 * mean(A): the gradient is 2/n everywhere."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 1, bias=False)
            nn.init.ones_(self.layer.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.layer(x)
            return torch.cat([2 * a.mean((2, 3)), -a.mean((2, 3))], 1)

    model = naspix.wrap_model(Mean(), input_size=(4, 4), levels=["layer"])
    images = torch.rand(1, 3, 4, 4)
    activation = images.sum(1)
    gradient = 2 / 16
    torch.testing.assert_close(GradCAM(model)(images, 0), gradient * activation)
    weight = 16 * gradient / (2 + gradient * activation.sum())
    torch.testing.assert_close(GradCAMPlusPlus(model)(images, 0), weight * activation)
    assert GradCAM(model)(images, 1).max() == 0  # speaks against the class: nothing is left


def test_small_gradients_do_not_underflow(images):
    """g = 1e-12 and below: the map's shape stays that of larger gradients' limit."""
    tiny = naspix.wrap_model(_resnet(1e-9), mean=MEAN, std=STD, input_size=(96, 128))
    less = naspix.wrap_model(_resnet(1e-12), mean=MEAN, std=STD, input_size=(96, 128))
    first, second = (GradCAMPlusPlus(one)(images, 3) for one in (tiny, less))
    assert second.max() > 0
    torch.testing.assert_close(second / second.max(), first / first.max(), rtol=1e-3, atol=1e-4)


def test_transformer_tokens_become_a_map():
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=12,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=5,
    )
    nn.init.normal_(vit.heads.head.weight)
    model = naspix.wrap_model(vit, input_size=64)
    images = torch.rand(2, 3, 64, 64)
    # in the last layer, tokens other than the class token have no influence: a layer before it
    heat = GradCAMPlusPlus(model, layer=3)(images)
    assert heat.shape == (2, 64, 64)
    assert heat.flatten(1).std(1).min() > 0


def test_layer_by_number_name_and_default(model, images):
    by_default = GradCAM(model)(images[:1], 0)
    for layer in (4, "layer4"):
        torch.testing.assert_close(GradCAM(model, layer=layer)(images[:1], 0), by_default)
    with pytest.raises(InputError, match="layer4"):
        GradCAM(model, layer="layer44")(images[:1])


def test_layer_that_the_score_ignores(images):
    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.idle(x)
            return self.used(x).mean((2, 3))

    model = naspix.wrap_model(Ignores(), levels=["used", "idle"])
    with pytest.raises(ModelError, match="does not depend on the output of layer 'idle'"):
        GradCAM(model, layer="idle")(images)
