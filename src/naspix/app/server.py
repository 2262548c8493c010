"""The web server: the page, its static files, and a typed route for each action.

A visitor is known by a cookie, or by a token in the address where the page stands in a notebook's
frame, and each of its pages by a name of its own. Only requests that call the server by its name
and come from its own page are let in. Needs the extra ``app``.
"""

import asyncio
import base64
import re
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from naspix.errors import InputError, MissingExtraError

try:
    import uvicorn
    from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
    from fastapi.staticfiles import StaticFiles
except ImportError:
    raise MissingExtraError(
        "the explorer needs FastAPI and uvicorn, which are not installed; pip install 'naspix[app]'"
    ) from None

from naspix.app.actions import ACTIONS, Action, Upload
from naspix.app.queue import Answer, Job
from naspix.app.session import Backend, Session, refusal

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")

_BROWSER = Path(__file__).parent / "browser"
_PATIENCE = 0.7  # seconds an answer may take before it is told where it stands
_MOST_BYTES = 100_000  # of a request that brings no photo
_COOKIE = "naspix-visitor"
_NAME = r"[A-Za-z0-9_-]{16,64}"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {}"
)
_LOCAL_PAGES = " ".join(
    f"{scheme}://{name}:*" for scheme in ("http", "https") for name in ("localhost", "127.0.0.1")
)


