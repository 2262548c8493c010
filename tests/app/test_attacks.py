"""Visitors who mean ill: what they can take is bounded, and others are served meanwhile."""

import base64
import http.client
import importlib.util
import io
import json
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from explorer_process import explorer
from PIL import Image

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fastapi") is None, reason="needs the extra app"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with explorer() as url:
        yield url


class Visitor:
    """Asks from a loopback address of its own."""

    def __init__(self, server: str, source: str) -> None:
        self.server, self.source = server.removeprefix("http://"), source
        self.key = secrets.token_hex(16)

    def post(self, path: str, body: bytes = b"{}", kind: str = "application/json") -> tuple:
        connection = http.client.HTTPConnection(
            self.server, timeout=60, source_address=(self.source, 0)
        )
        headers = {"X-Naspix-Visitor": self.key, "Content-Type": kind}
        try:
            connection.request("POST", f"/api/{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def ask(self, action: str, **fields: object) -> dict:
        answer = self.post(action, json.dumps(fields).encode())[1]
        while "job" in answer:
            answer = self.post(f"follow?job={answer['job']}")[1]
        return answer

    def send(self, content: bytes) -> tuple:
        return self.post("photo?name=photo", content, "application/octet-stream")


def _waits(victim: Visitor, n_clicks: int = 10) -> list[float]:
    """How long each of some clicks took."""
    waits = []
    for number in range(n_clicks):
        start = time.monotonic()
        assert victim.ask("toggle", number=number % 5)["ok"]
        waits.append(time.monotonic() - start)
        time.sleep(0.1)
    return waits


@pytest.fixture
def victim(address) -> Visitor:
    visitor = Visitor(address, "127.0.0.1")
    assert visitor.ask("sample", name="coffee")["ok"]
    return visitor


@pytest.mark.parametrize("n_keys", [1, 40])
def test_who_fills_the_line_keeps_nobody_waiting(address, victim, n_keys):
    attackers = [Visitor(address, "127.0.0.2") for _ in range(n_keys)]
    for attacker in attackers[:8]:
        attacker.ask("sample", name="chelsea")
    stop, refused = threading.Event(), []
    fields = json.dumps({"n_clusters": 40, "levels": [0, 1, 2, 3, 4]}).encode()

    def fill(attacker: Visitor) -> None:
        while not stop.is_set():
            refused.append(attacker.post("segment", fields)[1].get("sentence", ""))

    with ThreadPoolExecutor(60) as threads:
        for number in range(60):
            threads.submit(fill, attackers[number % n_keys])
        try:
            waits = _waits(victim)
        finally:
            stop.set()
    assert statistics.median(waits) < 1, waits
    if n_keys == 1:
        assert any("from here are waiting" in sentence for sentence in refused)


def test_who_has_many_names_throws_nobody_out(address, victim):
    for _ in range(150):
        Visitor(address, "127.0.0.2").post("hello")
    assert victim.ask("toggle", number=0)["ok"]


def test_who_sends_much_at_once_is_refused_and_others_are_not(address, victim):
    picture = io.BytesIO()
    Image.new("RGB", (8000, 5000), "red").save(picture, "png")
    bodies = [picture.getvalue(), picture.getvalue() + bytes(19_000_000)]
    statuses: list[int] = []
    stop = threading.Event()

    def send(content: bytes) -> None:
        while not stop.is_set():
            try:
                statuses.append(Visitor(address, "127.0.0.2").send(content)[0])
            except OSError:  # refused before all of it was sent
                statuses.append(429)

    with ThreadPoolExecutor(24) as threads:
        for number in range(24):
            threads.submit(send, bodies[number % 2])
        try:
            waits = _waits(victim)
            small = io.BytesIO()
            Image.new("RGB", (64, 64), "blue").save(small, "png")
            assert Visitor(address, "127.0.0.1").send(small.getvalue())[1]["ok"]
        finally:
            stop.set()
    assert statistics.median(waits) < 1, waits
    assert 429 in statuses
    assert 200 in statuses


def test_guessing_a_password_takes_longer_and_longer_and_is_logged(caplog, monkeypatch):
    from starlette.requests import Request

    from naspix.app import server
    from naspix.app.address import Address

    now = [1000.0]
    monkeypatch.setattr(server.time, "monotonic", lambda: now[0])
    door = server.Door(Address(auth=("ada", "secret")), 80)

    def tried(words: str, client: str = "10.0.0.1") -> int:
        headers = {"host": "localhost"}
        if words:
            headers["authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        answer = door.refused(Request({"type": "http", "headers": raw, "client": (client, 1)}))
        return 200 if answer is None else answer.status_code

    assert [tried("") for _ in range(20)] == [401] * 20  # a browser that has not asked yet
    looked_at = 0
    for _ in range(600 * 200):  # 200 a second for ten minutes
        looked_at += tried("ada:guess") == 401
        now[0] += 1 / 200
    assert looked_at < 25
    assert len(caplog.records) == looked_at
    assert "wrong password from 10.0.0.1, number 1" in caplog.messages[0]
    assert "guess" not in caplog.text
    assert tried("ada:secret") == 429
    assert tried("ada:secret", "10.0.0.2") == 200  # somebody else
    now[0] += 60
    assert tried("ada:secret") == 200


def test_the_server_is_called_by_its_name_on_every_interface():
    import socket

    from naspix.app.address import Address

    everywhere, own = Address("0.0.0.0"), socket.gethostname().lower()
    for host in ("10.1.2.3:7860", "[fe80::1]:7860", "localhost:7860", f"{own}:7860", "10.1.2.3"):
        assert everywhere.is_name(host, 7860), host
    for host in ("evil.example", "evil.example:7860", "10.1.2.3.evil.example:7860", ""):
        assert not everywhere.is_name(host, 7860), host
    assert Address("0.0.0.0", auth=("ada", "secret")).is_name("team.example", 7860)
    assert not Address("127.0.0.1", auth=("ada", "secret")).is_name("team.example:7860", 7860)
