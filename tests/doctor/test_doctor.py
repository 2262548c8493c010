"""The doctor: each complaint planted in a network, and what it says of methods held to truth."""

import json
import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import naspix
from naspix.doctor import Diagnosis, check
from naspix.doctor.methods import measuring_memory
from naspix.errors import InputError, ModelError, NaspixError, NaspixWarning, UnknownNameError
from naspix.registry import SALIENCY
from naspix.saliency.base import target_for

SIZE = (32, 32)


class Plain(nn.Module):
    """Nothing to complain of: two stages, a head, and a place between them for what is planted."""

    def __init__(self, plant: object = None, width: int = 8, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
        self.plant = plant if plant is not None else nn.Identity()
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.plant(self.first(x))).mean((2, 3)))


class Strange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1).exp().clamp(max=3)


class Residual(nn.Module):
    """One activation module for two places, one called as a function, one sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x))
        y = F.gelu(self.conv(y))
        y += x
        return self.act(y)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x


class Blind(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return x * 2


class Overflow(nn.Module):
    """Finite in value, infinite in slope."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x * 0).sqrt()


class Shared(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def _quiet(make: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


PLANTS = {
    "plain": lambda: Plain(),
    "grey": lambda: Plain(channels=1),
    "five channels": lambda: Plain(channels=5),
    "residual": lambda: Plain(Residual()),
    "strange": lambda: Plain(Strange()),
    "unused": lambda: Plain(Unused()),
    "no_grad": lambda: Plain(Blind()),
    "overflow": lambda: Plain(Overflow()),
    "scripted": lambda: Plain(_quiet(lambda: torch.jit.script(nn.Sequential(nn.ReLU())))),
    "all scripted": lambda: _quiet(
        lambda: torch.jit.trace(Plain().eval(), torch.rand(2, 3, 32, 32))
    ),
    "parallel": lambda: nn.DataParallel(Plain()),
    "parallel inside": lambda: Plain(nn.DataParallel(nn.Conv2d(8, 8, 1))),
    "frozen and no_grad": lambda: Plain(Blind()).requires_grad_(False),
    "frozen": lambda: Plain().requires_grad_(False),
    "batch statistics": lambda: Plain(nn.BatchNorm2d(8, track_running_stats=False)),
    "tanh": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
    ),
    "bfloat16": lambda: Plain().bfloat16(),
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=6),
}


def _model(name: str) -> naspix.Classifier:
    torch.manual_seed(0)
    network = PLANTS[name]()
    inner = network.module if isinstance(network, nn.DataParallel) else network
    channels = inner.first[0].in_channels if isinstance(inner, Plain) else 3
    for parameter in network.parameters():  # torchvision's ViT begins with a head of zeros
        if not parameter.any():
            with torch.no_grad():
                parameter.normal_(std=0.1)
    levels = {"tanh": ["0", "1"], "vit": None}.get(name, ["first", "second"])
    return naspix.wrap_model(
        network, mean=[0.5] * channels, std=[0.3] * channels, input_size=SIZE, levels=levels
    )


def _found(diagnosis: Diagnosis) -> dict[str, tuple[str, ...]]:
    return {finding.what: finding.where for finding in diagnosis.findings() if finding.where}


def test_nothing_is_found_where_nothing_is_planted():
    diagnosis = check(_model("plain"))
    assert _found(diagnosis) == {}
    refused = [method.method for method in diagnosis.methods if not method.serves or method.why]
    assert refused == ["attention_rollout"]  # a convolutional network attends to nothing
    assert [method.method for method in diagnosis.methods] == list(SALIENCY)
    levels = [(one.module, one.shape, one.layout) for one in diagnosis.network.levels]
    assert levels == [("first", (8, 32, 32), "map"), ("second", (8, 16, 16), "map")]
    assert diagnosis.network.n_parameters == sum(p.numel() for p in Plain().parameters())


def test_what_happens_in_a_residual_block():
    found = _found(check(_model("residual")))
    assert found == {
        "in-place operations": ("plant.act (relu)", "plant (add)"),
        "modules used twice": ("plant.conv (2 times)", "plant.act (2 times)"),
        "activations no hook sees": ("plant (gelu)",),
    }


def test_layers_without_a_rule_are_all_named():
    diagnosis = check(_model("strange"))
    assert set(_found(diagnosis)["no LRP rule"]) == {
        "layer 'plant' uses 'exp'",
        "layer 'plant' uses 'cumsum'",
    }
    assert not diagnosis.serves("lrp")
    assert diagnosis.serves("integrated_gradients")
    why = next(method.why for method in diagnosis.methods if method.method == "lrp")
    assert "layer 'plant'" in why


