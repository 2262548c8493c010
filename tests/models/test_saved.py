"""A model as a folder: what is read back, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch

import naspix
from naspix.errors import InputError, UnknownNameError, WeightsError
from naspix.models.recipes import with_classes
from naspix.models.saved import is_saved, read_model, save_model


@pytest.fixture
def folder(tmp_path):
    made = with_classes("timm/test_resnet", 3, weights=None, seed=1)
    description = replace(made.recipe.description, categories=("a", "b", "ö"))
    save_model(tmp_path, description, made.network.state_dict())
    return tmp_path


def test_it_comes_back_as_it_was(folder):
    description, network = read_model(folder)
    fresh = with_classes("timm/test_resnet", 3, weights=None, seed=1).network.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in network.state_dict().items())
    assert description.categories == ("a", "b", "ö")
    model = naspix.load_model(str(folder))
    assert model.n_classes == 3
    assert model.mean.flatten().tolist() == pytest.approx(list(description.mean))


def test_names_come_before_folders(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "resnet18")
    assert naspix.load_model("resnet18", weights=None).n_classes == 1000
    assert naspix.load_model("./resnet18").n_classes == 3


def test_a_folder_without_a_model(tmp_path):
    assert not is_saved(tmp_path)
    with pytest.raises(UnknownNameError):
        naspix.load_model(tmp_path)


def _edited(folder, **change):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda f: (f / "model.json").unlink(), "there is no file .*model.json"),
        (lambda f: (f / "model.safetensors").unlink(), "there is no weights file"),
        (lambda f: (f / "model.json").write_text("{"), "model.json' is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "cannot be read"),
        (lambda f: _edited(f, schema="naspix-model/9"), "not of the form naspix-model/1"),
        (lambda f: _edited(f, mean=None), "holds nonsense"),
        (lambda f: _edited(f, network="resnet19"), "unknown network.*did you mean 'resnet18'"),
        (lambda f: _edited(f, network="timm/test_vit"), "do not fit"),
    ],
)
def test_damage_is_named(folder, harm, says):
    harm(folder)
    with pytest.raises(WeightsError, match=says):
        naspix.load_model(folder)


def test_names_of_other_classes(folder):
    _edited(folder, categories=["a", "b"])
    with pytest.raises(WeightsError, match=r"its 2 classes do not fit.*\(3, .*instead of \(2, "):
        naspix.load_model(folder)


def test_transfer_keeps_all_but_the_head():
    made = with_classes("efficientnet_lite0", 5)
    trained = naspix.load_model("efficientnet_lite0").network.state_dict()
    for name, tensor in made.network.state_dict().items():
        if name in made.head:
            assert tensor.shape[0] == 5
        else:
            assert torch.equal(tensor, trained[name])
    assert made.head == {"classifier.weight", "classifier.bias"}
    head = made.network.classifier
    assert float(head.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert not head.bias.any()
    thousand = with_classes("efficientnet_lite0", 1000)  # as many classes, but others
    weight = thousand.network.state_dict()["classifier.weight"]
    assert not torch.equal(weight, trained["classifier.weight"])
    with pytest.raises(InputError, match="two classes or more"):
        with_classes("resnet18", 1)


def test_transfer_from_a_file(folder):
    made = with_classes("timm/test_resnet", 7, weights=folder / "model.safetensors")
    trained = read_model(folder)[1].state_dict()
    for name, tensor in made.network.state_dict().items():
        assert name in made.head or torch.equal(tensor, trained[name])
    with pytest.raises(WeightsError, match="do not fit"):
        with_classes("timm/test_vit", 7, weights=folder / "model.safetensors")
