"""Draw the M samples of one request from an upscaler.

Exactly M samples or an error: a calibration is valid for one M. Every sample goes to a sink as it
arrives, and the next call may decode its answer only then (`MemoryPermit`), so memory does not grow
with M.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from trustscale_server.pixels.align import aligned
from trustscale_server.platform.errors import (
    TimedOut,
    UpscalerError,
    UpscalerFailed,
    UpscalerRejected,
)
from trustscale_server.platform.tasks import shielded, side_by_side
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.align import softness_for
from trustscale_server.upscalers.base import RGB, Capabilities, Source, Upscaler
from trustscale_server.upscalers.failures import replaceable
from trustscale_server.upscalers.permit import MemoryPermit

_CALL_BYTES = 128 * 2**20
"""Of the decoded samples of one call: ten of 2048 × 2048, two of 4096 × 4096."""


class SampleSink:
    """Receives the samples of one request; by default they are dropped."""

    def on_sample(self, index: int, sample: RGB) -> None:
        """Take a sample, in a thread, one at a time and in order of *arrival*."""

    def on_progress(self, done: int, total: int, unit: str) -> None:
        """Note, in the event loop, how many samples, or tiles of samples, are there."""

    def on_tile(self, sample: RGB, rows: slice, columns: slice) -> None:
        """Look, in a thread, at a tile of the first sample as the model made it.

        The rest of the sample may not be there yet; nothing of it may be kept.
        """


class CollectingSink(SampleSink):
    """Keeps the samples by their index, and passes the progress on."""

    def __init__(self, progress: SampleSink | None = None) -> None:
        self.samples: dict[int, RGB] = {}
        self._progress = progress or SampleSink()

    def on_sample(self, index: int, sample: RGB) -> None:
        self.samples[index] = sample

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self._progress.on_progress(done, total, unit)

    def on_tile(self, sample: RGB, rows: slice, columns: slice) -> None:
        self._progress.on_tile(sample, rows, columns)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long samples may take.

    deadline: of all of them, on the running loop's clock; None: no limit.
    patience_s: how long a call waits for an unavailable upscaler.
    """

    deadline: float | None = None
    patience_s: float = 0.0

    @classmethod
    def within(cls, seconds: float | None) -> TimeLimits:
        """Set the deadline to `seconds` from now; None: no limit."""
        now = asyncio.get_running_loop().time()
        return cls(None if seconds is None else now + seconds)


NO_LIMITS: Final = TimeLimits()


@dataclass(slots=True)
class _Draw:
    upscaler: Upscaler
    source: Source
    seeds: list[int]
    spares: deque[int]
    sink: SampleSink
    calls: deque[list[int]]
    limits: TimeLimits
    align: bool
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    came: int = 0
    tiles: int = 1  # of a sample, as far as known
    done: dict[int, int] = field(default_factory=dict)  # tiles by the first index of a call


async def draw(
    upscaler: Upscaler,
    source: Source,
    seeds: Sequence[int],
    *,
    sink: SampleSink,
    spare_seeds: Sequence[int] = (),
    limits: TimeLimits = NO_LIMITS,
    align: bool = False,
) -> list[int]:
    """Draw one sample per seed and hand each to the sink.

    Args:
        upscaler: μ; its capabilities say how the seeds are split into calls.
        source: X.
        seeds: distinct, one per index.
        sink: gets the samples, and is never called after this function has ended.
        spare_seeds: replace, in this order, seeds whose generation failed for good.
        limits: how long it may take.
        align: whether samples get the colours of X.

    Returns:
        The seed behind each sample; differs from `seeds` where a spare seed was used.

    Raises:
        UpscalerFailed: a sample failed and no spare seed helped, or is not [k·h, k·w, 3];
            `members`: how many `came` of those `needed`.
        UpscalerRejected: the upscaler refuses this input.
        UpscalerUnavailable: no answer; TimedOut: the deadline passed.
        ValueError: no seed, or the same seed twice.
    """
    if not seeds or len({*seeds, *spare_seeds}) < len(seeds) + len(spare_seeds):
        raise ValueError("the seeds must be distinct, and at least one is needed")
    calls = _plan(upscaler, source, len(seeds))
    runners = min(len(calls), max(1, upscaler.capabilities.concurrency))
    state = _Draw(upscaler, source, list(seeds), deque(spare_seeds), sink, calls, limits, align)
    try:
        async with asyncio.timeout_at(limits.deadline) as scope:
            await side_by_side(_make_calls(state) for _ in range(runners))
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise TimedOut(
            f"The deadline passed when {state.came} of {len(seeds)} samples of "
            f"{upscaler.name!r} had come.",
            came=state.came,
            needed=len(seeds),
        ) from error
    except UpscalerError as error:
        _count(error, state)
        raise
    finally:
        del scope  # it holds the task, which holds its error and so this frame
    return state.seeds


