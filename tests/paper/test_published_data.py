"""`naspix reproduce --data`: STL-10 and CUB in their published files, networks that learnt each."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from claims import text_of
from published import cub, cub_lists, stl10

import naspix
from naspix.cli import main
from naspix.datasets import CUB200
from naspix.errors import NaspixWarning
from naspix.models.recipes import recipe_of
from naspix.models.saved import save_model
from naspix.paper import data, running, segmentations
from naspix.paper.data import Conditions
from naspix.paper.experiment import subruns
from naspix.paper.localisation import LocalisationTable
from naspix.runs import read_run

STL10, BIRDS = "learnt-stl10", "learnt-birds"


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """One method, small photos and coarse pictures, to try much in little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentations, "FRAME", (64, 64))
        patch.setattr(running, "DOTS", 60)
        one = replace(LocalisationTable.question, methods=("grad_cam_plus_plus",))
        patch.setattr(LocalisationTable, "question", one)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both data sets as published, a ResNet18 that learnt STL-10, and one that knows the birds."""
    pytest.importorskip("lightning", reason="needs the extra train")
    folder = tmp_path_factory.mktemp("published")
    stl10(folder / "data", n=20)
    cub(folder / "data")
    cub_lists(folder / "data")
    learnt = main(
        ["finetune", "--dataset", "stl10", "--root", f"{folder / 'data'}", "--model", "resnet18",
         "--weights", "none", "--freeze", "--epochs", "1", "--device", "cpu",
         "--output", f"{folder / STL10}"]
    )  # fmt: skip
    assert learnt == 0
    birds = CUB200(folder / "data").categories
    network = naspix.load_model("resnet18", weights=None).network
    network.fc = type(network.fc)(network.fc.in_features, len(birds))
    described = replace(recipe_of("resnet18").description, categories=birds)
    (folder / BIRDS).mkdir()
    save_model(folder / BIRDS, described, network.state_dict())
    return folder


def reproduce(root: Path, name: str, *weights: str) -> Path:
    """Run the command on the data, with networks that are given."""
    given = [word for each in weights for word in ("--model-weights", f"resnet18={root / each}")]
    output = root / "-".join(("out", *weights))
    command = ["reproduce", name, "--data", f"{root / 'data'}", "--quick", "--limit", "2", *given]
    assert main([*command, "--device", "cpu", "--output", f"{output}"]) == 0
    return output / name


def test_tables_3_and_4_put_boxes_on_cub_by_the_network_that_learnt_birds(root: Path) -> None:
    """Two pictures of the test split, their boxes those of CUBv2's lists."""
    folder = reproduce(root, "table3", STL10, BIRDS)
    page = text_of(folder / "page.html")
    assert "On 2 pictures: CUB's test split." in page
    assert f"ResNet18 with the weights in {BIRDS}." in page
    frame = subruns(read_run(folder))["resnet18"].records()
    assert set(frame["id"]) == set(CUB200(root / "data").ids)
    assert set(frame["n_boxes"]) == {1}
    with (folder / "localisation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {row["network"] for row in rows} == {"ResNet18"}
    table4 = reproduce(root, "table4", STL10, BIRDS)
    found = read_run(table4).header["found"]
    assert found["source"]["dataset"] == "cub"
    assert found["networks"]["weights"]["resnet18"] == f"{root / BIRDS}"


@pytest.mark.parametrize("name", ["figure1", "figure4"])
def test_figures_show_stl_10_by_the_network_that_learnt_it(root: Path, name: str) -> None:
    page = text_of(reproduce(root, name, STL10, BIRDS) / "page.html")
    assert "STL-10's test split" in page
    assert f"ResNet18 with the weights in {STL10}." in page


def test_a_network_that_has_learnt_other_classes_is_named_as_such(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = text_of(reproduce(root, "figure1", BIRDS) / "page.html")
    assert f"{BIRDS}, which has learnt none of the pictures' classes." in page
    said = capsys.readouterr().err
    assert f"{BIRDS} has learnt none of the pictures' classes (airplane, bird, car, ...)" in said


def test_weights_without_names_are_those_of_as_many_classes(root: Path) -> None:
    file = root / BIRDS / "model.safetensors"
    alone = Conditions(weights={"resnet18": (str(root / STL10), str(file))})
    birds = CUB200(root / "data").categories
    assert data.find_networks(["resnet18"], alone, birds)["weights"] == {"resnet18": str(file)}
    with pytest.warns(NaspixWarning, match=r"resnet18=.* none .* \(lynx, wolf, ...\)"):
        found = data.find_networks(["resnet18"], alone, ("lynx", "wolf"))
    assert found["weights"] == {"resnet18": str(root / STL10)}
    assert found["foreign"] == ["resnet18"]