@pytest.mark.parametrize(
    ("plant", "what", "where"),
    [
        ("unused", "modules not called", ("plant.auxiliary",)),
        ("parallel", "DataParallel, compiled", ("DataParallel around the network",)),
        ("parallel inside", "DataParallel, compiled", ("DataParallel at plant",)),
        ("frozen", "frozen parameters", ("862 parameters",)),
        ("batch statistics", "statistics of the batch", ("plant",)),
        ("bfloat16", "half precision", ("bfloat16",)),
        ("scripted", "scripted, quantised or a function", ("plant (scripted)",)),
        (
            "no_grad",
            "gradients missing",
            ("no gradients reach the pixels (is it quantised, or under no_grad inside?)",),
        ),
        (
            "overflow",
            "gradients missing",
            ("gradients are not finite (NaN or infinite)",),
        ),
    ],
)
def test_each_complaint(plant, what, where):
    diagnosis = check(_model(plant))
    assert _found(diagnosis)[what] == where
    assert what in repr(diagnosis)


def test_dropout_that_drops_in_eval_mode():
    class Careless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5)

    careless = naspix.wrap_model(Plain(Careless()), input_size=SIZE, levels=["first"])
    assert _found(check(careless))["random in eval mode"] == ("plant (dropout)",)
    careful = naspix.wrap_model(Plain(nn.Dropout()), input_size=SIZE, levels=["first"])
    assert "random in eval mode" not in _found(check(careful))


def test_quantised_layers_are_named():
    quantised = pytest.importorskip("torch.ao.nn.quantized.dynamic")
    network = Plain()
    network.head = _quiet(lambda: quantised.Linear(8, 6))
    model = naspix.wrap_model(network, input_size=SIZE, levels=["first"])
    diagnosis = check(model)
    assert _found(diagnosis)["scripted, quantised or a function"] == ("head (quantised)",)
    served = {method.method for method in diagnosis.methods if method.serves}
    assert served == {"rise", "occlusion", "lime", "kernel_shap", "shapley", "relax"}


def test_levels_that_are_no_maps():
    model = naspix.wrap_model(Plain(), input_size=SIZE, levels=["first", "head"])
    first, head = check(model).network.levels
    assert first.problem == ""
    assert head.shape is None
    assert head.problem.startswith("has no spatial map: its output is 2 x 6")


def test_token_grids():
    levels = check(_model("vit")).network.levels
    assert {one.layout for one in levels} == {"tokens"}
    assert {one.shape for one in levels} == {(16, 4, 4)}
    assert {one.prefix_tokens for one in levels} == {1}
    assert "16 x 4 x 4, tokens after 1 class token" in repr(check(_model("vit")))


QUICK = {
    "integrated_gradients": {"n_steps": 2, "max_steps": 2, "tolerance": 1.0},
    "smoothgrad": {"n_samples": 2},
    "rise": {"n_masks": 2},
    "relax": {"n_masks": 2},
    "xrai": {"n_steps": 2},
    "lime": {"n_samples": 4},
    "kernel_shap": {"n_samples": 60},
    "shapley": {"n_pairs": 2},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plant", PLANTS)
def test_a_method_serves_if_and_only_if_it_works(plant):
    model = _model(plant)
    diagnosis = check(model)
    image = torch.rand(1, model.in_channels, *SIZE)
    for name, kind in SALIENCY.items():
        method = kind(model, **QUICK.get(name, {}))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", ".*zero everywhere", NaspixWarning)
                worked = bool(method(image, target_for(kind, 0)).isfinite().all())
        except (NaspixError, NaspixWarning):
            worked = False
        assert diagnosis.serves(name) == worked, name


def _smooth(channels: int = 3, size: tuple[int, int] = SIZE) -> Tensor:
    coarse = torch.rand(1, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size, mode="bilinear")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in SALIENCY if name != "attention_rollout"])
def test_passes_are_those_that_the_methods_make(name, monkeypatch):
    """Default settings; counted where images go in, and where gradients come back."""
    network = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten())
    model = naspix.wrap_model(network, input_size=(32, 40), levels=["1", "2"])
    image = _smooth(size=(32, 40))
    said = next(one for one in check(model, image).methods if one.method == name)
    count = {"forwards": 0, "backwards": 0}
    forward = type(model).forward

    def counting(self, images):
        logits = forward(self, images)
        count["forwards"] += len(images)
        if logits.requires_grad:
            logits.register_hook(counting_back)
        return logits

    def counting_back(gradient):
        count["backwards"] += len(gradient)

    model.n_classes  # noqa: B018 -- asked for once, by a forward of its own
    monkeypatch.setattr(type(model), "forward", counting)
    settings = {"tolerance": 1e9} if name == "integrated_gradients" else {}
    SALIENCY[name](model, **settings)(image, target_for(SALIENCY[name], 0))
    if name == "shapley":  # SLIC makes about as many superpixels as it is told
        assert count["forwards"] == pytest.approx(said.forwards, rel=0.3)
    else:
        assert abs(count["forwards"] - said.forwards) <= 2
    if name != "lrp":  # whose backwards are the layers' own
        assert count["backwards"] == said.backwards


