"""The web server: the page, its static files, and a typed route for each action.

A visitor is known by a cookie, or by a token in the address where the page stands in a notebook's
frame, and each of its pages by a name of its own. Only requests that call the server by its name
and come from its own page are let in, and so many bytes at once. Needs the extra ``app``.
"""

import asyncio
import base64
import logging
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
        "the explorer needs FastAPI and uvicorn, which are not installed; pip install '.[app]'"
    ) from None

from naspix.app.actions import ACTIONS, Action, Upload
from naspix.app.address import LOOPBACK, Address
from naspix.app.queue import Answer, BusyError, Job
from naspix.app.session import Backend, Session, refusal

_log = logging.getLogger(__name__)
_BROWSER = Path(__file__).parent / "browser"
_PATIENCE = 0.7  # seconds an answer may take before it is told where it stands
_MOST_BYTES = 100_000  # of a request that brings no photo
_MOST_AT_ONCE = (128_000_000, 96_000_000, 48_000_000)  # bytes: all, of an address, of a visitor
_PAUSE = 1.0  # seconds until who asks too much is told so
_SLOWEST = 60.0  # seconds a request may take to arrive
_FREE_GUESSES = 3  # wrong passwords of an address without delay
_LONGEST_DELAY = 60.0  # seconds until its next one is looked at
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
        self.url = address.url(listening)
        app = application(backend, address, listening.getsockname()[1])
        self._uvicorn = web_server(app, patience=1)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=[[listening]], name="naspix-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._uvicorn.should_exit = True
        self._thread.join(5)


def web_server(app: FastAPI, *, patience: int) -> uvicorn.Server:
    """Uvicorn for an application, which at the end waits some seconds for what is under way."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=patience,
    )
    return uvicorn.Server(config)


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
    door, intake = Door(address, port), Intake()

    @app.middleware("http")
    async def guard(
        request: Request, proceed: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = door.refused(request)
        if response is None:
            size, most = request.headers.get("content-length", ""), backend.limits.n_bytes
            n_bytes = int(size) if size.isdecimal() else most * (request.method == "POST")
            # longer ones are refused by their routes, unread
            room = intake.take(request, n_bytes if n_bytes <= most + _MOST_BYTES else 0)
            if room is None:
                await asyncio.sleep(_PAUSE)
                sentence = "too much is being sent at once; try again in a moment"
                response = JSONResponse({"ok": False, "sentence": sentence}, 429)
                response.headers["Retry-After"] = "2"
            else:
                request.state.keep = room  # a photo in line takes its room with it
                try:
                    async with asyncio.timeout(_SLOWEST):
                        response = await proceed(request)
                except TimeoutError:
                    response = PlainTextResponse("the request took too long to arrive\n", 408)
                finally:
                    if request.state.keep is room:
                        room()
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
        visitor = _visitor(request)
        page = request.headers.get("x-naspix-page", "")
        if not re.fullmatch(_NAME, visitor) or (page and not re.fullmatch(_NAME, page)):
            raise HTTPException(401, "open the page first: it makes the visitor known by a cookie")
        return f"{visitor}/{page}"

    Key = Annotated[str, Depends(key_of)]

    async def session_of(key: Key, request: Request) -> Session:
        return backend.session(key, _client(request))

    Caller = Annotated[Session, Depends(session_of)]

    def added(name: str, kind: type[Action]) -> None:
        async def line_up(session: Session, action: Action, request: Request) -> Response:
            try:
                job = backend.submit(
                    session,
                    kind.doing,
                    lambda job: action.answer(backend, session, job),
                    pace=kind.pace,
                )
            except BusyError as error:
                await asyncio.sleep(_PAUSE)
                return JSONResponse(refusal(error), 429)
            if isinstance(action, Upload):
                room, request.state.keep = request.state.keep, None
                job.result.add_done_callback(lambda _: room())
            return await _outcome(backend, job)

        if issubclass(kind, Upload):

            async def ask(  # an empty body is an empty photo, which is said as such
                session: Caller, action: Any, request: Request, content: Any = b""
            ) -> Response:
                action.attach(content)
                return await line_up(session, action, request)

            content = Annotated[bytes, Body(media_type="application/octet-stream")]
            kinds = {"action": Annotated[kind, Query()], "content": content}
            most_bytes = backend.limits.n_bytes + _MOST_BYTES
        else:

            async def ask(  # type: ignore[misc]
                session: Caller, action: Any, request: Request
            ) -> Response:
                return await line_up(session, action, request)

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


class Intake:
    """How many bytes of requests are here at once, before they are parsed and while in line."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, request: Request, n_bytes: int) -> Callable[[], None] | None:
        """Room for a request, as what gives it back; None where there is none."""
        client = _client(request)
        owners = ("", client, f"{client}/{_visitor(request)}")
        with self._lock:
            for owner, most in zip(owners, _MOST_AT_ONCE, strict=True):
                if n_bytes and self._taken[owner] + n_bytes > most:
                    return None
            self._taken.update(dict.fromkeys(owners, n_bytes))

        def give_back() -> None:
            with self._lock:
                self._taken.subtract(dict.fromkeys(owners, n_bytes))
                self._taken += Counter()  # without those that have none

        return give_back


