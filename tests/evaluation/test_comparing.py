"""Evaluations by command and by function, of objects, gone on with, and of several networks."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_network
from pandas.testing import assert_frame_equal
from small_data import voc
from tiny_network import brightness, halves, small

import naspix
from naspix.cli.app import main
from naspix.errors import InputError
from naspix.evaluation import Results
from naspix.evaluation.evaluator import Evaluation
from naspix.runs import InProcess, MakeWorker, Processes, Span, read_run

OWN = f"{Path(tiny_network.__file__)}:small"
FILES = ("scores.csv", "table.csv", "pictures.csv", "tables.md", "tables.tex")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "voc"
    voc(place, 6)
    return place


def evaluate(task: str, output: Path, root: Path, **more: Any) -> Results:
    asked: dict[str, Any] = {"dataset": "voc", "root": root, "model": OWN, "batch_size": 2}
    return naspix.evaluate(task, output, **{**asked, **more})  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in FILES}


@pytest.mark.parametrize("task", ["lerf", "wsol"])
def test_command_and_function_leave_the_same(task: str, root: Path, tmp_path: Path) -> None:
    words = f"evaluate {task} --dataset voc --model {OWN} --root".split()
    assert main([*words, str(root), "--output", str(tmp_path / "command"), "--limit", "3"]) == 0
    evaluate(task, tmp_path / "function", root, limit=3, batch_size=8)
    assert files(tmp_path / "function") == files(tmp_path / "command")
    by_command, by_function = (read_run(tmp_path / one) for one in ("command", "function"))
    assert by_function.settings == by_command.settings
    assert_frame_equal(by_function.records(), by_command.records(), check_exact=True)
    k = {"lerf": 5, "wsol": 10}[task]
    assert by_command.settings["parameters"]["nas"]["n_clusters"] == k
    assert by_command.settings["segmenters"] == ["none", "slic", "nas"]


def test_objects_are_asked_and_recorded(root: Path, tmp_path: Path) -> None:
    model = small()
    nas = naspix.NAS(model, levels=(0, 1), n_clusters=3)

    def asked(network: object, **more: Any) -> Results:
        return evaluate(
            "lerf",
            tmp_path / "run",
            root,
            model=network,
            limit=2,
            segmenters=["none", nas, halves],
            methods={"grey": brightness, "ig": naspix.saliency.IntegratedGradients(model)},
            **more,
        )

    results = asked(model)
    (run,) = results.runs.values()
    assert repr(results).startswith("Results(lerf, 2 pictures, small-0, in '")
    assert run.settings["objects"] == {
        "model": "small-0, 3 x 32 x 32",
        "methods": {
            "grey": "brightness",
            "ig": repr(naspix.saliency.IntegratedGradients(model)).replace(repr(model), "small-0"),
        },
        "segmenters": {"nas": repr(nas).replace(repr(model), "small-0"), "halves": "halves"},
    }
    frame = results.records()
    assert frame["method"].unique().tolist() == ["grey", "ig"]
    assert set(frame.loc[frame["segmenter"] == "halves", "n_superpixels"]) == {2}
    asked(small())  # the same weights again
    with pytest.raises(InputError, match=r"made with other weights of small-0 \(digest \w+, now"):
        asked(naspix.wrap_model(small(1).network, input_size=32, levels=["1", "3"], name="small-0"))
    with pytest.raises(InputError, match=r"segmenters.halves was \"halves\" and is now"):
        evaluate(
            "lerf", tmp_path / "run", root, model=model, limit=2, methods={"grey": brightness},
            segmenters={"halves": naspix.Grid()},
        )  # fmt: skip


def test_objects_go_to_other_processes(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": small(), "methods": brightness, "segmenters": halves, "limit": 4, "batch_size": 1,
    }  # fmt: skip
    one = evaluate("wsol", tmp_path / "one", root, **options)
    two = evaluate("wsol", tmp_path / "two", root, engine=Processes(workers=2), **options)
    assert_frame_equal(one.records(), two.records())


def test_a_callable_is_a_target_and_recorded_by_its_name(root: Path, tmp_path: Path) -> None:
    model = small()
    target = naspix.targets.ClassScore(2)
    found = evaluate(
        "lerf", tmp_path / "number", root, model=model, target=target, segmenters="nas", limit=2
    )
    plain = evaluate(
        "lerf", tmp_path / "class", root, model=model, target=2, segmenters="nas", limit=2
    )
    assert read_run(tmp_path / "number").settings["target"] == "score of class 2"
    assert found.scores()["value"].tolist() == pytest.approx(plain.scores()["value"].tolist())
    contrast = naspix.Contrast(1, 2)
    evaluate(
        "lerf", tmp_path / "two", root, model=model, target=contrast, segmenters="nas", limit=1
    )
    with pytest.raises(InputError, match="target was"):
        evaluate("lerf", tmp_path / "two", root, model=model, target=1, segmenters="nas", limit=1)


def test_a_data_set_may_be_an_object(root: Path, tmp_path: Path) -> None:
    own = naspix.datasets.VOCBoxes(root)
    given = naspix.evaluate(
        "wsol", tmp_path / "object", dataset=own, model=small(), segmenters="nas", limit=2
    )
    named = evaluate("wsol", tmp_path / "name", root, model=small(), segmenters="nas", limit=2)
    assert_frame_equal(given.records(), named.records(), check_exact=True)


class Counting:
    """An engine that remembers what it was asked for."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def __call__(self, make_worker: MakeWorker, spans: list[Span]):  # type: ignore[no-untyped-def]
        self.spans += spans
        yield from InProcess()(make_worker, spans)


