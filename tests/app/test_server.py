"""The server as strangers meet it: only the page's routes, a password where asked, many at once."""

import base64
import importlib.util
import json
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
from explorer_process import explorer
from hostile_files import hostile_files

from naspix.app.actions import ACTIONS
from naspix.app.photos import SAMPLES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fastapi") is None, reason="needs the extra app"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with explorer() as url:
        yield url


def _asked(url: str, **named) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **named), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _status(address: str, path: str, **named) -> int:
    return _asked(address + path, **named)[0]


class Visitor:
    """Asks as the page's script does, but for the cookie."""

    def __init__(self, address: str) -> None:
        self.address, self.key = address, secrets.token_hex(16)

    def ask(self, action: str, content: bytes = b"", **fields: object) -> dict:
        answer = self.post(action, content, **fields)
        while "job" in answer:
            answer = self.post(f"follow?job={answer['job']}")
        return answer

    def post(self, action: str, content: bytes = b"", **fields: object) -> dict:
        body, kind = json.dumps(fields).encode(), "application/json"
        if action in ("photo", "group_add"):
            action = f"{action}?{urllib.parse.urlencode(fields)}"
            body, kind = content, "application/octet-stream"
        headers = {"X-Naspix-Visitor": self.key, "Content-Type": kind}
        return json.loads(_asked(f"{self.address}/api/{action}", data=body, headers=headers)[1])


JSON = {"Content-Type": "application/json", "X-Naspix-Visitor": "v" * 16}
HELLO = "/api/hello"


def test_no_file_is_read_through_the_server(address):
    assert _status(address, "/") == 200
    assert _status(address, "/static/page.css") == 200
    for path in (
        "/etc/passwd",
        "/static/../actions.py",
        "/static/../../../../etc/passwd",
        "/static/..%2f..%2f..%2fetc/passwd",
        "/static/%2e%2e/server.py",
        "/static//etc/passwd",
        "/static/",
        "/api/hello",
        "/api/../pyproject.toml",
        "/upload",
        "/redoc",
    ):
        assert _status(address, path) in (400, 404, 405), path
    for path in ("/", "/static/page.css", "/upload", "/api/no_such"):
        assert _status(address, path, data=b"{}", headers=JSON) in (404, 405), path


def test_only_what_a_route_takes_is_read(address):
    multipart = {**JSON, "Content-Type": "multipart/form-data; boundary=x"}
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nb\r\n--x--\r\n'
    )
    assert _status(address, HELLO, data=body, headers=multipart) == 422
    plain = {**JSON, "Content-Type": "text/plain"}
    assert _status(address, HELLO, data=b"{}", headers=plain) == 422
    assert _status(address, HELLO, data=b"{}", headers={"Content-Type": "application/json"}) == 401
    assert _status(address, HELLO, data=b"{}", headers={**JSON, "X-Naspix-Visitor": "a/b"}) == 401
    assert _status(address, HELLO, data=b"{}", headers=JSON) == 200


def test_bodies_are_bounded_by_what_they_say_and_by_what_they_are(address):
    long = {**JSON, "Content-Length": f"{10**9}"}
    for route in (HELLO, "/api/photo", "/api/follow?job=1"):
        assert _status(address, route, data=b"", headers=long) == 413, route
    assert _status(address, HELLO, data=b" " * 200_000, headers=JSON) == 413
    in_parts = (b" " * 50_000 for _ in range(5))  # chunks, of a length that nobody has said
    assert _status(address, HELLO, data=in_parts, headers=JSON) == 413
    visitor = Visitor(address)
    assert "sentence" in visitor.ask("photo", content=b"x" * 19_000_000)
    text = {"action": "x" * 200_000}
    assert _status(address, HELLO, data=json.dumps(text).encode(), headers=JSON) == 413


@pytest.mark.parametrize(
    ("action", "fields", "words"),
    [
        ("toggle", {"number": "1"}, "valid integer"),
        ("toggle", {"number": True}, "valid integer"),
        ("toggle", {}, "number: Field required"),
        ("segment", {"n_clusters": 500}, "less than or equal to 40"),
        ("compare", {"methods": "grad_cam"}, "valid list"),
        ("find_class", {"text": "x" * 81}, "at most 80 characters"),
        ("hello", {"no_such": 1}, "not permitted"),
        ("follow?job=7", {}, "this work is over"),
    ],
)
def test_malformed_requests_are_answered_in_a_sentence(address, action, fields, words):
    answer = Visitor(address).post(action, **fields)
    assert answer["ok"] is False
    assert words in answer["sentence"]
    assert "\n" not in answer["sentence"]


