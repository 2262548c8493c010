"""Files to keep: each is what the Python interface gives, and the lines give it when they run."""

import base64
import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

import naspix
from naspix.app.photos import picture_of, sample_image
from naspix.app.saving import explanation, python_lines, stem
from naspix.app.study import Study


def _saved(ask, what: str) -> tuple[str, bytes]:
    file = ask("save", what=what)["file"]
    return file["name"], base64.b64decode(file["data"])


@pytest.mark.parametrize("algorithm", ["kmeans", "ward"])
def test_the_lines_give_exactly_this_result(ask, cat, capsys, tmp_path, monkeypatch, algorithm):
    monkeypatch.chdir(tmp_path)  # where there is no file
    state = ask("segment", algorithm=algorithm, n_clusters=6)
    ask("rank", method="grad_cam")
    ask("toggle", number=1)
    scores = ask("toggle", number=3)["scores"]
    name, lines = _saved(ask, "python")
    assert name == "chelsea-explain.py"
    assert ask("python")["code"] == lines.decode()
    world: dict = {}
    exec(compile(lines.decode(), name, "exec"), world)
    printed = capsys.readouterr().out.splitlines()
    after = {bar["index"]: bar["after"] for bar in scores["bars"]}
    assert len(printed) == 5
    for line, index in zip(printed, world["before"].topk(5).indices.tolist(), strict=True):
        assert line.endswith(f"{after[index]:.1%}")
        assert float(world["after"][index]) == pytest.approx(after[index], abs=1e-6)
    assert int(world["seg"].n_superpixels[0]) == state["regions"]["n"]
    means = ask("hello")["regions"]["saliency"]
    found = world["pooled"][world["seg"].superpixels == 3]
    assert float(found.mean()) == pytest.approx(means[3], rel=1e-4)


@pytest.mark.parametrize("fitting", ["model", "squash", "pad"])
def test_the_lines_of_an_upload_read_the_file_as_it_was_fitted(ask, tmp_path, monkeypatch, fitting):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(sample_image("chelsea")).save("it's.png")
    state = ask("photo", (tmp_path / "it's.png").read_bytes(), name="it's.png", fitting=fitting)
    code = ask("python")["code"]
    assert "keep it beside this file" in code
    world: dict = {}
    exec(compile(code, "lines", "exec"), world)
    assert int(world["seg"].n_superpixels[0]) == state["regions"]["n"]
    bar = state["scores"]["bars"][0]
    assert float(world["before"][bar["index"]]) == pytest.approx(bar["before"], abs=1e-6)


def test_the_segmentation_as_npz_and_coco(ask, cat, model, tmp_path):
    expected = naspix.NAS(model)(model.load_images([sample_image("chelsea")]))
    _, content = _saved(ask, "segmentation")
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    loaded = naspix.Segmentation.load(path)
    assert loaded == expected
    assert loaded.source == expected.source
    _, text = _saved(ask, "coco")
    found = json.loads(text)
    assert found["images"][0]["file_name"] == "chelsea.png"
    assert len(found["annotations"]) == int(expected.n_superpixels[0])


def test_the_report_is_one_page_that_needs_nothing(ask, cat):
    ask("compare", methods=["grad_cam_plus_plus", "vanilla_gradient"], segmenters=["slic"])
    ask("toggle", number=2)
    name, content = _saved(ask, "report")
    page = content.decode()
    assert name == "chelsea-report.html"
    assert "tiger cat" in page
    assert "superpixels 2" in page
    assert page.count("<img") >= 9
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_pictures_are_pngs(ask, cat, model):
    ask("toggle", number=0)
    _, content = _saved(ask, "pictures")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert {"photo.png", "boundaries-nas.png", "clusters-nas.png", "hidden.png"} <= {*names}
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                picture.load()
        hidden = np.asarray(Image.open(io.BytesIO(archive.read("hidden.png"))))
    superpixels = naspix.NAS(model)(model.load_images([sample_image("chelsea")])).superpixels[0]
    assert (hidden[superpixels.numpy() == 0] == 128).all()
    assert (hidden[superpixels.numpy() == 1] != 128).any()


def test_names_cannot_leave_their_place_or_their_quotes(model):
    name = "'); import os #\n<script>.png"
    pixels = np.zeros((64, 64, 3), np.uint8)
    picture = picture_of(pixels, model, name=name, code=repr(name), note="a\nb")
    study = Study(model, "efficientnet_lite0", picture)
    lines = python_lines(study, "model = None")
    assert f"[{name!r}]" in lines
    compile(lines, "lines", "exec")
    assert stem(study) == "import os ---script"
    assert "<script>" not in explanation(study).to_html()
