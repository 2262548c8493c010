"""Learning for real, with tiny networks: what is kept, what is gone on with, what is refused."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from painted import paint
from PIL import Image

import naspix
from naspix.errors import (
    DatasetError,
    InputError,
    MissingExtraError,
    ModelError,
    OutputError,
    WeightsError,
)
from naspix.runs import locked
from naspix.training import Finetuning, finetune, open_splits

pytest.importorskip("lightning", reason="needs the extra train")

TINY = Finetuning(
    model="timm/test_resnet", weights=None, epochs=3, batch_size=8, lr=3e-3, device="cpu"
)


VIT = replace(TINY, model="timm/test_vit")  # without batch norm, whose statistics are a process's


@pytest.fixture(scope="module")
def run(colours, tmp_path_factory):
    """A finished run: its folder and result."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    told = []
    splits = open_splits("folder", colours, val_share=0.3)
    result = finetune(splits, folder, TINY, step=lambda *what: told.append(what))
    assert [one[:3] for one in told] == [("learning", i, 6) for i in range(1, 7)]
    return folder, result


def _log(folder):
    lines = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_it_learns(run):
    folder, result = run
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3]
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.best.val_accuracy == max(epoch.val_accuracy for epoch in result.history)
    assert result.best.val_accuracy >= 2 / 3  # a guess is right once in three
    assert result.test_accuracy is None
    assert float(_log(folder)[1]["val_loss"]) == pytest.approx(result.history[1].val_loss, 1e-5)


def test_it_leaves_files_without_code(run):
    folder, _ = run
    assert {path.name for path in folder.iterdir()} == {
        *("last.safetensors", "log.csv", "log.png", "model.json", "model.safetensors"),
        *("result.json", "settings.json", ".lock"),
    }
    with Image.open(folder / "log.png") as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 20


def test_load_model_takes_the_folder(run, colours):
    folder, result = run
    model = naspix.load_model(folder)
    assert model.categories == ("blue", "green", "red")
    assert model.input_size == (160, 160)
    assert model.name == "tiny (timm/test_resnet)"
    splits = open_splits("folder", colours, val_share=0.3)
    images = model.load_images([colours / id_ for id_ in splits.val.ids])
    right = model(images).argmax(1) == torch.tensor(splits.val.labels)
    assert float(right.float().mean()) == pytest.approx(result.best.val_accuracy)
    assert naspix.explain(model, images[:1], target=1).target.tolist() == [1]
    with pytest.raises(InputError, match="comes with its weights"):
        naspix.load_model(folder, weights=None)


def test_a_finished_run_is_not_run_again(run, colours):
    folder, result = run
    before = (folder / "model.safetensors").stat().st_mtime_ns
    again = finetune(open_splits("folder", colours, val_share=0.3), folder, TINY)
    assert again == result
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 7}, "seed 0, not 7"),
        ({"model": "resnet18"}, "model 'timm/test_resnet', not 'resnet18'"),
        ({"epochs": 4, "lr": 1e-3}, "epochs 3, not 4, lr 0.003, not 0.001"),
    ],
)
def test_other_settings_are_refused(run, colours, change, says):
    splits = open_splits("folder", colours, val_share=0.3)
    with pytest.raises(InputError, match=f"was begun with {says}; give another --output"):
        finetune(splits, run[0], replace(TINY, **change))


def test_other_pictures_are_refused(run, colours, tmp_path):
    with pytest.raises(InputError, match="begun with other numbers of pictures"):
        finetune(open_splits("folder", colours, val_share=0.2), run[0], TINY)
    with pytest.raises(InputError, match="begun with other pictures"):
        finetune(open_splits("folder", colours, val_share=0.3, seed=5), run[0], TINY)
    paint(tmp_path, 5)
    shutil.rmtree(tmp_path / "red")
    with pytest.raises(InputError, match=r"begun with other classes \(3, not 2\)"):
        finetune(open_splits("folder", tmp_path), run[0], TINY)


