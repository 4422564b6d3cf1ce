"""What all remote adapters share: identity, uploads, polls, cancellations."""

from __future__ import annotations

import abc
import asyncio
import base64
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from trustscale_server.images.encoding.png import to_png
from trustscale_server.kinds.holes import holes_of
from trustscale_server.platform.errors import (
    ProtocolError,
    UpscalerError,
    UpscalerFailed,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.base import RGB, Capabilities, Source, fingerprint_of
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.pointers import first
from trustscale_server.upscalers.remote.replies import Reply, retry_after
from trustscale_server.upscalers.remote.sample_reader import SampleReader
from trustscale_server.upscalers.remote.upstream import SMALL_ANSWER, Upstream

T = TypeVar("T", bound=OneAddress)
V = TypeVar("V")


class Adapter(abc.ABC, Generic[T]):
    """An upscaler that makes one sample per call, unless a subclass says more.

    The fingerprint covers the adapter, the address (or `fingerprint_alias`), every setting that
    reaches the model, and the version that `_identify` found.
    """

    # Base64 of a PNG of noise, with 16 bits and alpha.
    _bytes_per_pixel = 11

    def __init__(self, config: T, upstream: Upstream) -> None:
        self.name, self.kind, self.scale = config.name, config.kind, config.scale
        self._config = config
        self._upstream = upstream
        self._reader = SampleReader(config, upstream)
        self._identified: dict[str, Any] | None = None
        self._uploads: weakref.WeakKeyDictionary[Source, asyncio.Task[str]] = (
            weakref.WeakKeyDictionary()
        )
        self._cancellations: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self._identity())

    @property
    def settings(self) -> dict[str, Any]:
        """What the fingerprint covers, under the names of the settings."""
        identity = self._identity()
        return {"url": identity["model"], **identity["settings"], "version": identity["learned"]}

    def _identity(self) -> dict[str, Any]:
        if self._identified is None:
            raise UpscalerUnavailable(f"{self.name!r} has not been reached yet.")
        settings = {
            key: value
            for key, value in self._config.model_dump(mode="json").items()
            if key not in self._config.HOW_TO_CALL
        }
        where = self._config.fingerprint_alias or [self._upstream.base]
        return {"model": where, "settings": settings, "learned": self._identified}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            seeds=self._takes_seeds(),
            concurrency=self._config.concurrency,
            max_input_pixels=self._config.max_input_pixels,
            lossless=not self._reader.lossy,
            align_colours=self._config.align_colours,
        )

    async def generate(
        self, source: Source, seeds: Sequence[int], permit: MemoryPermit | None = None
    ) -> list[RGB]:
        source.raise_if_larger(self._config.max_input_pixels, self.name)
        permit = permit or MemoryPermit()
        pixels = self._reader.max_pixels(source)
        permit.max_answer_bytes = SMALL_ANSWER + len(seeds) * pixels * self._bytes_per_pixel
        try:
            return [await self._sample(source, seed, permit) for seed in seeds]
        except UpscalerError as error:
            if isinstance(error, UpscalerFailed):
                # A restarted server may have lost the upload.
                self._uploads.pop(source, None)
            self._upstream.redact_error(error)
            raise

    async def probe(self) -> None:
        try:
            self._identified = await self._identify()
        except UpscalerUnavailable as error:
            self._upstream.redact_error(error)
            raise
        except UpscalerError as error:
            raise UpscalerUnavailable(self._upstream.redact(error.detail)) from error

    async def close(self) -> None:
        """Finish pending cancellations, then close the connections."""
        if self._cancellations:
            limit = self._upstream.network.cancel_timeout_s
            _, late = await asyncio.wait(self._cancellations, timeout=limit)
            for task in late:
                task.cancel()
        self._is_closed = True
        self._reader.close()
        await self._upstream.close()

    @abc.abstractmethod
    async def _identify(self) -> dict[str, Any]:
        """Reach the server; return what identifies the model, as far as known."""

    @abc.abstractmethod
    def _takes_seeds(self) -> bool: ...

    @abc.abstractmethod
    async def _sample(self, source: Source, seed: int, permit: MemoryPermit) -> RGB: ...

    async def _uploaded(self, source: Source, path: str, field: str, pointer: str) -> str:
        """Where the input is on the server; uploaded once for all calls, unless that failed.

        It is posted to `path` as a form's `field`; `pointer` is where the answer names the place.
        """
        task = self._uploads.get(source)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._uploads[source] = asyncio.create_task(
                self._upload(source, path, field, pointer)
            )
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        # A cancelled call must not cancel the others' upload.
        return await asyncio.shield(task)

    async def _upload(self, source: Source, path: str, field: str, pointer: str) -> str:
        files = {field: ("image.png", await png_of(source), "image/png")}
        reply = await self._upstream.call("POST", path, files=files)
        return self._place(first(reply.json(), pointer))

    def _place(self, value: object) -> str:
        """A URL, path or id from an answer, if it is one. Raises ProtocolError."""
        if isinstance(value, str) and value:
            return value
        raise ProtocolError(f"{self.name!r} did not say where the next step is.")

    async def _ask(self, url: str, interval: float, permit: MemoryPermit | None) -> Reply:
        """Poll once, after the interval.

        A failed poll is repeated: polling is free, the work is not.
        """
        for _ in range(3):
            await asyncio.sleep(interval)
            try:
                reply = await self._upstream.request("GET", url, permit=permit)
            except UpscalerUnavailable:
                continue
            if reply.status != 429 and reply.status < 500:
                break
            interval = max(interval, retry_after(reply.headers) or 0.0)
        else:
            reply = await self._upstream.request("GET", url, permit=permit)
        await self._parse(reply)
        return reply

    async def _parse(self, reply: Reply) -> None:
        """Parse a large JSON answer outside the event loop; the reply keeps the result."""
        if len(reply.body) > 2**20:
            await self._reader.in_thread(lambda: reply.document)

    async def _started(
        self, request: Coroutine[Any, Any, V], cancel: Callable[[V], Coroutine[Any, Any, object]]
    ) -> V:
        """The answer to a request that begins work at the server.

        Only the answer names what can be cancelled: if the caller is cancelled first, a background
        task waits for the answer.
        """
        started = asyncio.create_task(request)
        started.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:

            async def undo() -> None:
                await cancel(await started)

            self._cancel_in_background(undo())
            raise

    def _cancel_in_background(self, request: Coroutine[Any, Any, object]) -> None:
        """Cancel remote work without delaying the caller; failures are ignored."""
        if self._is_closed:
            request.close()
            return

        async def quietly() -> None:
            with suppress(UpscalerError, TimeoutError):
                async with asyncio.timeout(self._upstream.network.cancel_timeout_s):
                    await request

        task = asyncio.create_task(quietly())
        self._cancellations.add(task)
        task.add_done_callback(self._cancellations.discard)


def mask_png(source: Source, color: str) -> bytes:
    """Return the holes of an input as a PNG, white where pixels have this colour."""
    return to_png(holes_of(source.rgb, color))


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


async def png_of(source: Source) -> bytes:
    """Encode an input as a PNG, in a thread."""
    return await asyncio.to_thread(lambda: source.png)
