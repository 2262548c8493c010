"""Networks of the user's own by name, and what is taken for a classifier where one is asked for."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import naspix
from naspix.errors import InputError, ModelError, NaspixWarning, UnknownNameError, WeightsError
from naspix.models import as_classifier
from naspix.models.own_network import absolute_name, names_own_code, short_name

MINE = """
import torch
from torch import nn

import naspix
from parts import CHANNELS


def make():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(CHANNELS, 4),
    )
    made.image_size = 16
    return made


def silent():
    return nn.Sequential(*make())


class Net(nn.Sequential):
    image_size = 16

    def __init__(self):
        super().__init__(*make())


def wrapped():
    return naspix.wrap_model(
        make(), mean=0.5, std=0.25, input_size=32, categories=["a", "b", "c", "d"], name="theirs"
    )


def breaks():
    raise OSError("the weights are on another disk")


def nothing():
    make()


def needs(n_classes):
    return make()


net = make()
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text("CHANNELS = 6\n")
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("mine.py:make", True),
        (r"C:\nets\mine.py:make", True),
        ("/some where/mine.py:make", True),
        ("package.module:make", True),
        ("resnet18", False),
        (r"C:\nets\resnet18", False),
        (r"C:\nets\mine.py", False),
        ("mine.py", False),
        ("mine.py:", False),
        ("a/b:make", False),
        ("timm/resnet18.a1_in1k", False),
    ],
)
def test_names_of_own_code_are_told(name: str, own: bool) -> None:
    assert names_own_code(name) is own


def test_a_name_means_the_same_in_any_folder(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.chdir(file.parent)
    assert absolute_name("mine.py:make") == f"{file}:make"
    assert absolute_name("package.module:make") == "package.module:make"
    assert absolute_name("resnet18") == "resnet18"
    assert short_name(f"{file}:make") == "mine.py:make"


@pytest.mark.parametrize("function", ["make", "Net", "net"])
def test_a_module_is_wrapped_with_a_warning(file: Path, function: str) -> None:
    before, path = torch.get_rng_state(), list(sys.path)
    with pytest.warns(NaspixWarning, match="nobody says its mean and standard deviation"):
        model = naspix.load_model(f"{file}:{function}", output="sigmoid", categories=list("abcd"))
    assert torch.equal(torch.get_rng_state(), before)
    assert sys.path == path
    assert model.name == f"mine.py:{function}"
    assert model.scores.multi_label
    assert model.categories == ("a", "b", "c", "d")
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(images), model.network(images))


def test_a_module_that_says_no_size_is_asked_for_one(file: Path) -> None:
    """Photos of a folder are read apart, so the first cannot decide."""
    with (
        pytest.warns(NaspixWarning),
        pytest.raises(InputError, match=r"how large mine.py:silent wants .*input_size="),
    ):
        naspix.load_model(f"{file}:silent")


def test_a_classifier_is_taken_as_it_is(file: Path) -> None:
    model = naspix.load_model(f"{file}:wrapped")
    assert (model.name, model.input_size) == ("theirs", (32, 32))
    assert float(model.std.max()) == 0.25
    with pytest.raises(InputError, match="says itself what its scores and classes are"):
        naspix.load_model(f"{file}:wrapped", output="sigmoid")


def test_weights_of_a_file_go_into_it(file: Path, tmp_path: Path) -> None:
    model = naspix.load_model(f"{file}:wrapped")
    state = {name: tensor + 1 for name, tensor in model.network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "mine.pth")
    changed = naspix.load_model(f"{file}:wrapped", weights=tmp_path / "mine.pth")
    assert torch.equal(changed.network.state_dict()["4.bias"], state["4.bias"])
    torch.save({"other": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth' for .*mine\.py:wrapped do not fit"):
        naspix.load_model(f"{file}:wrapped", weights=tmp_path / "other.pth")


def test_a_module_of_a_package_is_imported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = file.parent / "naspix_test_package"
    package.mkdir()
    (package / "nets.py").write_text(MINE)
    monkeypatch.chdir(file.parent)
    assert naspix.load_model("naspix_test_package.nets:wrapped").name == "theirs"
    with pytest.raises(InputError, match=r"no module 'naspix_test_package\.net' to take"):
        naspix.load_model("naspix_test_package.net:wrapped")


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        ("mak", UnknownNameError, r"no function in '.*mine\.py', named 'mak'; did you mean 'make'"),
        ("breaks", ModelError, r"breaks\(\) .*: OSError: the weights are on .* \(line \d+ of mine"),
        ("needs", ModelError, r"needs\(\) .*TypeError: .*missing 1 required positional argument"),
        ("nothing", InputError, r"nothing\(\) in .* returned None; it must return a torch\.nn"),
        ("number", InputError, "'number' in .* is no function, but int"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    file: Path, function: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        naspix.load_model(f"{file}:{function}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("def make(:\n", "SyntaxError: invalid syntax"),
        ("import naspix_no_such_module\n", "No module named 'naspix_no_such_module' .line 1 of"),
        ("import sys\nsys.exit('usage: train.py')\n", "SystemExit: usage: train.py"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['-x'])\n", "SystemExit: 2"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(ModelError, match=rf"bad\.py' cannot be imported: .*{says}"):
        naspix.load_model(f"{tmp_path / 'bad.py'}:make")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file '.*none\.py' with the network 'make'"):
        naspix.load_model(f"{tmp_path / 'none.py'}:make")


def test_timms_networks_say_themselves_how_they_want_images(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    model = as_classifier(network, "this")
    assert tuple(model.mean.flatten().tolist()) == pytest.approx(network.pretrained_cfg["mean"])
    assert model.input_size == network.pretrained_cfg["input_size"][1:]
    assert model.crop_pct == network.pretrained_cfg["crop_pct"]
    assert as_classifier(model, "this") is model
    (tmp_path / "timms.py").write_text(
        "import timm\ndef make():\n    return timm.create_model('test_resnet', num_classes=3)\n"
    )
    assert naspix.load_model(f"{tmp_path / 'timms.py'}:make").crop_pct == model.crop_pct


def test_what_is_no_model_is_said() -> None:
    with pytest.raises(InputError, match=r"explain needs to know how Linear wants .*wrap_model"):
        as_classifier(nn.Linear(2, 2), "explain")
    grey = timm.create_model("test_resnet", in_chans=1)  # its three means do not fit
    with pytest.raises(InputError, match="wrap it"):
        as_classifier(grey, "explain")
    with pytest.raises(InputError, match=r"explain needs a model, .*, not Linear itself"):
        as_classifier(nn.Linear, "explain")
    with pytest.raises(InputError, match=r"check needs a model, .*, not int"):
        as_classifier(3, "check")
