"""One call of an upscaler that is being connected, which may cost money.

It goes through the adapter that would serve, and corrects what only an answer shows: the scale,
where the picture is. Answers are recorded and replayed to the corrected entry, so the call is paid
for once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx

from trustscale_server.pixels.align import Agreement
from trustscale_server.platform.errors import (
    BadRequest,
    ConfigError,
    ProtocolError,
    UpscalerError,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.connect.corrections import corrected
from trustscale_server.upscalers.connect.polling import narrowed
from trustscale_server.upscalers.connect.request import (
    REPORT_SCALE,
    ConnectRequest,
    guarded,
    upscaler_config_of,
)
from trustscale_server.upscalers.entries import Entry
from trustscale_server.upscalers.outbound.guard import NetworkAccess
from trustscale_server.upscalers.pattern import pattern
from trustscale_server.upscalers.registry import build_bare

_MAX_BYTES: Final = 64 * 2**20  # of a recorded answer
_MAX_TRIES: Final = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """What one call has shown, and the complete entry."""

    entry: Entry
    notes: list[str]
    scale: int
    seconds: float
    lossless: bool


async def attempt(entry: Entry, request: ConnectRequest, polls: Sequence[str] = ()) -> Trial:
    """Call once with a small picture.

    polls: paths with `{id}` where an API with a queue may have the picture.

    Raises:
        BadRequest: a setting is wrong.
        UpscalerError: the answer is no sample.
    """
    source, began = Source(pattern()), time.perf_counter()
    seconds, hint = 0.0, ""
    async with guarded(request) as transport:
        tape = _Tape(transport)
        network = replace(request.network, transport=tape)
        candidates, notes = [entry], list[str]()
        deadline = asyncio.get_running_loop().time() + 300
        for _ in range(_MAX_TRIES):
            candidate = candidates.pop(0)
            tape.rewind()
            try:
                async with asyncio.timeout_at(deadline):
                    trial = await _called(candidate, request.environ, network, source)
            except TimeoutError as error:
                raise UpscalerUnavailable("The call was not answered in time.") from error
            except UpscalerError as error:
                failure = error
                seconds = seconds or time.perf_counter() - began
                correction = corrected(candidate, error, source, polls)
                candidates = [*correction.entries, *candidates]
                notes += [correction.note] if correction.note else []
                hint = hint or correction.hint
                if not candidates:
                    break
                if candidates[0].get("poll") != candidate.get("poll"):
                    tape.forget_reads()
            else:
                return replace(
                    trial,
                    entry=narrowed(trial.entry, tape.documents()),
                    notes=[*notes, *trial.notes],
                    seconds=seconds or trial.seconds,
                )
    if hint:
        raise ProtocolError(hint) from failure
    raise failure


async def _called(
    entry: Entry, environ: Mapping[str, str], network: NetworkAccess, source: Source
) -> Trial:
    """Call the upscaler of an entry once."""
    try:
        upscaler = build_bare(upscaler_config_of(entry), environ, network=network)
    except ConfigError as error:
        raise BadRequest(error.detail) from error
    began = time.perf_counter()
    try:
        await upscaler.probe()
        (sample,) = await upscaler.generate(source, [1])
        seconds, lossless = time.perf_counter() - began, upscaler.capabilities.lossless
    finally:
        await upscaler.close()
    notes, scale = [], sample.shape[0] // source.height
    if not lossless:
        notes.append("Its pictures come in a lossy format, whose noise adds to σ.")
    if scale > 1:
        colours = await asyncio.to_thread(Agreement.from_pictures, sample, source.rgb)
        notes.append(f"Colours: {colours}.")
    if entry["kind"] not in REPORT_SCALE:
        entry = {**entry, "scale": scale}
    return Trial(entry, notes, scale, seconds, lossless)


class _Tape(httpx.AsyncBaseTransport):
    """Records answers, and replays them from the beginning after `rewind`."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._recorded: list[tuple[str, str, httpx.Response]] = []  # server, address, answer
        self._place = 0  # of the next answer

    def rewind(self) -> None:
        self._place = 0

    def forget_reads(self) -> None:
        """Ask again for what was read after the call, which is free, since it may have changed."""
        while self._recorded and self._recorded[-1][0].startswith("GET "):
            self._recorded.pop()

    def documents(self) -> list[Any]:
        """Return what was recorded and is JSON."""
        documents = []
        for _, _, response in self._recorded:
            with suppress(ValueError):
                documents.append(response.json())
        return documents

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # The path may hold an id of this call.
        key, url = f"{request.method} {request.url.netloc!r}", str(request.url)
        if self._place < len(self._recorded) and self._recorded[self._place][0] == key:
            response = self._recorded[self._place][2]
        else:
            del self._recorded[self._place :]
            response = await self._received(request)
            # Of a polled prediction the last answer counts.
            if self._recorded and request.method == "GET" and self._recorded[-1][1] == url:
                self._recorded.pop()
                self._place -= 1
            self._recorded.append((key, url, response))
        self._place += 1
        return httpx.Response(
            response.status_code, headers=_plain(response.headers), content=response.content
        )

    async def _received(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise ProtocolError("It compressed its answer although asked not to.")
        body = bytearray()
        try:
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ProtocolError(f"It sent more than {_MAX_BYTES:,} bytes.")
        finally:
            await answer.aclose()
        return httpx.Response(
            answer.status_code, headers=_plain(answer.headers), content=bytes(body)
        )


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "transfer-encoding"}
