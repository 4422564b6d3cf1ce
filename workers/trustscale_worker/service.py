"""The worker's HTTP service: the Open Inference Protocol over one engine.

Every error, also a wrong path or method, is the protocol's `{"error": "..."}`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from trustscale_server import __version__
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.tensors import HEADER_LENGTH, Chunk, encode_message
from trustscale_worker.batcher import Batcher, WorkerMetrics
from trustscale_worker.errors import (
    ClientGone,
    InputError,
    OutOfMemory,
    QueueFull,
    TooLarge,
    UnknownModel,
    WorkerError,
)
from trustscale_worker.models.engine import Engine
from trustscale_worker.protocol import InferRequest, parse_request
from trustscale_worker.settings import WorkerSettings

SERVER = "trustscale-worker"

MODEL_VERSION = "1"  # of the model; another one is another worker, with another fingerprint
_CHUNK = 2**20  # bytes written to the socket at a time
_CLIENT_CLOSED = 499  # status counted for a client that has left

# Most specific first. A lack of memory may pass, or not affect another worker: retry.
_STATUSES: tuple[tuple[type[WorkerError], int], ...] = (
    (TooLarge, 413),
    (UnknownModel, 404),
    (InputError, 400),
    (QueueFull, 503),
    (OutOfMemory, 503),
    (ClientGone, _CLIENT_CLOSED),
    (WorkerError, 500),
)


def create_worker_app(engine: Engine, settings: WorkerSettings | None = None) -> Starlette:
    """Return the service as an ASGI application."""
    return _Service(engine, settings or WorkerSettings()).app()


class _Service:
    """The endpoints, as methods over one engine."""

    def __init__(self, engine: Engine, settings: WorkerSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._metrics = WorkerMetrics(engine.memory)
        self._batcher = Batcher(engine, self._metrics, settings.queue_size)

    def app(self) -> Starlette:
        models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        errors = (WorkerError, HTTPException, ClientDisconnect, Exception)
        return Starlette(
            lifespan=self._lifespan,
            exception_handlers=dict.fromkeys(errors, self._on_error),
            routes=[
                Route("/v2", self.server),
                Route("/v2/health/live", self.live),
                Route("/v2/health/ready", self.ready),
                Route("/metrics", self.metrics),
                *(Route(model, self.model) for model in models),
                *(Route(f"{model}/ready", self.ready) for model in models),
                *(Route(f"{model}/infer", self.infer, methods=["POST"]) for model in models),
            ],
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self._batcher:
            yield

    async def server(self, _: Request) -> Response:
        return JSONResponse(
            {
                "name": SERVER,
                "version": __version__,
                "extensions": ["binary_tensor_data"],
                "models": [self._engine.name],
            }
        )

    async def live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        document: dict[str, object] = {"ready": self._batcher.open}
        if request.path_params:
            self._find(request)
            document["name"] = self._engine.name
        return JSONResponse(document, 200 if document["ready"] else 503)

    async def model(self, request: Request) -> Response:
        self._find(request)
        settings, engine = self._settings, self._engine
        return JSONResponse(
            {
                "name": engine.name,
                "versions": [MODEL_VERSION],
                "platform": SERVER,
                "inputs": [
                    {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]},
                    {"name": "seeds", "datatype": "INT64", "shape": [-1]},
                ],
                "outputs": [
                    {"name": "samples", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
                ],
                "parameters": {
                    "fingerprint": engine.fingerprint,
                    "scale": engine.scale,
                    "max_samples": settings.max_samples,
                    "distinct_samples": engine.distinct_samples,
                    "max_pixels": settings.max_pixels,
                    "takes_16_bit": True,
                    "queue_size": settings.queue_size,
                    "device": engine.memory().device,
                },
            }
        )

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def infer(self, request: Request) -> Response:
        self._find(request)
        try:
            return await self._infer(request)
        except asyncio.CancelledError as error:
            # The server cancels what outlasts its shutdown.
            raise self._batcher.busy("the worker is shutting down") from error

    async def _infer(self, request: Request) -> Response:
        self._batcher.raise_if_full()  # a full worker reads no bodies
        body = await self._body(request)
        header_length = request.headers.get(HEADER_LENGTH)
        inference = await asyncio.to_thread(parse_request, body, header_length, self._settings)
        self._check_answer_size(inference)
        height, width = inference.image.shape[:2]
        attributes = {
            "trustscale.samples": len(inference.seeds),
            "trustscale.width": width,
            "trustscale.height": height,
        }
        caller = {"traceparent": request.headers.get("traceparent", "")}
        with span("infer", attributes, kind="server", parent=caller):
            samples = await self._samples(request, inference)
        return await self._answer(inference, samples)

    def _find(self, request: Request) -> None:
        """Raise UnknownModel unless the URL names the served model."""
        model, version = (
            request.path_params["model"],
            request.path_params.get("version", MODEL_VERSION),
        )
        if model != self._engine.name:
            raise UnknownModel(f"no model {model!r} here; this worker serves {self._engine.name!r}")
        if version != MODEL_VERSION:
            raise UnknownModel(
                f"model {model!r} has no version {version!r}; it has {MODEL_VERSION!r}"
            )

    async def _body(self, request: Request) -> memoryview:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "compressed requests are not supported")
        limit = self._settings.max_body_bytes
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > limit:
            raise TooLarge(f"a request of {declared} bytes; at most {limit} allowed")
        body = bytearray()
        async for chunk in request.stream():
            if len(body) + len(chunk) > limit:
                raise TooLarge(f"the request has more than {limit} bytes")
            body += chunk
        return memoryview(body)

    def _check_answer_size(self, inference: InferRequest) -> None:
        pixels = inference.image.shape[0] * inference.image.shape[1] * self._engine.scale**2
        size = 3 * pixels * len(inference.seeds) * inference.image.itemsize
        if size > self._settings.max_answer_bytes:
            limit = self._settings.max_answer_bytes
            raise TooLarge(f"the answer would have {size} bytes; at most {limit} allowed")
        if not inference.binary and size > self._settings.max_json_values:
            raise TooLarge(f"{size} values are too many for JSON; ask for binary output")

    async def _samples(self, request: Request, inference: InferRequest) -> RGB:
        """The samples; the work is cancelled when the client closes the connection."""
        submitted = self._batcher.submit(inference.image, inference.seeds)
        work = asyncio.create_task(submitted)
        gone = asyncio.create_task(_until_disconnected(request))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone("the client closed the connection")
            return work.result()
        finally:
            for task in (work, gone):
                task.cancel()

    async def _answer(self, inference: InferRequest, array: RGB) -> Response:
        document = {
            **({} if inference.id is None else {"id": inference.id}),
            "model_name": self._engine.name,
            "model_version": MODEL_VERSION,
            "parameters": {"fingerprint": self._engine.fingerprint},
        }
        chunks, headers = await asyncio.to_thread(
            encode_message, document, "outputs", {"samples": array}, binary=inference.binary
        )
        self._metrics.requests.labels("200").inc()
        return StreamingResponse(_chunks(chunks), headers=headers)

    async def _on_error(self, request: Request, error: Exception) -> Response:
        headers: Mapping[str, str] = {}
        if isinstance(error, HTTPException):
            status, text, headers = error.status_code, str(error.detail), error.headers or {}
        elif isinstance(error, ClientDisconnect):
            status, text = _CLIENT_CLOSED, "the client closed the connection"
        elif isinstance(error, WorkerError):
            status = next(status for kind, status in _STATUSES if isinstance(error, kind))
            text = str(error)
            if isinstance(error, QueueFull):
                headers = {"Retry-After": f"{error.retry_after:.0f}"}
        else:
            status, text = 500, f"unexpected {type(error).__name__}; see the log"
        if request.url.path.endswith("/infer"):
            self._metrics.requests.labels(str(status)).inc()
        return JSONResponse({"error": text}, status, dict(headers))


async def _chunks(chunks: list[Chunk]) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        for start in range(0, len(chunk), _CHUNK):
            yield chunk[start : start + _CHUNK]


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
