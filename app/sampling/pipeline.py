"""From a source to Ŷ and σ: the samples, how long they take, and what they give.

**Samples.** Exactly M samples or an error: a calibration is valid for one M. Every sample goes to a
sink as it arrives, and the next call may decode its answer only then (`MemoryPermit`), so memory
does not grow with M. Those of a job's work are kept as they arrive: no run after a kill pays for
one again.

**The pipeline** that a calibration is valid for:

    source ──▶ M samples ──▶ σ ──▶ threshold ──▶ mask, trust level ──▶ answer
               (fan-out)     │
                             └──▶ with the truth Y: D ──▶ loss curve   (calibration)

The same code makes Ŷ and σ in calibration and in serving, and a mask is served only under the very
pipeline that was calibrated: the guarantee rests on both.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from trustscale_server.concurrency import score_cores, shielded, side_by_side, to_its_end
from trustscale_server.conformal.fidelity import FidelitySettings, Pixels, Seen
from trustscale_server.errors import (
    BadRequest,
    CalibrationMismatch,
    DegenerateSamples,
    TimedOut,
    UpscalerError,
    UpscalerFailed,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.images.description import RULES, UPLOAD, InputFeatures, classify
from trustscale_server.images.raster import Stretch
from trustscale_server.images.resize import resized
from trustscale_server.sigma.estimators import (
    NO_TEXT,
    Accumulator,
    IndecisionSettings,
    ReadPage,
    shipped_for,
)
from trustscale_server.sigma.features import MAX_SAMPLES, mean_image
from trustscale_server.stores.base import Blobs, StoreUnavailable
from trustscale_server.stores.blobs import replace_file
from trustscale_server.telemetry.signals import span
from trustscale_server.upscalers.base import (
    RGB,
    Capabilities,
    MemoryPermit,
    Source,
    Upscaler,
    Wrapped,
    sample_seeds,
    settings_of,
)
from trustscale_server.upscalers.remote.http import replaceable
from trustscale_server.upscalers.resilience import ResilientUpscaler

# --- The samples of a job's work, kept as they arrive: no run after a kill pays for one again.


def folder_of(job: str, task: str) -> str:
    """Return where the samples of one task of a job wait until its result is stored."""
    return f"{job}.{hashlib.sha256(task.encode()).hexdigest()[:20]}"


class KeptSamples(Wrapped):
    """Wraps an upscaler that is paid by the call, and keeps its samples in `folder`.

    Models of this process are asked again: to store a sample would take as long.

    has_reused: whether samples of an earlier run came, which say nothing of the model's pace.
    """

    def __init__(self, inner: Upscaler, blobs: Blobs, folder: str) -> None:
        super().__init__(inner)
        self.blobs, self.folder = blobs, folder
        self.has_reused = False

    async def generate(
        self, source: Source, seeds: Sequence[int], turn: MemoryPermit | None = None
    ) -> list[RGB]:
        """Generate only the samples that are not kept; StoreUnavailable if they cannot be read."""
        turn = turn or MemoryPermit()
        if self.capabilities.by_tiles:
            return await self.inner.generate(source, seeds, turn)
        await asyncio.to_thread(getattr, source, "digest")  # of which the names are made
        missing = [seed for seed in seeds if not await self._has(source, seed)]
        by_seed: dict[int, RGB] = {}
        if missing:
            answer = await self.inner.generate(source, missing, turn)
            if len(answer) != len(missing):
                raise UpscalerFailed(f"Asked for {len(missing)} samples, got {len(answer)}.")
            by_seed.update(zip(missing, answer, strict=True))
        await turn.take()
        for seed, sample in by_seed.items():
            await to_its_end(self._keep(source, seed, sample))
        return [
            by_seed[seed] if seed in by_seed else await self._kept(source, seed) for seed in seeds
        ]

    def _name(self, source: Source, seed: int) -> str:
        facts = f"{self.fingerprint} {source.digest} {seed}"
        return f"sample-{hashlib.sha256(facts.encode()).hexdigest()[:32]}.npy"

    async def _has(self, source: Source, seed: int) -> bool:
        return await self.blobs.has(self.folder, self._name(source, seed))

    async def _kept(self, source: Source, seed: int) -> RGB:
        data = await self.blobs.get(self.folder, self._name(source, seed))
        self.has_reused = True
        return await asyncio.to_thread(lambda: np.load(io.BytesIO(data), allow_pickle=False))

    async def _keep(self, source: Source, seed: int, sample: RGB) -> None:
        expected = (self.scale * source.height, self.scale * source.width, 3)
        if sample.shape != expected:
            return  # refused by whoever asked, and perhaps not the second time
        file = io.BytesIO()
        await asyncio.to_thread(np.save, file, sample, allow_pickle=False)
        with suppress(StoreUnavailable):  # the sample is there, and may not be needed again
            await self.blobs.put(self.folder, self._name(source, seed), file.getbuffer())


# --- Draw the M samples of one request from an upscaler, and how long that takes (`Throughput`).

_CALL_BYTES = 128 * 2**20
"""Of the decoded samples of one call: ten of 2048 × 2048, two of 4096 × 4096."""


class SampleSink:
    """Receives the samples of one request; by default they are dropped."""

    def on_sample(self, index: int, sample: RGB) -> None:
        """Take a sample, in a thread, one at a time and in order of *arrival*."""

    def on_progress(self, done: int, total: int, unit: str) -> None:
        """Note, in the event loop, how many samples, or tiles of samples, are there."""


class CollectingSink(SampleSink):
    """Keeps the samples by their index, and passes the progress on."""

    def __init__(self, progress: SampleSink | None = None) -> None:
        self.samples: dict[int, RGB] = {}
        self._progress = progress or SampleSink()

    def on_sample(self, index: int, sample: RGB) -> None:
        self.samples[index] = sample

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self._progress.on_progress(done, total, unit)


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
        """Set the deadline to so many seconds from now; None means no limit."""
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
) -> list[int]:
    """Draw one sample per seed and hand each to the sink.

    Args:
        upscaler: μ; its capabilities say how the seeds are split into calls.
        source: X.
        seeds: distinct, one per index.
        sink: gets the samples, and is never called after this function has ended.
        spare_seeds: replace, in this order, seeds whose generation failed for good.
        limits: how long it may take.

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
    state = _Draw(upscaler, source, list(seeds), deque(spare_seeds), sink, calls, limits)
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
    """Return how many samples of so many bytes one call may bring, at least one."""
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
        turn = MemoryPermit(
            state.turns,
            deadline=state.limits.deadline,
            patience_s=state.limits.patience_s,
            on_part=partial(_part_done, state, indices),
        )
        state.done[indices[0]] = 0
        try:
            samples = await _call(state, indices, turn)
            await turn.take()
            for index in indices[: len(samples)]:
                sample = samples.pop(0)  # an accumulated sample is let go
                _check_shape(state, sample)
                await shielded(_hand_over, state, index, sample)
                _came(state, indices)
                del sample
        finally:
            turn.give_back()
            state.done.pop(indices[0], None)


