"""`naspix reproduce` and `render`: from nothing to pages, and drawn again without a network."""

import csv
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from claims import CUT_OR_TIMED, JUDGED, all_entries, assert_verdicts, text_of

import naspix
from naspix.cli import main
from naspix.errors import (
    DatasetError,
    DeviceError,
    InputError,
    NaspixWarning,
    OutputError,
    UnknownNameError,
    WeightsError,
)
from naspix.models.recipes import recipe_of
from naspix.models.saved import save_model
from naspix.paper import data, run_times, running, segmentations
from naspix.paper.appendix import Figure7
from naspix.paper.data import AtHand, Conditions
from naspix.paper.published import published
from naspix.paper.running import EXPERIMENTS, find_experiment
from naspix.paper.segmentations import by_area, named_as
from naspix.runs import STORE, is_run, open_run, read_run

QUICK = Conditions(quick=True, limit=1)
# as the paper has them
ALL = [
    *("figure1", "figure2", "figure3", "figure4", "table1", "figure5", "figure6", "table2"),
    *("table3", "table4", "table5", "figure7", "figure8", "figure9"),
]
_DRAWN = ("*.html", "*.png", "*.pdf", "*.csv")


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Small photos and coarse pictures, so that much can be tried in little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentations, "FRAME", (64, 64))
        patch.setattr(running, "DOTS", 60)
        contenders = run_times.CONTENDERS
        patch.setattr(run_times, "CONTENDERS", (contenders[0], contenders[-2]))
        yield


@pytest.fixture(scope="module", params=CUT_OR_TIMED)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment that has been computed."""
    output = tmp_path_factory.mktemp("reproduced")
    running.reproduce(request.param, QUICK, output)
    return output / request.param


@pytest.fixture
def tiny_stl10(tmp_path: Path) -> Path:
    """STL-10's published form with two pictures."""
    root = tmp_path / "data"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, 2 * 27648, dtype=np.uint8)
    pixels.tofile(root / "test_X.bin")
    np.array([1, 10], np.uint8).tofile(root / "test_y.bin")
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (root / "class_names.txt").write_text("\n".join(names))
    return root


def _drawn(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for kind in _DRAWN for file in folder.glob(kind)}


def test_each_leaves_a_page_pictures_tables_and_records(done):
    names = {file.suffix for file in done.iterdir()}
    assert {".html", ".png", ".pdf", ".csv", ".sqlite"} <= names
    assert is_run(done)
    page = text_of(done / "page.html")
    assert re.search(r"On 1 picture: (crops of )?scikit-image's photos", page)
    assert "--model-weights" in page  # how to give what is missing
    assert "://" not in page  # self-contained


def test_every_claim_has_a_verdict_on_its_page(done):
    assert_verdicts(done)


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

    monkeypatch.setattr("naspix.models.loading.load_model", refuse)
    monkeypatch.setattr(data, "load_model", refuse)
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
    skipping = Conditions(quick=True, limit=1, weights={"vgg16": "skip"})
    with pytest.raises(
        InputError, match=r'settings: weights\.vgg16 was not set and is now "skip"; '
    ):
        running.reproduce(done.name, skipping, done.parent)


def test_names_are_the_papers():
    assert list(EXPERIMENTS) == ALL
    assert {*CUT_OR_TIMED, *JUDGED} == set(ALL)
    assert set(EXPERIMENTS) == set(all_entries())  # or its claims would have no page
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
        data.find_networks(["resnet18"], Conditions(weights={"resnet": "x"}))
    gone = str(tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="there is no weights file"):
        data.find_networks(["resnet18"], Conditions(weights={"resnet18": gone}))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    model = naspix.load_model()
    described = recipe_of("efficientnet_lite0").description
    save_model(tmp_path, described, model.network.state_dict())
    given = Conditions(weights={"resnet18": str(tmp_path)})
    with pytest.raises(WeightsError, match=r"resnet18=.* holds a efficientnet_lite0"):
        data.find_networks(["resnet18"], given)


