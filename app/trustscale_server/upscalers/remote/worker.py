"""Our own GPU workers: several addresses of the same model, used as one upscaler.

A call goes to the worker with the least outstanding work; when that dies, to the others, which make
the same samples of its seeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from trustscale_server.platform.errors import ProtocolError, UpscalerError, UpscalerUnavailable
from trustscale_server.platform.telemetry import traces
from trustscale_server.upscalers.base import RGB, Capabilities, Source
from trustscale_server.upscalers.config import BaseUrl, CanaryPolicy, RemoteConfig
from trustscale_server.upscalers.failures import Misconfigured, retriable
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.pointers import find_all, first
from trustscale_server.upscalers.remote.inference import encode_request, output_of, understood
from trustscale_server.upscalers.remote.upstream import Upstream

log = structlog.get_logger()


class WorkerConfig(RemoteConfig):
    """Our own GPU worker, one or several of the same model."""

    # One name may stand for many workers, among which only new connections are spread.
    KEEPS_CONNECTIONS = False
    MAX_ANSWER_BYTES = 2**30

    kind: Literal["worker"] = "worker"
    urls: tuple[BaseUrl, ...] = Field(
        min_length=1, description="The addresses of workers that serve the same model."
    )
    concurrency: PositiveInt = 2  # to each worker
    canary: CanaryPolicy = "off"  # the fingerprint of a worker covers the content of its model

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.urls


class Model(BaseModel):
    """The relevant `parameters` of a model's metadata; `takes_16_bit`: see `Capabilities`."""

    model_config = ConfigDict(frozen=True)

    name: str
    fingerprint: str
    scale: PositiveInt
    max_samples: PositiveInt = 1
    distinct_samples: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    takes_16_bit: bool = False


@dataclass(slots=True, eq=False)
class _Worker:
    upstream: Upstream
    outstanding: int = 0
    rests_until: float = field(default=0.0)


class WorkerUpscaler:
    """`Upscaler` over one or several workers."""

    kind = "worker"

    def __init__(
        self, config: WorkerConfig, upstreams: Sequence[Upstream], rest_s: float = 5.0
    ) -> None:
        """A worker that failed is called last for `rest_s` seconds."""
        self.name = config.name
        self._config = config
        self._rest_s = rest_s
        self._workers = [_Worker(upstream) for upstream in upstreams]
        self._model: Model | None = None

    @property
    def scale(self) -> int:
        return self._known().scale

    @property
    def fingerprint(self) -> str:
        return self._known().fingerprint

    @property
    def capabilities(self) -> Capabilities:
        model = self._known()
        workers = len(self._workers)
        return Capabilities(
            samples_per_call=model.max_samples,
            machines=workers,
            concurrency=self._config.concurrency * workers,
            max_samples=model.distinct_samples,
            max_input_pixels=self._config.max_input_pixels or model.max_pixels,
            takes_16_bit=model.takes_16_bit,
            align_colours=self._config.align_colours,
        )

    async def probe(self) -> None:
        """Learn the model from every worker that answers.

        Raises:
            UpscalerUnavailable: none answers, or two serve different models.
        """

        async def described_by(worker: _Worker) -> Model | UpscalerError:
            try:
                return await self._describe(worker)
            except UpscalerError as error:
                self._note(error, "worker_unavailable", worker)
                return error

        described = await asyncio.gather(*(described_by(worker) for worker in self._workers))
        models = [description for description in described if isinstance(description, Model)]
        if not models:
            reasons = "; ".join(dict.fromkeys(str(description) for description in described))
            raise UpscalerUnavailable(f"No worker of {self.name!r} answers: {reasons}")
        if len({(model.fingerprint, model.scale) for model in models}) > 1:
            raise Misconfigured(
                f"The workers of {self.name!r} serve different models: "
                + ", ".join(sorted({f"{model.name} {model.fingerprint}" for model in models}))
            )
        self._model = models[0]

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        permit = permit or MemoryPermit()
        if self._model is None:
            await self.probe()
        source.raise_if_larger(self.capabilities.max_input_pixels, self.name)
        failure: UpscalerError | None = None
        for worker in self._by_load():
            worker.outstanding += len(seeds)
            try:
                return await self._infer(worker, source, seeds, permit)
            except UpscalerError as error:
                worker.upstream.redact_error(error)
                failure = failure or error
                if not retriable(error) and not isinstance(error, Misconfigured):
                    raise
                worker.rests_until = time.monotonic() + self._rest_s
                permit.give_back()
                self._note(error, "worker_failed", worker)
            finally:
                worker.outstanding -= len(seeds)
        assert failure is not None  # noqa: S101 - there is at least one worker
        raise failure

    async def close(self) -> None:
        for worker in self._workers:
            await worker.upstream.close()

    def _note(self, error: UpscalerError, event: str, worker: _Worker) -> None:
        worker.upstream.redact_error(error)
        url = worker.upstream.base
        log.warning(event, upscaler=self.name, url=url, detail=error.detail)

    def _known(self) -> Model:
        if self._model is None:
            raise UpscalerUnavailable(f"No worker of {self.name!r} has been reached yet.")
        return self._model

    def _by_load(self) -> list[_Worker]:
        """All workers: first those that did not just fail, by how little they have to do."""
        now = time.monotonic()
        return sorted(
            self._workers, key=lambda worker: (worker.rests_until > now, worker.outstanding)
        )

    async def _infer(
        self, worker: _Worker, source: Source, seeds: Sequence[int], permit: MemoryPermit
    ) -> list[RGB]:
        model = self._known()
        inputs = {"image": source.rgb, "seeds": np.array(seeds, np.int64)}
        chunks, headers = encode_request("samples", inputs, binary=True)
        headers |= traces.headers()
        reply = await worker.upstream.call(
            "POST", f"{_path(model.name)}/infer", content=chunks, headers=headers, permit=permit
        )
        await permit.take()
        answer, parameters = output_of(reply, "samples")
        described = parameters.get("fingerprint", model.fingerprint)
        if described != model.fingerprint:
            raise Misconfigured(
                f"A worker of {self.name!r} now serves another model: {described} instead of "
                f"{model.fingerprint}."
            )
        array = understood(answer.numbers)
        expected = (len(seeds), model.scale * source.height, model.scale * source.width, 3)
        if array.shape != expected or array.dtype != source.rgb.dtype:
            dtype_and_shape = f"{source.rgb.dtype} {list(expected)}"
            raise ProtocolError(f"A worker of {self.name!r} sent no {dtype_and_shape}.")
        return list(array)

    async def _describe(self, worker: _Worker) -> Model:
        server = await worker.upstream.call("GET", "/v2")
        names = find_all(server.json(), "/models/*")
        if len(names) != 1 or not isinstance(names[0], str):
            raise Misconfigured(
                f'{self.name!r} is no worker with one model; another server is of kind = "oip".'
            )
        name = names[0]
        await worker.upstream.call("GET", f"{_path(name)}/ready")
        reply = await worker.upstream.call("GET", _path(name))
        return _model(reply.json(), name)


def _path(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}"


def _model(document: Any, name: str) -> Model:
    described = first(document, "/parameters")
    try:
        return Model.model_validate({**described, "name": name})
    except (TypeError, ValidationError) as error:
        raise Misconfigured(
            f"Model {name!r} does not describe itself as a worker's model does; for other Open "
            'Inference Protocol servers use kind = "oip".'
        ) from error
