"""Folders of photos explained and cut: continued, by several workers, in pages."""

import json
import multiprocessing
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import naspix
from naspix import registry
from naspix.cli.app import main
from naspix.errors import ActivationError, DeviceError, InputError, NaspixWarning
from naspix.folders import PhotoSettings, explain_photos, segment_photos
from naspix.folders.workers import Worker
from naspix.images import Photo, ReadingAhead, find_photos
from naspix.metrics import deciding_sets
from naspix.report import ResultsFolder, folder
from naspix.runs import Processes, Span, read_run
from naspix.saliency import GradCAMPlusPlus, VanillaGradient
from naspix.segmentation import NAS, SLIC

SETTINGS = PhotoSettings(batch_size=2, parameters={"nas": {"n_clusters": 3}})
FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five crops of a photo, and a file that is none."""
    root = tmp_path_factory.mktemp("photos")
    for place in range(5):
        Image.fromarray(skimage.data.chelsea()[:200, 40 * place :][:, :200]).save(
            root / f"cat-{place}.png"
        )
    (root / "broken.jpg").write_bytes(b"no photo")
    return root


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    explain_photos(SETTINGS, output, paths=[photos])
    return output


def test_what_a_killed_command_lacks_is_computed_by_the_next(
    photos: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    process = FORKS.Process(
        target=explain_photos, args=(SETTINGS, output), kwargs={"paths": [photos]}
    )
    process.start()
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline and not _n_done(output):
        time.sleep(0.005)
    process.kill()
    process.join()
    before = _n_done(output)
    told: list[str] = []
    run = explain_photos(
        SETTINGS, output, paths=[photos], told=lambda row: told.append(row.get("name", ""))
    )
    assert before
    assert run.n_items == 6
    assert [name for name in told if name] == [f"cat-{i}" for i in range(5)], "former ones too"
    assert _results(output) == _results(whole)
    assert not list(output.rglob("*.part"))
    assert {path.name for path in (output / "cat-0").iterdir()} == {
        path.name for path in (whole / "cat-0").iterdir()
    }


def test_two_processes_give_what_one_gives(photos: Path, whole: Path, tmp_path: Path) -> None:
    explain_photos(SETTINGS, tmp_path, paths=[photos], engine=Processes(workers=2, threads=1))
    assert _results(tmp_path) == _results(whole)


def test_a_run_is_drawn_again(photos: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for name in ("report.html", "results.json", "ranking.csv"):
        (tmp_path / name).unlink()
    assert main(["render", str(tmp_path)]) == 0
    for name in ("report.html", "results.json", "ranking.csv"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    segment_photos(replace(SETTINGS, file_format="coco"), tmp_path / "coco", paths=[photos])
    before = (tmp_path / "coco" / "annotations.json").read_bytes()
    (tmp_path / "coco" / "annotations.json").unlink()
    assert main(["render", str(tmp_path / "coco")]) == 0
    assert (tmp_path / "coco" / "annotations.json").read_bytes() == before


def test_results_are_those_of_the_front_door(photos: Path, whole: Path) -> None:
    model = naspix.load_model("efficientnet_lite0")
    nas = naspix.NAS(model, n_clusters=3)
    explanation = naspix.explain(model, [photos / "cat-3.png"], segmenter=nas)
    (found,) = [one for one in _results(whole)["photos"] if one["name"] == "cat-3"]
    ranking = found["explanations"][0]["superpixels"]
    assert [one["label"] for one in ranking] == [one.label for one in explanation.ranking()]
    assert [one["saliency"] for one in ranking] == pytest.approx(
        [one.saliency for one in explanation.ranking()], rel=1e-4, abs=1e-6
    )
    assert _results(whole)["failed"][0]["source"].endswith("broken.jpg")


def test_a_finished_run_of_other_settings_is_set_aside_an_unfinished_one_is_not(
    photos: Path, tmp_path: Path
) -> None:
    one = [photos / "cat-0.png"]
    explain_photos(SETTINGS, tmp_path, paths=one)
    explain_photos(SETTINGS, tmp_path, paths=one)  # nothing is left to do
    explain_photos(replace(SETTINGS, batch_size=5), tmp_path, paths=one)  # nor by that
    explain_photos(replace(SETTINGS, device="auto"), tmp_path, paths=one)
    assert not (tmp_path / "former-1").exists()
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(InputError, match="no image file"):
        explain_photos(SETTINGS, tmp_path, paths=[tmp_path / "mistyped.jpg"])
    assert (tmp_path / "results.json").read_bytes() == before, "nothing was touched"
    with pytest.warns(
        NaspixWarning, match=r"another run in .* \(a run of explain\) are in .*former-1 now"
    ):
        run = segment_photos(SETTINGS, tmp_path, paths=one)
    assert run.kind == "segment"
    assert (tmp_path / "former-1" / "results.json").read_bytes() == before
    assert (tmp_path / "former-1" / "cat-0" / "photo.png").exists()
    assert read_run(tmp_path / "former-1").kind == "explain"
    names = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert names == {"cat-0.png", "former-1", "run.sqlite"}

    def stop(row: object) -> None:
        raise KeyboardInterrupt

    many = [photos / "cat-0.png", photos / "cat-1.png", photos / "cat-2.png"]
    with pytest.raises(KeyboardInterrupt):
        explain_photos(SETTINGS, tmp_path / "stopped", paths=many, told=stop)
    explain_photos(SETTINGS, tmp_path / "half", paths=many[:2])
    with pytest.raises(KeyboardInterrupt):
        explain_photos(
            SETTINGS,
            tmp_path / "half2",
            paths=many,
            doing=lambda done, *_: stop(0) if done >= 2 else None,
        )
    assert read_run(tmp_path / "half2").n_items == 2
    other = PhotoSettings(target="espresso", batch_size=2)
    with pytest.raises(InputError, match="target was not set and is now"):
        explain_photos(other, tmp_path / "half2", paths=many)
    record = json.loads((tmp_path / "half2" / "results.json").read_text())
    assert not record["finished"]
    assert len(record["photos"]) == 2


def test_a_run_takes_other_methods_segmenters_and_parameters(
    photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored is used, what lacks computed, and what was asked last is shown."""
    asked: list[str] = []
    for kind in (GradCAMPlusPlus, VanillaGradient, SLIC, NAS):
        watch(monkeypatch, kind, asked)
    explain_photos(SETTINGS, tmp_path / "one", paths=[photos])
    assert {*asked} == {"NAS"}  # of whom activations are asked; Grad-CAM++ is made of the forward
    asked.clear()
    both = replace(
        SETTINGS,
        methods=("vanilla_gradient", "grad_cam_plus_plus"),
        segmenters=("slic", "nas"),
    )
    explain_photos(both, tmp_path / "one", paths=[photos])
    assert {*asked} == {"VanillaGradient", "SLIC"}
    asked.clear()
    assert not (tmp_path / "one" / "former-1").exists()
    explain_photos(both, tmp_path / "anew", paths=[photos])
    assert _results(tmp_path / "one")["photos"] == _results(tmp_path / "anew")["photos"]
    assert _files(tmp_path / "one") == _files(tmp_path / "anew")
    asked.clear()
    other = replace(both, parameters={"nas": {"n_clusters": 4}, "slic": {"n_segments": 9}})
    explain_photos(other, tmp_path / "one", paths=[photos])
    assert {*asked} == {"NAS", "SLIC"}
    asked.clear()
    explain_photos(SETTINGS, tmp_path / "one", paths=[photos])
    assert not asked
    assert _results(tmp_path / "one") == _results(whole)
    assert _files(tmp_path / "one") == _files(whole), "of nothing that was asked before"
    svg = replace(SETTINGS, file_format="svg", threshold=0.2)
    explain_photos(svg, tmp_path / "one", paths=[photos])
    assert not asked
    assert (tmp_path / "one" / "cat-0" / "explanation.svg").exists()
    with pytest.warns(
        NaspixWarning, match=r"another run .*target was not set and is now .espresso"
    ):
        explain_photos(replace(SETTINGS, target="espresso"), tmp_path / "one", paths=[photos])
    assert read_run(tmp_path / "one" / "former-1").is_finished


