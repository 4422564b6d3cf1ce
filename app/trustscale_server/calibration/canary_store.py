"""Where canaries are kept: among the blobs of a job, then under a key of its calibration.

Rounds (`monitoring/canaries.py`) keep a state that all processes share.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import ValidationError

from trustscale_server.calibration.canaries import (
    Canary,
    CanaryState,
    chosen,
    first_state,
    sharpness,
)
from trustscale_server.images.encoding.png import to_png
from trustscale_server.platform.errors import NotFound, UpscalerError
from trustscale_server.sampling.draw import NO_LIMITS, CollectingSink, TimeLimits, draw
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.canary_states import CanaryStates
from trustscale_server.upscalers.base import RGB, Source, Upscaler, image_digest

CANARIES_KEY: Final = "canary-"
"""Begins the key of a calibration's canaries among the blobs."""

_OF_JOB: Final = "canary/"
"""Begins the names of canaries among the blobs of the job that makes their calibration."""

_FIRST: Final = "state.json"

log = structlog.get_logger(__name__)


class CanaryTaker:
    """Reduces the samples of one pair, as they arrive, to its canary."""

    def __init__(self, blobs: Blobs, job: str, name: str) -> None:
        self._blobs = blobs
        self._job = job
        self._name = name
        self._values: list[float] = []
        self._sha256 = ""

    def see(self, index: int, sample: RGB) -> None:
        """Reduce one sample; calls must not overlap."""
        self._values.append(sharpness(sample))
        if index == 0:
            self._sha256 = image_digest(sample)

    async def keep(self, upscaler: Upscaler, x: RGB, seeds: Sequence[int]) -> None:
        """Store the canary; one more generation shows whether the seed repeats exactly.

        If that fails, the canary is given up, not the pair. A canary that is stored already stays,
        since an earlier run paid for that generation.
        """
        place = f"{_OF_JOB}{_file(self._name)}"
        if await self._blobs.has(self._job, f"{place}.json"):
            return
        repeats = False
        if upscaler.capabilities.seeds:
            try:
                repeated = await answer(upscaler, x, seeds[0])
                repeats = await asyncio.to_thread(image_digest, repeated) == self._sha256
            except UpscalerError as error:
                log.warning("canary_not_kept", canary=self._name, detail=error.detail)
                return
        canary = Canary(
            name=self._name,
            seed=seeds[0],
            sha256=self._sha256 if repeats else None,
            draws=tuple(sorted(self._values)),
        )
        png = await asyncio.to_thread(to_png, x)
        await self._blobs.put(self._job, f"{place}.png", png)
        await self._blobs.put(self._job, f"{place}.json", canary.model_dump_json().encode())


async def answer(
    upscaler: Upscaler,
    x: RGB,
    seed: int,
    *,
    spare_seeds: Sequence[int] = (),
    limits: TimeLimits = NO_LIMITS,
) -> RGB:
    """Draw one sample as a request draws its own; arguments as those of `draw`."""
    collected = CollectingSink()
    await draw(upscaler, Source(x), [seed], sink=collected, spare_seeds=spare_seeds, limits=limits)
    return collected.samples[0]


@dataclass(frozen=True, slots=True)
class CanaryStore:
    """Inputs and first states of canaries as files, later states in the store."""

    blobs: Blobs
    states: CanaryStates

    async def publish(
        self, job: str, calibration: str, *, fingerprint: str, samples: int, parent: str | None
    ) -> None:
        """Give a finished calibration the canaries of its job, unless it has some.

        A calibration that extends another inherits its canaries and their evidence.
        """
        if _FIRST in await self.blobs.names(_key(calibration)):
            return
        if parent is not None and await self.inherit(parent, calibration):
            return
        canaries = [
            Canary.model_validate_json(await self.blobs.get(job, name))
            for name in await self.blobs.names(job)
            if name.startswith(_OF_JOB) and name.endswith(".json")
        ]
        if canaries:
            state = first_state(fingerprint, samples, canaries)
            await self._put(calibration, state, job, _OF_JOB)

    async def wanted(self, names: Sequence[str], parent: str | None) -> list[str]:
        """Return which pairs of a job become canaries: none if its parent's are inherited."""
        if parent is not None and await self.load(parent) is not None:
            return []
        return chosen(names)

    async def inherit(self, parent: str, calibration: str) -> bool:
        """Copy the canaries of a calibration to one made from it; False if it has none."""
        state = await self.load(parent)
        if state is None:
            return False
        await self._put(calibration, state, _key(parent), "")
        return True

    async def load(self, calibration: str) -> CanaryState | None:
        """Return the state, or None without canaries or with a damaged state."""
        data = await self.states.load(calibration)
        try:
            if data is None:
                data = await self.blobs.get(_key(calibration), _FIRST)
            return CanaryState.model_validate_json(data)
        except NotFound:
            return None
        except ValidationError:
            log.exception("canary_state_damaged", calibration=calibration)
            return None

    async def change(
        self, calibration: str, work: Callable[[CanaryState], CanaryState | None]
    ) -> tuple[CanaryState, bool]:
        """Apply `work`, perhaps repeatedly; return the new state and whether it changed.

        Raises NotFound if there are no canaries, StoreUnavailable.
        """
        first = await self.load(calibration)
        if first is None:
            raise NotFound("The canaries were deleted.")

        def decide(stored: bytes | None) -> tuple[tuple[CanaryState, bool], bytes | None]:
            before = first if stored is None else CanaryState.model_validate_json(stored)
            after = work(before)
            if after is None:
                return (before, False), None
            return (after, True), after.model_dump_json().encode()

        return await self.states.change(calibration, decide)

    async def input_of(self, calibration: str, name: str) -> bytes:
        """Return the input of a canary as a PNG file."""
        return await self.blobs.get(_key(calibration), f"{_file(name)}.png")

    async def forget(self, calibration: str) -> None:
        """Remove the canaries of a deleted calibration, which hold images of its pairs."""
        await self.blobs.delete(_key(calibration))
        await self.states.forget(calibration)

    async def _put(self, calibration: str, state: CanaryState, key: str, prefix: str) -> None:
        for item in state.items:
            png = f"{_file(item.name)}.png"
            await self.blobs.put(_key(calibration), png, await self.blobs.get(key, prefix + png))
        await self.blobs.put(_key(calibration), _FIRST, state.model_dump_json().encode())


def _key(calibration: str) -> str:
    return f"{CANARIES_KEY}{calibration}"


def _file(name: str) -> str:
    """A file name of fixed length, since names of pairs may be long."""
    return hashlib.sha256(name.encode()).hexdigest()[:20]
