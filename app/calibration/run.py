"""Calibrating from files: check every pair, measure each once, keep what is done.

Pairs are checked before the first generation, so a wrong folder costs seconds, not hours. Each
measured pair is handed to a checkpoint; a run that was killed continues with the pairs that are
missing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from app.calibration.config import CalibrationConfig
from app.calibration.folder import PairFiles
from app.calibration.groups import grouped
from app.calibration.measure import measure_pair, pack, unpack
from app.calibration.pairs import SAME_PIXELS, Pair, bad_pairs, duplicates, load_pair
from app.calibration.record import Calibration, MeasuredPair, Provenance
from app.canary.keep import CanaryTaker, chosen
from app.conformal.fidelity import needs_label
from app.errors import BadImage, BadInput, BadPairs
from app.sampling.pipeline import Pipeline
from app.system import usable_cores
from app.upscalers.base import Upscaler, image_digest


@dataclass(frozen=True, slots=True)
class CheckedPair:
    """A pair that can be used: its files, the digest of their content, and its checkpoint key."""

    files: PairFiles
    y_sha256: str
    pixels_sha256: str  # of Y, whatever file they were in
    key: str


@dataclass(frozen=True, slots=True)
class CheckedPairs:
    """The usable pairs and the skipped ones, each with its reason."""

    usable: Sequence[CheckedPair]
    skipped: Sequence[dict[str, str]]


async def check_pairs(
    files: Sequence[PairFiles],
    config: CalibrationConfig,
    pipeline: Pipeline,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckedPairs:
    """Decode and check every pair without generating.

    Raises:
        BadPairs: some pairs cannot be used and `on_bad_pair` is "fail", or none can be used.
    """
    places, done = asyncio.Semaphore(usable_cores()), 0

    async def one(pair: PairFiles) -> CheckedPair | dict[str, str]:
        nonlocal done
        async with places:
            try:
                found: CheckedPair | dict[str, str] = await asyncio.to_thread(
                    _checked, pair, config, pipeline
                )
            except (BadInput, OSError) as error:
                found = {"name": pair.name, "reason": str(error).rstrip(".")}
        done += 1
        if on_progress is not None:
            on_progress(done, len(files))
        return found

    found = await asyncio.gather(*map(one, files))
    usable = [pair for pair in found if isinstance(pair, CheckedPair)]
    items = [item for item in found if isinstance(item, dict)]
    usable, repeated = _without(usable, [(p.files.name, p.y_sha256) for p in usable])
    pixels_of = [(p.files.name, p.pixels_sha256) for p in usable]
    usable, encoded_again = _without(usable, pixels_of, reason=SAME_PIXELS)
    items += [*repeated, *encoded_again]
    if items and (config.on_bad_pair == "fail" or not usable):
        raise bad_pairs(items, len(files))
    if not usable:
        raise BadPairs("There are no pairs.", items=[])
    return CheckedPairs(usable, items)


def _without(
    pairs: Sequence[CheckedPair], digests: Sequence[tuple[str, str]], **options: str
) -> tuple[list[CheckedPair], list[dict[str, str]]]:
    """The pairs without duplicates, and an item for each of these."""
    items = duplicates(digests, **options)
    again = {item["name"] for item in items}
    return [pair for pair in pairs if pair.files.name not in again], items


async def measure_pairs(
    upscaler: Upscaler,
    pairs: Sequence[CheckedPair],
    config: CalibrationConfig,
    pipeline: Pipeline,
    *,
    done: Mapping[str, bytes],
    checkpoint: Callable[[str, bytes], Awaitable[object]],
    canary: Callable[[str], CanaryTaker] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[MeasuredPair]:
    """Measure the pairs whose key is not in `done`; `checkpoint` keeps each new one.

    `canary` gives what keeps the canary of a pair's name; None: no canaries.

    One pair more than the upscaler takes at once is in work, so that the reduction of one pair
    overlaps with the generation of the next; memory does not grow with the number of pairs.

    Raises:
        UpscalerError: of the first pair that failed; what was measured before is kept.
        BadPairs: a label was drawn on another prediction.
    """
    measured = {key: unpack(data) for key, data in done.items()}
    missing = [pair for pair in pairs if pair.key not in measured]
    finished = len(pairs) - len(missing)
    canaries = set(chosen([pair.files.name for pair in pairs])) if canary else set()
    places = asyncio.Semaphore(upscaler.capabilities.concurrency + 1)

    async def one(pair: CheckedPair) -> None:
        nonlocal finished
        async with places:
            loaded = await asyncio.to_thread(_load, pair.files, config, pipeline)
            taker = canary(loaded.name) if canary and loaded.name in canaries else None
            result = await measure_pair(upscaler, loaded, pipeline, canary=taker)
            await checkpoint(pair.key, pack(result))
        measured[pair.key] = result
        finished += 1
        if on_progress is not None:
            on_progress(finished, len(pairs))

    if on_progress is not None:
        on_progress(finished, len(pairs))
    try:
        async with asyncio.TaskGroup() as group:
            for pair in missing:
                group.create_task(one(pair))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were cancelled or fail for the same cause
    groups = {pair.files.name: pair.files.group for pair in pairs}
    return grouped([measured[pair.key] for pair in pairs], groups)


def finish(
    measured: Sequence[MeasuredPair],
    skipped: Sequence[dict[str, str]],
    config: CalibrationConfig,
    upscaler: Upscaler,
    pipeline: Pipeline,
    provenance: Provenance,
) -> Calibration:
    """The calibration of measured pairs."""
    return Calibration.from_pairs(
        measured,
        upscaler=upscaler.name,
        pipeline=pipeline,
        name=config.name,
        default_alpha=config.default_alpha,
        guarantee=config.guarantee,
        degradation=config.degradation,
        seed=config.seed,
        skipped=skipped,
        provenance=provenance,
    )


def run_id(pairs: Sequence[CheckedPair], config: CalibrationConfig, pipeline: Pipeline) -> str:
    """An id that the same pairs under the same settings always get: what a resumed run finds."""
    digest = hashlib.sha256(pipeline.model_dump_json().encode())
    digest.update(config.model_dump_json(include={"degradation", "seed"}).encode())
    for key in sorted(pair.key for pair in pairs):
        digest.update(key.encode())
    return f"calibrate-{digest.hexdigest()[:24]}"


def _checked(files: PairFiles, config: CalibrationConfig, pipeline: Pipeline) -> CheckedPair:
    loaded = _load(files, config, pipeline)
    content = f"{loaded.name}:{loaded.x_sha256}:{loaded.y_sha256}"
    if loaded.label is not None:
        content += f":{hashlib.sha256(loaded.label.tobytes()).hexdigest()}"
    key = hashlib.sha256(content.encode()).hexdigest()
    return CheckedPair(files, loaded.y_sha256, image_digest(loaded.y), key)


def _load(files: PairFiles, config: CalibrationConfig, pipeline: Pipeline) -> Pair:
    is_labelled = needs_label(pipeline.fidelity)
    if is_labelled and files.label is None:
        raise BadImage("has no label, which the semantic metric needs")
    return load_pair(
        files.name,
        files.y.read_bytes(),
        files.x.read_bytes() if files.x else None,
        pipeline,
        degradation=config.degradation,
        seed=config.seed,
        label=files.label.read_bytes() if files.label and is_labelled else None,
        prediction=files.prediction,
    )
