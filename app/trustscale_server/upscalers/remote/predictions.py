"""Cog containers and Replicate: `{"input": …}` in, `{"status", "output", "error"}` out.

Cog answers a PUT when the prediction is finished, takes no token and has no polling; a busy server
says 409. Replicate is polled, so that paid work can be cancelled. Both report a failed model inside
HTTP 200, so only the status `succeeded` counts. Sources: docs/http.md of replicate/cog 0.23,
Replicate's OpenAPI description.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from abc import abstractmethod
from contextlib import suppress
from typing import Any, Literal, TypeVar

from pydantic import Field, PositiveInt, field_validator

from trustscale_server.platform.errors import ProtocolError, UpscalerError, UpscalerUnavailable
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.config import BaseUrl, EnvName, HostName, OneAddress
from trustscale_server.upscalers.failures import AnswerLost, Filtered, GenerationFailed, NoImage
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.pointers import Pointer, find_all, first
from trustscale_server.upscalers.remote.adapter import Adapter, data_uri, mask_png, png_of
from trustscale_server.upscalers.remote.replies import raise_for_status

# Errors of Replicate's models when a safety checker withholds the result.
_WITHHELD = re.compile(
    r"nsfw|flagged as sensitive|safety (checker|filter)|content filter", re.IGNORECASE
)
_RUNNING = ("starting", "processing", "queued")
_POLL_INTERVAL_S = 0.5
_MAX_INLINE_BYTES = 256_000  # of an image that is sent with each call, not uploaded


class _PredictionsConfig(OneAddress):
    image_field: str = Field("image", description="The field of `input` that holds the image.")
    seed_field: str | None = Field(
        "seed",
        description='The field of `input` that holds the seed; "" if the model takes no seed.',
    )
    seed_max: PositiveInt = Field(2**31 - 1, description="The largest seed that the model takes.")
    input: dict[str, Any] = Field(
        default_factory=dict, description="Further fields of `input`, sent with each call."
    )
    output_pointer: Pointer = Field(
        "", description="The JSON pointer to the image inside `output`."
    )

    @field_validator("seed_field")
    @classmethod
    def _seeds(cls, field: str | None) -> str | None:
        return field or None


class CogConfig(_PredictionsConfig):
    """A Cog container."""

    kind: Literal["cog"] = "cog"


class ReplicateConfig(_PredictionsConfig):
    """A model, version or deployment on Replicate."""

    kind: Literal["replicate"] = "replicate"
    url: BaseUrl = "https://api.replicate.com/v1"
    token_env: EnvName | None = "REPLICATE_API_TOKEN"  # noqa: S105 - the name of a variable
    model: str = Field(
        description="The model: `owner/name`, `owner/name:version` or `deployments/owner/name`.",
        pattern=r"^(deployments/)?[\w.-]+/[\w.-]+(:[0-9a-f]{64})?$",
    )
    allowed_hosts: tuple[HostName, ...] = ("replicate.delivery",)


T = TypeVar("T", CogConfig, ReplicateConfig)


class PredictionsUpscaler(Adapter[T]):
    """What Cog and Replicate share: inputs, and the meaning of answers."""

    def _takes_seeds(self) -> bool:
        return self._config.seed_field is not None

    async def _sample(self, source: Source, seed: int, permit: MemoryPermit) -> RGB:
        config = self._config
        values = {**config.input, config.image_field: await self._image(source)}
        if config.mask_field is not None and config.mask_color is not None:
            mask = await asyncio.to_thread(mask_png, source, config.mask_color)
            values[config.mask_field] = data_uri(mask)
        if config.seed_field is not None:
            values[config.seed_field] = 1 + (seed - 1) % config.seed_max
        document = await self._predict(values, permit)
        return await self._reader.read_text(self._output(document), source, permit)

    @abstractmethod
    async def _predict(self, values: dict[str, Any], permit: MemoryPermit) -> Any:
        """The finished prediction of an input."""

    async def _image(self, source: Source) -> str:
        return await asyncio.to_thread(lambda: data_uri(source.png))

    def _succeeded(self, document: Any) -> Any:
        status = first(document, "/status")
        if status == "succeeded":
            return document
        reason = self._upstream.redact(str(first(document, "/error") or ""))[:300]
        if status in ("canceled", "aborted"):
            raise UpscalerUnavailable(f"{self.name!r} cancelled the prediction.")
        if status != "failed":
            raise ProtocolError(f"{self.name!r} answered with the status {status!r}.")
        if _WITHHELD.search(reason):
            raise Filtered(f"{self.name!r} withheld a sample: {reason}")
        raise GenerationFailed(f"The model of {self.name!r} failed: {reason}")

    def _output(self, document: Any) -> Any:
        if first(document, "/data_removed"):
            raise ProtocolError(f"{self.name!r} removed its output before it could be fetched.")
        predicted = first(document, "/output")
        output = first(predicted, self._config.output_pointer)
        if isinstance(output, list) and output:
            output = output[0]
        if not isinstance(output, str):
            document = [] if predicted is None else predicted  # the answer itself is JSON
            raise NoImage(
                self.name, self._config.output_pointer, document, setting="output_pointer"
            )
        return output


class CogUpscaler(PredictionsUpscaler[CogConfig]):
    """An upscaler behind a Cog container."""

    async def _identify(self) -> dict[str, Any]:
        reply = await self._upstream.call("GET", "/health-check")
        status = first(reply.json(), "/status")
        if status not in ("READY", "BUSY"):
            raise UpscalerUnavailable(f"{self.name!r} is not ready: it reports {status}.")
        return {}

    async def _predict(self, values: dict[str, Any], permit: MemoryPermit) -> Any:
        path = f"/predictions/{uuid.uuid4().hex}"
        try:
            reply = await self._upstream.call("PUT", path, json={"input": values}, permit=permit)
        except (asyncio.CancelledError, AnswerLost):
            self._cancel_in_background(self._cancel(f"{path}/cancel"))
            raise
        await self._parse(reply)
        return self._succeeded(reply.json())

    async def _cancel(self, path: str) -> None:
        """Cancel until the server no longer knows the prediction.

        It ignores a cancellation that comes before its worker has begun.
        """
        while (await self._upstream.request("POST", path)).ok:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.25)


class ReplicateUpscaler(PredictionsUpscaler[ReplicateConfig]):
    """An upscaler behind Replicate."""

    async def _identify(self) -> dict[str, Any]:
        config = self._config
        name, _, version = config.model.partition(":")
        path = f"/{name}" if name.startswith("deployments/") else f"/models/{name}"
        if version:
            path += f"/versions/{version}"
        reply = await self._upstream.call("GET", path)
        document = reply.json()
        if version:
            return {"version": version}
        if name.startswith("deployments/"):
            release = [first(document, f"/current_release/{k}") for k in ("model", "version")]
            return {"release": release}
        latest = first(document, "/latest_version/id")
        official = bool(first(document, "/is_official"))
        return {"latest": latest, "official": official}

    async def _predict(self, values: dict[str, Any], permit: MemoryPermit) -> Any:
        if self._identified is None:
            await self.probe()
        document = await self._started(self._created(values), self._cancelled)
        try:
            # A prediction may say "processing" beside its output.
            while first(document, "/status") in _RUNNING:
                url = self._place(first(document, "/urls/get"))
                reply = await self._ask(url, _POLL_INTERVAL_S, permit)
                raise_for_status(reply, self.name)
                document = reply.json()
        except (asyncio.CancelledError, UpscalerError):
            self._cancel_in_background(self._cancelled(document))
            raise
        return self._succeeded(document)

    async def _created(self, values: dict[str, Any]) -> Any:
        """A new prediction, requested once; if the answer is lost, it is searched for."""
        # When the server ends abandoned work; it takes five seconds to a day.
        cancel_after_s = int(min(max(5, self._config.call_timeout_s), 24 * 3600))
        headers = {"Cancel-After": f"{cancel_after_s}s"}
        path, body = self._endpoint()
        request = {**body, "input": values}
        try:
            reply = await self._upstream.call("POST", path, json=request, headers=headers)
        except AnswerLost:
            lost = await self._lost_prediction(request)
            if lost is None:
                raise
            return lost
        return reply.json()

    async def _lost_prediction(self, request: dict[str, Any]) -> Any:
        """One of the account's newest predictions that has this version and input.

        An equal prediction of another call is as good. The search lasts as long as the call.
        """
        while self._takes_seeds():
            with suppress(UpscalerUnavailable):
                reply = await self._ask("/predictions", _POLL_INTERVAL_S, None)
                raise_for_status(reply, self.name)
                return next(
                    (
                        prediction
                        for prediction in find_all(reply.json(), "/results/*")
                        if isinstance(prediction, dict)
                        and {**prediction, **request} == prediction
                        and prediction.get("status") in (*_RUNNING, "succeeded")
                    ),
                    None,
                )
        return None

    async def _cancelled(self, document: Any) -> None:
        cancel = first(document, "/urls/cancel")
        if isinstance(cancel, str):
            await self._upstream.request("POST", cancel)

    def _endpoint(self) -> tuple[str, dict[str, Any]]:
        """Where to create a prediction: the version that the fingerprint names."""
        name, _, version = self._config.model.partition(":")
        learned = self._identified or {}
        version = version or ("" if learned.get("official") else learned.get("latest") or "")
        if version:
            return "/predictions", {"version": version}
        prefix = "" if name.startswith("deployments/") else "/models"
        return f"{prefix}/{name}/predictions", {}

    async def _image(self, source: Source) -> str:
        if len(await png_of(source)) <= _MAX_INLINE_BYTES:
            return await super()._image(source)
        return await self._uploaded(source, "/files", "content", "/urls/get")