@dataclass(frozen=True)
class Address:
    """Where the explorer is served, and for whom.

    Attributes:
        host: Interface to listen on.
        port: 0 takes any that is free.
        auth: User and password, or None for everybody who reaches the port.
        root_path: Under which a reverse proxy shows it, such as ``"/explorer"``.
        framed: Whether pages of this machine, such as a notebook's, may show it in a frame.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    root_path: str = ""
    framed: bool = False

    def listen(self) -> socket.socket:
        """Take the port.

        Raises:
            InputError: it cannot be had.
        """
        host = self.host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, self.port), family=family)
        except OSError as error:
            raise InputError(
                f"port {self.port} of {self.host} cannot be used ({error}); choose another "
                "with --port"
            ) from None


class Server:
    """A web server in a thread of its own, from now until ``close``.

    Args:
        backend: What answers.
        address: For whom.
        listening: From ``address.listen``.

    Attributes:
        url: Where the page is.
    """

    def __init__(self, backend: Backend, address: Address, listening: socket.socket) -> None:
        port = listening.getsockname()[1]
        host = address.host.strip("[]")
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                application(backend, address, port),
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=[[listening]], name="naspix-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._uvicorn.should_exit = True
        self._thread.join(5)


def application(backend: Backend, address: Address, port: int) -> FastAPI:
    """The page and its routes as an ASGI application.

    Args:
        backend: What answers.
        address: Who is let in.
        port: The one that is listened on.
    """
    app = FastAPI(
        title="naspix explorer",
        description="What the explorer's page asks. Name yourself by the header X-Naspix-Visitor.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        root_path=address.root_path,
    )
    policy = _POLICY.format(_LOCAL_PAGES if address.framed else "'none'")

    @app.middleware("http")
    async def guard(
        request: Request, proceed: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = _refused(request, address, port) or await proceed(request)
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-cache"
        return response

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:])) or "the request"
        return JSONResponse({"ok": False, "sentence": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse(refusal(error), 500)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        response = FileResponse(_BROWSER / "page.html")
        if not re.fullmatch(_NAME, request.cookies.get(_COOKIE, "")):
            response.set_cookie(
                _COOKIE,
                secrets.token_urlsafe(16),
                path=address.root_path or "/",
                httponly=True,
                samesite="strict",
            )
        return response

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(_BROWSER / "docs.html")

    app.mount("/static", StaticFiles(directory=_BROWSER))
    app.include_router(_routes(backend))
    return app


def _routes(backend: Backend) -> APIRouter:
    router = APIRouter(prefix="/api", max_body_size=_MOST_BYTES)

    async def key_of(request: Request) -> str:
        """Who asks: visitor and page."""
        visitor = request.headers.get("x-naspix-visitor") or request.cookies.get(_COOKIE, "")
        page = request.headers.get("x-naspix-page", "")
        if not re.fullmatch(_NAME, visitor) or (page and not re.fullmatch(_NAME, page)):
            raise HTTPException(401, "open the page first: it makes the visitor known by a cookie")
        return f"{visitor}/{page}"

    Key = Annotated[str, Depends(key_of)]

    async def session_of(key: Key) -> Session:
        return backend.session(key)

    Caller = Annotated[Session, Depends(session_of)]

    def added(name: str, kind: type[Action]) -> None:
        async def line_up(session: Session, action: Action) -> Response:
            try:
                job = backend.submit(
                    session,
                    kind.doing,
                    lambda job: action.answer(backend, session, job),
                    is_long=kind.is_long,
                )
            except Exception as error:
                return JSONResponse(refusal(error))
            return await _outcome(backend, job)

        if issubclass(kind, Upload):

            async def ask(session: Caller, action: Any, content: Any) -> Response:
                action.attach(content)
                return await line_up(session, action)

            content = Annotated[bytes, Body(media_type="application/octet-stream")]
            kinds = {"action": Annotated[kind, Query()], "content": content}
            most_bytes = backend.limits.n_bytes + _MOST_BYTES
        else:

            async def ask(session: Caller, action: Any) -> Response:  # type: ignore[misc]
                return await line_up(session, action)

            kinds, most_bytes = {"action": kind}, _MOST_BYTES
        ask.__annotations__.update(kinds)
        router.add_api_route(
            f"/{name}",
            ask,
            methods=["POST"],
            name=name,
            summary=(kind.__doc__ or "").split("\n")[0],
            max_body_size=most_bytes,
            response_model=None,
        )

    for name, kind in ACTIONS.items():
        added(name, kind)

    @router.post("/follow", response_model=None)
    async def follow(session: Caller, job: Annotated[str, Query(max_length=20)]) -> Response:
        """The answer of longer work, or where it stands."""
        try:
            return await _outcome(backend, session.job(job))
        except InputError as error:
            return JSONResponse(refusal(error))

    @router.post("/cancel", response_model=None)
    async def cancel(session: Caller) -> Answer:
        """End all work of this page."""
        for job in session.jobs.values():
            backend.queue.cancel(job)
        return {"ok": True}

    @router.post("/leave", response_model=None)
    async def leave(key: Key) -> Answer:
        """Be forgotten, with photo and work."""
        backend.forget(key)
        return {"ok": True}

    return router


async def _outcome(backend: Backend, job: Job) -> Response:
    """The job's answer, or where it stands where it takes longer."""
    waited = asyncio.wrap_future(job.result)
    try:
        answer = await asyncio.wait_for(asyncio.shield(waited), _PATIENCE)
    except TimeoutError:
        # an error that nobody waits for here any more is told when the job is followed
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())
        answer = {"ok": True, **backend.queue.standing(job)}
    except Exception as error:
        answer = refusal(error)
    return JSONResponse(answer)


def _refused(request: Request, address: Address, port: int) -> Response | None:
    """Why a request is not let in, if so."""
    host = request.headers.get("host", "").lower()
    if address.host in LOOPBACK:
        names = {f"{name}:{port}" for name in LOOPBACK}
        if host not in (names | set(LOOPBACK) if port == 80 else names):
            return PlainTextResponse("this server is called by another name\n", 421)
    origin = request.headers.get("origin")
    if origin is not None:
        caller = origin.lower().split("://")[-1]
        if caller not in (host, request.headers.get("x-forwarded-host", "").lower()):
            return PlainTextResponse("a page of another host asks nothing here\n", 403)
    if address.auth is not None:
        sent = b""
        with suppress(ValueError):
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            sent = base64.b64decode(given, validate=True) if kind.lower() == "basic" else b""
        if not secrets.compare_digest(sent, ":".join(address.auth).encode()):
            challenge = {"WWW-Authenticate": 'Basic realm="naspix explorer", charset="UTF-8"'}
            return PlainTextResponse(
                "the explorer asks for a user and a password\n", 401, challenge
            )
    return None