def test_a_checkpoint_of_another_network_is_refused(run, colours, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    (folder / "result.json").unlink()
    settings = json.loads((folder / "settings.json").read_text())
    settings["model"] = "timm/test_vit"
    (folder / "settings.json").write_text(json.dumps(settings))
    other = replace(TINY, model="timm/test_vit")
    splits = open_splits("folder", colours, val_share=0.3)
    with pytest.raises(WeightsError, match="of another network or other classes"):
        finetune(splits, folder, other)
    (folder / "last.safetensors").write_bytes(b"\x08")
    with pytest.raises(WeightsError, match=r"last.safetensors' is damaged .*; remove it"):
        finetune(splits, folder, other)


COMMAND = [
    sys.executable, "-c", "import sys, naspix.cli; sys.exit(naspix.cli.main())", "finetune",
    "--model", "timm/test_resnet", "--weights", "none", "--epochs", "8", "--patience", "8",
    "--batch-size", "8", "--lr", "0.003", "--device", "cpu", "--val-share", "0.3",
]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_killed_twice_it_comes_to_the_same(colours, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*COMMAND, "--root", str(colours), "--output", str(tmp_path / "killed")]
    for n_epochs, pause in ((1, 0.0), (4, 0.15)):  # just after a checkpoint, and amid an epoch
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 120
        while _n_epochs(tmp_path / "killed") < n_epochs and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed" / "result.json").exists()
    kept = _n_epochs(tmp_path / "killed")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert f"going on after epoch {kept}\n" in done.stderr
    assert [f"epoch {i}:" in done.stderr for i in (kept, kept + 1, 8)] == [False, True, True]
    assert "of the validation pictures are right" in done.stdout
    torch.set_num_threads(1)
    whole = replace(TINY, epochs=8, patience=8)
    finetune(open_splits("folder", colours, val_share=0.3), tmp_path / "whole", whole)
    assert _log(tmp_path / "killed") == _log(tmp_path / "whole")
    for name in ("model.safetensors", "model.json", "settings.json"):
        killed, unharmed = (tmp_path / run / name for run in ("killed", "whole"))
        assert killed.read_bytes() == unharmed.read_bytes()


def _n_epochs(folder) -> int:
    try:
        return len((folder / "log.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return 0


def test_two_processes(colours, tmp_path):
    """As with two GPUs, but with two CPUs."""
    script = tmp_path / "run.py"
    script.write_text("import sys, naspix.cli\nsys.exit(naspix.cli.main())\n")
    command = [
        sys.executable, str(script), *COMMAND[3:], "--root", str(colours), "--devices", "2",
        "--output", str(tmp_path / "two"), "--json",
    ]  # fmt: skip
    command[command.index("timm/test_resnet")] = VIT.model
    command[command.index("8")] = "1"  # epoch
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # of the first process alone
    assert len(result["history"]) == 1
    model = naspix.load_model(tmp_path / "two")
    splits = open_splits("folder", colours, val_share=0.3)
    logits = model(model.load_images([colours / id_ for id_ in splits.val.ids]))
    loss = torch.nn.functional.cross_entropy(logits.detach(), torch.tensor(splits.val.labels))
    assert result["best"]["val_loss"] == pytest.approx(float(loss), rel=1e-4)
    alone = finetune(splits, tmp_path / "one", replace(VIT, epochs=1)).best
    for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
        assert result["best"][name] == pytest.approx(getattr(alone, name), rel=1e-4), name


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_one_of_two_processes_is_killed_and_the_run_goes_on(colours, tmp_path):
    """With one process from there, to the numbers of one that was alone from the beginning."""
    script = tmp_path / "run.py"
    script.write_text("import sys, naspix.cli\nsys.exit(naspix.cli.main())\n")
    command = [
        sys.executable, str(script), *COMMAND[3:], "--root", str(colours), "--devices", "2",
        "--output", str(tmp_path / "two"),
    ]  # fmt: skip
    command[command.index("timm/test_resnet")] = VIT.model
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while _n_epochs(tmp_path / "two") < 1 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    _, said = process.communicate(timeout=60)  # the other one has ended too
    assert "naspix: another of this run's processes has ended; the same command goes on" in said
    splits = open_splits("folder", colours, val_share=0.3)
    kept = _n_epochs(tmp_path / "two")
    eight = replace(VIT, epochs=8, patience=8)
    told = []
    gone_on = finetune(
        splits, tmp_path / "two", eight, step=lambda *what: told.append(len(what[3]))
    )
    alone = finetune(splits, tmp_path / "one", eight)
    assert min(told, default=8) == kept
    for one, other in zip(gone_on.history, alone.history, strict=True):
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-3)


def test_mixed_precision_goes_on_to_the_same_bytes(colours, tmp_path):
    splits = open_splits("folder", colours, val_share=0.3)
    mixed = replace(TINY, precision="bf16", epochs=2)

    def interrupt(doing, done, total, history):
        if history:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(splits, tmp_path / "parts", mixed, step=interrupt)
    parts, whole = (
        finetune(splits, tmp_path / "parts", mixed),
        finetune(splits, tmp_path / "whole", mixed),
    )
    exact = finetune(splits, tmp_path / "exact", replace(mixed, precision="32"))
    files = [tmp_path / name / "model.safetensors" for name in ("parts", "whole", "exact")]
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    state = naspix.load_model(tmp_path / "parts").network.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}
    assert parts.best.val_loss == whole.best.val_loss == pytest.approx(exact.best.val_loss, rel=0.1)
    with pytest.raises(InputError, match=r"16 bits; give --precision bf16, or 32"):
        finetune(splits, tmp_path / "half", replace(mixed, precision="16"))
    assert not (tmp_path / "half").exists()


def test_frozen_it_reaches_a_linear_classifier(tmp_path):
    """Scikit-learn on what enters the last layer, against the head alone."""
    from sklearn.linear_model import LogisticRegression

    for split, n in (("train", 12), ("val", 6), ("test", 6)):
        paint(tmp_path / split, n, seed=n)
    frozen = replace(TINY, freeze=True, epochs=None, lr=None)
    splits = open_splits("folder", tmp_path)
    result = finetune(splits, tmp_path / "run", frozen)
    model = naspix.load_model(tmp_path / "run")
    fresh = naspix.models.recipes.with_classes("timm/test_resnet", 3, weights=None, seed=0)
    for name, tensor in model.network.state_dict().items():  # batch statistics too
        assert torch.equal(tensor, fresh.network.state_dict()[name]) == (name not in fresh.head)
    seen = []
    hook = model.network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for view in (splits.train, splits.test):
            model(model.load_images([sample.image for sample in view]))
    hook.remove()
    theirs = LogisticRegression(max_iter=5000).fit(seen[0].numpy(), splits.train.labels)
    score = theirs.score(seen[1].numpy(), splits.test.labels)
    assert score > 0.6
    assert result.test_accuracy >= score - 0.02


def test_frozen_with_random_crops_leaves_the_rest(colours, tmp_path):
    run = replace(TINY, freeze=True, augment=True, epochs=1)
    finetune(open_splits("folder", colours), tmp_path / "run", run)
    fresh = naspix.models.recipes.with_classes("timm/test_resnet", 3, weights=None, seed=0)
    kept = naspix.load_model(tmp_path / "run").network.state_dict()
    for name, tensor in fresh.network.state_dict().items():
        assert torch.equal(tensor, kept[name]) == (name not in fresh.head)


def test_it_stops_early_and_keeps_the_best(tmp_path, monkeypatch):
    paint(tmp_path / "all", 4)
    accuracies = iter([0.5, 0.7, 0.6, 0.6, 0.6, 0.6])
    losses = iter([1.0, 0.9, 0.8, 0.9, 0.9, 0.9])
    from naspix.training.loop import Loop

    monkeypatch.setattr(Loop, "validate", lambda self, view: (next(losses), next(accuracies)))
    states = []
    learn = Loop.learn

    def learned(self, view, epoch):
        done = learn(self, view, epoch)
        states.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return done

    monkeypatch.setattr(Loop, "learn", learned)
    run = replace(TINY, epochs=20, patience=2)
    result = finetune(open_splits("folder", tmp_path / "all"), tmp_path / "run", run)
    assert len(result.history) == 5  # the loss was best in the third epoch
    assert result.best.epoch == 2
    kept = naspix.load_model(tmp_path / "run").network.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in kept.items())


