"""Results on disk: whole or not at all, whatever stops the run."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naspix.errors import OutputError
from naspix.images import unique_names
from naspix.report import PhotoExplanation, Prediction, ResultsFolder, RunRecord
from naspix.superpixelify import RankedSuperpixel

RUN = RunRecord(settings={"model": "none"}, versions={"naspix": "0"}, created="today")


def _photo(name: str) -> PhotoExplanation:
    labels = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    heat = labels.astype(np.float32)
    cat = Prediction(1, "cat", 0.9)
    return PhotoExplanation(
        name=name,
        source=f"{name}.jpg",
        image=np.zeros((4, 4, 3), dtype=np.float32),
        predictions=(cat, Prediction(0, "dog", 0.1)),
        target=cat,
        segmentations={"grid": (labels, labels)},
        raw={"cam": heat},
        pooled={("cam", "grid"): heat},
        ranking={
            ("cam", "grid"): [
                RankedSuperpixel(1, 1, 8, (2, 0, 4, 4), 1.0),
                RankedSuperpixel(2, 0, 8, (0, 0, 2, 4), 0.0),
            ]
        },
    )


def _read(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_record(tmp_path, snapshot):
    with ResultsFolder(tmp_path, RUN) as results:
        results.add(_photo("a"))
        results.fail("b.jpg", "it is no photo")
    assert _read(tmp_path) == snapshot


def test_nothing_is_there_before_the_end(tmp_path):
    with ResultsFolder(tmp_path, RUN) as results:
        results.add(_photo("a"))
        assert not (tmp_path / "results.json").exists()
        assert (tmp_path / "a" / "photo.png").exists()
    assert _read(tmp_path)["finished"]
    assert not list(tmp_path.glob(".*"))


def test_no_photo_at_all(tmp_path):
    with ResultsFolder(tmp_path, RUN):
        pass
    assert _read(tmp_path)["photos"] == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_what_is_finished_stays(tmp_path, stop):
    def run() -> None:
        with ResultsFolder(tmp_path, RUN) as results:
            results.add(_photo("a"))
            raise stop

    with pytest.raises(stop):
        run()
    record = _read(tmp_path)
    assert [photo["name"] for photo in record["photos"]] == ["a"]
    assert not record["finished"]
    assert "stopped before the end" in (tmp_path / "report.html").read_text()


def test_interrupted_while_a_photo_is_written(tmp_path, monkeypatch):
    def run() -> None:
        with ResultsFolder(tmp_path, RUN) as results:
            results.add(_photo("a"))
            monkeypatch.setattr(results._record, "_file", _Breaking(results._record._file))
            results.add(_photo("b"))

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [photo["name"] for photo in _read(tmp_path)["photos"]] == ["a"]
    assert (tmp_path / "report.html").read_text().endswith("</html>\n")


class _Breaking:
    """A file whose next write stops half way, as Ctrl-C would stop it."""

    def __init__(self, file) -> None:
        self._file, self._broken = file, False

    def write(self, data: bytes) -> int:
        if not self._broken:
            self._broken = True
            self._file.write(data[: len(data) // 2])
            raise KeyboardInterrupt
        return self._file.write(data)

    def __getattr__(self, name: str):
        return getattr(self._file, name)


def test_full_disk(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run() -> None:
        with ResultsFolder(tmp_path, RUN) as results:
            monkeypatch.setattr("os.replace", full)
            results.add(_photo("a"))

    with pytest.raises(OutputError, match="the disk is full"):
        run()
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "results.json").exists()


def test_a_disk_that_fills_up_leaves_what_is_finished(tmp_path, monkeypatch):
    replace = os.replace

    def full_at_b(source: str, place: os.PathLike[str]) -> None:
        if "b" in Path(place).parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, place)

    def run() -> None:
        with ResultsFolder(tmp_path, RUN) as results:
            results.add(_photo("a"))
            monkeypatch.setattr("os.replace", full_at_b)
            results.add(_photo("b"))

    with pytest.raises(OutputError, match="the disk is full"):
        run()
    record = _read(tmp_path)
    assert [photo["name"] for photo in record["photos"]] == ["a"]
    assert not record["finished"]
    assert (tmp_path / "report.html").read_text().endswith("</html>\n")
    assert not list(tmp_path.rglob("*.part"))


def test_files_have_the_users_permissions(tmp_path):
    with ResultsFolder(tmp_path, RUN) as results:
        results.add(_photo("a"))
    (tmp_path / "plain").write_text("")
    plain = (tmp_path / "plain").stat().st_mode
    for path in ("report.html", "results.json", "a/photo.png"):
        assert (tmp_path / path).stat().st_mode == plain


@given(
    st.lists(
        st.text("abAB./-_ é\n\x00*", min_size=1, max_size=8).map(lambda path: f"{path}x.jpg"),
        max_size=8,
    )
)
def test_names_never_collide(sources):
    names = unique_names(sources)
    assert len(names) == len(sources)
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert name
        assert not set("/\\\n\x00*") & set(name)
        assert not name.startswith(".")


def test_a_photo_named_like_the_report(tmp_path):
    assert unique_names(["report.html.jpg"]) == ["report.html-2"]
