"""Networks: what the server's owner allowed, and nothing else."""

import pytest
import torch
from safetensors.torch import save_file

import naspix
from naspix.app import Networks, networks_of
from naspix.errors import InputError, UnknownNameError


def test_networks_are_loaded_when_they_are_asked_for(model):
    loaded = []

    def load() -> naspix.Classifier:
        loaded.append(1)
        return model

    networks = Networks({"a": lambda: model, "b": load})
    assert networks.names == ("a", "b")
    assert loaded == []
    assert networks.load("b") is networks.load("b") is model
    assert loaded == [1]
    assert networks.load() is model
    networks.close()


def test_checkpoints_of_a_folder_are_offered_by_name(tmp_path):
    torch.manual_seed(3)
    network = naspix.load_model("resnet18", weights=None)
    state = {name: each.contiguous() for name, each in network.network.state_dict().items()}
    save_file(state, tmp_path / "resnet18-mine.safetensors")
    (tmp_path / "notes.txt").write_text("not a network")
    (tmp_path / "resnet18-old.pth").write_bytes(b"never read")
    networks = networks_of(folder=tmp_path)
    assert networks.names == ("efficientnet_lite0", "resnet18-mine")
    assert networks.line("resnet18-mine") == (
        "model = naspix.load_model('resnet18', weights='resnet18-mine.safetensors')"
    )
    assert networks.line("efficientnet_lite0") == "model = naspix.load_model('efficientnet_lite0')"
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(networks.load("resnet18-mine")(images), network(images))
    networks.close()


@pytest.mark.parametrize(
    "name", ["../resnet18-mine", "/etc/passwd", "resnet18-mine.safetensors", ""]
)
def test_nothing_else_is_reached(name, model):
    with pytest.raises(UnknownNameError, match="no network here"):
        Networks({"a": lambda: model}).load(name)


def test_a_folder_that_offers_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        networks_of(folder=tmp_path / "absent")
    with pytest.raises(InputError, match=r"no \.safetensors"):
        networks_of(folder=tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="does not begin"):
        networks_of(folder=tmp_path)
    with pytest.raises(InputError, match="at least one"):
        Networks({})


def test_code_of_ones_own_needs_its_flag_and_visitors_cannot_name_any(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import naspix\nfrom torch import nn\n\ndef make():\n"
        "    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(2))\n"
        "    return naspix.wrap_model(network, mean=0.5, std=0.5, input_size=8, levels=['0'])\n"
    )
    name = f"{tmp_path / 'mine.py'}:make"
    with pytest.raises(InputError, match="would run the code there; add --own-code"):
        networks_of((name,))
    networks = networks_of((name,), own_code=True, device="cpu")
    assert networks.names == ("mine.py:make",)
    assert networks.load("mine.py:make").input_size == (8, 8)
    assert str(tmp_path) not in networks.line("mine.py:make")
    for other in (name, f"{tmp_path / 'mine.py'}:other", "os:getcwd"):
        with pytest.raises(UnknownNameError):
            networks.load(other)


def test_why_a_network_cannot_be_loaded_names_no_folder(tmp_path):
    (tmp_path / "resnet18-mine.safetensors").write_bytes(b"no such thing")
    networks = networks_of(folder=tmp_path)
    with pytest.raises(InputError, match="resnet18-mine") as caught:
        networks.load("resnet18-mine")
    assert str(tmp_path.parent) not in str(caught.value)
