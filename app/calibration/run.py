"""Pairs of a folder, checked before anything is generated: a mistake costs seconds, not hours."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.calibration.config import CalibrationConfig
from app.calibration.folder import PairFiles
from app.calibration.pairs import (
    SAME_PIXELS,
    Pair,
    bad_pairs,
    duplicates,
    load_pair,
    variant_name,
    variants_of,
)
from app.conformal.fidelity import needs_label
from app.errors import BadImage, BadInput, BadPairs
from app.images.look import look_of, near_duplicates
from app.sampling.pipeline import Pipeline
from app.system import usable_cores
from app.upscalers.base import image_digest


@dataclass(frozen=True, slots=True)
class CheckedPair:
    """A pair that can be used: its files, the digest of their content, and its checkpoint key.

    name: of the pair; `files` have that of what it is made from.
    """

    files: PairFiles
    y_sha256: str
    pixels_sha256: str  # of Y, whatever file they were in
    key: str
    name: str
    variant: str | None = None
    look: int = 0


@dataclass(frozen=True, slots=True)
class CheckedPairs:
    """The usable pairs and the skipped ones, each with its reason.

    alike: of each set of truths that look like parts of one scene, their names.
    """

    usable: Sequence[CheckedPair]
    skipped: Sequence[dict[str, str]]
    alike: Sequence[Sequence[str]] = ()


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
    alike = near_duplicates([(p.files.name, p.files.scene, p.look) for p in usable])
    made_by = None if any(pair.files.x for pair in usable) else config.degradation
    variants = [_variant(p, variant) for p in usable for variant in variants_of(made_by)]
    return CheckedPairs(variants, items, alike)


def _variant(pair: CheckedPair, variant: str | None) -> CheckedPair:
    key = pair.key if variant is None else f"{pair.key}-{variant}"
    return replace(pair, name=variant_name(pair.files.name, variant), variant=variant, key=key)


def _without(
    pairs: Sequence[CheckedPair], digests: Sequence[tuple[str, str]], **options: str
) -> tuple[list[CheckedPair], list[dict[str, str]]]:
    """The pairs without duplicates, and an item for each of these."""
    items = duplicates(digests, **options)
    again = {item["name"] for item in items}
    return [pair for pair in pairs if pair.files.name not in again], items


def _checked(files: PairFiles, config: CalibrationConfig, pipeline: Pipeline) -> CheckedPair:
    # Only Y, and X if it is given, can be wrong; how X is made from Y is left for later.
    loaded = _load(files, config.model_copy(update={"degradation": None}), pipeline)
    content = f"{loaded.name}:{loaded.x_sha256}:{loaded.y_sha256}"
    if loaded.label is not None:
        content += f":{hashlib.sha256(loaded.label.tobytes()).hexdigest()}"
    key = hashlib.sha256(content.encode()).hexdigest()
    return CheckedPair(
        files, loaded.y_sha256, image_digest(loaded.y), key, loaded.name, look=look_of(loaded.y)
    )


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