def test_a_finished_run_takes_other_questions(root: Path, tmp_path: Path) -> None:
    first: dict[str, Any] = {
        "methods": "grad_cam", "segmenters": "nas", "limit": 3, "batch_size": 1,
    }  # fmt: skip
    evaluate("lerf", tmp_path / "run", root, **first)
    engine = Counting()
    more = {
        "methods": ["vanilla_gradient", "grad_cam"], "segmenters": ["random", "nas", "grid"],
        "parameters": ["lerf.greedy=true"], "limit": 5, "batch_size": 4, "device": "cpu",
    }  # fmt: skip
    grown = evaluate("lerf", tmp_path / "run", root, engine=engine, **more)
    whole = evaluate("lerf", tmp_path / "whole", root, **{**more, "batch_size": 1})
    assert [tuple(span) for span in engine.spans] == [(i, i + 1) for i in range(5)]
    assert "grad_cam + nas" not in engine.spans[0].parts
    assert "grad_cam + nas" in engine.spans[3].parts
    assert_frame_equal(grown.records(), whole.records(), check_exact=True)
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    again = Counting()
    fewer = evaluate("lerf", tmp_path / "run", root, engine=again, **first)
    assert not again.spans, "all of it is there"
    evaluate("lerf", tmp_path / "fewer", root, **first)
    assert files(tmp_path / "run") == files(tmp_path / "fewer")
    assert fewer.n_items == 3
    both = Counting()
    evaluate("lerf", tmp_path / "run", root, engine=both, parameters=["lerf.both=true"], **first)
    assert {part for span in both.spans for part in span.parts} == {
        "grad_cam + none both ways", "grad_cam + nas both ways",
    }  # fmt: skip
    evaluate("lerf", tmp_path / "both", root, parameters=["lerf.both=true"], **first)
    assert files(tmp_path / "run") == files(tmp_path / "both")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"parameters": {"nas": {"n_clusters": 4}}}, r"nas.n_clusters was 5 and is now 4"),
        ({"parameters": ["lerf.steps=7"]}, r"parameters.lerf.steps was not set and is now 7"),
        ({"target": 1}, 'target was "predicted" and is now 1'),
        ({"match": False}, "grid had as many superpixels as nas and would have its own number of"),
        ({"segmenters": ["grid"]}, "grid had as many superpixels as nas and would have its own"),
    ],
)
def test_what_changes_a_number_is_refused_even_later(
    asked: dict[str, Any], says: str, root: Path, tmp_path: Path
) -> None:
    first = {"methods": "grad_cam", "segmenters": ["nas", "grid"], "limit": 1}
    evaluate("lerf", tmp_path, root, **first)
    evaluate("lerf", tmp_path, root, methods="vanilla_gradient", segmenters="none", limit=1)
    with pytest.raises(InputError, match=says):
        evaluate("lerf", tmp_path, root, **{**first, **asked})
    evaluate("lerf", tmp_path, root, **first)


