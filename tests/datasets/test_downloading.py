"""Fetching from a server on this machine that breaks off, forgets, lies or is not there."""

import contextlib
import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from naspix.datasets import Archive, downloading, fetch
from naspix.errors import DownloadError, OutputError

needs_safe_tar = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="this Python cannot unpack safely (3.11.4 can)"
)


def _archive(names=("things/a.bin",), size=300_000) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = size
            tar.addfile(entry, io.BytesIO(noise))
    return content.getvalue()


class Server:
    """Serves one file; breaks off after so many bytes of each answer."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.breaks_after: list[int] = []
        self.asked: list[str | None] = []
        self.knows_ranges = True
        self.status = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                server.asked.append(wanted)
                if server.status:
                    self.send_error(server.status)
                    return
                start = 0
                if wanted and server.knows_ranges:
                    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if start >= len(server.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(server.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = server.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    total = len(server.content)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if server.breaks_after:
                    self.wfile.write(body[: server.breaks_after.pop(0)])
                    self.close_connection = True
                    return
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/things.tar.gz"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def archive(self) -> Archive:
        md5 = hashlib.md5(self.content).hexdigest()
        return Archive("Things", self.url, md5, "little", "things", "none")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
    served = Server(_archive())
    with contextlib.closing(served):
        yield served


@needs_safe_tar
def test_what_is_published_arrives(server, tmp_path):
    told = []
    folder = fetch(server.archive, tmp_path / "new", step=lambda *step: told.append(step))
    assert folder == tmp_path / "new" / "things"
    assert (folder / "a.bin").stat().st_size == 300_000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["things"]
    n = len(server.content)
    assert {step[0] for step in told} == {"downloading", "checking", "unpacking"}
    assert ("downloading", n, n) in told
    assert ("checking", n, n) in told
    assert fetch(server.archive, tmp_path / "new") == folder  # there already
    assert len(server.asked) == 1


@needs_safe_tar
def test_a_broken_connection_goes_on_where_it_ended(server, tmp_path):
    server.breaks_after = [100_000, 0, 50_000]
    fetch(server.archive, tmp_path, keep_archive=True)
    assert server.asked == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "things.tar.gz").read_bytes() == server.content


@needs_safe_tar
def test_a_new_process_goes_on_where_the_last_was_killed(server, tmp_path):
    (tmp_path / "things.tar.gz.part").write_bytes(server.content[:123_456])
    assert fetch(server.archive, tmp_path).is_dir()
    assert server.asked == ["bytes=123456-"]


@needs_safe_tar
def test_killed_between_download_and_unpacking(server, tmp_path):
    (tmp_path / "things.tar.gz.part").write_bytes(server.content)
    assert fetch(server.archive, tmp_path).is_dir()  # the server has nothing more: 416
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "things.tar.gz").write_bytes(server.content)
    assert fetch(server.archive, tmp_path / "again").is_dir()
    assert len(server.asked) == 1


@needs_safe_tar
def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    server.breaks_after = [100_000]
    assert fetch(server.archive, tmp_path).is_dir()
    assert server.asked == [None, "bytes=100000-"]


@needs_safe_tar
def test_a_beginning_that_is_too_long_is_dropped(server, tmp_path):
    (tmp_path / "things.tar.gz.part").write_bytes(bytes(len(server.content) + 5))
    assert fetch(server.archive, tmp_path).is_dir()


def test_another_file_than_the_published_one_is_removed(server, tmp_path):
    archive = server.archive
    server.content = _archive(size=1000)
    with pytest.raises(DownloadError, match=r"not Things as published .* was removed; try again"):
        fetch(archive, tmp_path)
    assert not list(tmp_path.iterdir())


@needs_safe_tar
def test_a_wrong_beginning_is_found_out(server, tmp_path):
    (tmp_path / "things.tar.gz.part").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="was removed; try again"):
        fetch(server.archive, tmp_path)
    assert fetch(server.archive, tmp_path).is_dir()


def test_a_server_that_never_answers_well(server, tmp_path):
    server.breaks_after = [70_000] + [0] * 20
    with pytest.raises(DownloadError, match=r"ended early.*70000 bytes are kept, and the same"):
        fetch(server.archive, tmp_path)
    assert len(server.asked) == 6
    assert (tmp_path / "things.tar.gz.part").stat().st_size == 70_000
    server.status = 503
    with pytest.raises(DownloadError, match="it answers 503"):
        fetch(server.archive, tmp_path)
    server.status = 404
    with pytest.raises(DownloadError, match="answers 404"):
        fetch(server.archive, tmp_path)


def test_nobody_there(server, tmp_path):
    server.close()
    with pytest.raises(DownloadError, match=r"cannot be downloaded \(.*refused"):
        fetch(server.archive, tmp_path)


@needs_safe_tar
def test_archives_that_reach_out_are_refused(server, tmp_path):
    server.content = _archive(("things/a.bin", "../outside.bin"), 100)
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        fetch(server.archive, tmp_path / "in")
    assert not list(tmp_path.rglob("*.bin"))
    assert not (tmp_path / "in" / "things").exists()


@needs_safe_tar
def test_an_archive_of_something_else(server, tmp_path):
    server.content = _archive(("others/a.bin",), 100)
    with pytest.raises(DownloadError, match="holds no folder 'things'"):
        fetch(server.archive, tmp_path)


def test_where_nothing_can_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file"):
        fetch(server.archive, tmp_path / "file" / "below")


def test_an_old_python_says_that_it_cannot_unpack_safely(server, tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    server.content = _archive(("things/a.bin",), 100)
    with pytest.raises(DownloadError, match="cannot unpack safely; update it"):
        fetch(server.archive, tmp_path)
