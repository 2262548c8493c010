"""Cut photos in the files of other tools: COCO's, masks, figures; and the ranking as csv."""

import contextlib
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from naspix.cli.app import main
from naspix.images import fit, read_images

SIZES = ((120, 160), (200, 90))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of one stem and different sizes; one that EXIF turns."""
    root = tmp_path_factory.mktemp("photos")
    for name, (height, width) in zip("ab", SIZES, strict=True):
        (root / name).mkdir()
        Image.fromarray(skimage.data.chelsea()[:height, :width]).save(root / name / "cat.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(skimage.data.coffee()[:100, :150]).save(root / "turned.jpg", exif=exif)
    return root


def cut(photos: Path, output: Path, *words: str) -> None:
    assert main(["segment", str(photos), "--output", str(output), *words]) == 0


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("photo", [(50, 91), (91, 50), (32, 32), (20, 30)])
def test_a_photos_pixels_are_found_where_reading_puts_them(
    resize: str, photo: tuple[int, int]
) -> None:
    rows, columns = (np.arange(side) / (side - 1) for side in photo)
    ramp = np.zeros((*photo, 3), np.float32)
    ramp[..., 0], ramp[..., 1], ramp[..., 2] = rows[:, None], columns, 1
    image = read_images(ramp, (32, 32), resize=resize, crop_pct=0.875, fill=(0, 0, 0))[0].numpy()  # type: ignore[arg-type]
    places = np.arange(32 * 32).reshape(32, 32)
    found = fit(photo, (32, 32), resize, 0.875).in_photo(places, photo)  # type: ignore[arg-type]
    seen = found >= 0
    values = image.reshape(3, -1)[:2, found[seen]]
    apart = np.abs(values - ramp[seen][:, :2].T)
    pixel = max(max(photo), 32 * max(photo) / min(photo)) / min(*photo, 32)  # the coarser grid's
    assert apart.max() < 1.5 * pixel / min(photo)
    if resize != "crop":
        assert seen.all()
    elif photo != (32, 32):
        assert not seen.all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools'
@pytest.mark.parametrize("resize", ["crop", "squash", "pad", "model"])
def test_coco_of_all_photos_in_their_own_frames(photos: Path, tmp_path: Path, resize: str) -> None:
    from pycocotools.coco import COCO

    cut(photos, tmp_path, "--format", "coco", "--resize", resize, "--batch-size", "2")
    assert {path.name for path in tmp_path.iterdir()} == {"annotations.json", "run.sqlite", ".lock"}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "annotations.json"))
    images = coco.loadImgs(coco.getImgIds())
    assert [image["id"] for image in images] == [1, 2, 3]
    assert [(image["height"], image["width"]) for image in images] == [*SIZES, (150, 100)]
    assert [image["file_name"] for image in images] == [
        str(photos / name) for name in ("a/cat.jpg", "b/cat.jpg", "turned.jpg")
    ]
    ids = coco.getAnnIds()
    assert sorted(ids) == list(range(1, len(ids) + 1))
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    assert names == {k + 1: f"cluster {k}" for k in range(len(names))}
    for image in images:
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        masks = np.stack([coco.annToMask(one) for one in annotations])
        assert masks.shape[1:] == (image["height"], image["width"])
        assert masks.sum(0).max() == 1, "no two superpixels share a pixel"
        seen = masks.sum(0) > 0
        assert seen.all() == (resize in ("squash", "pad"))
        assert seen[image["height"] // 2, image["width"] // 2]
        for one, mask in zip(annotations, masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            size = [columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            assert one["bbox"] == [columns[0], rows[0], *size]
            assert one["area"] == mask.sum()
            assert one["category_id"] in names


def test_masks_are_those_of_coco(photos: Path, tmp_path: Path) -> None:
    words = ("--segmenter", "grid", "--resize", "crop")
    cut(photos, tmp_path / "masks", "--format", "masks", *words)
    cut(photos, tmp_path / "coco", "--format", "coco", *words)
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "superpixel"}]
    areas = [one["area"] for one in content["annotations"] if one["image_id"] == 3]
    files = sorted((tmp_path / "masks" / "turned").iterdir())
    assert files[0].name == "superpixel-000.png"
    pixels = [np.asarray(Image.open(file)) for file in files]
    assert {mask.shape for mask in pixels} == {(150, 100)}
    assert [int((mask == 255).sum()) for mask in pixels] == areas
    assert all(set(np.unique(mask)) <= {0, 255} for mask in pixels)


def test_a_command_that_was_stopped_completes_the_file(photos: Path, tmp_path: Path) -> None:
    words = ("--format", "coco", "--segmenter", "grid")
    cut(photos, tmp_path, *words)
    whole = (tmp_path / "annotations.json").read_text()
    (tmp_path / "annotations.json").unlink()
    cut(photos, tmp_path, *words)
    assert (tmp_path / "annotations.json").read_text() == whole


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures_are_vectors(photos: Path, tmp_path: Path, kind: str, begins: bytes) -> None:
    words = ["--format", kind, "--segmenter", "grid"]
    cut(photos / "a", tmp_path / "cut", *words)
    assert (tmp_path / "cut" / f"cat.{kind}").read_bytes().startswith(begins)
    output = tmp_path / "explained"
    assert main(["explain", str(photos / "a"), "--output", str(output), *words]) == 0
    assert (output / "cat" / f"explanation.{kind}").read_bytes().startswith(begins)
    record = json.loads((output / "results.json").read_text())["photos"][0]
    assert record["files"]["figure"] == f"cat/explanation.{kind}"


def test_the_ranking_is_a_csv_of_the_records(photos: Path, tmp_path: Path) -> None:
    words = ["--segmenter", "grid", "--segmenter", "slic"]
    assert main(["explain", str(photos), "--output", str(tmp_path), *words]) == 0
    with (tmp_path / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [
        [photo["name"], each["segmenter"], one["rank"], one["label"], *one["box"], one["saliency"]]
        for photo in json.loads((tmp_path / "results.json").read_text())["photos"]
        for each in photo["explanations"]
        for one in each["superpixels"]
    ]
    numbers = ("rank", "label", "left", "top", "right", "bottom", "saliency")
    found = [[row["name"], row["segmenter"], *(float(row[key]) for key in numbers)] for row in rows]
    assert found == expected
