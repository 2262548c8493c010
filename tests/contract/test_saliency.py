"""Every saliency method of the registry on every family people bring, and what it must refuse.

Small members of each family with random weights, in float64 where maps are compared, so that what
differs is not rounding.
"""

import inspect
import re
from functools import cache

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import naspix
from naspix.errors import (
    ActivationError,
    AttentionError,
    InputError,
    ModelError,
    NaspixError,
    NaspixWarning,
)
from naspix.registry import SALIENCY
from naspix.saliency import IntegratedGradients, Shapley, VanillaGradient

SIZE = 64
# fewer passes than by default
FEW = {
    "integrated_gradients": {"n_steps": 3, "max_steps": 3, "tolerance": 1e9},
    "smoothgrad": {"n_samples": 3},
    "rise": {"n_masks": 6},
    "relax": {"n_masks": 6},
    "xrai": {"n_steps": 3, "segmenter": naspix.Grid(n_segments=9)},
    "occlusion": {"segmenter": naspix.Grid(n_segments=4)},
    "lime": {"n_samples": 8, "segmenter": naspix.Grid(n_segments=4)},
    "kernel_shap": {"n_samples": 16, "segmenter": naspix.Grid(n_segments=4)},
    "shapley": {"segmenter": naspix.Grid(n_segments=4)},
}
WITH_GRADIENTS = [
    "grad_cam_plus_plus",
    "grad_cam",
    "integrated_gradients",
    "vanilla_gradient",
    "input_x_gradient",
    "smoothgrad",
    "guided_backprop",
    "lrp",
    "xrai",
    "swag",
]
WITH_SCORES = [name for name in SALIENCY if name not in [*WITH_GRADIENTS, "attention_rollout"]]
OF_A_CLASS = [name for name, kind in SALIENCY.items() if kind.asks_class]
ON_A_CNN = [name for name in SALIENCY if name != "attention_rollout"]


def _vgg() -> nn.Module:
    plan = [8, "M", 8, "M", 16, "M", 16, "M", 16, "M"]
    network = nn.Sequential()  # torchvision's VGG without its hundred million weights
    network.features = torchvision.models.vgg.make_layers(plan, batch_norm=True)
    network.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 7))
    return network


def _resnet() -> nn.Module:
    block = torchvision.models.resnet.BasicBlock
    return torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=7)


FAMILIES = {
    "vgg": _vgg,
    "resnet": _resnet,
    "efficientnet": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=7),
    "convnext": lambda: timm.create_model(
        "convnext_atto", num_classes=7, depths=(1, 1, 2, 1), dims=(8, 16, 32, 64)
    ),
    "vit": lambda: torchvision.models.VisionTransformer(SIZE, 16, 12, 2, 16, 32, num_classes=7),
}


def _class_for(name: str, target: object) -> object:
    """What is asked about, where the method's map is of a class."""
    return target if SALIENCY[name].asks_class else None


@cache
def _model(family: str, dtype: torch.dtype = torch.float64) -> naspix.Classifier:
    torch.manual_seed(0)
    network = FAMILIES[family]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    for name, parameter in network.named_parameters():
        if "weight" in name and not parameter.any():  # torchvision's ViT begins with no head
            nn.init.normal_(parameter, std=0.2)
        elif "gamma" in name:  # ConvNeXt begins with no blocks
            nn.init.ones_(parameter)
    return naspix.wrap_model(
        network.to(dtype), mean=[0.5] * 3, std=[0.25] * 3, input_size=SIZE, name=family
    )


def _images(n: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return nn.functional.interpolate(coarse, SIZE, mode="bilinear")


def _state(network: nn.Module) -> list[object]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        [len(getattr(module, name)) for module in network.modules() for name in hooks],
        [module.training for module in network.modules()],
        [(p.requires_grad, p.grad is None) for p in network.parameters()],
        [float(value.double().sum()) for value in network.state_dict().values()],
        torch.get_rng_state().tolist(),
    ]


def _close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SALIENCY)
def test_contract(name, family):
    model, images = _model(family), _images()
    method = SALIENCY[name](model, **FEW.get(name, {}))
    targets = [2, 4] if method.asks_class else [None, None]
    target = torch.tensor(targets) if method.asks_class else None
    before = _state(model.network)
    if name in ON_A_CNN or family == "vit":
        heat = method(images, target)
    else:
        with pytest.raises(AttentionError) as error:
            method(images, target)
        _sentence(error, name)
        assert _state(model.network) == before
        return
    assert _state(model.network) == before
    assert heat.shape == (2, SIZE, SIZE)
    assert heat.dtype == images.dtype
    assert heat.isfinite().all()
    assert not heat.requires_grad
    assert (heat.flatten(1).std(1) > 0).any()  # a CAM of one image may be zero by right

    _close(torch.cat([method(images[i : i + 1], targets[i]) for i in range(2)]), heat)
    if hasattr(method, "batch_size"):
        _close(SALIENCY[name](model, **FEW.get(name, {}), batch_size=1)(images, target), heat)
    model.network.requires_grad_(False)
    try:
        with torch.inference_mode():
            _close(method(images.clone(), target), heat)
    finally:
        model.network.requires_grad_(True)


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
@pytest.mark.parametrize("family", ["resnet", "vit"])
@pytest.mark.parametrize("name", SALIENCY)
def test_bfloat16(name, family):
    if name == "attention_rollout" and family != "vit":
        pytest.skip("a network without attention")
    heat = SALIENCY[name](_model(family, torch.bfloat16), **FEW.get(name, {}))(
        _images(1, torch.float32), _class_for(name, 3)
    )
    assert heat.dtype == torch.float32
    assert heat.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", SALIENCY)
