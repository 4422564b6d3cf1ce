"""An upscaler behind any HTTP API that `description.py` can describe.

One call is a request, then, for APIs with a queue, polls and a fetch, then the image from the body
or from JSON. Filtered and failed generations may come with status 200.
"""

from __future__ import annotations

import asyncio
from typing import Any

from trustscale_server.platform.errors import (
    ProtocolError,
    UpscalerError,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.failures import Filtered, GenerationFailed, NoImage, QuotaSpent
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.pointers import find_all, first
from trustscale_server.upscalers.remote.adapter import Adapter, data_uri, mask_png, png_of
from trustscale_server.upscalers.remote.description import Condition, HttpConfig, Poll, Request
from trustscale_server.upscalers.remote.placeholders import fill, fill_path
from trustscale_server.upscalers.remote.replies import Reply, explanation, failure, seconds_of


class HttpUpscaler(Adapter[HttpConfig]):
    """An upscaler behind a described HTTP API."""

    def _takes_seeds(self) -> bool:
        return self._config.seed is not None

    async def _identify(self) -> dict[str, Any]:
        if self._config.health_path is not None:
            reply = await self._upstream.request("GET", self._config.health_path)
            if not reply.ok:
                raise self._failure(reply)
        return {}

    async def _sample(self, source: Source, seed: int, permit: MemoryPermit) -> RGB:
        reply = await self._call(source, seed, permit)
        if self._config.answer.image == "body":
            return await self._reader.read(reply.body, source, permit)
        where = self._config.answer.pointer
        images = (image for image in find_all(reply.document, where) if isinstance(image, str))
        image = next(images, None)
        if image is None:
            reason = explanation(reply, self._config.answer.error_text)
            raise NoImage(self.name, where, reply.document, reason)
        return await self._reader.read_text(image, source, permit)

    async def _call(self, source: Source, seed: int, permit: MemoryPermit) -> Reply:
        request, config = self._config.request, self._config
        values = await asyncio.to_thread(self._values, source, seed)
        arguments = await self._body(source, values)
        if request.query:
            arguments["params"] = _texts(request.query, values)
        path = fill_path(request.path, values)
        if config.poll is None:
            reply = await self._upstream.request(request.method, path, permit=permit, **arguments)
            await self._parse(reply)
            self._raise_for(reply)
            return reply
        submitted = await self._started(
            self._upstream.request(request.method, path, **arguments), self._cancelled
        )
        self._raise_for(submitted)
        return await self._polled(config.poll, submitted, permit)

    async def _body(self, source: Source, values: dict[str, Any]) -> dict[str, Any]:
        """The body of the request, as arguments of httpx."""
        request, config = self._config.request, self._config
        if request.form == "json":
            return {"json": fill(request.body, values)}
        png = await png_of(source)
        if request.form == "raw":
            return {"content": png, "headers": {"Content-Type": "image/png"}}
        files = {request.image_field: ("image.png", png, "image/png")}
        if config.mask_field is not None and config.mask_color is not None:
            mask = await asyncio.to_thread(mask_png, source, config.mask_color)
            files[config.mask_field] = ("mask.png", mask, "image/png")
        return {"data": _texts(request.fields, values), "files": files}

    def _values(self, source: Source, seed: int) -> dict[str, Any]:
        """The values of the placeholders; only images that are used are encoded."""
        config, k = self._config, self._config.scale
        values: dict[str, Any] = {
            **config.parameters,
            "scale": k, "width": source.width, "height": source.height,
            "out_width": k * source.width, "out_height": k * source.height,
        }  # fmt: skip
        if config.seed is not None:
            values["seed"] = config.seed.map(seed)
        placeholders = config.request.placeholders
        if placeholders & {"image_b64", "image_data_uri"}:
            uri = data_uri(source.png)
            values |= {"image_data_uri": uri, "image_b64": uri.partition(",")[2]}
        if config.mask_color is not None and placeholders & Request.OF_MASK:
            uri = data_uri(mask_png(source, config.mask_color))
            values |= {"mask_data_uri": uri, "mask_b64": uri.partition(",")[2]}
        return values

    async def _polled(self, poll: Poll, submitted: Reply, permit: MemoryPermit) -> Reply:
        """Poll until the generation is done; cancel it when the caller leaves."""
        document = submitted.json()
        status_url = self._link(document, poll.url_pointer, poll.path, poll.id_pointer)
        try:
            while True:
                reply = await self._ask(status_url, poll.interval_s, permit)
                if not reply.ok:
                    raise self._failure(reply)
                failed = any(_holds(condition, reply) for condition in poll.failed)
                if failed or all(_holds(condition, reply) for condition in poll.done):
                    break
        except (asyncio.CancelledError, UpscalerError):
            self._cancel_in_background(self._cancelled(submitted))
            raise
        if failed:
            raise GenerationFailed(f"{self.name!r} failed: {self._reason(reply)}")
        if poll.result_url_pointer is not None:
            url = self._link(document, poll.result_url_pointer, None, "")
            reply = await self._upstream.request("GET", url, permit=permit)
        await self._parse(reply)
        self._raise_for(reply)
        return reply

    async def _cancelled(self, submitted: Reply) -> None:
        """Cancel what was submitted, if the settings say how. Raises UpscalerError."""
        cancel, poll = self._config.cancel, self._config.poll
        if cancel is not None and poll is not None:
            document = submitted.document
            url = self._link(document, cancel.url_pointer, cancel.path, poll.id_pointer)
            await self._upstream.request(cancel.method, url)

    def _link(
        self, document: Any, url_pointer: str | None, path: str | None, id_pointer: str
    ) -> str:
        if url_pointer is not None:
            url = first(document, url_pointer)
            if isinstance(url, str) and url:
                return self._upstream.url(url)
        elif path is not None:
            identifier = first(document, id_pointer)
            if isinstance(identifier, str | int) and str(identifier) not in {"", ".", ".."}:
                return fill_path(path, {"id": identifier})
        raise ProtocolError(f"{self.name!r} did not say where to ask for the result.")

    def _raise_for(self, reply: Reply) -> None:
        answer = self._config.answer
        for conditions, kind, meaning in (
            (answer.quota, QuotaSpent, "has no credit left"),
            (answer.rejected, UpscalerRejected, "refuses this input"),
            (answer.filtered, Filtered, "withheld a sample"),
        ):
            if any(_holds(condition, reply) for condition in conditions):
                raise kind(f"{self.name!r} {meaning}: {self._reason(reply)}")
        if not reply.ok:
            raise self._failure(reply)
        if any(_holds(condition, reply) for condition in answer.failed) or not all(
            _holds(condition, reply) for condition in answer.success
        ):
            raise GenerationFailed(f"{self.name!r} failed: {self._reason(reply)}")

    def _failure(self, reply: Reply) -> UpscalerError:
        answer = self._config.answer
        error = failure(
            reply, self.name, error_text=answer.error_text, wait_429=answer.rate_limit_wait_s
        )
        # Hugging Face: how long the model takes to load.
        seconds = seconds_of(first(reply.document, "/estimated_time"))
        if isinstance(error, UpscalerUnavailable) and seconds is not None:
            error.retry_after = min(seconds, 60.0)
        return error

    def _reason(self, reply: Reply) -> str:
        reason = explanation(reply, self._config.answer.error_text)
        return reason or f"no explanation, status {reply.status}"


def _holds(condition: Condition, reply: Reply) -> bool:
    if condition.status is not None:
        return reply.status in condition.status
    if condition.header is not None:
        value: Any = reply.headers.get(condition.header.lower())
    else:
        assert condition.pointer is not None  # noqa: S101 - one of the three is given
        value = first(reply.document, condition.pointer)
    if condition.is_in is None:
        return bool(value)
    return value in condition.is_in


def _texts(fields: dict[str, Any], values: dict[str, Any]) -> dict[str, str]:
    """Fields of a form or query, with booleans as JSON spells them."""
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in fill(fields, values).items()
    }