class Door:
    """Who is let in: those who call the server by its name, from its own page, with the password.

    Args:
        address: Where it is served, and for whom.
        port: The one that is listened on.
    """

    def __init__(self, address: Address, port: int) -> None:
        self._address, self._port = address, port
        self._wrong: dict[str, tuple[int, float]] = {}  # of a client: how many, and until when

    def refused(self, request: Request) -> Response | None:
        """Why a request is not let in, if so."""
        host = request.headers.get("host", "").lower()
        if not self._address.is_name(host, self._port):
            return PlainTextResponse("this server is called by another name\n", 421)
        origin = request.headers.get("origin")
        if origin is not None:
            caller = origin.lower().split("://")[-1]
            if caller not in (host, request.headers.get("x-forwarded-host", "").lower()):
                return PlainTextResponse("a page of another host asks nothing here\n", 403)
        return None if self._address.auth is None else self._checked(request, self._address.auth)

    def _checked(self, request: Request, auth: tuple[str, str]) -> Response | None:
        """Ask for the password; who guesses waits longer from guess to guess."""
        client, now = _client(request), time.monotonic()
        n_wrong, closed_until = self._wrong.get(client, (0, 0.0))
        given = request.headers.get("authorization", "")
        if given and now < closed_until:
            return PlainTextResponse(
                "too many wrong passwords; wait a minute\n",
                429,
                {"Retry-After": str(round(closed_until - now) + 1)},
            )
        sent = b""
        with suppress(ValueError):
            kind, _, encoded = given.partition(" ")
            sent = base64.b64decode(encoded, validate=True) if kind.lower() == "basic" else b""
        if secrets.compare_digest(sent, ":".join(auth).encode()):
            self._wrong.pop(client, None)
            return None
        if given:
            n_wrong += 1
            delay = min(_LONGEST_DELAY, 2.0 ** (n_wrong - _FREE_GUESSES))
            self._wrong = {
                who: one for who, one in self._wrong.items() if now < one[1] + _LONGEST_DELAY
            } | {client: (n_wrong, now + delay * (n_wrong > _FREE_GUESSES))}
            _log.warning("naspix: wrong password from %s, number %d", client, n_wrong)
        challenge = {"WWW-Authenticate": 'Basic realm="naspix explorer", charset="UTF-8"'}
        return PlainTextResponse("the explorer asks for a user and a password\n", 401, challenge)


def _client(request: Request) -> str:
    """The address that asks; a reverse proxy on this machine says whose."""
    peer = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[-1].strip()
    return forwarded[:64] if peer in LOOPBACK and forwarded else peer


def _visitor(request: Request) -> str:
    return request.headers.get("x-naspix-visitor") or request.cookies.get(_COOKIE, "")
