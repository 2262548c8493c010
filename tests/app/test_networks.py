"""The shelf: what the server's owner allowed, and nothing else."""

import pytest
import torch
from safetensors.torch import save_file

import naspix
from naspix.app import Shelf, shelf_of
from naspix.errors import InputError, UnknownNameError


def test_networks_are_loaded_when_they_are_asked_for(model):
    loaded = []

    def load() -> naspix.Classifier:
        loaded.append(1)
        return model

    shelf = Shelf({"a": lambda: model, "b": load})
    assert shelf.names == ("a", "b")
    assert loaded == []
    assert shelf.load("b") is shelf.load("b") is model
    assert loaded == [1]
    assert shelf.load() is model
    shelf.close()


def test_checkpoints_of_a_folder_are_offered_by_name(tmp_path):
    torch.manual_seed(3)
    network = naspix.load_model("resnet18", weights=None)
    state = {name: each.contiguous() for name, each in network.network.state_dict().items()}
    save_file(state, tmp_path / "resnet18-mine.safetensors")
    (tmp_path / "notes.txt").write_text("not a network")
    (tmp_path / "resnet18-old.pth").write_bytes(b"never read")
    shelf = shelf_of(folder=tmp_path)
    assert shelf.names == ("efficientnet_lite0", "resnet18-mine")
    assert shelf.line("resnet18-mine") == (
        "model = naspix.load_model('resnet18', weights='resnet18-mine.safetensors')"
    )
    assert shelf.line("efficientnet_lite0") == "model = naspix.load_model('efficientnet_lite0')"
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(shelf.load("resnet18-mine")(images), network(images))
    shelf.close()


@pytest.mark.parametrize(
    "name", ["../resnet18-mine", "/etc/passwd", "resnet18-mine.safetensors", ""]
)
def test_nothing_else_is_reached(name, model):
    with pytest.raises(UnknownNameError, match="no network here"):
        Shelf({"a": lambda: model}).load(name)


def test_a_folder_that_offers_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        shelf_of(folder=tmp_path / "absent")
    with pytest.raises(InputError, match=r"no \.safetensors"):
        shelf_of(folder=tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="does not begin"):
        shelf_of(folder=tmp_path)
    with pytest.raises(InputError, match="at least one"):
        Shelf({})