def _given(state: _Draw) -> Source:
    """The image as deep as the upscaler takes it."""
    return state.source if state.upscaler.capabilities.takes_16_bit else state.source.as_8_bit


def _hand_over(state: _Draw, index: int, sample: RGB) -> None:
    state.sink.on_sample(index, state.source.like(sample))


def _part_done(state: _Draw, indices: Sequence[int], tiles: int) -> None:
    if indices[0] in state.done:  # else the call has ended early
        state.tiles = tiles // len(indices)
        state.done[indices[0]] += 1
        if state.tiles > 1:
            _report(state)


def _came(state: _Draw, indices: Sequence[int]) -> None:
    state.came += 1
    state.done[indices[0]] = max(0, state.done[indices[0]] - state.tiles)
    _report(state)


def _report(state: _Draw) -> None:
    done = state.came * state.tiles + sum(state.done.values())
    unit = "samples" if state.tiles == 1 else "tiles"
    state.sink.on_progress(done, len(state.seeds) * state.tiles, unit)


async def _call(state: _Draw, indices: list[int], turn: MemoryPermit) -> list[RGB]:
    """The samples of one call; none where they are asked for again."""
    try:
        with span("call", {"trustscale.samples": len(indices)}):
            samples = await state.upscaler.generate(
                _given(state), [state.seeds[index] for index in indices], turn
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
    """Repeat the samples of a shared call each alone; one that was alone with a spare seed."""
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
        error.args = (error.detail,)


MEGA: Final = 1e6

# Side of the first measurement in pixels: one tile.
_TRIAL_SIDE: Final = 256
# The fastest of so many counts: the others shared the machine, or were small beside fixed costs.
_RECENT: Final = 16
# Network calls have fixed costs: small pictures say nothing of pictures so many times larger.
_MUCH_LARGER: Final = 4


@dataclass(slots=True)
class _Pace:
    """Recent seconds per megapixel of one model, and its largest input in megapixels."""

    fingerprint: str
    work: str
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    largest: float = 0.0

    @property
    def seconds(self) -> float:
        return min(self.recent) if self.work == SAMPLES else median(self.recent)


SAMPLES: Final = "samples"
"""Work whose pace is that of the fastest input: its samples alone."""

ANSWERS: Final = "answers"
"""Work whose pace is usual: a whole answer, with as many samples as it has."""

PAIRS: Final = "pairs"
"""Work whose pace is usual: all that a calibration does for a pair, while others are measured."""


class Throughput:
    """Measures seconds per megapixel of input and sample, by upscaler and fingerprint.

    path: keeps them for the next process. Each `work` has a pace of its own.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept = _read(path)
        self._paces: dict[str, _Pace] = {}

    def seconds_per_megapixel(self, upscaler: Upscaler, work: str = SAMPLES) -> float | None:
        """Return the seconds per megapixel of input and sample, or None if not known yet."""
        pace = self._of(upscaler, work)
        return pace.seconds if pace.recent else None

    def estimate(
        self, upscaler: Upscaler, pixels: int, samples: int, work: str = SAMPLES
    ) -> float | None:
        """Return the seconds that an input with so many samples takes, or None."""
        pace = self._of(upscaler, work)
        megapixels = pixels / MEGA
        is_known = upscaler.capabilities.by_tiles or megapixels <= _MUCH_LARGER * pace.largest
        if not (pace.recent and is_known):
            return None
        return pace.seconds * megapixels * samples

    def note(
        self, upscaler: Upscaler, pixels: int, samples: int, seconds: float, work: str = SAMPLES
    ) -> None:
        """Record how long an input with so many samples took, unless some were there before."""
        if isinstance(upscaler, KeptSamples) and upscaler.has_reused:
            return
        pace = self._of(upscaler, work)
        before = pace.seconds if pace.recent else None
        pace.recent.append(seconds / (pixels / MEGA * samples))
        pace.largest = max(pace.largest, pixels / MEGA)
        if before is None or not 0.8 < pace.seconds / before < 1.25:
            self._keep(upscaler.name, pace)

    async def measure(self, upscaler: Upscaler) -> None:
        """Time one tile, and replace earlier values. Raises UpscalerError."""
        ramp = np.linspace(0, 255, _TRIAL_SIDE, dtype=np.uint8)
        pixels = np.stack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]), axis=2)
        started = time.perf_counter()
        await upscaler.generate(Source(pixels), [0])
        seconds = time.perf_counter() - started
        self._of(upscaler).recent.clear()
        self.note(upscaler, _TRIAL_SIDE**2, 1, seconds)

    def _of(self, upscaler: Upscaler, work: str = SAMPLES) -> _Pace:
        key = f"{upscaler.name}:{work}"  # no name of an upscaler holds a colon
        pace = self._paces.get(key)
        if pace is None or pace.fingerprint != upscaler.fingerprint:
            pace = _Pace(upscaler.fingerprint, work)
            stored = self._kept.get(key, {})
            if stored.get("fingerprint") == pace.fingerprint:
                pace.recent.append(stored["seconds_per_megapixel"])
                pace.largest = stored["megapixels"]
            self._paces[key] = pace
        return pace

    def _keep(self, name: str, pace: _Pace) -> None:
        self._kept[f"{name}:{pace.work}"] = {
            "fingerprint": pace.fingerprint,
            "seconds_per_megapixel": pace.seconds,
            "megapixels": pace.largest,
        }
        if self._path is not None:
            with suppress(OSError):  # a full disk costs the next start a measurement
                # In the event loop, which must not wait for the disk.
                replace_file(self._path, json.dumps(self._kept).encode(), durable=False)


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    """The stored values; empty where they cannot be read."""
    try:
        stored = json.loads(path.read_bytes()) if path is not None else {}
        return {
            str(name): {
                "fingerprint": str(pace["fingerprint"]),
                "seconds_per_megapixel": float(pace["seconds_per_megapixel"]),
                "megapixels": float(pace["megapixels"]),
            }
            for name, pace in stored.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# --- The pipeline that a calibration is valid for, and what M samples of one input give: Ŷ and σ.

TRUST_LAYER_VERSION = 3
"""Raised whenever the same samples would give another σ, D or Ŷ."""

COLOR_SPACE: Literal["normalised_lab_d65"] = "normalised_lab_d65"

Prediction = Literal["first", "mean"]


class Pipeline(BaseModel):
    """Everything that a calibration is valid for: all that changes Ŷ, σ or D.

    input_rule: of the classes of uploads; None: no classes.
    stretch: how values become X of 16 bits; None: X has 8 bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    scale: PositiveInt
    samples: int = Field(ge=1, le=MAX_SAMPLES)
    prediction: Prediction = "first"
    indecision: IndecisionSettings = IndecisionSettings()
    fidelity: FidelitySettings = FidelitySettings()
    color_space: Literal["normalised_lab_d65"] = COLOR_SPACE
    trust_layer: int = TRUST_LAYER_VERSION
    input_rule: str | None = None
    stretch: Stretch | None = Field(None, exclude_if=lambda stretch: stretch is None)

    @model_validator(mode="after")
    def _has_classes(self) -> Pipeline:
        if self.indecision.fits and self.input_rule is None:
            raise ValueError("fits of some classes need an input rule")
        return self

    @model_validator(mode="after")
    def _has_words(self) -> Pipeline:
        if self.indecision.row.reads and self.fidelity.reader is None:
            raise ValueError("the estimator reading belongs to the metric text")
        return self

    @model_validator(mode="after")
    def _has_enough_samples(self) -> Pipeline:
        least = self.indecision.least_samples
        if self.samples < least:
            raise ValueError(
                f"the estimator {self.indecision.estimator} needs at least {least} samples"
            )
        return self

    def sigma_of(self, facts: InputFeatures | None) -> IndecisionSettings:
        """Return how σ of an upload with these facts is made.

        Where it is nearly soft, by the fit of all classes: it may be soft, and a fit to sharp
        uploads alone can be wrong by far there.

        Raises:
            ValueError: its class decides, and the facts are not known.
        """
        if not self.indecision.fits:
            return self.indecision
        if facts is None or self.input_rule is None:
            raise ValueError("σ depends on the class of the upload, and its facts are not known")
        name = None if facts.is_nearly_soft else classify(self.input_rule, facts)
        return self.indecision.of_class(name)


def pipeline_differences(
    calibrated: Pipeline, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return how the live pipeline differs: `{field, calibrated, live}` each.

    With the calibration's digests of the upscaler's settings, a difference of fingerprints has a
    member `settings` that names those that changed.
    """
    live: dict[str, Any] = {
        "fingerprint": upscaler.fingerprint,
        "scale": upscaler.scale,
        "color_space": COLOR_SPACE,
        "trust_layer": TRUST_LAYER_VERSION,
    }
    differing = [
        {"field": name, "calibrated": getattr(calibrated, name), "live": value}
        for name, value in live.items()
        if getattr(calibrated, name) != value
    ]
    if differing and differing[0]["field"] == "fingerprint" and settings:
        now = settings_of(upscaler)
        names = {name for name in {*settings, *now} if settings.get(name) != now.get(name)}
        differing[0]["settings"] = sorted(names)
    if calibrated.input_rule not in {None, *RULES}:
        differing.append(
            {"field": "input_rule", "calibrated": calibrated.input_rule, "live": list(RULES)}
        )
    most = upscaler.capabilities.max_samples
    if most is not None and calibrated.samples > most:
        differing.append({"field": "samples", "calibrated": calibrated.samples, "live": most})
    return differing


def check_measurable(settings: FidelitySettings) -> None:
    """Raise BadRequest, naming the missing packages, unless errors can be measured here."""
    if settings.missing:
        raise BadRequest(f"The metric {settings.metric!r} needs {settings.missing}.")


def guard(
    calibrated: Pipeline, upscaler: Upscaler, settings: Mapping[str, str] | None = None
) -> None:
    """Raise CalibrationMismatch, with all differences, unless the pipeline is the calibrated."""
    differing = pipeline_differences(calibrated, upscaler, settings)
    if differing:
        fields = ", ".join(", ".join(item.get("settings") or [item["field"]]) for item in differing)
        raise CalibrationMismatch(
            f"The active calibration of {upscaler.name!r} was made under another pipeline "
            f"({fields} differ), so its mask would have no foundation. Calibrate again, or "
            "restore the one that was calibrated.",
            differences=differing,
        )


async def identify(upscaler: Upscaler) -> None:
    """Ask an upscaler that was unavailable at the start for its identity.

    Raises:
        UpscalerUnavailable: it still is.
    """
    try:
        _ = upscaler.fingerprint
    except UpscalerUnavailable:
        await (upscaler.wake() if isinstance(upscaler, ResilientUpscaler) else upscaler.check())


DEFAULT_SAMPLES = 1
"""M by default: more calls gain little (docs/mask-power.md)."""


def default_estimator(samples: int) -> str:
    """Return the plain σ for M samples; a single one has no variance."""
    return IndecisionSettings().estimator if samples > 1 else "departure"


def default_indecision(
    upscaler: Upscaler, samples: int, fidelity: FidelitySettings, input_rule: str | None = UPLOAD
) -> IndecisionSettings:
    """Return the σ of words, or that fitted to this very upscaler, or else the plain one."""
    if fidelity.row.reads:
        return IndecisionSettings("reading")
    exact = getattr(upscaler, "exact_fingerprint", upscaler.fingerprint)
    fits = shipped_for(exact, samples, fidelity.metric)
    if fits:
        of_classes = fits[1:] if input_rule is not None else ()
        return IndecisionSettings("fitted", fit=fits[0], fits=of_classes)
    return IndecisionSettings(default_estimator(samples))


OnSigma = Callable[[int, NDArray[np.float32]], None]
"""Called as `MeasurementSink.on_sigma`."""


class MeasurementSink(SampleSink):
    """Receives what `measure` makes while it works; by default it is dropped.

    takes_sigma: whether `on_sigma` gets σ, which is not returned then.
    """

    takes_sigma: bool = False

    def on_first(self, sample: RGB) -> None:
        """Take the sample that arrives first, in a thread."""

    def on_prediction(self, prediction: RGB) -> None:
        """Take Ŷ, in the event loop, as soon as the samples are there; not if it is their mean."""

    def on_sigma(self, top: int, rows: NDArray[np.float32]) -> None:
        """Take the rows of σ from row `top` on, in threads; they may be changed."""


@dataclass(frozen=True, slots=True)
class EverySample(MeasurementSink):
    """Passes every sample, with its index, to all of these."""

    takers: Sequence[Callable[[int, RGB], None]]

    def on_sample(self, index: int, sample: RGB) -> None:
        for take in self.takers:
            take(index, sample)


_DROP: Final = MeasurementSink()

SPARES = 4
"""Seeds in reserve for samples that fail for good, such as filtered ones."""

_ELSEWHERE = math.log(2 * NO_TEXT)  # below it is no text

_AT_ONCE = 8192
"""Numbers that numpy sums pairwise; the bits of the mean depend on it."""


@dataclass(slots=True)
class Measurement:
    """Ŷ and σ of one input, and the time they took in milliseconds.

    sigma: no rows where the sink took them. seeds: behind the samples, in order, if known.
    distance: of the truth from Ŷ in normalised Lab, float32 [H, W], if it was seen on the way.
    page: what was read, where the error is of words.
    """

    prediction: RGB
    sigma: NDArray[np.float32]
    mean_log_sigma: float
    seeds: Sequence[int] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    distance: NDArray[np.float32] | None = None
    page: ReadPage | None = None


async def measure(
    upscaler: Upscaler,
    source: Source,
    pipeline: Pipeline,
    seed: int,
    *,
    sink: MeasurementSink = _DROP,
    limits: TimeLimits = NO_LIMITS,
    truth: Seen | None = None,
) -> Measurement:
    """Draw M samples and reduce them to Ŷ and σ; memory does not grow with M.

    Args:
        upscaler: μ.
        source: X.
        pipeline: M, the prediction rule and the σ settings.
        seed: of the request; the sample seeds follow from it.
        sink: gets intermediate results as soon as they are there.
        limits: how long the samples may take.
        truth: Y, for `Measurement.distance`.

    Raises:
        CalibrationMismatch: the upscaler is not, or no longer, the one of the pipeline.
        DegenerateSamples: several samples, all identical, although the input is not flat.
        UpscalerError: a sample failed.
    """
    guard(pipeline, upscaler)  # again: the caller may have waited for long
    shape = (source.height * pipeline.scale, source.width * pipeline.scale)
    accumulator = _accumulator(source, pipeline, truth)
    prediction = _Prediction(pipeline.prediction, shape, source.rgb.dtype.type)
    reducer = _Reducer(accumulator, prediction, sink)
    started = time.perf_counter()
    seeds = sample_seeds(seed, pipeline.samples + _spares(upscaler, pipeline.samples))
    with span(
        "samples", {"trustscale.upscaler": upscaler.name, "trustscale.samples": pipeline.samples}
    ):
        used = await draw(
            upscaler,
            source,
            seeds[: pipeline.samples],
            sink=reducer,
            spare_seeds=seeds[pipeline.samples :],
            limits=limits,
        )
        if pipeline.prediction == "first":
            sink.on_prediction(prediction.result())
    guard(pipeline, upscaler)  # it may have been replaced meanwhile
    if pipeline.fidelity.reader is not None:
        with span("reading"):
            accumulator.page = await shielded(_read_words, source, pipeline, prediction.result())
    sampled = time.perf_counter()
    if await shielded(accumulator.identical) and not source.is_flat:
        raise DegenerateSamples(
            f"All {pipeline.samples} samples of {upscaler.name!r} are identical although the input "
            "is not flat: a cache or a fixed seed answers in place of the model, and the mask "
            "would be confident without reason."
        )
    with span("indecision"):
        sigma, mean_log_sigma = await shielded(
            _finish, accumulator, sink.on_sigma if sink.takes_sigma else None
        )
    finished = time.perf_counter()
    return Measurement(
        prediction.result(),
        sigma,
        mean_log_sigma,
        used,
        {
            "samples": 1e3 * (sampled - started - reducer.seconds),
            "indecision": 1e3 * (reducer.seconds + finished - sampled),
        },
        accumulator.distance,
        accumulator.page,
    )


def _read_words(source: Source, pipeline: Pipeline, prediction: RGB) -> ReadPage:
    """What is read in Ŷ and in the enlarged input."""
    enlarged = Enlarged(source.rgb, pipeline.scale)
    return ReadPage.of(prediction, enlarged[: prediction.shape[0]], pipeline.scale)


# The enlargement of a strip depends on two more rows of the input; one is spare.
_MARGIN = 3


class Enlarged:
    """Rows of E, X enlarged k times by no model; slicing (`enlarged[top:bottom]`) makes them.

    Bicubic. Pillow computes 8 bits in integers, so they are the same on every machine and in every
    strip. 16 bits it computes in floating point: their last bit may depend on where a strip begins,
    if k is no power of two; strips begin at the same rows on every machine. It is part of σ:
    another filter would be another estimator.
    """

    def __init__(self, rgb: Pixels, scale: int) -> None:
        height, width = rgb.shape[:2]
        self.shape = (scale * height, scale * width, 3)
        self._rgb = rgb
        self._scale = scale

    def __getitem__(self, rows: slice) -> Pixels:
        """Pixels as of X, [bottom − top, k·w, 3]; of X itself where k = 1."""
        top, bottom, _ = rows.indices(self.shape[0])
        k, width = self._scale, self.shape[1]
        if k == 1:
            return self._rgb[top:bottom]
        first = max(0, top // k - _MARGIN)
        strip = self._rgb[first : -(-bottom // k) + _MARGIN]
        if strip.dtype == np.uint16:
            large = resized(strip, (width, k * len(strip)), Image.Resampling.BICUBIC)
            return large[top - k * first : bottom - k * first]
        # Along the rows first, as Pillow does, then only what is wanted. Its box is of float32,
        # where parts of a pixel are exact if k is a power of two.
        step = 1 if k & (k - 1) == 0 else k
        above, below = top - top % step, bottom + -bottom % step
        wide = Image.fromarray(strip).resize((width, len(strip)), Image.Resampling.BICUBIC)
        box = (0, above / k - first, width, below / k - first)
        tall = wide.resize((width, below - above), Image.Resampling.BICUBIC, box=box)
        return np.asarray(tall)[top - above : bottom - above]


class _Reducer(SampleSink):
    """Accumulates samples for σ and Ŷ, and passes them on; `seconds`: how long that took."""

    def __init__(
        self, accumulator: Accumulator, prediction: _Prediction, sink: MeasurementSink
    ) -> None:
        self._accumulator, self._prediction, self._sink = accumulator, prediction, sink
        self.seconds = 0.0

    def on_sample(self, index: int, sample: RGB) -> None:
        started = time.perf_counter()
        if not self._accumulator.count:
            self._sink.on_first(sample)
        self._accumulator.add(sample)
        self._prediction.add(index, sample)
        self._sink.on_sample(index, sample)
        self.seconds += time.perf_counter() - started

    def on_progress(self, done: int, total: int, unit: str) -> None:
        self._sink.on_progress(done, total, unit)


def _spares(upscaler: Upscaler, samples: int) -> int:
    most = upscaler.capabilities.max_samples
    return SPARES if most is None else max(0, min(SPARES, most - samples))


async def predict(
    upscaler: Upscaler,
    source: Source,
    seed: int,
    *,
    sink: MeasurementSink = _DROP,
    limits: TimeLimits = NO_LIMITS,
) -> RGB:
    """Make the Ŷ of `measure` by the rule `first`, from one sample and without σ.

    Arguments and errors are those of `measure`; the sink gets the progress alone.
    """
    collected = CollectingSink(sink)
    seeds = sample_seeds(seed, 1 + _spares(upscaler, 1))
    with span("samples", {"trustscale.upscaler": upscaler.name, "trustscale.samples": 1}):
        await draw(
            upscaler, source, seeds[:1], sink=collected, spare_seeds=seeds[1:], limits=limits
        )
    return collected.samples[0]


def measured_again(
    samples: Sequence[RGB],
    source: Source,
    pipeline: Pipeline,
    truth: Seen | None = None,
    page: ReadPage | None = None,
) -> Measurement:
    """Measure the same samples under another σ; `page` is what was read of them."""
    accumulator = _accumulator(source, pipeline, truth)
    accumulator.page = page
    for sample in samples:
        accumulator.add(sample)
    sigma, mean_log_sigma = _finish(accumulator, None)
    prediction = predicted(samples, pipeline.prediction)
    return Measurement(prediction, sigma, mean_log_sigma, distance=accumulator.distance, page=page)


def predicted(samples: Sequence[RGB], rule: Prediction) -> RGB:
    """Return the Ŷ of all samples of a request, in order."""
    prediction = _Prediction(rule, samples[0].shape[:2], samples[0].dtype.type)
    for index, sample in enumerate(samples):
        prediction.add(index, sample)
    return prediction.result()


def _accumulator(source: Source, pipeline: Pipeline, truth: Seen | None) -> Accumulator:
    """For samples of the source; X is enlarged where σ looks at it."""
    enlarged = Enlarged(source.rgb, pipeline.scale)
    settings = pipeline.sigma_of(source.facts)
    accumulator = Accumulator(
        enlarged.shape, settings, enlarged if settings.needs_input else None, pipeline.samples
    )
    accumulator.facts = None if source.facts is None else source.facts.terms()
    if truth is not None and pipeline.fidelity.row.of_distance is not None:
        accumulator.truth = truth
    return accumulator


def _finish(
    accumulator: Accumulator, on_sigma: OnSigma | None
) -> tuple[NDArray[np.float32], float]:
    """σ, without rows if `on_sigma` gets them, and the mean of its logarithm; of words, in text."""
    sigma = np.empty(accumulator.shape if on_sigma is None else (0, 0), np.float32)

    def on_rows(top: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        # The floor keeps flat regions (σ = 0) finite; it is far below any σ of 8-bit samples.
        logs = np.maximum(rows, np.float32(1e-12))
        np.log(logs, out=logs)
        if on_sigma is None:
            sigma[top : top + len(rows)] = rows
        else:
            on_sigma(top, rows)
        return logs.reshape(-1) if accumulator.page is None else logs[logs > _ELSEWHERE]

    total, rest, pixels = np.float64(0), np.empty(0, np.float32), 0
    with score_cores("trustscale-score") as map_fn:
        accumulator.map_fn, accumulator.is_asked_once = map_fn, True
        for logs in accumulator.strips(on_rows):
            pixels += len(logs)
            values = np.concatenate([rest, logs]) if len(rest) else logs
            whole = len(values) - len(values) % _AT_ONCE
            total = np.add.reduce(values[:whole], dtype=np.float64, initial=total)
            rest = values[whole:]
    total = np.add.reduce(rest, dtype=np.float64, initial=total)
    return sigma, float(total / pixels) if pixels else math.log(NO_TEXT)


class _Prediction:
    """Ŷ by the prediction rule, accumulated in any order, without keeping the samples."""

    def __init__(
        self, rule: Prediction, shape: tuple[int, ...], dtype: type[np.uint8 | np.uint16]
    ) -> None:
        self._dtype = dtype
        self._first: RGB | None = None
        self._sum = np.zeros((*shape, 3), np.uint32) if rule == "mean" else None
        self._count = 0

    def add(self, index: int, sample: RGB) -> None:
        self._count += 1
        if self._sum is not None:
            self._sum += sample
        elif index == 0:
            self._first = sample

    def result(self) -> RGB:
        if self._sum is not None:
            return mean_image(self._sum, self._count, self._dtype)
        assert self._first is not None  # noqa: S101 - draw delivers every index
        return self._first
