"""The routes of the server for programs, as an ASGI application.

    POST /v1/segment   a photo's regions       POST /v1/explain   which of them a class rests on
    GET  /v1/models    the networks on offer   GET  /healthz      whether it works
    GET  /metrics      for Prometheus          GET  /docs         all this as a page

Photos come as multipart form data or as base64 in JSON. A request is refused with 401 without the
key, 413 where it is too large, 422 where it cannot be answered, 429 where too many wait, and ended
with 504 where it takes too long. Needs the extra ``app``.
"""

import asyncio
import base64
import binascii
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from naspix.errors import ImageError, InputError, MissingExtraError, NaspixError

try:
    import prometheus_client
    from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
    from fastapi.responses import FileResponse, JSONResponse
    from fastapi.staticfiles import StaticFiles
    from pydantic import ValidationError
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ImportError:
    raise MissingExtraError(
        "the server needs FastAPI, uvicorn and prometheus_client, which are not installed; "
        "pip install '.[app]' in the folder of naspix"
    ) from None

from naspix import app as explorer
from naspix.app.address import LOOPBACK, Address
from naspix.app.networks import Networks
from naspix.app.photos import Limits, uploaded
from naspix.app.server import web_server
from naspix.images.decoding import ORIENTATION
from naspix.models import Classifier
from naspix.serving.batching import Batcher, FullError, GoneError
from naspix.serving.questions import QUESTIONS, Picture, Question

_BROWSER = Path(explorer.__file__).parent / "browser"
_GLANCE = 0.1  # seconds between two looks whether somebody still waits
_MOST_WORDS = 10_000  # bytes of a request beside its photo


@dataclass(frozen=True)
class ServiceSettings:
    """What the server allows.

    Attributes:
        key: Asked of every request but that for its health; None asks nobody.
        local: Whether only programs of this machine are let in, that call it by its name.
        most_waiting: Requests that may wait; further ones are told to come later.
        most_together: Requests that pass the network together.
        seconds: After which a request is ended.
        limits: Of a photo.
    """

    key: str | None = None
    local: bool = True
    most_waiting: int = 64
    most_together: int = 8
    seconds: float = 60.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.most_waiting < 1 or self.most_together < 1 or not self.seconds > 0:
            raise InputError("the queue, a batch and the time limit of the server are more than 0")