def test_what_cannot_be_read_is_left_out(tmp_path):
    paint(tmp_path / "all", 4)
    (tmp_path / "all" / "red" / "01.png").write_bytes(b"nothing")
    run = replace(TINY, epochs=1)
    result = finetune(open_splits("folder", tmp_path / "all"), tmp_path / "run", run)
    assert list(result.left_out) == ["red/01.png"]
    paint(tmp_path / "parts" / "train", 4)
    paint(tmp_path / "parts" / "test", 1)
    for path in (tmp_path / "parts" / "test").rglob("*.png"):
        path.write_bytes(b"nothing")
    result = finetune(tmp_path / "parts", tmp_path / "untested", run)  # a folder will do
    assert len(result.left_out) == 3
    assert result.test_accuracy is None
    for i in range(4):
        (tmp_path / "all" / "red" / f"{i:02d}.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="no picture of 'red' is left to learn from"):
        finetune(open_splits("folder", tmp_path / "all"), tmp_path / "other", run)


def test_a_rate_that_is_too_high_is_told(colours, tmp_path):
    with pytest.raises(ModelError, match=r"not finite in epoch .*--lr"):
        finetune(open_splits("folder", colours), tmp_path, replace(TINY, lr=1e30))


@pytest.mark.parametrize(
    "change",
    [{"epochs": 0}, {"lr": -1.0}, {"label_smoothing": 1.0}, {"patience": 0}, {"batch_size": 0}],
)
def test_settings_that_make_no_sense(change):
    with pytest.raises(InputError):
        replace(TINY, **change)


def test_one_run_at_a_time(run, colours):
    with locked(run[0]), pytest.raises(OutputError, match="is in use by another process"):
        finetune(open_splits("folder", colours, val_share=0.3), run[0], TINY)


def test_without_lightning(colours, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    with pytest.raises(MissingExtraError, match=r"pip install '.\[train\]'"):
        finetune(open_splits("folder", colours), tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()
