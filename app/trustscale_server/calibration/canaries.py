"""Canaries: inputs of a calibration that are sent again, to detect a replaced model.

If equal seeds give equal bytes, the answers' digests must not change. Otherwise each answer is
reduced to its sharpness, and every new one is ranked among earlier draws: under an unchanged model
all ranks are equally likely. The capital of a bet against that (`conformal/evidence.py`)
reaches 1/δ at any time with probability at most δ (Ville's inequality).

The M samples of a pair are draws already; testing for exact repetition costs one more call per
canary. A job keeps its canaries among its blobs. Then they move to a key of the calibration, and
rounds (`monitoring/canaries.py`) keep a state that all processes share.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from trustscale_server.conformal.evidence import START, Accounts, bet, rank
from trustscale_server.images.png import to_png
from trustscale_server.pixels.lab import LUMA
from trustscale_server.platform.errors import NotFound, UpscalerError
from trustscale_server.sampling.draw import NO_LIMITS, CollectingSink, TimeLimits, draw
from trustscale_server.stores.base import Blobs, MonitorStore, Update
from trustscale_server.upscalers.base import RGB, Source, Upscaler, image_digest

FALSE_CANARY_ALARM: Final = 0.01
"""Probability that an unchanged model ever raises the alarm."""

MAX_CANARIES: Final = 8
"""Canaries of one calibration, and generations of a round."""

_PREFIX: Final = "canary/"
"""Of a canary's blobs while its calibration is being made."""

CANARIES_KEY: Final = "canary-"
"""Begins the key of a calibration's canaries among the blobs, and of their state."""

_FIRST: Final = "state.json"

log = structlog.get_logger(__name__)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Frozen):
    """One input, stored elsewhere by this name, and its answers.

    seed, sha256: of the exact answer; no digest: sharpness is compared.
    draws: the sharpness of answers to other seeds so far, sorted.
    """

    name: str
    seed: int
    sha256: str | None = None
    draws: tuple[float, ...] = ()


class CanaryState(_Frozen):
    """All canaries of one calibration, and the evidence so far.

    samples: M; fresh draws take their seeds as the M first ones did.
    capital: of the accounts.
    changed: canaries whose exact answer changed.
    at: of the last round, or of the calibration.
    begun: when a process began the last round, which may have failed.
    alarm: stays once raised.
    """

    fingerprint: str
    samples: int
    items: tuple[Canary, ...]
    at: datetime
    begun: datetime | None = None
    capital: Accounts = START
    changed: tuple[str, ...] = ()
    rounds: int = 0
    alarm: bool = False

    @property
    def evidence(self) -> float:
        """The capital against "nothing has changed": ≥ 1/δ with probability ≤ δ if so."""
        if self.changed:
            return math.inf
        return sum(self.capital)


def first_state(fingerprint: str, samples: int, canaries: Sequence[Canary]) -> CanaryState:
    """Return the canaries to watch, from their answers and draws; ValueError without any.

    Answers are compared exactly if every canary repeated its bytes, else statistically, where the
    number of draws limits how small a rank can get.
    """
    if not canaries:
        raise ValueError("at least one canary is needed")
    exact = all(canary.sha256 is not None for canary in canaries)
    unused: dict[str, object] = {"draws": ()} if exact else {"sha256": None}
    return CanaryState(
        fingerprint=fingerprint,
        samples=samples,
        items=tuple(canary.model_copy(update=unused) for canary in canaries),
        at=datetime.now(UTC),
    )


class CanaryAnswer(NamedTuple):
    """What is compared of an answer: its digest and its sharpness."""

    sha256: str
    sharpness: float

    @classmethod
    def from_picture(cls, picture: RGB) -> CanaryAnswer:
        """Reduce an answer, which takes a tenth of a second of a large one."""
        return cls(image_digest(picture), sharpness(picture))


