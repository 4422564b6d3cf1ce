"""What is kept of a few pairs at calibration time, so that a change of the model can be seen later.

The M samples of a pair are draws already; only whether the backend repeats exactly costs one more
call per canary. What is kept while a calibration is being made lies beside its other files in the
spool, and moves to the key of the calibration once that has an id: the inputs as PNG, then the
state, which whoever watches replaces after every round (`app/canary/watch.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from app.canary.evidence import Canaries, Canary, digest_of, start, statistics_of
from app.errors import NotFound, UpscalerError
from app.images.encode import png_rgb
from app.sampling.draw import draw
from app.stores.base import Spool
from app.upscalers.base import RGB, Source, Upscaler

MOST = 8
"""Canaries of one calibration: a round is as many generations."""

PREFIX = "canary/"
"""Of the spooled files while a calibration is being made."""

KEY = "canary-"
"""Begins the key of a calibration in the spool."""

_STATE = "state.json"

log = structlog.get_logger(__name__)


class Kept(BaseModel):
    """The canaries of a calibration as they are stored.

    at: of the last round; before the first one, of the calibration.
    samples: M; fresh draws take their seeds as the M first ones did.
    alarm: once raised it stays, also when later draws make the evidence smaller again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    canaries: Canaries
    samples: int
    at: datetime
    rounds: int = 0
    alarm: bool = False


def chosen(names: Sequence[str]) -> list[str]:
    """Which pairs are canaries: up to eight, spread evenly, since neighbours are often alike."""
    places = np.linspace(0, len(names) - 1, min(MOST, len(names))).round().astype(int)
    return [names[place] for place in places]


class CanaryTaker:
    """Looks at the samples of one pair as they arrive, and keeps what its canary needs."""

    def __init__(self, spool: Spool, job: str, name: str) -> None:
        self._spool = spool
        self._job = job
        self._name = name
        self._values: list[dict[str, float]] = []
        self._sha256 = ""

    def see(self, index: int, sample: RGB) -> None:
        """Reduce one sample; calls must not overlap."""
        self._values.append(statistics_of(sample))
        if index == 0:
            self._sha256 = digest_of(sample)

    async def keep(self, upscaler: Upscaler, x: RGB, seeds: Sequence[int]) -> None:
        """Store the canary; one more generation tells whether the same seed repeats exactly.

        Without it the canary is given up, not the pair.
        """
        repeats = False
        if upscaler.capabilities.seeds:
            try:
                repeats = digest_of(await answer(upscaler, x, seeds[0])) == self._sha256
            except UpscalerError as error:
                log.warning("canary_not_kept", canary=self._name, detail=error.detail)
                return
        canary = Canary(
            name=self._name,
            seed=seeds[0],
            sha256=self._sha256 if repeats else None,
            draws={key: tuple(sorted(v[key] for v in self._values)) for key in self._values[0]},
        )
        png = await asyncio.to_thread(png_rgb, x)
        place = f"{PREFIX}{_file(self._name)}"
        await self._spool.put(self._job, f"{place}.png", png)
        await self._spool.put(self._job, f"{place}.json", canary.model_dump_json().encode())


async def answer(
    upscaler: Upscaler,
    x: RGB,
    seed: int,
    *,
    spare_seeds: Sequence[int] = (),
    deadline: float | None = None,
) -> RGB:
    """One sample, drawn as a request draws its own; `deadline` as for `draw`.

    Raises:
        UpscalerError: it could not be had.
    """
    samples: list[RGB] = []
    await draw(
        upscaler,
        Source(x),
        [seed],
        spare_seeds=spare_seeds,
        on_sample=lambda _, sample: samples.append(sample),
        deadline=deadline,
    )
    return samples[0]


async def publish(
    spool: Spool,
    job: str,
    calibration: str,
    *,
    fingerprint: str,
    samples: int,
    parent: str | None = None,
) -> None:
    """Give a finished calibration its canaries; a calibration that has some keeps them.

    A calibration that extends another keeps that one's canaries and their evidence: the old pairs
    are still in it.
    """
    if _STATE in await spool.names(_key(calibration)):
        return
    if parent is not None and await inherit(spool, parent, calibration):
        return
    canaries = []
    for name in await spool.names(job):
        if name.startswith(PREFIX) and name.endswith(".json"):
            try:
                canaries.append(Canary.model_validate_json(await spool.get(job, name)))
            except ValidationError:  # kept by an earlier version of this program
                log.warning("canary_not_kept", canary=name, detail="it cannot be read")
    if not canaries:
        return
    for canary in canaries:
        png = f"{_file(canary.name)}.png"
        await spool.put(_key(calibration), png, await spool.get(job, f"{PREFIX}{png}"))
    kept = Kept(canaries=start(fingerprint, canaries), samples=samples, at=datetime.now(UTC))
    await save(spool, calibration, kept)


async def inherit(spool: Spool, parent: str, calibration: str) -> bool:
    """Copy the canaries of a calibration to one that was derived from it; false: it has none."""
    kept = await load(spool, parent)
    if kept is None:
        return False
    for item in kept.canaries.items:
        png = await input_of(spool, parent, item.name)
        await spool.put(_key(calibration), f"{_file(item.name)}.png", png)
    await save(spool, calibration, kept)
    return True


async def load(spool: Spool, calibration: str) -> Kept | None:
    """The canaries of a calibration; None: it has none, or not any that can be read."""
    try:
        return Kept.model_validate_json(await spool.get(_key(calibration), _STATE))
    except NotFound:
        return None
    except ValidationError:
        log.exception("canary_state_damaged", calibration=calibration)
        return None


async def save(spool: Spool, calibration: str, kept: Kept) -> None:
    """Replace the state."""
    await spool.put(_key(calibration), _STATE, kept.model_dump_json().encode())


async def input_of(spool: Spool, calibration: str, name: str) -> bytes:
    """The input of a canary as a PNG file."""
    return await spool.get(_key(calibration), f"{_file(name)}.png")


async def forget(spool: Spool, calibration: str) -> None:
    """Remove the canaries of a calibration that is deleted: they hold images of its pairs."""
    await spool.delete(_key(calibration))


def _key(calibration: str) -> str:
    return f"{KEY}{calibration}"


def _file(name: str) -> str:
    """A file name of fixed length: names of pairs may be as long as a file system allows."""
    return hashlib.sha256(name.encode()).hexdigest()[:20]
