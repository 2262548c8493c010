"""`naspix reproduce` and `render`: from nothing to pages, and drawn again without a network."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from naspix import registry
from naspix.errors import DatasetError, InputError, UnknownNameError, WeightsError
from naspix.experiments.paper import cutting, networks, running, saving, table5
from naspix.experiments.paper.at_hand import AtHand
from naspix.experiments.paper.catalogue import EXPERIMENTS, find_experiment
from naspix.experiments.paper.cutting import by_area, named_as
from naspix.experiments.paper.experiment import Conditions
from naspix.experiments.paper.published import known_entries, published

QUICK = Conditions(quick=True, limit=1)
_DRAWN = ("*.html", "*.png", "*.pdf", "*.csv")


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Small photos and coarse pictures, so that much can be tried in little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "FRAME", (64, 64))
        patch.setattr(saving, "DOTS", 60)
        patch.setattr(table5, "CONTENDERS", (table5.CONTENDERS[0], table5.CONTENDERS[-2]))
        yield


@pytest.fixture(
    scope="module", params=["figure1", "figure3", "table5", "figure7", "figure8", "figure9"]
)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment that has been computed."""
    output = tmp_path_factory.mktemp("reproduced")
    running.reproduce(request.param, QUICK, output)
    return output / request.param


def _drawn(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for kind in _DRAWN for file in folder.glob(kind)}


def test_each_leaves_a_page_pictures_tables_and_records(done):
    names = {file.suffix for file in done.iterdir()}
    assert {".html", ".png", ".pdf", ".csv", ".json"} <= names
    assert list((done / "records").glob("*.parquet"))
    page = (done / "page.html").read_text("utf-8")
    assert "On 1 picture: scikit-image's photos" in page.replace("&#x27;", "'")
    assert "--model-weights" in page  # how to give what is missing
    assert "://" not in page  # self-contained


def test_fonts_are_embedded_as_they_are(done):
    for file in done.glob("*.pdf"):
        content = file.read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content


def test_it_is_drawn_again_from_records_alone(done, monkeypatch):
    before = _drawn(done)
    for name in before:
        (done / name).unlink()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr("naspix.models.zoo.load_model", refuse)
    monkeypatch.setattr(networks, "load_model", refuse)
    running.render(done)
    assert _drawn(done) == before


def test_the_same_command_goes_on_and_other_conditions_are_refused(done, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    what = "cuts" if done.name.startswith("figure") else "times"
    monkeypatch.setattr(EXPERIMENTS[done.name], what, refuse, raising=False)
    running.reproduce(done.name, QUICK, done.parent)  # nothing is left to do
    with pytest.raises(InputError, match="seed was 0 and is now 1"):
        running.reproduce(done.name, Conditions(quick=True, limit=1, seed=1), done.parent)


def test_names_are_the_registrys_and_the_papers():
    assert list(EXPERIMENTS) == list(registry.EXPERIMENTS)
    assert set(EXPERIMENTS) <= set(known_entries())
    for name in EXPERIMENTS:
        assert find_experiment(name).title.startswith(published(name).number.capitalize())


def test_unknown_names_list_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'figure1'"):
        find_experiment("figure1b")


def test_clusters_are_numbered_by_area_and_named_by_place():
    labels = np.array([[3, 3, 0], [3, 1, 1]])
    assert by_area(labels).tolist() == [[0, 0, 2], [0, 1, 1]]
    # the cluster that shares most pixels gets the name, each name goes to one
    renamed = named_as(np.array([[0, 0, 1, 1, 2]]), np.array([[1, 1, 1, 0, 0]]))
    assert renamed.tolist() == [[1, 1, 0, 0, 2]]


def test_weights_that_cannot_be_meant_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=r"did you mean .*'resnet18'"):
        networks.find_networks(["resnet18"], Conditions(weights={"resnet": "x"}))
    gone = str(tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="there is no weights file"):
        networks.find_networks(["resnet18"], Conditions(weights={"resnet18": gone}))


def test_a_data_folder_without_the_papers_data_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="--data holds neither"):
        AtHand(data=tmp_path).photos(tmp_path / "spare")


def test_the_command_says_what_is_wrong_and_draws_again(tmp_path):
    code = "import sys; from naspix.cli import main; sys.exit(main())"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )

    wrong = run("reproduce", "figur1")
    assert wrong.returncode == 2
    assert "did you mean 'figure1'" in wrong.stderr
    made = run("reproduce", "figure1", "--quick", "--limit", "1", "-o", "out")
    assert made.returncode == 0, made.stderr
    assert made.stdout == ""
    with (tmp_path / "out/figure1/superpixels.csv").open() as file:
        assert next(csv.reader(file))[0] == "photo"
    assert json.loads((tmp_path / "out/figure1/run.json").read_text())["kind"] == "figure1"
    assert run("render", "out").returncode == 0
    assert (tmp_path / "out/paper.pdf").is_file()
    assert (tmp_path / "out/paper.html").is_file()
