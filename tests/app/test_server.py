"""The server as strangers meet it: only the page's routes, a password where asked, many at once."""

import base64
import importlib.util
import io
import json
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from explorer_process import explorer
from hostile_files import hostile_files
from PIL import Image

from naspix.app.samples import SAMPLES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs the extra app"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with explorer() as url:
        yield url


def _status(address: str, path: str, **named) -> int:
    request = urllib.request.Request(address + path, **named)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Visitor:
    """Asks as the page's script does."""

    def __init__(self, address: str) -> None:
        self.address, self.key = address, secrets.token_hex(16)
        with urllib.request.urlopen(address + "/config", timeout=30) as answer:
            components = json.load(answer)["components"]
        self.component = next(
            one["id"] for one in components if one["props"].get("elem_id") == "naspix"
        )

    def ask(self, action: str, **arguments: object) -> dict:
        answer = self.post({"key": self.key, "action": action, **arguments})
        while "job" in answer:
            answer = self.post({"key": self.key, "action": "follow", "job": answer["job"]})
        return answer

    def post(self, request: object) -> dict:
        body = {
            "data": request,
            "component_id": self.component,
            "fn_name": "ask",
            "session_hash": self.key,
        }
        with urllib.request.urlopen(
            urllib.request.Request(
                self.address + "/gradio_api/component_server/",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            ),
            timeout=60,
        ) as answer:
            return json.load(answer)


def test_no_file_is_read_or_written_through_the_server(address):
    assert _status(address, "/") == 200
    for path in (
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/static/../../../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc/passwd",
        "/gradio_api/proxy=https://example.com",
        "/monitoring",
    ):
        assert _status(address, path) in (400, 403, 404), path
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nb\r\n--x--\r\n'
    )
    assert _status(address, "/gradio_api/upload", data=body, headers=multipart) == 404
    component = "/gradio_api/component_server"
    assert _status(address, component, data=body, headers=multipart) == 415
    pickled = {"Content-Type": "application/json", "Content-Length": f"{10**9}"}
    assert _status(address, component, data=b"", headers=pickled) == 413
    other = {"Content-Type": "application/json", "Origin": "https://evil.example"}
    assert _status(address, component, data=b"{}", headers=other) == 403
    assert _status(address, "/", headers={"Host": "evil.example"}) == 421


def test_only_the_one_function_is_called(address):
    visitor = Visitor(address)
    for name in ("__init__", "postprocess", "get_config", "close"):
        body = {"data": {}, "component_id": visitor.component, "fn_name": name}
        status = _status(
            address,
            "/gradio_api/component_server",
            data=json.dumps({**body, "session_hash": "x"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert status == 404, name


def test_hostile_files_are_answered_and_the_server_lives_on(address):
    visitor = Visitor(address)
    for what, content in hostile_files(21, seed=11):
        data = base64.b64encode(content).decode()
        answer = visitor.ask("photo", data=data, name=f"<i>{what}</i>")
        assert answer["ok"] or "\n" not in answer["sentence"], what
    assert visitor.ask("sample", name="chelsea")["photo"]["predicted"]["index"] == 282


def test_visitors_click_at_once_and_each_has_its_own_photo_back(address):
    failed: list[str] = []

    def visit(number: int) -> None:
        visitor, colour = Visitor(address), (40 * number, 255 - 40 * number, 90)
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(buffer, "png")
        name = [*SAMPLES][number % 4]
        state = visitor.ask("sample", name=name)
        end = time.monotonic() + 3
        k = 0
        while time.monotonic() < end:
            scores = visitor.ask("toggle", number=k % state["regions"]["n"]).get("scores")
            if scores is None or scores["bars"][0]["index"] != state["scores"]["bars"][0]["index"]:
                failed.append(name)
                return
            k += 1
        if visitor.ask("hello")["photo"]["name"] != f"{name}.png":
            failed.append(name)

    threads = [threading.Thread(target=visit, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []


def test_a_port_that_is_taken_is_told(address):
    port = address.rpartition(":")[2]
    command = "import sys; from naspix.cli import main; sys.exit(main(sys.argv[1:]))"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command, "app", "--port", port],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in found.stderr


def test_a_password_keeps_others_out():
    with explorer("--auth", "ada:secret: with colon") as address:
        component = "/gradio_api/component_server"
        json_type = {"Content-Type": "application/json"}
        assert _status(address, component, data=b"{}", headers=json_type) == 401
        assert _status(address, "/config") == 401
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        wrong = b"username=ada&password=guess"
        assert _status(address, "/login", data=wrong, headers=form) == 400
        right = b"username=ada&password=secret%3A%20with%20colon"
        assert _status(address, "/login", data=right, headers=form) == 200


_GROWS_FOR_EVER = """
import threading
from naspix.app.regions import Cutter
Cutter.grow = lambda *_: threading.Event().wait()
"""


def test_ctrl_c_does_not_wait_for_a_tree():
    with explorer(first=_GROWS_FOR_EVER) as address:  # it asserts how the process ends
        visitor = Visitor(address)
        visitor.ask("sample", name="chelsea")
        answer = visitor.post({"key": visitor.key, "action": "segment", "algorithm": "ward"})
        assert "tree" in answer["note"]