def test_a_run_takes_more_and_fewer_photos(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    watch(monkeypatch, SLIC, asked)
    settings = replace(SETTINGS, segmenters=("slic",))

    def names(*places: int) -> list[str]:
        told: list[str] = []
        paths = [photos / f"cat-{place}.png" for place in places]
        explain_photos(settings, tmp_path, paths=paths, told=lambda row: told.append(row["name"]))
        found = [one["name"] for one in _results(tmp_path)["photos"]]  # type: ignore[union-attr]
        assert sorted(told) == sorted(found)
        assert _results(tmp_path)["finished"]
        return found

    assert names(1, 3) == ["cat-1", "cat-3"]
    assert len(asked) == 1
    assert names(0, 1, 2, 3) == ["cat-0", "cat-1", "cat-2", "cat-3"]
    assert len(asked) == 2, "two more, in one batch"
    assert names(3, 2) == ["cat-3", "cat-2"]
    assert main(["render", str(tmp_path)]) == 0
    assert [one["name"] for one in _results(tmp_path)["photos"]] == ["cat-3", "cat-2"]
    assert len(asked) == 2
    copy = tmp_path / "elsewhere" / "cat-3.png"
    copy.parent.mkdir()
    shutil.copy(photos / "cat-1.png", copy)
    explain_photos(settings, tmp_path, paths=[photos / "cat-3.png", copy])
    found = _results(tmp_path)["photos"]
    assert [one["name"] for one in found] == ["cat-3", "elsewhere-cat-3"]  # type: ignore[union-attr,index]
    with pytest.warns(NaspixWarning, match=r"another run .* \(other photos\) are in"):
        explain_photos(settings, tmp_path, paths=[photos / "cat-4.png"])


def test_by_command_too_a_half_run_takes_another_method(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", str(photos), "--output", str(tmp_path), "--batch-size", "2"]

    def stop(done: float, *_: object) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_photos(PhotoSettings(batch_size=2), tmp_path, paths=[photos], doing=stop)
    assert not read_run(tmp_path).is_finished
    assert main(["render", str(tmp_path)]) == 0
    assert len(_results(tmp_path)["photos"]) == 1, "and a file that is none"  # type: ignore[arg-type]
    assert not _results(tmp_path)["finished"]
    assert main([*command, "--target", "espresso"]) == 2
    assert 'target was not set and is now ["espresso"]' in capsys.readouterr().err
    assert main([*command, "--method", "grad_cam", "--segmenter", "grid"]) == 1  # one is no photo
    record = _results(tmp_path)
    assert record["finished"]
    assert [*record["settings"]["methods"]] == ["grad_cam"]  # type: ignore[index,call-overload]
    assert {one["explanations"][0]["segmenter"] for one in record["photos"]} == {"grid"}  # type: ignore[attr-defined]
    report = (tmp_path / "report.html").read_text()
    assert "Grad-CAM" in report
    assert "Grad-CAM++" not in report


def test_other_weights_are_another_run(photos: Path, tmp_path: Path) -> None:
    """Of a network that is called the same, nothing that is stored is taken."""
    code = (
        "import naspix, torch\n\n\ndef make():\n    torch.manual_seed({})\n"
        "    body = [torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]\n"
        "    network = torch.nn.Sequential(*body, torch.nn.Flatten(), torch.nn.Linear(8, 3))\n"
        "    return naspix.wrap_model(network, mean=0.5, std=0.5, input_size=32, levels=['0'])\n"
    )
    mine, one = tmp_path / "mine.py", [photos / "cat-0.png"]
    settings = PhotoSettings(model=f"{mine}:make")
    mine.write_text(code.format(1))
    explain_photos(settings, tmp_path / "out", paths=one)
    before = _results(tmp_path / "out")["photos"]
    mine.write_text(code.format(2))
    with pytest.warns(NaspixWarning, match=r"another run .* \(other network\) are in"):
        explain_photos(settings, tmp_path / "out", paths=one)
    assert _results(tmp_path / "out")["photos"] != before


def test_tiles_targets_and_greedy_orders_go_on_too(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(photos / "cat-0.png").resize((300, 230)).save(tmp_path / "large.png")
    asked: list[str] = []
    watch(monkeypatch, VanillaGradient, asked)
    settings = PhotoSettings(
        methods=("vanilla_gradient",),
        segmenters=("grid",),
        parameters={"grid": {"n_segments": 4}},
        target=("tabby", "tiger cat"),
        greedy=True,
        tiles=9,
    )
    paths = [tmp_path / "large.png"]
    explain_photos(settings, tmp_path / "one", paths=paths)
    more = replace(settings, segmenters=("grid", "nas"))
    n_asked = len(asked)
    explain_photos(more, tmp_path / "one", paths=paths)
    assert len(asked) == n_asked
    explain_photos(more, tmp_path / "anew", paths=paths)
    assert _results(tmp_path / "one")["photos"] == _results(tmp_path / "anew")["photos"]
    assert _files(tmp_path / "one") == _files(tmp_path / "anew")


def test_sets_go_on_too(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def search(*given: object, **more: object) -> object:
        searched.append(1)
        return deciding_sets(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(sys.modules["naspix.explain"], "deciding_sets", search)
    settings = replace(SETTINGS, segmenters=("grid",), parameters={"grid": {"n_segments": 6}})
    one, anew = tmp_path / "one", tmp_path / "anew"
    explain_photos(settings, one, paths=[photos])
    assert not searched
    explain_photos(replace(settings, sets=True), one, paths=[photos])
    assert len(searched) == 3  # batches of two
    several = replace(settings, sets=True, methods=("grad_cam_plus_plus", "vanilla_gradient"))
    explain_photos(several, one, paths=[photos])
    assert len(searched) == 3 + 3  # those of the first method are known
    explain_photos(several, anew, paths=[photos])
    assert _results(one)["photos"] == _results(anew)["photos"]
    assert _files(one) == _files(anew)


def test_the_command_takes_sets(photos: Path, tmp_path: Path) -> None:
    command = ["explain", str(photos / "cat-0.png"), "--output", str(tmp_path), "--sets"]
    assert main(command) == 0
    (photo,) = _results(tmp_path)["photos"]  # type: ignore[misc]
    assert {"sufficient", "necessary", "n_forwards"} <= {*photo["explanations"][0]}


def test_cutting_goes_on_with_another_segmenter_and_format(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    watch(monkeypatch, SLIC, asked)
    masks = replace(SETTINGS, segmenters=("slic",), file_format="masks")
    segment_photos(masks, tmp_path, paths=[photos])
    n_asked = len(asked)
    few = replace(masks, parameters={"slic": {"n_segments": 4}})
    run = segment_photos(few, tmp_path, paths=[photos])
    told = [json.loads(row["told"])["n_superpixels"] for row in run.rows(["told"])]
    assert [len(list((tmp_path / f"cat-{i}").iterdir())) for i in range(5)] == told
    asked.clear()
    command = ["segment", str(photos), "--output", str(tmp_path), "--segmenter", "slic"]
    assert main([*command, "--format", "coco"]) == 1  # one is no photo
    assert not asked
    assert n_asked == 3
    assert {path.name for path in tmp_path.iterdir()} == {"run.sqlite", ".lock", "annotations.json"}
    segment_photos(replace(masks, file_format="coco"), tmp_path / "anew", paths=[photos])
    annotations = (tmp_path / "annotations.json").read_bytes()
    assert annotations == (tmp_path / "anew" / "annotations.json").read_bytes()


def watch(monkeypatch: pytest.MonkeyPatch, kind: type, asked: list[str]) -> None:
    """Note each time that a kind of method or segmenter is asked."""
    names = {"VanillaGradient": "_attribute", "GradCAMPlusPlus": "_attribute"}
    name = names.get(kind.__name__, "segment" if kind is NAS else "__call__")
    original = getattr(kind, name)

    def watched(self: object, *args: object, **kwargs: object) -> object:
        asked.append(kind.__name__)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, watched)


def _files(output: Path) -> dict[str, bytes]:
    """Pictures below a folder."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*.*")
        if path.suffix in (".png", ".svg") and "former" not in str(path)
    }


def test_pages_of_a_hundred_with_an_index(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_PAGE_LENGTH", 2)
    model = naspix.load_model("efficientnet_lite0")
    explanation = naspix.explain(model, skimage.data.chelsea())
    (photo,) = explanation.photos()
    with ResultsFolder(tmp_path, explanation.run) as results:
        for place in range(5):
            results.add(replace(photo, name=f"photo {place}"))
    names = sorted(path.name for path in tmp_path.glob("*.html"))
    assert names == ["report-001.html", "report-002.html", "report-003.html", "report.html"]
    index = (tmp_path / "report.html").read_text()
    assert 'href="report-002.html#photo-photo-3"' in index
    assert "<img" not in index
    second = (tmp_path / "report-002.html").read_text()
    assert 'id="photo-photo-3"' in second
    assert 'href="report.html"' in second
    assert len(json.loads((tmp_path / "results.json").read_text())["photos"]) == 5


def test_a_photo_that_spoils_its_batch_is_told_apart(tmp_path: Path) -> None:
    """A level that overflows on one photo of three fails that one only."""
    found = [Photo(name, name, np.full((8, 8, 3), 255 * (name == "b"), np.uint8)) for name in "abc"]
    model = naspix.load_model("efficientnet_lite0")

    class Ask:
        def __init__(self, error: Exception) -> None:
            self.columns = {"index": "int", "name": "text", "told": "text"}
            self.n_steps, self.record, self.asked = 1, {}, ""
            self.model, self.error = model, error

        def __call__(self, photos, images, known, told):  # type: ignore[no-untyped-def]
            if images.max() > 0.9:
                raise self.error
            return [{"name": photo.name, "told": "{}", "pictures": {}} for photo in photos]

    def worker(error: Exception) -> Worker:
        return Worker(Ask(error), PhotoSettings(), dict(enumerate(found)), tmp_path)

    part = worker(ActivationError("overflow"))(Span(0, 3), None)
    assert [row["name"] for row in part.rows] == ["a", "c"]
    assert [(one.item, one.reason) for one in part.failed] == [("b", "overflow")]
    with pytest.raises(DeviceError):
        worker(DeviceError("memory ran out"))(Span(0, 3), None)


def test_reading_stays_a_batch_ahead() -> None:
    read: list[int] = []
    reader = ReadingAhead(lambda index: read.append(index) or index)
    spans = [(start, start + 4) for start in range(0, 40, 4)]
    for place, span in enumerate(spans):
        following = spans[place + 1] if place + 1 < len(spans) else None
        assert reader(span, following)[0] == list(range(*span))
        time.sleep(0.01)
        assert len(read) <= span[1] + 4
    assert read == list(range(40))


def test_all_methods_and_segmenters_can_be_asked_for() -> None:
    settings = PhotoSettings(
        methods=tuple(registry.SALIENCY), segmenters=tuple(registry.SEGMENTERS), quick=True
    )
    model = naspix.load_model("efficientnet_lite0")
    methods = settings.make_methods(model)
    assert list(methods) == list(registry.SALIENCY)
    assert methods["rise"].n_masks == 300
    assert list(settings.make_segmenters(model)) == list(registry.SEGMENTERS)


def test_photos_of_long_names_are_told_apart(tmp_path: Path) -> None:
    for end in "ab":
        (tmp_path / f"{70 * chr(0x732B)}{end}.png").touch()
    names = [photo.name for photo in find_photos([tmp_path])]
    assert len({*names}) == 2
    assert all(len(name.encode()) <= 130 for name in names)


def _results(output: Path) -> dict[str, object]:
    results = json.loads((output / "results.json").read_text())
    del results["created"]
    return results


def _n_done(output: Path) -> int:
    try:
        return len(read_run(output).spans)
    except naspix.NaspixError:
        return 0


def test_a_contrast_parameters_and_what_was_seen(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", str(photos / "cat-0.png"), "--output", str(tmp_path / "out")]
    command += ["--method", "rise", "--set", "rise.n_masks=20", "--set", "nas.n_clusters=2"]
    assert main([*command, "--target", "tiger cat", "--contrast", "tabby"]) == 0
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    (photo,) = record["photos"]
    assert photo["target"]["name"] == "tiger cat rather than tabby"
    assert photo["segmentations"]["nas"]["n_clusters"] == 2
    assert "n_masks=20" in record["settings"]["methods"]["rise"]
    assert record["settings"]["target"] == {"positive": 282, "negative": 281}
    seen = "the middle 175 x 175 of 200 x 200 pixels, at 224 x 224"
    assert photo["fitting"] == seen
    assert f"The network saw {seen}." in (tmp_path / "out" / "report.html").read_text()
    assert main([*command, "--set", "rise.masks=20"]) == 2
    assert "there is no parameter of rise 'masks'" in capsys.readouterr().err


def test_photos_by_tiles_are_what_explain_gives(photos: Path, tmp_path: Path) -> None:
    large = Image.open(photos / "cat-0.png").resize((400, 260))
    large.save(tmp_path / "large.png")
    settings = PhotoSettings(tiles=64, methods=("vanilla_gradient",), segmenters=("nas",))
    explain_photos(settings, tmp_path / "out", paths=[tmp_path / "large.png"])
    (photo,) = json.loads((tmp_path / "out" / "results.json").read_text())["photos"]
    assert photo["fitting"] == "all of its 400 x 260 pixels, in 6 tiles of 224 x 224"
    found = naspix.explain(
        naspix.load_model(), tmp_path / "large.png", method="vanilla_gradient", tiles=True
    )
    assert [tile["score"] for tile in photo["tiles"]] == pytest.approx(
        [tile.score for tile in found.tiles[0]], rel=1e-4
    )
    assert found.fittings == (photo["fitting"],)