def test_weights_that_are_given_are_used_and_named(tmp_path):
    file = tmp_path / "birds.pth"
    torch.save(naspix.load_model("resnet18", weights=None).network.state_dict(), file)
    given = Conditions(weights={"resnet18": str(file), "vgg16": "skip"}, quick=True)
    found = data.find_networks(["resnet18"], given)
    assert list(data.load_networks(found, "cpu")) == ["resnet18"]
    assert data.sentence_on(found) == "ResNet18 with the weights in birds.pth."
    both = data.find_networks(["vgg16", "resnet18"], given)
    assert both["missing"] == {"vgg16": "left out as asked"}
    assert list(both["weights"]) == ["resnet18", "efficientnet_lite0"]


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, monkeypatch):
    two = Conditions(quick=True, limit=2)
    running.reproduce("figure7", two, tmp_path / "whole")
    asked = []
    cuts = Figure7.cuts

    def interrupted(self, image, models, conditions):
        asked.append(image)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return cuts(self, image, models, conditions)

    monkeypatch.setattr(Figure7, "cuts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        running.reproduce("figure7", two, tmp_path / "parts")
    running.reproduce("figure7", two, tmp_path / "parts")
    assert len(asked) == 3  # the second photo twice, the first once
    whole, parts = (_drawn(tmp_path / name / "figure7") for name in ("whole", "parts"))
    assert [name for name in whole if whole[name] != parts[name]] == ["page.html"]  # its date


def test_all_leaves_out_what_cannot_be_done_and_says_so(tmp_path, monkeypatch):
    class Impossible(Figure7):
        def compute(self, *_: object, **__: object) -> None:
            raise InputError("there are no birds")

    chosen = {"figure7": Impossible, "figure8": EXPERIMENTS["figure8"]}
    monkeypatch.setattr(running, "EXPERIMENTS", chosen)
    assert running.reproduce_all(QUICK, tmp_path) == [("figure7", "there are no birds")]
    page = (tmp_path / "paper.html").read_text("utf-8")
    assert "<b>figure7</b>: there are no birds" in page


def test_all_takes_up_each_table_and_figure_in_order(tmp_path, monkeypatch, capsys):
    def impossible(*_: object, **__: object) -> None:
        raise InputError("there are no birds")

    for name in set(ALL) - {"figure8"}:
        monkeypatch.setattr(EXPERIMENTS[name], "compute", impossible)
    assert main(["reproduce", "all", "--quick", "--limit", "1", "-o", str(tmp_path)]) == 1
    said = [line.removeprefix("naspix: ") for line in capsys.readouterr().err.splitlines()]
    assert [line for line in said if "are done, in" not in line][:14] == ALL
    page = (tmp_path / "paper.html").read_text("utf-8")
    shown = re.findall(r'<h2 id="(\w+)">|<li><b>(\w+)</b>: there are no birds', page)
    assert sorted(map("".join, shown)) == sorted(ALL)


def test_the_papers_data_come_first_for_labels_and_boxes(tmp_path, tiny_stl10):
    at_hand = AtHand(data=tiny_stl10)
    labelled = at_hand.labelled(tmp_path)
    assert (labelled.dataset, labelled.is_papers) == ("stl10", True)
    assert at_hand.photos(tmp_path).counted(2) == "On 2 pictures: STL-10's test split."
    assert at_hand.boxed(tmp_path / "spare").dataset == "voc"  # there is no CUB
    assert AtHand().labelled(tmp_path / "spare").dataset == "folder"  # the views


def test_boxes_drawn_for_scikit_images_photos_lie_on_them(tmp_path):
    dataset = AtHand().boxed(tmp_path).open()
    assert len(dataset) == 4
    for index in range(4):
        sample = dataset[index]
        assert len(sample.boxes) == 1
        assert not sample.problems


def test_a_data_folder_without_the_papers_data_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="--data holds neither"):
        AtHand(data=tmp_path).photos(tmp_path / "spare")


def test_what_is_given_and_damaged_is_not_passed_over(tmp_path, tiny_stl10):
    with pytest.raises(DatasetError, match=r"gone', given by --data, does not exist"):
        AtHand(data=tmp_path / "gone").boxed(tmp_path / "spare")
    (tiny_stl10 / "images.txt").write_text("1 one\n")  # of CUB, without its other tables
    with pytest.raises(DatasetError, match=r"train_test_split\.txt"):
        AtHand(data=tiny_stl10).boxed(tmp_path / "spare")
    (tiny_stl10 / "test_X.bin").write_bytes(b"cut")
    with pytest.raises(DatasetError, match="no whole number of pictures"):
        AtHand(data=tiny_stl10).labelled(tmp_path / "spare")


def test_a_part_that_is_cut_is_said_and_computed_again(tmp_path):
    two = Conditions(quick=True, limit=2)
    running.reproduce("figure8", two, tmp_path)
    folder = tmp_path / "figure8"
    before = _drawn(folder)
    with closing(sqlite3.connect(folder / STORE)) as store, store:
        store.execute("UPDATE records SET photo = NULL WHERE _batch = 1")
    with pytest.raises(InputError, match=r"is damaged.*; run the same command again"):
        running.render(folder)
    told = []
    with pytest.warns(
        NaspixWarning, match="1 of its batches are kept and the others are computed again"
    ):
        running.reproduce("figure8", two, tmp_path, progress=lambda n, n_all: told.append(n))
    assert told == [1, 1]  # what was whole is kept
    after = _drawn(folder)
    assert [name for name in before if before[name] != after[name]] == []


def test_another_process_in_the_folder_is_said(tmp_path):
    (tmp_path / "figure8").mkdir()
    with (
        open_run(tmp_path / "figure8", kind="figure8", settings={}),
        pytest.raises(OutputError, match=r"is in use by process \d+ \(since .*another --output"),
    ):
        running.reproduce("figure8", QUICK, tmp_path)


def test_a_cluster_that_cannot_be_reached_leaves_the_folder_to_others(tmp_path):
    pytest.importorskip(
        "ray", reason="Ray is not installed: pip install '.[ray]' in the folder of naspix"
    )
    from naspix.runs import Ray

    with pytest.raises(DeviceError, match=r"the Ray cluster 127\.0\.0\.1:9 cannot be reached"):
        running.reproduce_all(QUICK, tmp_path, engine=Ray(workers=1, address="127.0.0.1:9"))
    running.reproduce("figure1", QUICK, tmp_path)
    assert (tmp_path / "figure1" / "page.html").is_file()


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

    wrong = run("reproduce", "figur8")
    assert wrong.returncode == 2
    assert re.search("did you mean .*'figure8'", wrong.stderr)
    made = run("reproduce", "figure8", "--quick", "--limit", "1", "-o", "out")
    assert made.returncode == 0, made.stderr
    assert made.stdout == ""
    with (tmp_path / "out/figure8/agreement.csv").open() as file:
        assert next(csv.reader(file))[0] == "photo"
    assert read_run(tmp_path / "out/figure8").kind == "figure8"
    assert run("render", "out").returncode == 0
    assert (tmp_path / "out/paper.html").is_file()
