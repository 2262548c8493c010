"""Weights from files: checkpoints as people have them, what is refused, and how it is said."""

import argparse
import datetime
import pathlib
import types
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import naspix
from naspix.errors import NaspixWarning, WeightsError
from naspix.models.checkpoints import read_state
from naspix.models.weights import fitted


class Tiny(nn.Module):
    def __init__(self, n_classes: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, n_classes or 6)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {name: torch.randn_like(t.float()) for name, t in Tiny().state_dict().items()}


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: _prefixed(s, "module."),
        lambda s: _prefixed(s, "model."),
        lambda s: _prefixed(s, "module.model."),
        lambda s: _prefixed(s, "_orig_mod."),
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": _prefixed(s, "module."), "optimizer": {"lr": 0.1}},
        lambda s: {"model_state_dict": s},
        lambda s: {**_prefixed(s, "model."), "criterion.weight": torch.ones(6)},
        lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    ],
)
def test_state_dictionaries_as_people_save_them(
    tmp_path: Path, state: dict[str, Tensor], wrap: Any
) -> None:
    torch.save(wrap(state), tmp_path / "w.pth")
    network, usual = fitted(Tiny, read_state(tmp_path / "w.pth"), "weights")
    assert usual
    for name, tensor in network.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, state[name]), name


def test_safetensors(tmp_path: Path, state: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(state, tmp_path / "w.safetensors")
    network, _ = fitted(Tiny, read_state(tmp_path / "w.safetensors"), "weights")
    assert torch.equal(network.fc.weight, state["fc.weight"])


def test_weights_of_another_class_count(tmp_path: Path) -> None:
    trained = torchvision.models.mobilenet_v3_small(num_classes=7)
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    model = naspix.load_model("mobilenet_v3_small", weights=tmp_path / "w.pt")
    assert model.categories is None
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        model(images), trained.eval()(model.standardize(images))
    )  # layouts differ
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "w.pt")
    same = naspix.load_model("mobilenet_v3_small", weights=str(tmp_path / "w.pt"))
    assert same.category(282) == "tiger cat"


def test_weights_of_timm_with_another_class_count(tmp_path: Path) -> None:
    import timm

    trained = timm.create_model("convnext_atto", num_classes=11)
    torch.save({"state_dict": _prefixed(trained.state_dict(), "module.")}, tmp_path / "w.pt")
    assert naspix.load_model("timm/convnext_atto", weights=tmp_path / "w.pt").n_classes == 11


def test_weights_that_do_not_fit_list_what_does_not(state: dict[str, Tensor]) -> None:
    state["conv.weight"] = torch.zeros(2, 1, 3, 3)
    state["extra"] = torch.zeros(1)
    del state["bn.bias"]
    with pytest.raises(WeightsError) as caught:
        fitted(Tiny, state, "the weights 'w.pth' for tiny")
    assert str(caught.value) == (
        "the weights 'w.pth' for tiny do not fit; of their tensors, 1 missing (bn.bias), "
        "1 not known to the network (extra), 1 of another shape "
        "(conv.weight (2, 1, 3, 3) instead of (2, 3, 3, 3))"
    )


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code was run",))


def test_bad_weights_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match=r"there is no weights file 'nowhere\.pth'"):
        naspix.load_model(weights="nowhere.pth")
    path = tmp_path / "w.pth"
    for content, said in (
        (Evil(), "more than tensors"),
        (Tiny(), "more than tensors"),
        ([1, 2], "holds no tensors by name"),
        ({"epoch": 1}, "holds no tensors by name"),
    ):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=said):
            read_state(path)
    assert "code was run" not in capsys.readouterr().out
    for content in (b"", b"no weights at all"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"w\.pth' (cannot be read|is damaged)"):
            read_state(path)
    path.write_bytes(b"hello")  # for which torch has no better word than 101
    with pytest.raises(WeightsError, match="not in a format that PyTorch or safetensors write"):
        read_state(path)
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"nor here")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state(path)


