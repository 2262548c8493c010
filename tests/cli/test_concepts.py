"""``naspix concepts`` from photos to a page, named and run again; and what is wrong with input."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import naspix
from naspix.cli import main
from naspix.concepts import ConceptSettings, _box_files, _Photos, read_names
from naspix.errors import InputError
from naspix.images import find_photos
from naspix.segmentation import ClassClusters

SMALL = ("--n-clusters", "3", "--n-samples", "60", "--n-examples", "2", "--batch-size", "2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cats")
    for name, pixels in (("cat", skimage.data.chelsea()), ("cup", skimage.data.coffee())):
        Image.fromarray(pixels[::2, ::2]).save(folder / f"{name}.jpg")
    Image.fromarray(skimage.data.chelsea()[::2, ::-2]).save(folder / "tac <b>.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    (folder / "cat.xml").write_text(
        "<annotation><filename>cat.jpg</filename><object><name>cat</name><bndbox><xmin>60</xmin>"
        "<ymin>1</ymin><xmax>160</xmax><ymax>150</ymax></bndbox></object></annotation>"
    )
    return folder


class _Page(HTMLParser):
    """Collects what a reader would see, and complains of what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.sources: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name == "src"]
        if tag == "h2":
            self.headings.append("")
        self._heading = tag == "h2" or (self._heading and tag in ("i", "small"))

    def handle_endtag(self, tag):
        self._heading = self._heading and tag != "h2"

    def handle_data(self, data):
        if self._heading:
            self.headings[-1] += data


def test_from_photos_to_named_clusters(photos, tmp_path, capsys):
    out = tmp_path / "new" / "run"
    command = ["concepts", "--images", str(photos), "--class", "tiger cat", *SMALL]
    command += ["--boxes", str(photos), "--output", str(out)]
    assert main(command) == 1  # one photo was left out
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 3
    assert told.err.count("left out") == 2  # once named, once counted
    assert "1 of 4 photos were left out" in told.err
    record = json.loads((out / "concepts.json").read_text("utf-8"))
    assert record["n_images"] == 3
    assert [one["source"].endswith("broken.jpg") for one in record["failed"]] == [True]
    assert sum(one["area"] for one in record["clusters"]) == pytest.approx(1)
    by_split = {row["split"]: row["n_images"] for row in record["table"]}
    assert by_split["right"] + by_split["wrong"] == by_split["all"] == 3
    assert by_split["wrong"] >= 1  # the cup is no cat
    assert sorted(one["cluster"] for one in record["audit"]) == [0, 1, 2]
    assert all(0 <= one["outside"] <= 1 for one in record["audit"])
    page = _Page((out / "atlas.html").read_text("utf-8"))
    assert {"cluster 0", "cluster 1", "cluster 2", "All clusters"} <= {*page.headings}
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)

    # a person writes names, and the same command takes the clusters from the folder
    fitted = (out / "clusters.npz").stat().st_mtime_ns
    assert json.loads((out / "names.json").read_text("utf-8")) == {"0": "", "1": "", "2": ""}
    (out / "names.json").write_text('{"1": "Schnauze & <Ohren>"}', "utf-8")
    assert main(command) == 1
    told = capsys.readouterr()
    assert "taking the clusters from" in told.err
    assert "Schnauze & <Ohren>" in told.out
    page = _Page((out / "atlas.html").read_text("utf-8"))
    assert "Schnauze & <Ohren> cluster 1" in page.headings
    model = naspix.load_model("efficientnet_lite0")
    loaded = ClassClusters.load(out / "clusters.npz", model)
    assert loaded.names == ("", "Schnauze & <Ohren>", "")
    assert (out / "clusters.npz").stat().st_mtime_ns > fitted

    # other settings make other clusters, to which these names do not belong
    again = [*command, "--seed", "1", "--json"]
    assert main(again) == 1
    told = capsys.readouterr()
    assert "names.old.json" in told.err
    assert [one["name"] for one in json.loads(told.out)["clusters"]] == ["", "", ""]
    assert read_names(out / "names.old.json") == {1: "Schnauze & <Ohren>"}


def test_help(snapshot):
    result = subprocess.run(
        [sys.executable, "-c", "import naspix.cli; naspix.cli.main(['concepts', '--help'])"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
        check=True,
    )
    assert result.stdout == snapshot


def test_boxes_come_into_the_frame_that_the_network_sees(photos):
    model = naspix.load_model("efficientnet_lite0")
    found = find_photos([photos])
    settings = ConceptSettings(resize="squash")
    reader = _Photos(found, model, settings, lambda *_: None, lambda *_: None)
    files = _box_files(photos)
    mask = reader.mask_of(next(p for p in found if p.source.endswith("cat.jpg")), files)
    columns = mask.any(0).nonzero()[:, 0]
    # the photo is 226 pixels wide
    assert columns.min() == pytest.approx(59 * 224 / 226, abs=1)
    assert columns.max() == pytest.approx(160 * 224 / 226, abs=1)
    assert mask[:, columns].float().mean() > 0.98
    assert not reader.mask_of(next(p for p in found if p.source.endswith("cup.jpg")), files).any()


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("declared", [(40, 80), (80, 40)])
def test_boxes_follow_a_photo_that_exif_turns(tmp_path, declared, exif):
    """Stored 40 x 80, a white square drawn as stored or after a quarter turn."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20, :20] = 255
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=picture.getexif())
    box = (1, 1, 20, 20) if declared == (40, 80) else (21, 1, 40, 20)
    sides = "".join(
        f"<{side}>{value}</{side}>"
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.XML").write_text(
        f"<annotation><size><height>{declared[0]}</height><width>{declared[1]}</width></size>"
        f"<object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>"
    )
    settings = ConceptSettings(resize="none", exif=exif)
    found = find_photos([tmp_path])
    model = naspix.load_model("efficientnet_lite0")
    reader = _Photos(found, model, settings, lambda *_: None, lambda *_: None)
    if not exif and declared == (80, 40):  # drawn on what the photo is not
        assert not reader.mask_of(found[0], _box_files(tmp_path)).any()
        return
    mask = reader.mask_of(found[0], _box_files(tmp_path))
    image = model.load_images(found[0].content, resize=None, exif=exif)[0].cpu()
    assert torch.equal(mask, image.mean(0) > 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no JSON"), ("3", "does not name clusters"), ('{"a": "b"}', "does not name"),
     ('{"0": 1}', "does not name clusters")],
)  # fmt: skip
def test_names_that_are_none(tmp_path, content: str, message: str):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_names(tmp_path / "names.json")


def test_names_as_a_list(tmp_path):
    (tmp_path / "names.json").write_text('["a", "b"]')
    assert read_names(tmp_path / "names.json") == {0: "a", 1: "b"}


def test_mistakes_are_sentences(photos, tmp_path, capsys):
    command = ["concepts", "--images", str(photos), *SMALL, "--output", str(tmp_path / "x")]
    assert main([*command, "--class", "no such class"]) == 2
    assert "there is no class 'no such class'" in capsys.readouterr().err
    assert main([*command, "--names", str(tmp_path / "none.json")]) == 2
    assert "none.json cannot be read" in capsys.readouterr().err
    assert main([*command, "--boxes", str(tmp_path)]) == 2
    assert "there is no XML file" in capsys.readouterr().err
    assert main([*command, "--set", "grad_cam_plus_plus.n_masks=5"]) == 2
    assert "parameter of grad_cam_plus_plus" in capsys.readouterr().err
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "one.png")
    assert not (tmp_path / "x" / "atlas.html").exists()
