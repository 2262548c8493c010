"""The command as its users meet it: a subprocess each, so they are few."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import naspix

ENVIRONMENT = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
ENVIRONMENT.pop("NASPIX_DEBUG", None)


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys, naspix.cli; sys.exit(naspix.cli.main())", *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two photos of one name in two folders, and two files that are none."""
    import skimage.data

    folder = tmp_path_factory.mktemp("photos")
    for name, pixels in (("one", skimage.data.chelsea()), ("two", skimage.data.coffee())):
        (folder / name).mkdir()
        Image.fromarray(pixels[::2, ::2]).save(folder / name / "photo.jpg")
    (folder / "one" / "broken.jpg").write_bytes(b"no picture at all")
    (folder / "two" / "empty.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def explained(photos, tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    output = tmp_path_factory.mktemp("results") / "new"
    return run("explain", photos, "--output", output, "--seed", "3"), output


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["explain"],
        ["segment"],
        ["models"],
        ["levels"],
        ["check"],
        ["evaluate"],
        ["reproduce"],
        ["render"],
        ["data", "check"],
        ["data", "fetch"],
        ["finetune"],
    ],
)
def test_help(command, snapshot):
    result = run(*command, "--help")
    assert result.returncode == 0
    assert result.stdout == snapshot


def test_version():
    assert run("--version").stdout == f"naspix {naspix.__version__}\n"


def test_help_is_quick():
    # the goal is 0.5 s; several times that here, since the machine may be busy with other tests
    took = []
    for _ in range(3):
        start = time.perf_counter()
        run("--help")
        took.append(time.perf_counter() - start)
    assert min(took) < 1.5


def test_explain_does_what_can_be_done(explained, photos):
    result, output = explained
    assert result.returncode == 1  # two files were no photos
    assert result.stderr.count("left out") == 3
    assert "'" + str(photos / "one" / "broken.jpg") + "' is not an image" in result.stderr
    assert "(zero bytes)" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert re.search(r"one-photo +\w+ cat +\d+\.\d%  \d+ superpixels", result.stdout)
    assert sorted(path.name for path in output.iterdir() if not path.name.startswith(".")) == [
        "one-photo",
        "ranking.csv",
        "report.html",
        "results.json",
        "run.sqlite",
        "two-photo",
    ]


def test_explain_writes_every_picture(explained):
    record = json.loads((explained[1] / "results.json").read_text())
    for photo in record["photos"]:
        for path in photo["files"].values():
            with Image.open(explained[1] / path) as picture:
                assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 3


