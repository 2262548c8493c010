"""The front door's own mistakes: each is one sentence, or does what was meant."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import naspix
import naspix.folders
from naspix.errors import (
    ActivationError,
    ImageError,
    InputError,
    ModelError,
    OutputError,
    UnknownNameError,
)
from naspix.saliency import RISE, GradCAM


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=5).eval()


@pytest.fixture(scope="module")
def model(network):
    return naspix.wrap_model(network, input_size=64)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# --- a model that is none yet --------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda net, images: naspix.explain(net, images),
        lambda net, images: naspix.check(net),
    ],
)
def test_a_bare_module_is_asked_to_be_wrapped(ask, network, images):
    with pytest.raises(InputError, match=r"needs to know how ResNet wants .*naspix\.wrap_model"):
        ask(network, images)


def test_names_and_networks_of_timm_are_taken_alike(images):
    net = timm.create_model("test_resnet", num_classes=3)
    for given in (net, "efficientnet_lite0"):
        assert len(naspix.explain(given, images)) == 1
    assert naspix.check(net, images).network.levels


def test_a_mistyped_path_is_said_before_a_network_is_loaded(monkeypatch, tmp_path):
    def load(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sys.modules["naspix.explain"], "as_classifier", load)
    with pytest.raises(ImageError, match=r"there is no image file 'cta\.jpg'"):
        naspix.explain("resnet18", ["cta.jpg"])
    monkeypatch.setattr("naspix.models.loading.load_model", load)
    settings = naspix.folders.PhotoSettings()
    with pytest.raises(InputError, match=r"there is no image file 'cta\.jpg'"):
        naspix.folders.explain_photos(settings, tmp_path / "new", paths=["cta.jpg"])
    assert not (tmp_path / "new").exists()


# --- methods and segmenters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": GradCAM}, r"method=GradCAM is a class; give GradCAM\(model\) .*'grad_cam'"),
        ({"segmenter": naspix.SLIC}, r"segmenter=SLIC is a class; give SLIC\(\) or .*'slic'"),
        ({"segmenter": [naspix.NAS]}, r"segmenter=NAS is a class; give NAS\(model\)"),
        ({"method": "GradCAM"}, "no saliency method 'GradCAM'; did you mean 'grad_cam'.$"),
        ({"method": "Grad-CAM++"}, "did you mean 'grad_cam_plus_plus'.$"),
        ({"segmenter": "NormalizedCut"}, "did you mean 'normalized_cut'.$"),
        (
            {"method": lambda images, target: torch.full((1, 64, 64), torch.nan)},
            "saliency method 'lambda' returned values that are not finite",
        ),
    ],
)
def test_what_is_no_method_or_segmenter(options, says, model, images):
    with pytest.raises(InputError, match=says):
        naspix.explain(model, images, **options)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_segmenters_may_return_labels_and_methods_arrays(kind, model, images):
    def halves(images):
        labels = np.zeros((1, 64, 64), np.int64)
        labels[:, 32:] = 7
        return kind(labels)

    def rows(images, target):
        return np.arange(64.0)[None, :, None].repeat(64, 2)

    explanation = naspix.explain(model, images, method=rows, segmenter=halves)
    pooled = explanation.pooled["rows", "halves"][0]
    assert pooled[0, 0] == 15.5
    assert pooled[63, 0] == 47.5


def test_superpixelify_takes_arrays():
    heat, labels = np.array([[[0.0, 2.0, 5.0]]]), np.array([[[7, 7, 3]]], ">i4")
    assert naspix.superpixelify(heat, labels).tolist() == [[[1, 1, 5]]]
    with pytest.raises(InputError, match="saliency are numbers, not <U1"):
        naspix.superpixelify(np.array([[["a"]]]), labels)


def test_a_layer_may_be_given_as_a_module(network, model, images):
    method = GradCAM(model, layer=network.layer3)
    assert "layer='layer3'" in repr(method)
    assert torch.equal(method(images), GradCAM(model, layer="layer3")(images))
    with pytest.raises(UnknownNameError, match="the Linear given as a level is no module inside"):
        GradCAM(model, layer=nn.Linear(2, 2))


# --- networks that do not answer as a classifier does --------------------------------------------


def test_weights_that_are_not_finite_are_named(images):
    net = torchvision.models.resnet18(num_classes=5)
    net.layer1[0].conv1.weight.data[0] = torch.nan
    model = naspix.wrap_model(net, input_size=64)
    says = r"weights are not finite themselves \('layer1\.0\.conv1\.weight'\); load others"
    for ask in (
        lambda: naspix.explain(model, images),
        lambda: naspix.explain(model, images, segmenter="slic"),
        lambda: naspix.saliency.VanillaGradient(model)(images, 0),
        lambda: naspix.saliency.XRAI(model)(images, 0),
        lambda: naspix.metrics.lerf(model, images, torch.rand(1, 64, 64), target=0),
    ):
        with pytest.raises((ModelError, InputError), match=says):
            ask()


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return [{"boxes": maps.flatten(), "scores": maps.mean()} for maps in self.conv(images)]


def test_a_detector_is_told_what_still_works(images):
    with pytest.raises(ModelError, match=r"Detector returns detections \(boxes, scores\) .*RISE"):
        naspix.explain(naspix.wrap_model(Detector()), images)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")
def test_an_opaque_module_is_told_what_still_works(network, images):
    model = naspix.wrap_model(torch.jit.trace(network, images), input_size=64)
    with pytest.raises(ActivationError, match=r"a segmenter such as SLIC, and a method .* RISE"):
        naspix.explain(model, images)
    rise = RISE(model, n_masks=4)
    assert len(naspix.explain(model, images, method=rise, segmenter="slic")) == 1


def test_an_exported_module_is_told_what_still_works(images):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    ).eval()
    batch = torch.export.Dim("batch", min=1)
    two = torch.cat([images[:1], images[:1]])
    exported = torch.export.export(net, (two,), dynamic_shapes=({0: batch},)).module()
    model = naspix.wrap_model(exported, input_size=64)
    with pytest.raises(ModelError, match=r"exported from, .*a segmenter such as SLIC, .* RISE"):
        naspix.explain(model, images)
    assert len(naspix.explain(model, images, method=RISE(model, n_masks=4), segmenter="slic"))
    fixed = torch.export.export(net, (two,)).module()
    with pytest.raises(ModelError, match=r"exported for one shape .*dynamic_shapes.*forward="):
        naspix.wrap_model(fixed, input_size=64)(torch.cat([two, two]))


def test_an_encoder_without_head_has_no_classes(images):
    bare = torchvision.models.resnet18()
    bare.fc = nn.Identity()
    for net in (timm.create_model("test_resnet", num_classes=0), bare):
        model = naspix.wrap_model(net, input_size=64)
        assert model.scores.output == "none"
        assert "it returns features" in str(model.scores)
        first = naspix.explain(model, images).predictions[0][0]
        assert first.name.startswith("output ")
        assert not first.is_probability
        assert naspix.wrap_model(net, output="softmax").scores.output == "softmax"


# --- where results go ----------------------------------------------------------------------------


def test_a_page_alone_is_saved(model, images, tmp_path):
    explanation = naspix.explain(model, images)
    explanation.save(tmp_path / "page.HTML")
    assert "<html" in (tmp_path / "page.HTML").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.HTML"]


def test_a_commands_folder_is_not_written_over(model, images, tmp_path):
    settings = naspix.folders.PhotoSettings(methods=("vanilla_gradient",), segmenters=("grid",))
    naspix.folders.explain_photos(settings, tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(OutputError, match=r"holds a run of naspix, .* save into another folder"):
        naspix.explain(model, images).save(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("wsol",), {"dataset": "voc"}, r"evaluate\('wsol', ...\) needs root as well"),
        (("wsol", "out"), {}, "needs dataset and root as well"),
        (("wsol", "out"), {"datasets": "voc"}, "no setting of evaluate 'datasets'; did you mean"),
        (("wsol",), {"dataset": "voc", "root": "x"}, "needs the run's folder as well"),
    ],
)
def test_evaluate_says_what_lacks(arguments, options, says):
    with pytest.raises(InputError, match=says):
        naspix.evaluate(*arguments, **options)


def test_evaluate_takes_settings_by_name(tmp_path):
    import skimage.data
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        Image.fromarray(skimage.data.chelsea()).save(tmp_path / "photos" / f"{name}.png")
    options = {
        "dataset": "photos", "root": tmp_path / "photos", "methods": ("vanilla_gradient",),
        "segmenters": ("none", "grid"), "limit": 1,
    }  # fmt: skip
    run = naspix.evaluate("lerf", tmp_path / "run", **options)
    assert run.n_items == 1
    (tmp_path / "photos" / "one.png").rename(tmp_path / "photos" / "three.png")
    with pytest.raises(InputError, match="other pictures in the data set"):
        naspix.evaluate("lerf", tmp_path / "run", **options)


def test_the_package_is_a_command():
    found = subprocess.run(
        [sys.executable, "-m", "naspix", "--version"], capture_output=True, text=True, check=False
    )
    assert found.stdout.startswith(f"naspix {naspix.__version__}")


WRONG_TYPES = """
import numpy as np, torch, torchvision
import naspix
from naspix.saliency import GradCAM

