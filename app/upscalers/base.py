"""The protocol that local and remote upscalers share."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, Protocol

import numpy as np

from app.conformal.lab import Pixels, check_rgb, deep, shallow
from app.conformal.moments import Spread
from app.errors import NotFound
from app.images.encode import png_rgb
from app.images.facts import Facts

RGB = Pixels
"""[h, w, 3], C-contiguous: sRGB of 8 bits, or data of 16 bits in units of their stretch."""

AUTO: Final = "auto"
"""Reserved name: the class of an upload chooses the upscaler."""


def image_digest(rgb: RGB) -> str:
    """SHA-256, hexadecimal, of the size and pixels of an image."""
    digest = hashlib.sha256(f"{rgb.shape[0]}x{rgb.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


class Source:
    """The decoded low-resolution input of one request, shared by its M generation calls.

    It hashes by identity, so it can be a key of uploads. `facts` are known besides the pixels, for
    a score that looks at them.
    """

    def __init__(self, rgb: RGB, facts: Facts | None = None) -> None:
        check_rgb(rgb)
        self.rgb = np.ascontiguousarray(rgb)
        self.facts = facts

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @cached_property
    def png(self) -> bytes:
        """The image as a PNG file of 8 bits."""
        return png_rgb(self.shallow.rgb)

    @property
    def is_deep(self) -> bool:
        return self.rgb.dtype == np.uint16

    @cached_property
    def shallow(self) -> Source:
        return Source(shallow(self.rgb), self.facts) if self.is_deep else self

    @cached_property
    def _has_one_channel(self) -> bool:
        return all(np.array_equal(self.rgb[..., 0], self.rgb[..., k]) for k in (1, 2))

    def like(self, answer: RGB) -> RGB:
        """An answer to an image of 16 bits as deep, and with one channel if the image has one."""
        if not self.is_deep:
            return answer
        found = deep(answer)
        if self._has_one_channel:
            mean = (found.sum(axis=2, dtype=np.uint32) + 1) // 3
            found = np.repeat(mean.astype(np.uint16)[..., np.newaxis], 3, axis=2)
        return found

    @cached_property
    def digest(self) -> str:
        return image_digest(self.rgb)

    @property
    def is_flat(self) -> bool:
        return bool((self.rgb == self.rgb[0, 0]).all())


@dataclass(slots=True)
class MomentsRequest:
    """A request for the moments of all samples, if the upscaler can accumulate them.

    mean: whether Ŷ is the mean of the samples, or else the first.
    answer: set by an upscaler that accumulates; it returns no samples.
    """

    mean: bool = False
    answer: Spread | None = None


class Turn:
    """One call's claim on the memory of its request, and its limits.

    Decoded samples are large (48 MiB for 4096 × 4096), so the M calls of a request share a lock: a
    call holds it from decoding its answer until its samples are accumulated.

    Args:
        deadline: of the request, on the running loop's clock.
        patience_s: how long a call waits for an upscaler that is away.
        moments: None: samples are wanted.
        on_part: called in the loop, with the number of parts, after each part of the call.

    Attributes:
        most_bytes: limit of an answer that holds samples; None: the configured one.
    """

    def __init__(
        self,
        shared: asyncio.Lock | None = None,
        *,
        deadline: float | None = None,
        patience_s: float = 0.0,
        moments: MomentsRequest | None = None,
        on_part: Callable[[int], None] | None = None,
    ) -> None:
        self.moments = moments
        self.most_bytes: int | None = None
        self.patience_s = patience_s
        self._on_part = on_part
        self._deadline = deadline
        self._shared = shared or asyncio.Lock()
        self._claim = asyncio.Lock()
        self._held = False
        self._clock: asyncio.Timeout | None = None

    def remaining_s(self) -> float:
        """Seconds until the deadline; may be infinite."""
        if self._deadline is None:
            return math.inf
        return self._deadline - asyncio.get_running_loop().time()

    def counted(self, parts: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
        """The parts of a call, to be run in threads, each with its report to `on_part`."""
        on_part = self._on_part
        if on_part is None:
            return list(parts)
        loop = asyncio.get_running_loop()

        def reporting(part: Callable[[], None]) -> None:
            part()
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(on_part, len(parts))

        return [partial(reporting, part) for part in parts]

    async def take(self) -> None:
        """Wait for the turn, unless this call has it."""
        async with self._claim:  # parts of a call share it
            if self._held:
                return
            with self._clock_stopped():
                await self._shared.acquire()
                self._held = True

    def give_back(self) -> None:
        """Let the next call in, if this call has the turn."""
        if self._held:
            self._held = False
            self._shared.release()

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes longer, not counting its wait for the turn.

        Counted, that wait would end calls that have their answer, which would be paid for again.
        """
        async with asyncio.timeout(seconds) as clock:
            self._clock = clock
            try:
                yield
            finally:
                self._clock = None

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        clock = self._clock
        end = None if clock is None or clock.expired() else clock.when()
        if clock is None or end is None:
            yield
            return
        loop = asyncio.get_running_loop()
        left = end - loop.time()
        clock.reschedule(None)
        try:
            yield
        finally:
            if self._clock is clock:
                clock.reschedule(loop.time() + left)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an upscaler can do.

    seeds: the same seed gives the same bytes.
    samples_per_call: the most seeds of one `generate` call.
    concurrency: calls in flight, over all requests of this process.
    max_samples: the number of distinct samples; None: no limit.
    max_input_pixels: the largest h·w.
    lossless: samples arrive without lossy compression.
    by_tiles: it runs in this process, so the time of one tile predicts that of all.
    accumulates: it may answer a call with the moments of its samples, see `MomentsRequest`.
    deep: it takes images of 16 bits and answers in 16 bits; else it is given 8.
    """

    seeds: bool = True
    samples_per_call: int = 1
    concurrency: int = 1
    max_samples: int | None = None
    max_input_pixels: int | None = None
    lossless: bool = True
    by_tiles: bool = False
    accumulates: bool = False
    deep: bool = False


class Upscaler(Protocol):
    """An opaque image-to-image model μ.

    `fingerprint` identifies what produces the samples: adapter, model, version or weight hash, and
    every parameter that changes the output. Remote upscalers learn `scale` and `fingerprint` in
    `check`; before it the properties raise `UpscalerUnavailable`.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: Turn | None = None
    ) -> list[RGB]:
        """One sample per seed, in order, each [k·h, k·w, 3] and as deep as the source.

        The call takes `turn` before it decodes samples, and the caller gives it back. Cancelling
        the call abandons or cancels the work.

        Raises:
            UpscalerUnavailable: unreachable or busy; the same call may succeed later.
            UpscalerRejected: this input can never succeed.
            UpscalerFailed: an answer that is not a sample.
        """
        ...

    async def check(self) -> None:
        """Learn scale and fingerprint; raise UpscalerUnavailable unless it can serve."""
        ...

    async def close(self) -> None: ...


