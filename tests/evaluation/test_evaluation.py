import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from PIL import Image
from small_data import photos, voc

import naspix
from naspix.errors import InputError, UnknownNameError
from naspix.evaluation import examples
from naspix.evaluation.evaluator import Evaluator, MakeEvaluator
from naspix.evaluation.page import write_results
from naspix.evaluation.running import evaluate_run as evaluate
from naspix.evaluation.scores import Score, scores_of
from naspix.evaluation.settings import EvaluationSettings
from naspix.evaluation.tables import tables_of, text_table
from naspix.metrics import MaxBoxAccV2, cluster_saliency, greedy_lerf, lerf, scale_boxes
from naspix.runs import InProcess, MakeWorker, Part, Run, Span, carry_out, open_run, read_run


def settings(root: Path, task: str = "wsol", **changes: object) -> EvaluationSettings:
    voc(root)
    asked: dict[str, object] = {
        "task": task,
        "dataset": "voc",
        "root": str(root),
        "segmenters": ("none", "nas", "random"),
        "batch_size": 2,
    }
    return EvaluationSettings(**{**asked, **changes})  # type: ignore[arg-type]


def score(run: Run, figure: str, method: str, segmenter: str) -> Score:
    (found,) = (
        s
        for s in scores_of(run)
        if (s.figure, s.method, s.segmenter) == (figure, method, segmenter)
    )
    return found


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    return naspix.load_model("efficientnet_lite0")