# --- what people save beside the tensors ---------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, layers=[1, 2], path=pathlib.Path("a/b")),
        types.SimpleNamespace(lr=0.1),
        np.float64(0.5),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.str_("word"),
        np.datetime64("2026-01-02"),
        np.arange(6.0).reshape(2, 3),
        np.array(["cat", "dog"]),
        np.array(["cat", None], dtype=object),
        np.dtype(">u2"),
        np.arange(3, dtype=">u2"),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 2),
        datetime.timedelta(hours=1),
        pathlib.PurePosixPath("a/b"),
        pathlib.PureWindowsPath("a/b"),
        OrderedDict(a=1),
        defaultdict(list, a=[1]),
        Counter("aab"),
        {1, 2},
        frozenset([1]),
        slice(1, 2),
        range(3),
        (1, "a", 2j, None, b"x", bytearray(b"y")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_beside_the_tensors_are_let_through(
    tmp_path: Path, state: dict[str, Tensor], beside: object
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": state, "beside": beside}, path)
    assert read_state(path).keys() == state.keys()


@pytest.mark.parametrize("legacy", [True, False])
def test_an_old_numpys_names_and_files(
    tmp_path: Path, state: dict[str, Tensor], legacy: bool
) -> None:
    path = tmp_path / "w.pth"
    torch.save(
        {"state_dict": state, "best": np.float64(0.5), "curve": np.arange(3.0)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    content = path.read_bytes()
    if legacy:  # a text protocol: names can be put in the place of names
        assert b"numpy._core" in content
        path.write_bytes(content.replace(b"numpy._core.", b"numpy.core."))
    assert read_state(path).keys() == state.keys()


def test_a_windows_path_is_read_on_other_systems(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "w.pth"
    torch.save(
        {"state_dict": state, "file": pathlib.PureWindowsPath("c:/a")},
        path,
        _use_new_zipfile_serialization=False,
    )
    path.write_bytes(path.read_bytes().replace(b"PureWindowsPath", b"WindowsPath"))
    assert read_state(path).keys() == state.keys()


def test_no_object_comes_in_by_numpys_scalar(tmp_path: Path) -> None:
    class Hidden:
        def __reduce__(self) -> Any:
            return np._core.multiarray.scalar, (np.dtype("O"), b"anything")

    torch.save({"a": torch.zeros(1), "b": Hidden()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"more than tensors \(numpy\.object\)"):
        read_state(tmp_path / "w.pth")


def test_what_stops_a_file_is_named(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"\(torch\.nn\.modules\.linear\.Linear\), and code in"):
        read_state(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


# --- how training wraps weights ------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda s: {"mine": s, "optimizer": {"state": {}, "buffers": {"a": torch.ones(1)}}},
        lambda s: {**s, "epoch": 3, "args": argparse.Namespace(lr=1)},
        lambda s: {"model_ema": {"n_averaged": torch.tensor(3), **_prefixed(s, "module.")}},
        lambda s: {"state_dict_ema": s},
        lambda s: {  # Lightning's
            "epoch": 3,
            "pytorch-lightning_version": "2.5",
            "state_dict": {**_prefixed(s, "model."), "loss.weight": torch.ones(6)},
            "hyper_parameters": {"lr": 0.1},
            "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}}],
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        },
        lambda s: _prefixed(s, "_orig_mod.module."),
        lambda s: _prefixed(s, "module._orig_mod."),
        lambda s: {k.replace("conv.", "conv._orig_mod."): v for k, v in s.items()},
        lambda s: _prefixed(s, "classifier_network."),
        lambda s: {"model": {**_prefixed(s, "student."), "teacher.conv.weight": torch.ones(1)}},
    ],
)
def test_checkpoints_as_training_writes_them(
    tmp_path: Path, state: dict[str, Tensor], wrap: Any
) -> None:
    torch.save(wrap(state), tmp_path / "w.pth")
    network, usual = fitted(Tiny, read_state(tmp_path / "w.pth"), "weights")
    assert usual
    assert torch.equal(network.fc.weight, state["fc.weight"])
    assert torch.equal(network.conv.weight, state["conv.weight"])


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema"])
def test_averaged_weights_go_before_the_others_with_a_word(
    tmp_path: Path, state: dict[str, Tensor], key: str
) -> None:
    averaged = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": state, key: averaged}, tmp_path / "w.pth")
    with pytest.warns(NaspixWarning, match=f"in 'model' and their average in '{key}', which is"):
        read = read_state(tmp_path / "w.pth")
    assert torch.equal(read["fc.weight"], averaged["fc.weight"])


def test_several_networks_in_one_file_are_not_chosen_among(state: dict[str, Tensor]) -> None:
    several = {**_prefixed(state, "student."), **_prefixed(state, "teacher.")}
    with pytest.raises(WeightsError, match="of several networks: 'student' and 'teacher'; save"):
        fitted(Tiny, several, "weights")


class InSequence(Tiny):
    def __init__(self, n_classes: int | None = None) -> None:
        super().__init__(n_classes)
        self.fc = nn.Sequential(nn.Dropout(), self.fc)  # type: ignore[assignment]


@pytest.mark.parametrize(("trained", "asked"), [(InSequence, Tiny), (Tiny, InSequence)])
def test_a_head_in_a_sequence(trained: type[Tiny], asked: type[Tiny]) -> None:
    given = trained(4).state_dict()
    with pytest.warns(NaspixWarning, match=r"weights: fc(\.1)? is taken for the network's fc"):
        network, usual = fitted(asked, given, "weights")
    assert not usual
    bias = [tensor for name, tensor in network.state_dict().items() if name.endswith("bias")][-1]
    assert torch.equal(bias, list(given.values())[-1])


def test_a_head_of_several_layers_is_not_guessed() -> None:
    deep = Tiny()
    deep.fc = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6))  # type: ignore[assignment]
    with pytest.raises(WeightsError, match=r"2 missing \(fc.weight, fc.bias\), 4 not known"):
        fitted(Tiny, deep.state_dict(), "weights")


def test_one_channel_stems_are_said(tmp_path: Path) -> None:
    trained = torchvision.models.resnet18(num_classes=5)
    trained.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"conv1\.weight .* trained on images of 1 channel: "):
        naspix.load_model("resnet18", weights=tmp_path / "w.pth")


@pytest.mark.parametrize(("name", "n_classes"), [("googlenet", 1000), ("inception_v3", 7)])
def test_networks_without_their_auxiliary_heads(tmp_path: Path, name: str, n_classes: int) -> None:
    trained = torchvision.models.get_model(
        name, weights=None, aux_logits=False, init_weights=False, num_classes=n_classes
    )
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    model = naspix.load_model(name, weights=tmp_path / "w.pth")
    assert model.n_classes == n_classes


def test_an_auxiliary_head_that_was_not_trained_with_the_new_classes(tmp_path: Path) -> None:
    trained = torchvision.models.inception_v3(weights=None, init_weights=False)
    trained.fc = nn.Linear(2048, 7)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    model = naspix.load_model("inception_v3", weights=tmp_path / "w.pth")
    assert model.n_classes == 7
    assert torch.equal(model.network.fc.weight, trained.fc.weight)