net = torchvision.models.resnet18(num_classes=5)
model, images = naspix.wrap_model(net, input_size=64), torch.rand(1, 3, 64, 64)
assert naspix.NAS(model, levels=[net.layer2, 3]).levels == ("layer2", 3)
assert naspix.NAS("efficientnet_lite0")(images).clusters.shape == (1, 64, 64)
assert GradCAM("efficientnet_lite0")(images).shape == (1, 64, 64)
for ask, says in (
    (lambda: naspix.NAS(net), "NAS needs to know how ResNet wants its images"),
    (lambda: GradCAM(net), "GradCAM needs to know how ResNet wants its images"),
    (lambda: naspix.explain(model, images, segmenter=None), "segmenter is a name, such as 'nas'"),
    (lambda: naspix.explain(model, images, method=[None]), "method is a name, such as"),
    (lambda: naspix.explain(model, images, method=3), "or several of these, not int"),
    (lambda: naspix.explain(3, images), "explain needs a model, as load_model"),
    (lambda: naspix.check(3), "check needs a model, as load_model"),
    (lambda: naspix.superpixelify(np.zeros((1, 2, 2)), [[[0]]]), "labels is a tensor or an array"),
    (lambda: naspix.evaluate(3, "out"), "evaluate takes EvaluationSettings, or a task's name"),
):
    try:
        ask()
    except naspix.NaspixError as error:
        assert says in str(error), error
    else:
        raise AssertionError(says)
"""


def test_other_types_than_those_declared():
    """Where types are not checked, as they are in these tests."""
    found = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_columns_hold_long_names():
    from naspix.cli.explain import _in_column

    assert _in_column("cat") == "cat" + 21 * " "
    assert _in_column("a" * 20 + "b" * 20) == "a" * 11 + "…" + "b" * 12