def test_a_run_of_before_goes_on(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Whose record names neither parts nor defaults."""
    import sqlite3

    from naspix.runs import file, store

    first = {"methods": "grad_cam", "segmenters": "nas", "limit": 3}
    evaluate("lerf", tmp_path / "run", root, **first)
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as connection:
        header = file.read_header(connection)
        found = {"matched": {}}
        settings = {**header["settings"], "parameters": {}}
        for name, value in (("found", found), ("settings", settings)):
            file.put(connection, name, value)
        connection.execute("DELETE FROM header WHERE name = 'shown'")
        for span in file.read_spans(connection):
            about, rows = file.whole_batch(connection, span, list(header["columns"])) or ("", [])
            plain = {key: value for key, value in json.loads(about).items() if key != "parts"}
            for failure in plain["failed"]:
                del failure["parts"]
            rest = [list(row[1:]) for row in rows]
            file.insert(connection, span, json.dumps(plain), list(header["columns"]), rest)
    connection.close()
    assert len(store.read_run(tmp_path / "run").records()) == 6
    engine = Counting()
    more = {**first, "methods": ["grad_cam", "vanilla_gradient"]}
    grown = evaluate("lerf", tmp_path / "run", root, engine=engine, **more)
    assert {part for span in engine.spans for part in span.parts} == {
        "vanilla_gradient + none", "vanilla_gradient + nas",
    }  # fmt: skip
    whole = evaluate("lerf", tmp_path / "whole", root, **more)
    assert_frame_equal(grown.records(), whole.records(), check_exact=True)


def test_a_half_run_shows_pictures_that_have_all_of_it(root: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stopping(make_worker: MakeWorker, spans: list[Span]):  # type: ignore[no-untyped-def]
        yield from InProcess()(make_worker, spans[:1])
        raise StoppedError

    evaluate("lerf", tmp_path, root, methods="grad_cam", segmenters="nas", limit=4)
    with pytest.raises(StoppedError):
        evaluate(
            "lerf", tmp_path, root, methods=["grad_cam", "vanilla_gradient"], segmenters="nas",
            limit=4, engine=stopping,
        )  # fmt: skip
    assert main(["render", str(tmp_path)]) == 0
    table = (tmp_path / "tables.md").read_text()
    assert table.count("| 2 |") == 2, "sample sizes beside each"
    assert read_run(tmp_path).n_items == 2
    with (tmp_path / "scores.csv").open() as file:
        assert {row["n_pictures"] for row in csv.DictReader(file)} == {"2"}


def test_several_networks_are_one_table(root: Path, tmp_path: Path, capsys: Any) -> None:
    options: dict[str, Any] = {"methods": "grad_cam", "segmenters": "nas", "limit": 3}
    alone = evaluate("wsol", tmp_path / "run", root, **options)  # goes into a folder of its own
    engine = Counting()
    other = f"{Path(tiny_network.__file__)}:other"
    results = evaluate(
        "wsol", tmp_path / "run", root, model={"a": OWN, "b": other}, engine=engine, **options
    )
    assert all(span.start < 3 for span in engine.spans)
    assert len(engine.spans) == 2, "of the second network alone"
    scores = results.scores()
    assert scores["model"].unique().tolist() == ["a", "b"]
    assert_frame_equal(
        scores[scores["model"] == "a"].drop(columns="model"), _again(alone, tmp_path / "run" / "a")
    )
    pictures = pd.read_csv(tmp_path / "run" / "pictures.csv", dtype={"id": str})
    assert_frame_equal(pictures, results.pictures(), check_dtype=False)
    assert len(pictures) == 2 * 3 * 2
    table = (tmp_path / "run" / "tables.md").read_text()
    assert "| model | method | raw | +NAS | pictures |" in table
    assert "| b | Grad-CAM |" in table
    latex = (tmp_path / "run" / "tables.tex").read_text()
    assert r"model & method & raw & +NAS & pictures \\" in latex
    assert r"\caption{IoU 50, \%}" in latex
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'href="b/report.html"' in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert str(results).count("best of its network") == 1
    assert results.plot("b").axes
    assert "<table" in results._repr_html_()
    words = f"evaluate wsol --dataset voc --model {OWN} --model {other} --method grad_cam".split()
    words += ["--segmenter", "nas", "--limit", "3", "--json", "--root", str(root)]
    assert main([*words, "--output", str(tmp_path / "command")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["value"] for row in rows] == pytest.approx(scores["value"].tolist(), abs=1e-5)
    assert main(["render", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").read_text() == page


def _again(alone: Results, folder: Path) -> pd.DataFrame:
    return replace(alone, runs={"x": read_run(folder)}).scores()


def test_where_no_picture_can_be_explained_the_reason_is_told(root: Path, tmp_path: Path) -> None:
    def broken(images: object, target: object) -> object:
        raise InputError("the moon is in the way")

    words = r"none of the 2 pictures could be explained; \d: the moon is in the way"
    with pytest.raises(InputError, match=words):
        evaluate("lerf", tmp_path, root, methods=broken, segmenters="nas", limit=2)


def test_a_single_picture_has_no_interval(root: Path, tmp_path: Path) -> None:
    results = evaluate("lerf", tmp_path, root, methods="grad_cam", segmenters="nas", limit=1)
    scores = results.scores()
    assert scores[["low", "high", "difference_low"]].isna().all(axis=None)
    assert "[" not in results.to_markdown().split("1 picture;")[0]
    assert f"{scores['difference'][1]:+.3f}" in results.to_markdown()
    assert not np.isnan(scores["value"]).any()


def test_the_last_line_is_honest_where_output_is_no_terminal(
    root: Path, tmp_path: Path, capsys: Any
) -> None:
    words = f"evaluate wsol --dataset voc --model {OWN} --method grad_cam --root {root}".split()
    words += ["--segmenter", "nas", "--output", str(tmp_path)]
    assert main([*words, "--limit", "2"]) == 0
    assert "naspix: 2 of 2 pictures are done, in 0 min 0" in capsys.readouterr().err
    assert main([*words, "--limit", "3"]) == 0
    said = capsys.readouterr().err
    assert "naspix: 2 of 3 pictures are done already" in said
    assert "naspix: 3 of 3 pictures are done, 1 of them now, in 0 min 0" in said
    assert main([*words, "--limit", "3"]) == 0
    assert "naspix: 3 of 3 pictures are done already" in capsys.readouterr().err


def test_other_weights_in_a_worker_are_refused(root: Path, tmp_path: Path) -> None:
    """Since every process would explain another network."""
    settings = naspix.evaluation.EvaluationSettings(
        task="lerf", dataset="voc", root=str(root), model=OWN, methods=("grad_cam",)
    )
    with naspix.runs.open_run(tmp_path, kind="lerf", settings={}) as run:
        make_worker = Evaluation(settings).begin(run, 1)
    function, arguments = make_worker.__reduce__()
    assert isinstance(arguments, tuple)
    assert callable(function)
    with pytest.raises(InputError, match="has other weights in each process"):
        function(*arguments[:-1], "something else")()