class Witness(Protocol):
    """Another network's answer to the same input, which samples are compared with."""

    def fingerprint(self, scale: int) -> str:
        """Identity of what answers at this scale."""
        ...

    async def answer(self, source: Source, scale: int) -> RGB:
        """[scale·h, scale·w, 3]; the same input always has the same answer."""
        ...


def witness_of(upscaler: Upscaler) -> Witness | None:
    """The witness of an upscaler; None: it has none, or would be its own."""
    witness: Witness | None = getattr(upscaler, "witness", None)
    if witness is None or witness.fingerprint(upscaler.scale) == upscaler.fingerprint:
        return None
    return witness


def fingerprint_of(facts: object) -> str:
    """SHA-256 over all facts that distinguish what produces samples, as JSON."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def settings_of(upscaler: Upscaler) -> dict[str, str]:
    """A digest of each fact that the fingerprint covers; empty if the upscaler reports none.

    Calibrations keep them, so that an error can name the changed setting without its value, which
    may be private.
    """
    facts: Mapping[str, object] = getattr(upscaler, "facts", {})
    return _digests(facts)


def _digests(facts: Mapping[str, object], above: str = "") -> dict[str, str]:
    """Digests by name; facts inside tables have dotted names."""
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            found |= _digests(value, f"{above}{name}.")
        else:
            text = json.dumps(value, sort_keys=True, default=str)
            found[above + name] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return found


def named(upscalers: Mapping[str, Upscaler], name: str | None, default: str) -> Upscaler:
    """The upscaler of this name, or without one the default. Raises NotFound."""
    wanted = name or default
    if wanted not in upscalers:
        raise NotFound(f"No upscaler is called {wanted!r}; there are: {', '.join(upscalers)}.")
    return upscalers[wanted]
