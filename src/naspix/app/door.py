"""What the web server lets in: an ASGI layer before gradio, which serves far more than this page.

Only the routes that the page needs are open: no file is served but the page's own, none is
uploaded. Bodies are bounded, a page of another host cannot speak through a visitor's browser, and
the browser is told to load nothing from anywhere else.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_READ = (
    "/assets/",
    "/static/",
    "/gradio_api/heartbeat/",
    "/gradio_api/startup-events",
    "/gradio_api/login_check",
    "/login_check",
    "/theme.css",
    "/favicon.ico",
    "/robots.txt",
    "/config",
    "/logout",
)
_WRITTEN = ("/gradio_api/component_server", "/gradio_api/component_server/", "/login", "/login/")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)


class Door:
    """Guards an ASGI application.

    Args:
        app: What is behind it.
        most_bytes: Of a request's body.
        hosts: Names under which the server may be called; None is any.
    """

    def __init__(
        self, app: Application, most_bytes: int, hosts: tuple[str, ...] | None = None
    ) -> None:
        self._app, self._most_bytes, self._hosts = app, most_bytes, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse, one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        await self._app(scope, self._bounded(receive), _with_headers(send))

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and sentence, where the request is not let in."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._hosts is not None and _without_port(host) not in self._hosts:
            return 421, "this server is called by another name"
        origin = headers.get(b"origin")
        if origin is not None and scope["method"] == "POST":
            caller = origin.decode("latin-1").lower().split("://")[-1]
            known = {host, headers.get(b"x-forwarded-host", b"").decode("latin-1").lower()}
            if caller not in known and _without_port(caller) not in map(_without_port, known):
                return 403, "a page of another host asks nothing here"
        path = _below_root(scope)
        if scope["method"] in ("GET", "HEAD"):
            if path != "/" and not path.startswith(_READ):
                return 404, "there is nothing here"
        elif scope["method"] != "POST" or path not in _WRITTEN:
            return 404, "there is nothing here"
        elif "component_server" in path and not headers.get(b"content-type", b"").startswith(
            b"application/json"
        ):
            return 415, "a request is JSON"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most_bytes:
            return 413, "the request is too large"
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """The body, cut off (as if the visitor had left) where it grows beyond what it may."""
        seen = 0

        async def receive_some() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message if seen <= self._most_bytes else {"type": "http.disconnect"}

        return receive_some


def _below_root(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                (b"content-security-policy", _POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ]
        await send(message)

    return send_with_headers


async def _answer(send: Send, status: int, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{sentence}\n".encode()})