def test_explain_compares_methods_and_searches_the_greedy_order(photos, tmp_path):
    folder = tmp_path / "out"
    result = run(
        "explain", str(photos / "one" / "photo.jpg"), "--resize", "none", "--quick", "--greedy",
        "--method", "grad_cam", "--method", "smoothgrad", "-k", "2", "-o", str(folder),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    record = json.loads((folder / "results.json").read_text())
    assert "n_samples=12" in record["settings"]["methods"]["smoothgrad"]
    (photo,) = record["photos"]
    n = photo["segmentations"]["nas"]["n_superpixels"]
    assert sorted(photo["hidden_first"]["nas"]) == list(range(n))
    assert (folder / "report.html").read_text().count('class="card"') == 2


def _shape(value: object) -> object:
    """The keys and types of a JSON value; lists by their first entry."""
    if isinstance(value, dict):
        return {key: _shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


def test_explain_keeps_to_its_schema(explained, snapshot):
    record = json.loads((explained[1] / "results.json").read_text())
    assert _shape(record) == snapshot
    assert record["seed"] == 3
    assert len(record["failed"]) == 2
    for photo in record["photos"]:
        assert photo["size"] == [224, 224]
        (explanation,) = photo["explanations"]
        superpixels = explanation["superpixels"]
        assert sum(one["area"] for one in superpixels) == 224 * 224
        assert len(superpixels) == photo["segmentations"]["nas"]["n_superpixels"]
        saliency = [one["saliency"] for one in superpixels]
        assert saliency == sorted(saliency, reverse=True)


def test_explain_as_json(photos, tmp_path):
    result = run(
        "explain", photos / "two" / "photo.jpg", "--json", "--output", tmp_path, "--target",
        "Espresso", "--segmenter", "nas", "--segmenter", "grid", "--method", "grad_cam",
    )  # fmt: skip
    assert result.returncode == 0
    (photo,) = json.loads(result.stdout)["photos"]
    assert photo["target"]["name"] == "espresso"
    pairs = [(one["method"], one["segmenter"]) for one in photo["explanations"]]
    assert pairs == [("grad_cam", "nas"), ("grad_cam", "grid")]


def test_segment(photos, tmp_path):
    result = run(
        "segment", photos / "one" / "photo.jpg", "-o", tmp_path, "--format", "npz", "-k", "3"
    )
    assert result.returncode == 0
    segmentation = naspix.Segmentation.load(tmp_path / "photo.npz")
    assert segmentation.clusters.shape == (1, 224, 224)
    assert int(segmentation.n_clusters) == 3


def test_levels():
    result = run("levels", "resnet18", "--json")
    assert json.loads(result.stdout)[4] == {"level": 4, "module": "layer4", "shape": [512, 7, 7]}


def test_a_network_of_ones_own(photos, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import timm\n\ndef make():\n    return timm.create_model('test_resnet', num_classes=3)\n"
    )
    monkeypatch.chdir(tmp_path)
    status, said = _in_process(["levels", "mine.py:make"])
    assert (status, said) == (0, "")
    photo = str(photos / "one" / "photo.jpg")
    for command in (["explain", photo], ["segment", photo]):
        status, said = _in_process([*command, "-m", "mine.py:make", "-o", command[0]])
        assert status == 0, said
    record = json.loads((tmp_path / "explain" / "results.json").read_text())
    assert "mine.py:make" in json.dumps(record)
    status, said = _in_process(["explain", photo, "--model", "mine.py:made"])
    assert (status, said.count("\n")) == (2, 1)
    assert "did you mean 'make'" in said


def test_models():
    assert run("models", "lite0").stdout.splitlines() == [
        "efficientnet_lite0",
        "timm/efficientnet_lite0",
        "timm/tf_efficientnet_lite0",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["explain", "--segmenter", "slick"], 2, 'Did you mean "slic"'),
        (["explain", "--nonsense"], 2, "nonsense"),
        (["explain", "--model", "resnet19"], 2, "did you mean 'resnet18'"),
        (["explain", "--levels", "2,9"], 2, "there is no level 9"),
        (["explain", "--levels", "2,classifier"], 1, "'classifier' has no spatial map"),
        (["explain", "--target", "tigercat"], 2, "did you mean 'tiger cat'"),
        (["explain", "--target", "1000"], 2, "classes, from 0 to 999"),
        (["explain", "--batch-size", "0"], 2, "--batch-size is at least 1"),
        (["explain", "EMPTY"], 2, "no image in the folder"),
        (["explain", "-o", "FILE/below"], 1, "is a file; choose another folder with --output"),
        (["explain", "--weights", "EMPTY/none.pth"], 1, "none.pth"),
        (["models", "no-such-model"], 2, "no model's name holds"),
    ],
)
def test_mistakes_get_one_sentence(arguments, status, says, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    places = {"EMPTY": str(tmp_path / "empty"), "FILE": str(tmp_path / "file")}
    filled = [re.sub("EMPTY|FILE", lambda found: places[found[0]], one) for one in arguments]
    # in this process: an import of the networks for each would cost minutes
    code, error = _in_process(filled)
    assert code == status
    assert error.startswith("naspix: ")
    assert says in error
    assert error.count("\n") == 1


def _in_process(arguments: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    from naspix.cli import main

    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    return code, error.getvalue()


def test_debug_shows_where(monkeypatch):
    monkeypatch.setenv("NASPIX_DEBUG", "1")
    code, error = _in_process(["models", "no-such-model"])
    assert code == 2
    assert "Traceback" in error


# a shell that runs the tests in the background has its children ignore Ctrl-C
HEEDS_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_an_interrupt_inside_a_destructor_is_not_lost():
    program = (
        HEEDS_INTERRUPTS
        + """
import time
from naspix.cli.app import no_interrupt_lost

class Doomed:
    def __del__(self):
        raise KeyboardInterrupt

class Harmless:
    def __del__(self):
        raise ValueError("said as ever")

try:
    with no_interrupt_lost():
        Harmless()
        Doomed()
        for _ in range(300):
            time.sleep(0.1)
except KeyboardInterrupt:
    print("stopped")
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )
    assert done.stdout == "stopped\n"
    assert "said as ever" in done.stderr
    assert "KeyboardInterrupt" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_interrupt_leaves_what_is_finished(photos, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((photos / "one" / "photo.jpg").read_bytes())
    many = [folder / f"b{i}.jpg" for i in range(400)]
    for path in many:
        path.symlink_to(folder / "a.jpg")
    program = HEEDS_INTERRUPTS + "import sys, naspix.cli; sys.exit(naspix.cli.main())"
    process = subprocess.Popen(
        [
            sys.executable, "-c", program, "explain", str(folder), "-o",
            str(tmp_path / "out"), "--batch-size", "1",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "b1").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; what was finished is kept" in error
    assert "Traceback" not in error
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert 1 <= len(record["photos"]) < 401
    assert not record["finished"]
    assert not list((tmp_path / "out").rglob("*.part"))
