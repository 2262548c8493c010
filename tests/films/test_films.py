"""Films from files that people have, explained: what is written plays, and says what photos say."""

import csv
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import naspix
from naspix.cli.app import main
from naspix.errors import ImageError, InputError, MissingExtraError
from naspix.films import explain_film, is_film
from naspix.films.reading import Film
from naspix.folders import PhotoSettings

av = pytest.importorskip("av", reason="PyAV is not installed: pip install '.[video]'")

CAT, CUP = skimage.data.chelsea(), skimage.data.coffee()
FRAMES = [
    *(np.ascontiguousarray(CAT[30:270, left : left + 240]) for left in range(0, 60, 10)),
    *(np.ascontiguousarray(CUP[80:320, left : left + 240]) for left in range(100, 140, 10)),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.pix_fmt, stream.width, stream.height = "yuv420p", 240, 240
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def explained(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("explained")
    assert main(["explain", str(clip), "--output", str(output), "--target", "tabby"]) == 0
    return output


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_film_is_one_that_browsers_play(explained: Path) -> None:
    with av.open(str(explained / "explained.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(10)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == len(FRAMES)
    assert pictures[0].shape == (448 + 160, 896, 3)
    # the left half is the frame with its regions: near the photo, but for boundaries
    shown = pictures[0][:448, :448].astype(float)
    photo = np.asarray(Image.fromarray(FRAMES[0]).resize((448, 448)), float)
    assert np.median(np.abs(shown - photo)) < 25


def test_the_table_says_what_the_network_says(explained: Path) -> None:
    model = naspix.load_model("efficientnet_lite0")
    found = rows(explained)
    assert [int(row["frame"]) for row in found] == list(range(len(FRAMES)))
    images = model.load_images([Image.fromarray(frame) for frame in FRAMES])
    probabilities = model(images).softmax(1).detach()
    label = model.find_class("tabby")
    np.testing.assert_allclose(  # the film is compressed with loss
        [float(row["target_probability"]) for row in found], probabilities[:, label], atol=0.05
    )
    assert found[-1]["predicted"] == "espresso"
    assert float(found[3]["seconds"]) == 0.3


def test_regions_keep_their_numbers_until_the_cut(clip: Path) -> None:
    model = naspix.load_model("efficientnet_lite0")
    frames = [model.load_images([frame]) for frame in Film(clip)]
    tracks = [set(one.tracks.tolist()) for one in naspix.NAS(model).track(frames)]
    assert all(a & b for a, b in pairwise(tracks[:6]))
    assert not tracks[5] & tracks[6]


def test_gifs_folders_and_fewer_frames(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in FRAMES]
    gif, folder = tmp_path / "a.gif", tmp_path / "frames"
    pictures[0].save(gif, save_all=True, append_images=pictures[1:], duration=50)
    pictures[0].save(tmp_path / "still.gif")
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number:03d}.png")
    assert is_film(gif)
    assert not is_film(tmp_path / "still.gif")
    assert not is_film(folder)
    assert Film(gif).rate == pytest.approx(20)
    assert Film(gif, every=2).rate == pytest.approx(10)
    taken = list(Film(folder, every=3, most=2))
    np.testing.assert_array_equal(np.asarray(taken[1]), FRAMES[3])
    output = tmp_path / "out"
    command = ["explain", str(folder), "--film", "--every", "4", "-o", str(output)]
    assert main(command) == 0
    assert [row["frame"] for row in rows(output)] == ["0", "4", "8"]


def test_the_class_is_that_of_the_highest_mean(clip: Path, tmp_path: Path) -> None:
    found = explain_film(PhotoSettings(), clip, tmp_path, every=2)
    assert found.n_frames == 5
    model = naspix.load_model("efficientnet_lite0")
    frames = torch.cat([model.load_images([frame]) for frame in Film(clip, every=2)])
    mean = model(frames).detach().softmax(1).mean(0)
    assert found.target == model.category(int(mean.argmax()))
    assert found.likeliest[0] == (found.target, pytest.approx(float(mean.max()), abs=1e-5))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": ("grad_cam", "rise")}, "one method over nas"),
        ({"segmenters": ("slic",)}, "one method over nas"),
        ({"target": ("tabby", "espresso")}, "one target"),
        ({"tiles": 4}, "leave them out"),
    ],
)
def test_what_suits_no_film_is_said(
    clip: Path, tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        explain_film(PhotoSettings(**options), clip, tmp_path)  # type: ignore[arg-type]


def test_films_that_cannot_be_read_are_one_sentence(clip: Path, tmp_path: Path) -> None:
    torn, none = tmp_path / "torn.mp4", tmp_path / "none.mp4"
    torn.write_bytes(clip.read_bytes()[:500])
    none.write_bytes(b"this is no film")
    for path in (torn, none):
        with pytest.raises(ImageError, match="cannot be read as a film"):
            explain_film(PhotoSettings(), path, tmp_path / "out")
    with pytest.raises(ImageError, match="there is no film"):
        explain_film(PhotoSettings(), tmp_path / "nowhere.mp4", tmp_path / "out")
    with pytest.raises(InputError, match="from 1 up"):
        Film(clip, every=0)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_is_said(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install '.\[video\]'"):
        explain_film(PhotoSettings(), clip, tmp_path)


def test_the_page_plays_and_its_slider_tells_the_frame(explained: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = subprocess.run(["which", "chromium"], capture_output=True, text=True).stdout.strip()
    if not chromium:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((explained / "film.html").as_uri())
        page.wait_for_function("document.getElementById('film').readyState >= 2")
        assert page.evaluate("document.getElementById('film').videoWidth") == 896
        assert page.inner_text("#now").startswith("Frame 0, 0.00 s")
        page.evaluate(
            "place.value = 8; place.dispatchEvent(new Event('input'))",
        )
        assert "Frame 8, 0.80 s: espresso" in page.inner_text("#now")
        assert page.evaluate("document.getElementById('film').currentTime") == pytest.approx(0.85)
        browser.close()