class Service:
    """The server's application and what it holds; close it at the end.

    Args:
        networks: Those on offer.
        settings: What is allowed.

    Attributes:
        app: The ASGI application.
    """

    def __init__(self, networks: Networks, settings: ServiceSettings | None = None) -> None:
        self._networks = networks
        self._settings = settings or ServiceSettings()
        self._registry = prometheus_client.CollectorRegistry()
        metric: Any = {"registry": self._registry}
        self._requests = prometheus_client.Counter(
            "naspix_requests", "Requests by route and status.", ["route", "status"], **metric
        )
        self._seconds = prometheus_client.Histogram(
            "naspix_request_seconds", "Seconds that a request took.", ["route"], **metric
        )
        sizes = prometheus_client.Histogram(
            "naspix_batch_size", "Requests in a batch.", buckets=(1, 2, 4, 8, 16, 32), **metric
        )
        computing = prometheus_client.Counter(
            "naspix_computing_seconds", "Seconds that batches took.", **metric
        )

        def told(size: int, seconds: float) -> None:
            sizes.observe(size)
            computing.inc(seconds)

        self._batcher = Batcher(
            most_waiting=self._settings.most_waiting,
            most_together=self._settings.most_together,
            told=told,
        )
        waiting = prometheus_client.Gauge("naspix_waiting", "Requests that wait.", **metric)
        waiting.set_function(lambda: self._batcher.n_waiting)
        networks.watch = self._batcher.watching
        self._n_open = 0  # requests that are read, wait or are answered
        self._readers = ThreadPoolExecutor(2, "naspix-reader", initializer=_compute_alone)
        self.app = self._application()

    def load(self, name: str | None = None) -> Future[Classifier]:
        """A network, loaded and asked what its scores mean, by the thread that computes."""

        def load(names: Sequence[str | None]) -> list[Classifier]:
            models = [self._networks.load(one) for one in names]
            for model in models:
                model.scores  # noqa: B018 - found out once
            return models

        return self._batcher.submit(("load", name), name, load).result

    def close(self) -> None:
        """End what is under way, and leave the networks as they came."""
        self._batcher.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._networks.close()

    def _application(self) -> FastAPI:
        app = FastAPI(
            title="naspix",
            description="Photos in, the regions that a classifier sees and what they say out.",
            docs_url=None,
            redoc_url=None,
        )
        if self._settings.local:
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))

        @app.middleware("http")
        async def watched(
            request: Request, proceed: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            began = time.monotonic()
            origin = request.headers.get("origin", "").lower().split("://")[-1]
            if origin and origin != request.headers.get("host", "").lower():
                response: Response = _error(403, "a page of another host asks nothing here")
            else:
                response = await proceed(request)
            route = getattr(request.scope.get("route"), "path", "other")
            self._requests.labels(route, str(response.status_code)).inc()
            self._seconds.labels(route).observe(time.monotonic() - began)
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        @app.exception_handler(HTTPException)
        async def refused(request: Request, error: HTTPException) -> Response:
            return _error(error.status_code, str(error.detail))

        @app.get("/healthz")
        async def health() -> Response:
            """Whether the server works."""
            works = self._batcher.works
            return JSONResponse({"status": "ok" if works else "stopped"}, 200 if works else 503)

        @app.get("/docs", include_in_schema=False)
        async def docs() -> Response:
            return FileResponse(_BROWSER / "docs.html")

        app.mount("/static", StaticFiles(directory=_BROWSER))
        app.include_router(self._routes())
        return app

    def _routes(self) -> APIRouter:
        async def known(request: Request) -> None:
            """Let in who has the key."""
            kind, _, sent = request.headers.get("authorization", "").partition(" ")
            given = sent if kind.lower() == "bearer" else request.headers.get("x-api-key", "")
            key = self._settings.key
            if key is not None and not secrets.compare_digest(given.encode(), key.encode()):
                raise HTTPException(
                    401, "give the server's key, as Authorization: Bearer KEY or X-API-Key: KEY"
                )

        n_bytes = 4 * self._settings.limits.n_bytes // 3 + _MOST_WORDS  # as base64
        router = APIRouter(dependencies=[Depends(known)], max_body_size=n_bytes)

        @router.get("/v1/models")
        async def models() -> list[dict[str, Any]]:
            """The networks on offer; the first is asked where none is named."""
            return [{"name": name, **self._described(name)} for name in self._networks.names]

        @router.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            content = prometheus_client.generate_latest(self._registry)
            return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)

        def added(kind: type[Question]) -> None:
            async def ask(request: Request) -> Response:
                return await self._ask(kind, request)

            ask.__doc__ = kind.__doc__
            router.add_api_route(
                f"/v1/{kind.kind}",
                ask,
                methods=["POST"],
                name=kind.kind,
                response_model=None,
                openapi_extra={"requestBody": _body_of(kind)},
            )

        for kind in QUESTIONS:
            added(kind)
        return router

    def _described(self, name: str) -> dict[str, Any]:
        """What is known of a network once it is loaded."""
        model = self._networks.loaded(name)
        if model is None:
            return {"loaded": False}
        return {"loaded": True, "input_size": list(model.input_size), "scores": str(model.scores)}

    async def _ask(self, kind: type[Question], request: Request) -> Response:
        """Answer a question, unless there are too many, whose photos would fill the memory."""
        if self._n_open >= self._settings.most_waiting + 2 * self._settings.most_together:
            return _too_many(self._batcher.full())
        self._n_open += 1
        try:
            return await self._answer(kind, request)
        except FullError as error:
            return _too_many(error)
        except NaspixError as error:
            return _error(422, str(error))
        except GoneError:
            return _error(503, "the server is closing")
        except TimeoutError:
            return _error(408, "the request took too long to arrive")
        except Exception as error:
            return _error(500, f"this should not have happened ({type(error).__name__})")
        finally:
            self._n_open -= 1

    async def _answer(self, kind: type[Question], request: Request) -> Response:
        """Read the question, line it up, and wait while the client does.

        Raises:
            Exception: Why there is no answer.
        """
        sent = asyncio.wait_for(_read(kind, request), self._settings.seconds)
        question, content, name = await sent
        question.check()
        model = self._networks.loaded(question.model)
        if model is None:
            model = await asyncio.wrap_future(self.load(question.model))
        reading = self._readers.submit(self._picture, model, question, content, name)
        picture = await asyncio.wrap_future(reading)
        waiting = self._batcher.submit(
            (question.model_dump_json(), tuple(picture.image.shape)),
            picture,
            lambda pictures: question.answers(model, pictures),
        )
        result = asyncio.wrap_future(waiting.result)
        ends = time.monotonic() + self._settings.seconds
        while True:
            left = max(0.0, min(_GLANCE, ends - time.monotonic()))
            try:
                answer = await asyncio.wait_for(asyncio.shield(result), left)
                return JSONResponse({"model": model.name, **answer})
            except TimeoutError:
                is_late = time.monotonic() >= ends
                if not is_late and not await request.is_disconnected():
                    continue
                waiting.gone.set()
                # an error that nobody waits for any more is none
                result.add_done_callback(lambda done: done.cancelled() or done.exception())
                if is_late:
                    return _error(504, f"it took longer than {self._settings.seconds:g} s")
                return _error(499, "the client has gone")

    def _picture(self, model: Classifier, question: Question, content: bytes, name: str) -> Picture:
        """The photo as the network takes it."""
        limits = self._settings.limits
        with uploaded(content, limits, name) as picture:
            size = picture.height, picture.width
            if picture.getexif().get(ORIENTATION, 1) > 4:  # a quarter turn
                size = size[::-1]
            image = model.load_images([picture], question.resize, max_pixels=limits.n_pixels)
        fitted = model.fitting(size, question.resize)
        return Picture(image, "" if fitted is None else fitted.told(size))