def squashed(model: naspix.Classifier, n: int = 4) -> torch.Tensor:
    """As wsolevaluation reads pictures, by PIL alone."""
    images = [
        np.asarray(Image.fromarray(p).resize((224, 224), Image.Resampling.BILINEAR))
        for p in photos(n)
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def test_wsol_is_the_metric_on_the_front_doors_maps(
    tmp_path: Path, model: naspix.Classifier
) -> None:
    run = evaluate(settings(tmp_path / "voc"), tmp_path / "run")
    images = squashed(model)
    explained = naspix.explain(model, images, segmenter=naspix.NAS(model, n_clusters=10))
    boxes = [
        scale_boxes(torch.tensor([[x0 - 1, y0 - 1, x1, y1]]), photo.shape[:2], (224, 224))
        for (x0, y0, x1, y1), photo in zip(voc(tmp_path / "voc"), photos(4), strict=True)
    ]
    for segmenter, heat in (
        ("none", explained.raw["grad_cam_plus_plus"]),
        ("nas", explained.pooled["grad_cam_plus_plus", "nas"]),
    ):
        metric = MaxBoxAccV2()
        metric.update(heat, boxes)
        for figure, value in metric.compute().items():
            if not figure.startswith("threshold"):
                found = score(run, figure, "grad_cam_plus_plus", segmenter)
                assert found.value == pytest.approx(float(value))
                assert found.low <= found.value <= found.high
                assert found.n_pictures == 4
    gain = score(run, "mean", "grad_cam_plus_plus", "nas")
    raw = score(run, "mean", "grad_cam_plus_plus", "none")
    assert gain.difference == pytest.approx(gain.value - raw.value)
    assert raw.difference is None


def test_lerf_is_the_metric_on_the_front_doors_maps(
    tmp_path: Path, model: naspix.Classifier
) -> None:
    asked = settings(
        tmp_path / "voc",
        "lerf",
        segmenters=("none", "nas"),
        parameters={
            "lerf": {"steps": 10, "greedy": True, "both": True},
            "nas": {"n_clusters": 2},
        },
        limit=2,
    )
    run = evaluate(asked, tmp_path / "run")
    frame = run.records()
    for index, group in frame.groupby("index"):
        place = int(group["id"].iloc[0])
        image = model.load_images([photos(4)[place]])
        explained = naspix.explain(model, image, segmenter=naspix.NAS(model, n_clusters=2))
        heat = explained.raw["grad_cam_plus_plus"]
        labels = explained.segmentations["nas"].superpixels
        expected = [
            lerf(model, image, heat, steps=10).auc,
            lerf(model, image, heat, superpixels=labels).auc,
            greedy_lerf(model, image, labels).auc,
        ]
        assert list(group["method"]) == ["grad_cam_plus_plus"] * 2 + ["greedy"]
        assert group["auc"].to_numpy() == pytest.approx(torch.cat(expected).numpy(), abs=1e-3)
        n = int(labels.max()) + 1
        assert [len(curve) for curve in group["score"]] == [11, n + 1, n + 1]
        assert index in (0, 1)
    assert score(run, "srg", "grad_cam_plus_plus", "none").value == pytest.approx(
        (frame["auc"] - frame["auc_morf"])[frame["segmenter"] == "none"].mean()
    )


def test_semantics_is_table_1_on_the_front_doors_maps(
    tmp_path: Path, model: naspix.Classifier
) -> None:
    root = tmp_path / "folder"
    shown = photos(6)
    for i, photo in enumerate(shown):
        (root / ("tiger cat", "espresso", "missile")[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(root / ("tiger cat", "espresso", "missile")[i % 3] / f"{i}.png")
    parameters = {"semantics": {"n_clusters": 4, "n_samples": 200, "seed": 3}}
    asked = EvaluationSettings(
        task="semantics", dataset="folder", root=str(root), segmenters=("none",), limit=4,
        parameters=parameters,
    )  # fmt: skip
    run = evaluate(asked, tmp_path / "run")
    frame = run.records()
    clusters = {
        path.name: naspix.segmentation.ClassClusters.load(path, model)
        for path in (tmp_path / "run" / "classes").iterdir()
    }
    for row in frame.to_dict("records"):
        image = model.load_images([shown[int(Path(row["id"]).stem)]])
        seg = clusters[f"class-{row['label']}.npz"](image)
        heat = naspix.explain(model, image).raw["grad_cam_plus_plus"]
        expected = cluster_saliency({"x": heat}, seg.clusters, seg.superpixels, n_clusters=4)
        assert row["sums"] == pytest.approx(expected.sums[0, 0].numpy(), abs=1e-3)
        assert row["weights"] == pytest.approx(expected.weights[0].numpy())
        assert clusters[f"class-{row['label']}.npz"].n_images == 2, "all of the class, not only 4"
    of_class = frame[frame["label"] == frame["label"][0]]
    means = np.stack(of_class["sums"]).sum(0) / np.stack(of_class["weights"]).sum(0)
    found = score(run, f"class {frame['label'][0]} chosen (all)", "grad_cam_plus_plus", "none")
    assert found.value == pytest.approx(np.nanmax(means))
    assert model.category(int(frame["label"][0])) in text_table({"efficientnet_lite0": run})
    table = tables_of(run)[0]
    assert [row[1].text for row in table.rows] == ["all", "right", "wrong"]
    write_results(run)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "clusters of its class" in page
    assert page.count('class="chip"') == 4
    with pytest.raises(InputError, match="no picture has a label that efficientnet_lite0 knows"):
        evaluate(settings(tmp_path / "voc", "semantics"), tmp_path / "other")


def test_activations_maps_and_segmentations_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(
        tmp_path / "voc", segmenters=("none", "nas", "nas@fine", "random", "slic"), match=False,
        parameters={"nas@fine": {"n_clusters": 20, "levels": (2, 4)}},
    )  # fmt: skip
    worker = MakeEvaluator(asked, {}, str(tmp_path / "run"))()
    worker(Span(0, 1), None)  # what is looked at once a network: its levels, what it sees
    forwards: list[int] = []
    hook = worker.framing.model.network.register_forward_hook(
        lambda module, args, output: forwards.append(len(args[0]))
    )
    asked_of: list[str] = []
    slic = worker.pipeline.segmenters["slic"]

    def counted(images: torch.Tensor) -> naspix.Segmentation:
        asked_of.append("slic")
        return slic(images)  # type: ignore[no-any-return,operator]

    worker.pipeline.segmenters["slic"] = counted  # type: ignore[index]
    part = worker(Span(0, 4), None)
    hook.remove()
    assert forwards == [4], "for scores, activations and Grad-CAM++"
    assert asked_of == ["slic"]
    assert len(part.rows) == 4 * 5
    assert set(part.seconds) >= {"forward", "method grad_cam_plus_plus", "segmenter nas"}


def test_an_interrupted_run_gives_the_same(tmp_path: Path) -> None:
    asked = settings(tmp_path / "voc", segmenters=("none", "nas"))

    class StoppedError(Exception):
        pass

    def stopping(make_worker: MakeWorker, spans: Sequence[Span]) -> Iterator[Part]:
        yield from InProcess()(make_worker, spans[:1])
        raise StoppedError

    seen: list[tuple[int, int]] = []
    evaluate(asked, tmp_path / "whole", progress=lambda *numbers: seen.append(numbers))
    assert seen == [(0, 4), (2, 4), (2, 4)]
    with pytest.raises(StoppedError):
        evaluate(asked, tmp_path / "stopped", engine=stopping)
    assert read_run(tmp_path / "stopped").n_items == 2
    evaluate(asked, tmp_path / "stopped")
    whole = read_run(tmp_path / "whole")
    stopped = read_run(tmp_path / "stopped")
    assert_frame_equal(stopped.records(), whole.records(), check_exact=True)
    assert scores_of(read_run(tmp_path / "stopped")) == scores_of(whole)


def test_bad_pictures_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    asked = settings(tmp_path / "voc", segmenters=("none",))
    (tmp_path / "voc" / "1.png").write_bytes(b"\x89PNG no more")
    text = (tmp_path / "voc" / "2.xml").read_text()
    begin, end = text.index("<object>"), text.index("</object>") + len("</object>")
    (tmp_path / "voc" / "2.xml").write_text(text[:begin] + text[end:])
    text = (tmp_path / "voc" / "3.xml").read_text()
    (tmp_path / "voc" / "3.xml").write_text(text.replace("<xmin>", "<xmin>9"))
    run = evaluate(asked, tmp_path / "run")
    reasons = {failure.item: failure.reason for failure in run.failures}
    assert sorted(reasons) == ["1", "2", "3"]
    assert reasons["2"] == "2 has no box"
    assert reasons["3"].startswith("3 has no box: the box from (")
    assert sorted(set(run.records()["id"])) == ["0"]
    assert score(run, "mean", "grad_cam_plus_plus", "none").n_pictures == 1


def test_the_best_the_usual_and_the_worst_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = [0.1, 0.5, -0.2, 0.0, 0.3, -0.4, 0.05]
    frame = pd.DataFrame(
        [
            {"index": i, "id": f"p{i}", "method": m, "segmenter": s, "score": 0.4 + gain}
            for i, each in enumerate(gains)
            for m in ("a", "b")
            for s, gain in (("none", 0.0), ("slic", 9.0), ("nas", each if m == "a" else 3 * each))
        ]
    )
    monkeypatch.setattr(examples, "picture_scores", lambda run: frame)
    shown = examples.choose(Run(tmp_path, "lerf", {}, {}))
    assert [(each.id, each.why) for each in shown] == [
        ("p1", "best"), ("p4", "best"), ("p0", "usual"), ("p6", "usual"), ("p2", "worst"),
        ("p5", "worst"),
    ]  # fmt: skip
    assert [each.gain for each in shown] == pytest.approx([1.0, 0.6, 0.2, 0.1, -0.4, -0.8])


def test_a_changed_question_is_refused_and_a_longer_one_continued(tmp_path: Path) -> None:
    asked = {"segmenters": ("none",)}
    evaluate(settings(tmp_path / "voc", limit=1, **asked), tmp_path / "run")
    run = evaluate(settings(tmp_path / "voc", **asked), tmp_path / "run")
    assert run.n_items == 4
    with pytest.raises(InputError, match='target was "true" and is now 281'):
        evaluate(settings(tmp_path / "voc", target=281, **asked), tmp_path / "run")
    (tmp_path / "voc" / "3.xml").unlink()
    with pytest.raises(InputError, match=r"data\.n_pictures was 4 and is now 3"):
        evaluate(
            EvaluationSettings(
                task="wsol", dataset="voc", root=str(tmp_path / "voc"), batch_size=2, **asked
            ),
            tmp_path / "run",
        )


def test_others_are_matched_to_nas(tmp_path: Path, model: naspix.Classifier) -> None:
    asked = settings(tmp_path / "voc", segmenters=("none", "nas", "slic", "grid"), limit=1)
    found = evaluate(asked, tmp_path / "run").header["found"]["matched"]
    images = squashed(model)
    wanted = float(naspix.NAS(model, n_clusters=10)(images).n_superpixels.double().mean())
    for name, segmenter in (("slic", naspix.SLIC), ("grid", naspix.Grid)):
        reached = segmenter(**found[name])(images).n_superpixels.double().mean()
        assert float(reached) == pytest.approx(wanted, rel=0.3)
    asked = settings(
        tmp_path / "voc",
        segmenters=("none", "nas", "slic", "grid"),
        limit=1,
        parameters={"slic": {"n_segments": 9}},
    )
    assert set(evaluate(asked, tmp_path / "other").header["found"]["matched"]) == {"grid"}


def test_the_target_may_be_the_label(tmp_path: Path, model: naspix.Classifier) -> None:
    root = tmp_path / "folder"
    for name, photo in zip(("tiger cat", "espresso"), photos(2), strict=True):
        (root / name).mkdir(parents=True)
        Image.fromarray(photo).save(root / name / "1.png")
    asked = EvaluationSettings(
        task="lerf", dataset="folder", root=str(root), segmenters=("none",), target="label",
        parameters={"lerf": {"steps": 2}},
    )  # fmt: skip
    frame = evaluate(asked, tmp_path / "run").records()
    assert dict(zip(frame["id"], frame["target"], strict=True)) == {
        "tiger cat/1.png": 282,
        "espresso/1.png": 967,
    }
    assert (frame["label"] == frame["target"]).all()
    with pytest.raises(InputError, match=r"classes of the data set \(thing\) are not those of"):
        evaluate(settings(tmp_path / "voc", target="label"), tmp_path / "other")


def test_names_that_are_not_known_are_refused_with_near_ones(tmp_path: Path) -> None:
    for changes, words in (
        ({"methods": ("gradcam",)}, "did you mean 'grad_cam'"),
        ({"segmenters": ("slick@2",)}, "did you mean 'slic'"),
        ({"dataset": "vocs"}, "did you mean 'voc'"),
    ):
        with pytest.raises(UnknownNameError, match=words):
            settings(tmp_path / "voc", **changes)
    for wrong, words in (
        ({"methods": ()}, "at least one --method"),
        ({"limit": 0}, "--limit is at least 1, not 0"),
        ({"segmenters": ("random",)}, "add --segmenter nas"),
    ):
        with pytest.raises(InputError, match=words):
            settings(tmp_path / "voc", **wrong)


def test_maps_that_are_not_finite_find_nothing_and_are_counted(tmp_path: Path) -> None:
    asked = settings(tmp_path / "voc")
    make_worker = MakeEvaluator(asked, {}, str(tmp_path / "run"))

    def breaking() -> Evaluator:
        worker = make_worker()
        method = worker.pipeline.methods["grad_cam_plus_plus"]

        def broken(images, target):  # type: ignore[no-untyped-def]
            heat = method(images, target)
            heat[0, 3, 3] = torch.nan
            return heat

        worker.pipeline.methods["grad_cam_plus_plus"] = broken  # type: ignore[index]
        return worker

    part = breaking()(Span(0, 2), None)
    assert not part.failed
    first = [row for row in part.rows if row["index"] == 0]
    assert all(row["top"] == 0 and row["energy"] is None for row in first)
    assert all(row["top"] == 255 for row in part.rows if row["index"] != 0)
    run = evaluate(asked, tmp_path / "run", render=False)
    assert "not finite" not in text_table({"efficientnet_lite0": run})
    with open_run(tmp_path / "broken", kind="wsol", settings=asked.to_plain()) as opened:
        carry_out(opened, breaking, n_items=4, batch_size=4)
    run = read_run(tmp_path / "broken")
    assert "count as zero everywhere" in text_table({"efficientnet_lite0": run})
    assert "Grad-CAM++ 1, Grad-CAM++ + NAS 1, Grad-CAM++ + Random 1" in text_table(
        {"efficientnet_lite0": run}
    )


def test_tables_and_files_say_what_the_scores_say(tmp_path: Path) -> None:
    run = evaluate(settings(tmp_path / "voc"), tmp_path / "run")
    write_results(run)
    with (tmp_path / "run" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = scores_of(run)
    assert [float(row["value"]) for row in rows] == [s.value for s in scores]
    with (tmp_path / "run" / "table.csv").open() as file:
        (first, *_) = csv.DictReader(file)
    assert first["figure"] == "mean"
    assert float(first["raw"]) == scores[0].value
    assert float(first["+nas"]) == scores[1].difference
    table = tables_of(run)[0]
    assert table.columns == ("method", "raw", "+NAS", "+Random")
    assert table.rows[0][1].text == f"{100 * scores[0].value:.1f}"
    assert "MaxBoxAccV2" in text_table({"efficientnet_lite0": run})
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<img" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    (tmp_path / "run" / "report.html").unlink()
    shutil.rmtree(tmp_path / "voc")
    write_results(read_run(tmp_path / "run"))  # of what lies in the folder alone
    assert (tmp_path / "run" / "report.html").read_text() == page
    assert read_run(tmp_path / "run").kind == "wsol"
    assert (tmp_path / "run" / "records.parquet").exists()
