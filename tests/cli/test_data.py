"""``naspix data``: results on standard output, a status that says whether something is broken."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from naspix.cli import main
from naspix.datasets import ARCHIVES
from naspix.datasets.checking import TITLES
from naspix.registry import DATASETS


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        path = tmp_path / "pictures" / "cat" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(path)
    return tmp_path / "pictures"


def test_every_data_set_can_be_found_by_check():
    assert set(TITLES) == {*DATASETS, "photos"}


def test_check(folder, capsys):
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out == (
        f"{folder}: a folder for each class (--dataset folder)\n"
        "  3 pictures, 1 class of 3 or more\n"
        "  nothing is broken\n"
    )


def test_check_with_something_broken(folder, capsys):
    for i in range(12):
        (folder / "cat" / f"broken{i:02d}.png").write_bytes(b"")
    assert main(["data", "check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "15 pictures, 3 of them readable" in out
    assert "cat/broken09.png" in out
    assert "cat/broken10.png" not in out
    assert "and 2 more; --all shows them" in out
    assert main(["data", "check", str(folder), "--all"]) == 1
    assert "cat/broken11.png" in capsys.readouterr().out
    assert main(["data", "check", str(folder), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "folder"
    assert len(record["broken"]) == 12


def test_check_of_nothing(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="this Python cannot unpack safely (3.11.4 can)"
)
def test_fetch_of_what_lies_there_unpacks_it(tmp_path, capsys, monkeypatch):
    import hashlib
    from dataclasses import replace

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        entry = tarfile.TarInfo("stl10_binary/class_names.txt")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"cat"))
    (tmp_path / "stl10_binary.tar.gz").write_bytes(content.getvalue())
    command = ["data", "fetch", "stl10", "--output", str(tmp_path)]
    md5 = hashlib.md5(content.getvalue()).hexdigest()
    monkeypatch.setitem(ARCHIVES, "stl10", replace(ARCHIVES["stl10"], md5=md5))
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'stl10_binary'}\n"
    assert "http://ai.stanford.edu" in captured.err
    assert main(command) == 0
    assert "is there already" in capsys.readouterr().err