@pytest.mark.filterwarnings("ignore")
def test_memory_is_that_of_the_method():
    """Fewer passes than by default, but as many at a time."""
    torch.manual_seed(0)
    model = naspix.wrap_model(Plain(Residual(), width=8), input_size=SIZE, levels=["first"])
    image = _smooth()
    settings = {
        "integrated_gradients": {"n_steps": 16, "max_steps": 16},
        "smoothgrad": {"n_samples": 32},
        "xrai": {"n_steps": 16},
        "rise": {"n_masks": 32},
        "relax": {"n_masks": 32},
        "lime": {"n_samples": 32},
        "kernel_shap": {"n_samples": 64},
        "shapley": {"n_pairs": 2},
    }
    for said in check(model, image).methods:
        if said.needs == "attention":
            assert (said.serves, said.memory) == (False, 0)
            continue
        kind = SALIENCY[said.method]
        with measuring_memory() as memory:
            kind(model, **settings.get(said.method, {}))(image, target_for(kind, 0))
        assert 0.6 < said.memory / memory.peak < 1.2, said.method


def test_the_network_is_left_as_it_came():
    model = _model("residual")
    network = model.network.train()
    network.second.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    check(model)
    assert network.training
    assert not network.second.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_under_the_callers_modes(mode):
    model = _model("plain")
    expected = check(model)
    with mode():
        assert check(model) == expected


def test_images_given():
    model = _model("plain")
    assert check(model, torch.rand(5, 3, 16, 24)).network.input_size == (3, 16, 24)
    with pytest.raises(InputError, match="0 to 255"):
        check(model, torch.rand(1, 3, 16, 16) * 255)
    small = nn.Sequential(nn.Flatten(), nn.Linear(27, 4))
    small = naspix.wrap_model(small, input_size=3, levels=["0"])
    with pytest.raises(ModelError, match="fails on images"):
        check(small, torch.rand(1, 3, 8, 8))


def test_the_former_method_says_where_it_went():
    with pytest.raises(AttributeError, match=r"naspix\.check\(model\)"):
        _model("plain").check()
    assert naspix.check is check


def test_a_layer_of_which_only_the_class_token_is_read():
    """The last of three layers: its map takes no part in the score, so CAMs take one before it."""
    model = _model("vit")
    assert check(model).serves("grad_cam")
    assert model.deepest_level == len(model.levels) - 2
    last = naspix.wrap_model(model.network, input_size=SIZE, levels=[model.levels[-1]])
    diagnosis = check(last)
    assert not diagnosis.serves("grad_cam")
    assert not diagnosis.serves("grad_cam_plus_plus")
    assert diagnosis.serves("vanilla_gradient")
    assert "zero everywhere on layer" in " ".join(repr(diagnosis).split())


def test_unknown_methods_list_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'lrp'"):
        check(_model("plain")).serves("lrpp")


def test_the_table():
    lines = repr(check(_model("strange"))).splitlines()
    assert lines[0].startswith("Plain: scores: softmax, assumed: it returns 6 numbers an image; ")
    assert lines[1] == "classes, 0.0 M parameters, float32 on cpu"
    assert "  0  first   8 x 32 x 32" in lines
    assert any(line.startswith("! no LRP rule") for line in lines)
    assert any(line.split() == ["LRP", "no", "-", "-", "-"] for line in lines)
    assert any(line.startswith("  LRP: LRP cannot explain Plain") for line in lines)
    assert max(map(len, lines)) <= 88


def test_as_html_and_json():
    diagnosis = check(_model("strange"))
    page = diagnosis._repr_html_()
    assert page.count("<table>") == 3
    assert "layer &#x27;plant&#x27; uses &#x27;exp&#x27;" in page
    record = json.loads(json.dumps(diagnosis.to_dict()))
    assert record["network"]["levels"][0]["shape"] == [8, 32, 32]
    assert {method["method"] for method in record["methods"]} == set(SALIENCY)
    assert len(record["findings"]) == len(diagnosis.findings())


def test_the_member_of_an_ensemble_that_levels_are_of_is_said():
    class Ensemble(nn.Module):
        def __init__(self):
            super().__init__()
            self.members = nn.ModuleList(
                torchvision.models.resnet18(num_classes=3) for _ in range(2)
            )

        def forward(self, images):
            return torch.stack([member(images) for member in self.members]).mean(0)

    torch.manual_seed(0)
    diagnosis = check(naspix.wrap_model(Ensemble(), input_size=64), torch.rand(2, 3, 64, 64))
    said = "members.0, one of 2 members (members.0, members.1)"
    assert diagnosis.network.member == said
    assert f"Levels of {said}; levels= names others" in repr(diagnosis)
    alone = check(naspix.wrap_model(Ensemble().members[0], input_size=64))
    assert alone.network.member == ""