def largest_call(capabilities: Capabilities, sample_bytes: int) -> int:
    """Return how many samples of this many bytes one call may bring, at least one."""
    return min(capabilities.samples_per_call, max(1, _CALL_BYTES // sample_bytes))


def _plan(upscaler: Upscaler, source: Source, count: int) -> deque[list[int]]:
    """The sample indices of each call: few calls of nearly equal size, at least one a machine."""
    sample_bytes = 3 * source.height * source.width * upscaler.scale**2
    capabilities = upscaler.capabilities
    calls = math.ceil(count / largest_call(capabilities, sample_bytes))
    each_call = np.array_split(np.arange(count), max(calls, min(count, capabilities.machines)))
    return deque([int(index) for index in indices] for indices in each_call)


async def _make_calls(state: _Draw) -> None:
    while state.calls:
        indices = state.calls.popleft()
        permit = MemoryPermit(
            state.turns,
            deadline=state.limits.deadline,
            patience_s=state.limits.patience_s,
            on_part=partial(_part_done, state, indices),
            on_tile=partial(_tile_done, state) if indices[0] == 0 else None,
        )
        state.done[indices[0]] = 0
        try:
            samples = await _call(state, indices, permit)
            await permit.take()
            for index in indices[: len(samples)]:
                sample = samples.pop(0)  # an accumulated sample is let go
                _check_shape(state, sample)
                await shielded(_hand_over, state, index, sample)
                _came(state, indices)
                del sample
        finally:
            permit.give_back()
            state.done.pop(indices[0], None)


def _given(state: _Draw) -> Source:
    """The image as deep as the upscaler takes it."""
    return state.source if state.upscaler.capabilities.takes_16_bit else state.source.as_8_bit


def _hand_over(state: _Draw, index: int, sample: RGB) -> None:
    source = state.source
    sample = source.like(sample)
    if state.align:
        sample = aligned(sample, source.rgb, softness_for(source.features))
    state.sink.on_sample(index, sample)


def _part_done(state: _Draw, indices: Sequence[int], tiles: int) -> None:
    if indices[0] in state.done:  # else the call has ended early
        state.tiles = tiles // len(indices)
        state.done[indices[0]] += 1
        if state.tiles > 1:
            _report(state)


def _tile_done(state: _Draw, sample: RGB, rows: slice, columns: slice) -> None:
    if 0 in state.done:
        state.sink.on_tile(sample, rows, columns)


def _came(state: _Draw, indices: Sequence[int]) -> None:
    state.came += 1
    state.done[indices[0]] = max(0, state.done[indices[0]] - state.tiles)
    _report(state)


def _report(state: _Draw) -> None:
    done = state.came * state.tiles + sum(state.done.values())
    unit = "samples" if state.tiles == 1 else "tiles"
    state.sink.on_progress(done, len(state.seeds) * state.tiles, unit)


async def _call(state: _Draw, indices: list[int], permit: MemoryPermit) -> list[RGB]:
    """The samples of one call; none where they are asked for again."""
    try:
        with span("call", {"trustscale.samples": len(indices)}):
            samples = await state.upscaler.generate(
                _given(state), [state.seeds[index] for index in indices], permit
            )
    except UpscalerFailed as error:
        if not replaceable(error):
            raise
        _ask_again(state, indices, error)
        return []
    if len(samples) != len(indices):
        raise UpscalerFailed(f"Asked for {len(indices)} samples, got {len(samples)}.")
    return list(samples)


def _ask_again(state: _Draw, indices: list[int], failure: UpscalerFailed) -> None:
    """Repeat each sample of a shared call alone, and one that was alone with a spare seed."""
    if len(indices) == 1:
        if not state.spares:
            raise failure
        state.seeds[indices[0]] = state.spares.popleft()
    state.calls += [[index] for index in indices]


def _check_shape(state: _Draw, sample: RGB) -> None:
    k = state.upscaler.scale
    expected = (k * state.source.height, k * state.source.width, 3)
    dtype = _given(state).rgb.dtype
    if sample.dtype != dtype or sample.shape != expected:
        raise UpscalerFailed(
            f"{state.upscaler.name!r} gave a sample of {sample.dtype} {sample.shape}, expected "
            f"{dtype} {expected}: scale {k} times the input."
        )


def _count(error: UpscalerError, state: _Draw) -> None:
    """Say in an error how many samples came."""
    error.members.update(came=state.came, needed=len(state.seeds))
    if isinstance(error, UpscalerFailed) and not isinstance(error, UpscalerRejected):
        error.detail = f"{state.came} of {len(state.seeds)} samples came. {error.detail}"