def test_another_hosts_page_is_refused(address):
    name, port = address.removeprefix("http://").split(":")
    for origin in (
        "https://evil.example",
        f"http://{name}:{int(port) + 1}",
        f"http://{name}",
        f"http://localhost:{port}",
        "null",
    ):
        assert _status(address, HELLO, data=b"{}", headers={**JSON, "Origin": origin}) == 403
        assert _status(address, "/", headers={"Origin": origin}) == 403
    own = {**JSON, "Origin": address}
    assert _status(address, HELLO, data=b"{}", headers=own) == 200
    proxied = {**JSON, "Origin": "https://team.example", "X-Forwarded-Host": "team.example"}
    assert _status(address, HELLO, data=b"{}", headers=proxied) == 200
    for host in ("evil.example", f"evil.example:{port}", name, f"{name}:{int(port) + 1}"):
        assert _status(address, "/", headers={"Host": host}) == 421, host
    assert _status(address, "/", headers={"Host": f"localhost:{port}"}) == 200


def test_the_browser_is_told_to_load_nothing_from_elsewhere(address):
    with urllib.request.urlopen(f"{address}/", timeout=30) as answer:
        policy = answer.headers["Content-Security-Policy"]
        cookie = answer.headers["Set-Cookie"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy.split("script-src")[1].split(";")[0]
    assert "frame-ancestors 'none'" in policy
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    known = {"Cookie": cookie.split(";")[0]}
    request = urllib.request.Request(f"{address}/", headers=known)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["Set-Cookie"] is None
    assert (
        _status(address, HELLO, data=b"{}", headers={**known, **JSON, "X-Naspix-Visitor": ""})
        == 200
    )


def test_visitors_and_their_pages_are_told_apart(address):
    visitor, other = Visitor(address), Visitor(address)
    visitor.ask("sample", name="rocket")
    assert "photo" not in other.ask("hello")
    headers = {**JSON, "X-Naspix-Visitor": visitor.key, "X-Naspix-Page": "another-page-1234"}
    assert "photo" not in json.loads(_asked(address + HELLO, data=b"{}", headers=headers)[1])
    assert visitor.ask("hello")["photo"]["name"] == "rocket.png"
    assert visitor.post("leave")["ok"]
    assert "photo" not in visitor.ask("hello")


def test_long_work_is_followed_and_cancelled(address):
    visitor = Visitor(address)
    visitor.ask("sample", name="chelsea")
    standing = visitor.post("compare", methods=["rise"])
    assert standing["note"] == "RISE"
    assert visitor.post(f"follow?job={standing['job']}")["job"] == standing["job"]
    assert visitor.post("cancel")["ok"]
    assert visitor.ask(f"follow?job={standing['job']}")["cancelled"]


def test_what_can_be_asked_is_described(address):
    described = json.loads(_asked(f"{address}/openapi.json")[1])
    assert {f"/api/{name}" for name in ACTIONS} <= {*described["paths"]}
    assert described["components"]["schemas"]["Toggle"]["properties"]["number"]["type"] == "integer"
    assert _status(address, "/docs") == 200


def test_hostile_files_are_answered_and_the_server_lives_on(address):
    visitor = Visitor(address)
    for what, content in hostile_files(21, seed=11):
        answer = visitor.ask("photo", content=content, name=f"<i>{what}</i>")
        assert answer["ok"] or "\n" not in answer["sentence"], what
    assert visitor.ask("sample", name="chelsea")["photo"]["predicted"]["index"] == 282
    assert visitor.ask("photo", name="a.jpg")["sentence"] == "a.jpg is empty (zero bytes)"


def test_visitors_click_at_once_and_each_has_its_own_photo_back(address):
    failed: list[str] = []

    def visit(number: int) -> None:
        visitor = Visitor(address)
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


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(address):
    port = address.rpartition(":")[2]
    lacking = "import sys; sys.modules.update(torch=None, fastapi=None)"
    command = f"{lacking}; from naspix.cli import main; sys.exit(main(sys.argv[1:]))"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command, "app", "--port", port],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in found.stderr


def test_a_password_keeps_others_out():
    with explorer("--auth", "ada:secret: with colon") as address:

        def tried(words: str) -> dict[str, str]:
            return {**JSON, "Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}

        for path in ("/", "/static/page.css", "/openapi.json", HELLO):
            assert _status(address, path) == 401
        wrong = ({"Authorization": "Basic %%%"}, {"Authorization": "Bearer ada"}, tried("ada:x"))
        right = tried("ada:secret: with colon")
        for headers in wrong:
            assert _status(address, "/", headers=headers) == 401
        assert _status(address, "/", headers=right) == 200
        for _ in range(4):
            assert _status(address, "/", headers=tried("ada:guess")) == 401
        assert _status(address, "/", headers=right) == 429  # for two seconds
        time.sleep(2.1)
        assert _status(address, "/", headers=right) == 200
        assert _status(address, HELLO, data=b"{}", headers=right) == 200


_BUILDS_FOR_EVER = """
import threading
from naspix.app.regions import Cutter
Cutter.build_tree = lambda *_: threading.Event().wait()
"""


def test_ctrl_c_does_not_wait_for_a_tree():
    with explorer(first=_BUILDS_FOR_EVER) as address:  # it asserts how the process ends
        visitor = Visitor(address)
        visitor.ask("sample", name="chelsea")
        answer = visitor.post("segment", algorithm="ward")
        assert "tree" in answer["note"]
