"""Files appear whole or not at all, and what cannot be written is said in one sentence."""

import os

import pytest

from naspix.errors import OutputError
from naspix.files import write_whole, written


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_once_everything_is_in_it(tmp_path, durable):
    place = tmp_path / "x"
    place.write_bytes(b"old")
    with write_whole(place, durable=durable) as file:
        file.write(b"new")
        assert place.read_bytes() == b"old"
    assert place.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]
    (tmp_path / "usual").write_text("")
    assert place.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("durable", [False, True])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, durable):
    place = tmp_path / "x"
    place.write_bytes(b"old")

    def write() -> None:
        with write_whole(place, durable=durable) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert place.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_durable_file_overwrites_what_a_killed_write_left(tmp_path):
    (tmp_path / ".x.part").write_bytes(b"much that was left by a process that was killed")
    with write_whole(tmp_path / "x", durable=True) as file:
        file.write(b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def test_the_sentence_names_the_place_and_not_the_hidden_file_beside_it(tmp_path):
    place = tmp_path / "nowhere" / "x"
    wanted = rf"cannot write {place}: No such file or directory; choose another place"
    with (
        pytest.raises(OutputError, match=wanted),
        written(place, "choose another place"),
        write_whole(place),
    ):
        pass