def test_cuda_gives_the_same_map(name):
    family, target = "resnet" if name in ON_A_CNN else "vit", _class_for(name, 2)
    expected = SALIENCY[name](_model(family), **FEW.get(name, {}))(_images(), target)
    model = naspix.wrap_model(
        _model(family).network, mean=[0.5] * 3, std=[0.25] * 3, input_size=SIZE
    ).cuda()
    try:
        heat = SALIENCY[name](model, **FEW.get(name, {}))(_images().cuda(), target)
        assert heat.device.type == "cuda"
        _close(heat.cpu(), expected)
    finally:
        model.cpu()


@pytest.mark.parametrize("name", OF_A_CLASS)
def test_why_class_a_and_not_b(name):
    """A contrast asks for a difference; of a class with itself there is none."""
    method = SALIENCY[name](_model("resnet"), **FEW.get(name, {}))
    contrast = method(_images(), naspix.Contrast(1, 2))
    assert contrast.isfinite().all()
    assert not torch.allclose(contrast, method(_images(), 1))
    _close(method(_images(), naspix.Contrast([1, 1], 2)), contrast)
    if name != "lime":  # of a constant score its regression keeps rounding
        assert float(method(_images(), naspix.Contrast(3, 3)).abs().max()) < 1e-9


class Quadrant(nn.Module):
    """Looks at the upper left quarter only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        seen = x[..., : SIZE // 2, : SIZE // 2]
        return self.head(self.first(seen).relu().mean((2, 3)))


@pytest.mark.parametrize("name", [n for n in OF_A_CLASS if n != "rise"])  # whose level is the score
def test_a_network_that_looks_at_one_quadrant(name):
    grid = naspix.Grid(n_segments=16)
    settings = dict(FEW.get(name, {}))
    if "segmenter" in settings or name == "swag":
        settings["segmenter"] = grid
    if name == "kernel_shap":
        settings["n_samples"] = 600
    if name == "lime":
        settings |= {"n_samples": 600, "ridge": 0.0}
    model = naspix.wrap_model(Quadrant().double(), input_size=SIZE, levels=["first"])
    if name.startswith("grad_cam"):
        # its layer sees the quadrant alone, laid over the image: no map of the image
        with pytest.raises(NaspixError, match=r"has no spatial map|level") as error:
            SALIENCY[name](model, layer="head")(_images(1), 0)
        assert type(SALIENCY[name](model)).__name__ in str(error.value)
        return
    heat = SALIENCY[name](model, **settings)(_images(1), 0)[0].abs()
    inside = heat[: SIZE // 2, : SIZE // 2]
    assert inside.max() > 0
    assert heat.sum() - inside.sum() < 1e-6 * inside.sum()


# -- what cannot be explained, in one sentence that names the method --


class Planted(nn.Module):
    def __init__(self, plant: nn.Module) -> None:
        super().__init__()
        self.first, self.plant = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), plant
        self.unused, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.plant(self.first(x)).mean((2, 3)))


class NoGrad(nn.Module):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Overflow(nn.Module):
    """Finite in value, infinite in slope."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x * 0).sqrt()


def _planted(plant: nn.Module) -> naspix.Classifier:
    return naspix.wrap_model(Planted(plant), input_size=16, levels=["first"])


def _sentence(error: pytest.ExceptionInfo[BaseException], name: str) -> str:
    text = str(error.value)
    assert SALIENCY[name].__name__ in text
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize("name", ON_A_CNN)
def test_no_gradients(name):
    method = SALIENCY[name](_planted(NoGrad()), **FEW.get(name, {}))
    images = _images(1, torch.float32)
    if name in WITH_SCORES:
        assert method(images, _class_for(name, 0)).isfinite().all()
        return
    with pytest.raises(ModelError) as error:
        method(images, 0)
    assert re.search("RISE|another layer", _sentence(error, name))


@pytest.mark.filterwarnings("ignore:.torch.jit", "ignore:`torch.jit")
@pytest.mark.parametrize("name", ON_A_CNN)
def test_a_scripted_network(name):
    scripted = torch.jit.trace(Planted(nn.Identity()).eval(), torch.rand(2, 3, 16, 16))
    model = naspix.wrap_model(scripted, input_size=16, levels=["first"])
    method = SALIENCY[name](model, **FEW.get(name, {}))
    images = torch.rand(1, 3, 16, 16)
    target = _class_for(name, 0)
    if name not in ("grad_cam", "grad_cam_plus_plus", "guided_backprop", "lrp"):
        assert method(images, target).isfinite().all()
        return
    with pytest.raises((ModelError, ActivationError)) as error:
        method(images, target)
    assert re.search("TorchScript|scripted", _sentence(error, name))


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_that_are_not_finite(name):
    with pytest.raises(ModelError) as error:
        SALIENCY[name](_planted(Overflow()), **FEW.get(name, {}))(_images(1, torch.float32), 0)
    text = _sentence(error, name)
    assert "not finite" in text or (name == "lrp" and "uses 'sqrt'" in text)


