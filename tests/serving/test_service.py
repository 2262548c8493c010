"""The server for programs, asked over HTTP; its answers are the library's."""

import base64
import contextlib
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import uvicorn
from PIL import Image
from pycocotools import mask as coco

import naspix
from naspix.app.address import Address
from naspix.app.networks import Networks
from naspix.app.photos import Limits, png
from naspix.serving.service import Service, ServiceSettings

CAT, CUP = skimage.data.chelsea(), skimage.data.coffee()
KEY = "a key for tests"
ROOT = Path(__file__).parents[2]


class Client:
    """Asks a service by HTTP."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port, self.key = port, key

    def __call__(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            given = {"Authorization": f"Bearer {self.key}", **given}
        with contextlib.closing(connection):
            connection.request(method, path, body, given)
            response = connection.getresponse()
            content = response.read()
        is_json = "json" in (response.headers.get("content-type") or "")
        return response.status, json.loads(content) if is_json else content, response.headers

    def form(self, path: str, photo: bytes | None, **fields: object) -> tuple[int, Any]:
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        if photo is not None:
            head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n'
            parts.append(head + photo + b"\r\n")
        kind = "multipart/form-data; boundary=x"
        return self("POST", path, b"".join([*parts, b"--x--\r\n"]), Content_Type=kind)[:2]

    def json(self, path: str, given: object) -> tuple[int, Any]:
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        return self("POST", path, content, Content_Type="application/json")[:2]


@contextlib.contextmanager
def started(settings: ServiceSettings, model: naspix.Classifier) -> Iterator[Client]:
    service = Service(Networks({"first": lambda: model, "second": lambda: model}), settings)
    with Address(port=0).listen() as listening:
        config = uvicorn.Config(service.app, log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
        thread.start()
        yield Client(listening.getsockname()[1], settings.key)
        server.should_exit = True
        thread.join(10)
        service.close()


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    return naspix.load_model("efficientnet_lite0")


@pytest.fixture(scope="module")
def client(model: naspix.Classifier) -> Iterator[Client]:
    limits = Limits(n_bytes=1_000_000, n_pixels=1_000_000)
    with started(ServiceSettings(key=KEY, limits=limits), model) as client:
        yield client


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools'
def test_segment_is_the_librarys(client: Client, model: naspix.Classifier) -> None:
    status, found = client.form("/v1/segment", png(CAT), n_clusters=4, png="true")
    assert status == 200
    images = model.load_images([CAT])
    segmentation = naspix.NAS(model, n_clusters=4)(images)
    assert [one["rle"] for one in found["superpixels"]] == segmentation.to_rle()
    decoded = [coco.decode(coco.frPyObjects(one["rle"], 224, 224)) for one in found["superpixels"]]
    clusters = sum(
        mask.astype(int) * one["cluster"]
        for mask, one in zip(decoded, found["superpixels"], strict=True)
    )
    np.testing.assert_array_equal(clusters, segmentation.clusters[0].numpy())
    assert found["predictions"][0]["index"] == int(model(images).argmax())
    assert found["fitting"] == "the middle 263 x 262 of 451 x 300 pixels, at 224 x 224"
    with Image.open(io.BytesIO(base64.b64decode(found["png"]))) as picture:
        assert picture.size == (224, 224)


def test_explain_is_the_librarys_by_form_and_by_json(
    client: Client, model: naspix.Classifier
) -> None:
    given = {"method": "grad_cam", "target": "tabby", "sets": True, "segmenter": "grid"}
    status, found = client.form("/v1/explain", png(CAT), **given)
    assert status == 200
    photo = base64.b64encode(png(CAT)).decode()
    assert client.json("/v1/explain", {"photo": photo, **given}) == (200, found)
    expected = naspix.explain(
        model, model.load_images([CAT]), "tabby", method="grad_cam", segmenter="grid", sets=True
    )
    assert [one["label"] for one in found["superpixels"]] == [
        one.label for one in expected.ranking()
    ]
    assert found["superpixels"][0]["saliency"] == pytest.approx(expected.ranking()[0].saliency)
    assert found["target"]["name"] == "tabby"
    assert (found["necessary"] is None) == (expected.necessary() is None)
    assert found["n_forwards"] >= 1


def test_many_at_once_get_each_their_own(client: Client, model: naspix.Classifier) -> None:
    crops = [CAT[:200, x : x + 200].copy() for x in range(0, 240, 40)] + [CUP[:, :400].copy()]
    expected = [naspix.NAS(model)(model.load_images([one])).n_superpixels.item() for one in crops]
    with ThreadPoolExecutor(12) as pool:
        asked = list(range(len(crops))) * 6
        answers = list(pool.map(lambda at: client.form("/v1/segment", png(crops[at])), asked))
    assert [status for status, _ in answers] == [200] * len(asked)
    counts = [len(found["superpixels"]) for _, found in answers]
    assert counts == [expected[at] for at in asked]
    _, metrics, _ = client("GET", "/metrics")
    together = [
        line for line in metrics.decode().splitlines() if 'batch_size_bucket{le="1.0"}' in line
    ]
    n_batches = [line for line in metrics.decode().splitlines() if "batch_size_count" in line]
    assert float(together[0].split()[-1]) < float(n_batches[0].split()[-1])  # some went together


def test_without_the_key_nothing_is_told_but_health(client: Client) -> None:
    stranger = Client(client.port)
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/segment")):
        status, found, _ = stranger(method, path)
        assert status == 401
        assert "X-API-Key" in found["error"]
    assert stranger("GET", "/healthz")[:2] == (200, {"status": "ok"})
    assert stranger("GET", "/v1/models", X_API_Key=KEY)[0] == 200
    assert stranger("GET", "/v1/models", X_API_Key="ä other".encode().decode("latin-1"))[0] == 401


def test_pages_of_other_hosts_are_refused(client: Client) -> None:
    assert client("GET", "/healthz", Host="evil.example")[0] == 400
    assert client("GET", "/healthz", Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"K": 5}, "K: Extra inputs"),
        ({"n_clusters": 0}, "n_clusters: "),
        ({"segmenter": "nass"}, "there is no segmenter 'nass'"),
        ({"method": "gradcam"}, "there is no saliency method"),
        ({"method": "relax"}, "explains no class"),
        ({"target": "unicorn"}, "there is no class 'unicorn'"),
        ({"model": "third"}, "network here"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    client: Client, fields: dict[str, object], sentence: str
) -> None:
    status, found = client.form("/v1/explain", png(CAT), **fields)
    assert status == 422
    assert sentence in found["error"]
    assert "\n" not in found["error"]


def test_photos_that_are_none(client: Client) -> None:
    for status, found in (
        client.form("/v1/segment", b"no picture"),
        client.form("/v1/segment", None),
        client.form("/v1/segment", png(CAT)[:2000]),
        client.form("/v1/segment", png(np.zeros((1100, 1000, 3), np.uint8))),
        client.json("/v1/segment", {"photo": "%%%"}),
        client.json("/v1/segment", b"{"),
        client.json("/v1/segment", [1]),
        client("POST", "/v1/segment", png(CAT), Content_Type="image/png")[:2],
    ):
        assert status == 422, found
        assert found["error"]
    too_large = {"photo": base64.b64encode(bytes(3_000_000)).decode()}
    with contextlib.suppress(ConnectionError, http.client.HTTPException):  # refused on the way
        assert client.json("/v1/segment", too_large)[0] == 413


def test_a_full_queue_and_a_time_limit(model: naspix.Classifier) -> None:
    slow = {"method": "rise", "segmenter": "grid"}
    with started(ServiceSettings(most_waiting=1, seconds=1.0), model) as client:

        def ask(number: int) -> int:
            return client.form("/v1/explain", png(CAT), n_clusters=3 + number, **slow)[0]

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(ask, range(6))) == {429, 504}
        ends = time.monotonic() + 10  # what was ended gives its place up at its next forward
        while client.form("/v1/segment", png(CAT))[0] != 200:
            assert time.monotonic() < ends


def test_who_sends_slowly_is_ended_and_keeps_nobody_out(model: naspix.Classifier) -> None:
    settings = ServiceSettings(most_waiting=1, most_together=1, seconds=2.0)
    with started(settings, model) as client:
        slow = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(5)]
        head = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        for one in slow:
            one.sendall(head + b"Content-Type: application/json\r\n\r\n{")
        answers = sorted(one.recv(12) for one in slow)
        for one in slow:
            one.close()
        assert answers == [b"HTTP/1.1 408"] * 3 + [b"HTTP/1.1 429"] * 2
        assert client.form("/v1/segment", png(CAT))[0] == 200


def test_models_and_openapi(client: Client) -> None:
    _, models, _ = client("GET", "/v1/models")
    assert [one["name"] for one in models] == ["first", "second"]
    _, described, _ = client("GET", "/openapi.json")
    body = described["paths"]["/v1/explain"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    assert {"photo", "method", "target", "sets"} <= set(
        body["application/json"]["schema"]["properties"]
    )
    assert client("GET", "/docs")[0] == 200


def test_the_client_of_the_page(client: Client, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "serve.md").read_text()
    (code,) = re.findall(r"^```text\n# client.py\n(.*?)^```$", page, re.DOTALL | re.M)
    code = code.replace(":8000", f":{client.port}").replace(
        "the key, if the server asks for one", KEY
    )
    (tmp_path / "client.py").write_text(code)
    (tmp_path / "cat.png").write_bytes(png(CAT))
    command = [sys.executable, "client.py", "cat.png"]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert told.startswith("tiger cat [[")


def test_the_image_starts_what_there_is() -> None:
    """Docker is not at hand: what its file names exists, and its command is parsed."""
    from naspix.cli.app import app

    text = (ROOT / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*])$", text, re.M)
    program, *words = json.loads(command)
    assert program == "naspix"
    app.parse_args(words, exit_on_error=False, print_error=False)
    assert "[app]" in text
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"src", "pyproject.toml", "README.md"} & set(ignored)


def test_the_command_serves_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "naspix", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(re.findall(r":(\d+)/docs", line)[0])
        assert Client(port)("GET", "/healthz")[0] == 200
        assert Client(port).form("/v1/segment", png(CAT))[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_others_are_let_in_by_a_key_only(capsys: pytest.CaptureFixture[str]) -> None:
    from naspix.cli.app import main

    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--key or NASPIX_API_KEY" in capsys.readouterr().err