def _compute_alone() -> None:
    """Let torch compute in this thread without others; see `batching.py`."""
    torch.set_num_threads(1)


def serve(
    networks: Networks,
    settings: ServiceSettings,
    address: Address,
    *,
    ready: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        networks: Those on offer; the first is loaded before anybody is let in.
        settings: What is allowed.
        address: Where to listen.
        ready: Told where the server is, once it answers.

    Raises:
        InputError: The port cannot be had, which is said before a network is loaded.
    """
    with address.listen() as listening:
        service = Service(networks, settings)
        try:
            service.load().result()
            ready(f"the server is at {address.url(listening)}docs (Ctrl-C ends it)")
            web_server(service.app, patience=5).run([listening])
        finally:
            service.close()


async def _read(kind: type[Question], request: Request) -> tuple[Question, bytes, str]:
    """The question, the photo's bytes and its name, of a form or of JSON.

    Raises:
        InputError: What is wrong with the request.
    """
    given: dict[str, Any] = {}
    content: object = None
    name = "the photo"
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        async with request.form(max_files=1, max_fields=20) as form:
            given = dict(form)
            photo = given.pop("photo", None)
            if photo is not None and not isinstance(photo, str):
                content, name = await photo.read(), photo.filename or name
    elif media == "application/json":
        try:
            body = json.loads(await request.body())
        except ValueError:
            raise InputError("the request's body is no JSON") from None
        if not isinstance(body, dict):
            raise InputError("the request's body is a JSON object with a photo")
        given = body
        try:
            content = base64.b64decode(given.pop("photo", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise InputError("photo is not base64") from None
    else:
        raise InputError("send multipart/form-data with a file photo, or JSON with it as base64")
    if not isinstance(content, bytes) or not content:
        raise ImageError("the request brings no photo; send one as the file or entry photo")
    try:
        return kind.model_validate(given), content, name
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the request"
        raise InputError(f"{place}: {first['msg']}") from None


def _body_of(kind: type[Question]) -> dict[str, Any]:
    """What a route takes, for OpenAPI."""
    schema = kind.model_json_schema()
    content = {}
    for media, photo in (
        ("multipart/form-data", {"type": "string", "format": "binary"}),
        ("application/json", {"type": "string", "contentEncoding": "base64"}),
    ):
        said = {**photo, "description": "the photo's file"}
        properties = {"photo": said, **schema["properties"]}
        content[media] = {
            "schema": {"type": "object", "required": ["photo"], "properties": properties}
        }
    return {"required": True, "content": content}


def _too_many(error: FullError) -> Response:
    return _error(429, str(error), {"Retry-After": str(error.seconds)})


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)