@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_plus_plus"])
def test_a_layer_that_never_ran(name):
    method = SALIENCY[name](_planted(nn.Identity()), layer="unused")
    with pytest.raises(ActivationError, match="'unused' is not reached") as error:
        method(_images(1, torch.float32), 0)
    _sentence(error, name)


def test_a_transformers_last_layer_says_so():
    model = _model("vit")
    with pytest.warns(NaspixWarning, match="zero everywhere on layer 'encoder.layers.*class token"):
        SALIENCY["grad_cam"](model, layer="encoder.layers.encoder_layer_11")(_images(), 1)


@pytest.mark.parametrize("name", ["xrai", "swag", "occlusion", "lime", "kernel_shap", "shapley"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, SIZE, SIZE), (SIZE, SIZE)])
def test_superpixels_of_another_shape(name, shape):
    class Wrong:
        superpixels = torch.zeros(shape, dtype=torch.int64)

    settings = {**FEW.get(name, {}), "segmenter": lambda images: Wrong()}
    with pytest.raises(InputError, match=r"superpixels are torch\.int64 of shape") as error:
        SALIENCY[name](_model("resnet"), **settings)(_images(1), 0)
    _sentence(error, name)


@pytest.mark.parametrize("name", [n for n in ON_A_CNN if n != "swag"])
def test_an_out_of_memory_halves_the_batch(name, monkeypatch):
    """Memory for one image at a time; SWAG's gradients are another method's."""
    model = _model("resnet")
    settings = FEW.get(name, {})
    expected = SALIENCY[name](model, **settings)(_images(), _class_for(name, 1))
    largest = 0
    forward = nn.Module._call_impl

    def small(self, *args, **kwargs):
        nonlocal largest
        if self is model.network:
            largest = max(largest, len(args[0]))
            if len(args[0]) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", small)
    _close(SALIENCY[name](model, **settings)(_images(), _class_for(name, 1)), expected)
    assert largest > 1


@pytest.mark.parametrize("name", ON_A_CNN)
def test_predicting_takes_no_larger_batches(name, monkeypatch):
    """The class that is not given is found a batch at a time too."""
    model = _planted(nn.Identity())
    largest = 0
    forward = type(model).forward

    def watched(self, images):
        nonlocal largest
        largest = max(largest, len(images))
        return forward(self, images)

    monkeypatch.setattr(type(model), "forward", watched)
    SALIENCY[name](model, **FEW.get(name, {}))(torch.rand(40, 3, 16, 16))
    assert largest <= 32


# -- what the documentation says of each --


@pytest.mark.parametrize("name", SALIENCY)
def test_docstrings_say_needs_cost_sign_and_source(name):
    text = " ".join(inspect.getdoc(SALIENCY[name]).split())
    assert re.search(r"Needs (gradients|scores|probabilities|attention|an embedding)", text)
    assert re.search(r"[Cc]osts? .*(forward|backward|what)", text)
    assert re.search(r"[Ss]igned|[Nn]ever negative|Sign and range", text)
    assert re.search(r"Source: .*\d{4}", text)
    if "reduce" in SALIENCY[name].__dataclass_fields__:
        assert re.search(r"How channels become one map, see ``reduce_channels``; .+", text)


# -- laws --


def test_completeness_and_efficiency_are_one_law():
    """IG over pixels and Shapley over superpixels share out the same difference of scores."""
    model, images = _model("resnet"), _images(1)
    with torch.no_grad():
        ends = [model(each)[0, 3] for each in (images, model.mean.expand_as(images).double())]
    shares = Shapley(model, segmenter=naspix.Grid(n_segments=4)).values(images, 3)[0].values
    assert float(shares.sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-6)
    attributions = IntegratedGradients(model).attributions(images, 3)
    assert float(attributions.completeness_error) < 0.01
    assert float(attributions.values.sum()) == pytest.approx(float(ends[0] - ends[1]), rel=0.01)


@pytest.mark.parametrize("name", ["vanilla_gradient", "smoothgrad", "integrated_gradients"])
def test_a_constant_added_to_the_logits_changes_nothing(name):
    model, images = _model("resnet"), _images(1)
    method = SALIENCY[name](model, **FEW.get(name, {}))
    before = method(images, 2)
    with torch.no_grad():
        model.network.fc.bias += 5
    _close(method(images, 2), before)


def test_a_logit_scaled_scales_its_gradient():
    model, images = _model("resnet"), _images(1)
    before = VanillaGradient(model)(images, 2)
    with torch.no_grad():
        model.network.fc.weight[2] *= 3
    after = VanillaGradient(model)(images, 2)
    with torch.no_grad():
        model.network.fc.weight[2] /= 3
    _close(after, 3 * before)