def observe(
    state: CanaryState,
    answers: Mapping[str, CanaryAnswer],
    uniform: Callable[[], float],
    at: datetime,
) -> CanaryState:
    """Return the state after a round; canaries without an answer stay as they are.

    answers: by the canary's name; statistical ones are fresh draws.
    uniform: draws from U(0, 1), to break ties.
    """
    capital, changed, items = state.capital, set(state.changed), []
    for item in state.items:
        answer = answers.get(item.name)
        after = item
        if answer is not None and item.sha256 is not None:
            changed |= {item.name} if answer.sha256 != item.sha256 else set()
        elif answer is not None:
            draws = tuple(sorted((*item.draws, answer.sharpness)))
            capital = bet(capital, rank((np.array(item.draws),), answer.sharpness, uniform()))
            after = item.model_copy(update={"draws": draws})
        items.append(after)
    changes = {"items": tuple(items), "capital": capital, "changed": tuple(sorted(changed))}
    state = state.model_copy(update={**changes, "at": at, "rounds": state.rounds + 1})
    return state.model_copy(
        update={"alarm": state.alarm or state.evidence >= 1 / FALSE_CANARY_ALARM}
    )


def sharpness(sample: RGB) -> float:
    """Return the log of the mean difference of neighbours, which differs between models."""
    grey = sample.astype(np.float32) @ LUMA
    steps = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
    return math.log(steps + 1e-6)


def chosen(names: Sequence[str]) -> list[str]:
    """Choose up to `MAX_CANARIES`, evenly spread, since neighbouring pairs are often alike."""
    places = np.linspace(0, len(names) - 1, min(MAX_CANARIES, len(names))).round().astype(int)
    return [names[place] for place in places]


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

        If that fails, the canary is given up, not the pair. One that is stored already stays: an
        earlier run has paid for that generation.
        """
        place = f"{_PREFIX}{_file(self._name)}"
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
    states: MonitorStore

    async def publish(
        self, job: str, calibration: str, *, fingerprint: str, samples: int, parent: str | None
    ) -> None:
        """Give a finished calibration the canaries of its job, unless it has some.

        One that extends another inherits its canaries and their evidence.
        """
        if _FIRST in await self.blobs.names(CANARIES_KEY + calibration):
            return
        if parent is not None and await self.inherit(parent, calibration):
            return
        canaries = [
            Canary.model_validate_json(await self.blobs.get(job, name))
            for name in await self.blobs.names(job)
            if name.startswith(_PREFIX) and name.endswith(".json")
        ]
        if canaries:
            state = first_state(fingerprint, samples, canaries)
            await self._put(calibration, state, job, _PREFIX)

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
        await self._put(calibration, state, CANARIES_KEY + parent, "")
        return True

    async def load(self, calibration: str) -> CanaryState | None:
        """Return the state, or None without canaries or with a damaged state."""
        data = await self.states.load(CANARIES_KEY + calibration)
        try:
            if data is None:
                data = await self.blobs.get(CANARIES_KEY + calibration, _FIRST)
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

        def decide(stored: bytes | None) -> tuple[tuple[CanaryState, bool], Update | None]:
            before = first if stored is None else CanaryState.model_validate_json(stored)
            after = work(before)
            if after is None:
                return (before, False), None
            return (after, True), Update(after.model_dump_json().encode())

        changed = await self.states.change(CANARIES_KEY + calibration, decide)
        return changed or (first, False)

    async def input_of(self, calibration: str, name: str) -> bytes:
        """Return the input of a canary as a PNG file."""
        return await self.blobs.get(CANARIES_KEY + calibration, f"{_file(name)}.png")

    async def forget(self, calibration: str) -> None:
        """Remove the canaries of a deleted calibration, which hold images of its pairs."""
        await self.blobs.delete(CANARIES_KEY + calibration)
        await self.states.forget(CANARIES_KEY + calibration)

    async def _put(self, calibration: str, state: CanaryState, key: str, prefix: str) -> None:
        for item in state.items:
            png = f"{_file(item.name)}.png"
            await self.blobs.put(
                CANARIES_KEY + calibration, png, await self.blobs.get(key, prefix + png)
            )
        await self.blobs.put(CANARIES_KEY + calibration, _FIRST, state.model_dump_json().encode())


def _file(name: str) -> str:
    """A file name of fixed length, since names of pairs may be long."""
    return hashlib.sha256(name.encode()).hexdigest()[:20]
