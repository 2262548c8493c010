"""The door: only the page's own routes, bodies of bounded size, no other host's page."""

import asyncio

import pytest

from naspix.app.door import Door

LOCAL = ("127.0.0.1", "localhost")


async def _behind(scope, receive, send) -> None:
    read = 0
    while scope["method"] == "POST":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        read += len(message["body"])
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{read}".encode()})


def _asked(
    path: str, method: str = "GET", body: tuple[bytes, ...] = (), root: str = "", **headers: str
) -> list[dict]:
    sent: list[dict] = []
    parts = [*body] or [b""]
    named = {"host": "127.0.0.1:7860", "content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "root_path": root,
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in named.items()
        ],
    }

    async def receive() -> dict:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(Door(_behind, most_bytes=100, hosts=LOCAL)(scope, receive, send))
    return sent


def _status(*arguments, **named) -> int | None:
    sent = _asked(*arguments, **named)
    return sent[0]["status"] if sent else None


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/", "GET"),
        ("/", "HEAD"),
        ("/assets/index.js", "GET"),
        ("/theme.css", "GET"),
        ("/gradio_api/component_server/", "POST"),
        ("/login", "POST"),
    ],
)
def test_the_page_is_served(path, method):
    assert _status(path, method) == 200


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/gradio_api/file=/etc/passwd", "GET"),
        ("/file=/etc/passwd", "GET"),
        ("/gradio_api/file/etc/passwd", "GET"),
        ("/gradio_api/proxy=http://example.com", "GET"),
        ("/gradio_api/upload", "POST"),
        ("/gradio_api/queue/join", "POST"),
        ("/gradio_api/run/predict", "POST"),
        ("/gradio_api/call/ask", "POST"),
        ("/monitoring", "GET"),
        ("/docs", "GET"),
        ("/", "POST"),
        ("/", "DELETE"),
        ("/assetsx", "GET"),
    ],
)
def test_everything_else_is_not(path, method):
    assert _status(path, method) == 404


def test_bodies_are_bounded_by_what_they_say_and_by_what_they_are():
    path = "/gradio_api/component_server/"
    assert _status(path, "POST", content_length="101") == 413
    assert _status(path, "POST", content_length="many") == 413
    assert _status(path, "POST", body=(b"x" * 60, b"x" * 40)) == 200
    assert _status(path, "POST", body=(b"x" * 60, b"x" * 60)) is None  # cut off


def test_only_json_is_asked():
    path = "/gradio_api/component_server/"
    assert _status(path, "POST", content_type="multipart/form-data; boundary=x") == 415
    assert _status(path, "POST", content_type="text/plain") == 415


def test_another_hosts_page_is_refused():
    path = "/gradio_api/component_server/"
    assert _status(path, "POST", origin="http://127.0.0.1:7860") == 200
    assert _status(path, "POST", origin="https://evil.example") == 403
    assert _status("/", host="evil.example") == 421
    proxied = {"origin": "https://team.example", "x_forwarded_host": "team.example"}
    assert _status(path, "POST", **proxied) == 200


def test_below_a_path_of_a_proxy():
    assert _status("/explorer/assets/index.js", root="/explorer") == 200
    assert _status("/explorer/gradio_api/file=/etc/passwd", root="/explorer") == 404


def test_the_browser_is_told_to_load_nothing_from_elsewhere():
    headers = dict(_asked("/")[0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"
