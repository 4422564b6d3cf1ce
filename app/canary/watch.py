"""Watching for a model that its provider changes without telling.

Every `interval_s` the canaries of each watched upscaler's active calibration are sent again,
through the same retries, limits and spend guard as any request. What is known lies in the spool,
under the id of the calibration: it survives restarts, every process sees it, and a new calibration
starts afresh. When several gateways share a spool, the first one whose round is due makes it. Two
that begin at the same moment both pay, and the later writer wins within the milliseconds of its
write: a lost round delays the alarm by one interval and makes no false one, since which of two
rounds is lost does not depend on what they saw.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import structlog

from app.canary.evidence import DELTA, Canary, observe
from app.canary.keep import Kept, answer, input_of, load, save
from app.errors import CalibrationMismatch, TrustscaleError, UpscalerError
from app.images.decode import PAIR_LIMITS, decode
from app.sampling.measure import SPARES
from app.sampling.pipeline import learn
from app.stores.base import Spool, StoreUnavailable
from app.telemetry.metrics import Metrics
from app.upscalers.base import RGB, Upscaler
from app.upscalers.config import RemoteConfig
from app.upscalers.registry import UpscalerConfig
from app.upscalers.seeds import sample_seeds

Policy = Literal["warn", "refuse"]

# A round is due this share of the interval later, at random, so that gateways do not begin at once.
_JITTER = 0.1

# A round that came to nothing is tried again after this share of the interval.
_AFTER_FAILURE = 1 / 24

log = structlog.get_logger(__name__)


def policies(configs: Collection[UpscalerConfig]) -> dict[str, Policy]:
    """What a change leads to, for each upscaler that is to be watched."""
    return {
        config.name: config.canary
        for config in configs
        if isinstance(config, RemoteConfig) and config.canary != "off"
    }


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the spool said of an upscaler's active calibration; None: it has no canaries."""

    calibration: str
    kept: Kept | None
    at: float


class Active(Protocol):
    """Which calibration an upscaler is served under."""

    async def active_id(self, upscaler: str) -> str | None: ...


@dataclass(eq=False, repr=False)
class CanaryWatch:
    """Knows whether watched upscalers have changed, and finds out.

    policies: of the upscalers that are watched.
    fresh_s: how old the state behind an answer may be, and how often the watch looks at it.
    chance: seeds and their order, ties, and when a round is due.
    """

    upscalers: Mapping[str, Upscaler]
    policies: Mapping[str, Policy]
    calibrations: Active
    spool: Spool
    metrics: Metrics = field(default_factory=Metrics)
    _: KW_ONLY
    interval_s: float
    timeout_s: float
    fresh_s: float = 60.0
    chance: random.Random = field(default_factory=random.Random)
    _seen: dict[str, _Seen] = field(default_factory=dict, init=False)

    async def check(self, upscaler: str, calibration: str) -> list[str]:
        """Warnings that an answer under this calibration must carry.

        Raises:
            CalibrationMismatch: the model seems to have changed, and the policy is "refuse".
            StoreUnavailable: nothing is known and the spool cannot be read.
        """
        kept = await self._kept(upscaler, calibration)
        if kept is None or not kept.alarm:
            return []
        what = (
            f"The model behind {upscaler!r} seems to have changed since it was calibrated: "
            f"{_finding(kept)}."
        )
        if self.policies[upscaler] == "refuse":
            raise CalibrationMismatch(
                f"{what} Calibrate it again; a new calibration is watched afresh.",
                differences=[_difference(kept)],
            )
        return [f"{what} The guarantee may not hold until it is calibrated again."]

    async def report(self, upscaler: str, calibration: str) -> dict[str, Any]:
        """Members of the upscaler's component on /readyz; empty if it is not watched."""
        if upscaler not in self.policies:
            return {}
        policy, kept = self.policies[upscaler], await self._kept(upscaler, calibration)
        if kept is None:
            detail = "this calibration has no canaries: it was imported, or made without them"
            return {"canary": {"policy": policy, "detail": detail}}
        evidence = kept.canaries.evidence
        canary = {
            "policy": policy,
            "alarm": kept.alarm,
            "evidence": evidence if math.isfinite(evidence) else "inf",
            "rounds": kept.rounds,
            "at": kept.at.isoformat(timespec="seconds"),
        }
        if kept.alarm and policy == "refuse":
            found = {"detail": "calibration-mismatch", "differences": [_difference(kept)]}
            return {"ready": False, **found, "canary": canary}
        return {"canary": canary}

    async def run(self) -> None:
        """Make every round that is due, until cancelled."""
        await asyncio.gather(*(self._watch(upscaler) for upscaler in self.policies))

    async def round(self, upscaler: str) -> None:
        """Send the canaries of the active calibration once.

        Nothing happens, and nothing is paid, when there are none, when the alarm is raised already,
        or when the upscaler openly is another one, which every request is told anyway.

        Raises:
            TrustscaleError: a store cannot be used.
        """
        calibration = await self.calibrations.active_id(upscaler)
        kept = calibration and await load(self.spool, calibration)
        if not calibration or not kept or kept.alarm:
            return
        model = self.upscalers[upscaler]
        answers: dict[str, RGB] = {}
        failure: UpscalerError | None = None
        # One after the other: a round must not crowd out requests.
        for item in kept.canaries.items:
            try:
                await learn(model)
                if model.fingerprint != kept.canaries.fingerprint:
                    return
                answers[item.name] = await self._answer(model, calibration, item, kept.samples)
            except UpscalerError as error:
                failure = error
        if failure is not None:
            log.warning("canary_failed", upscaler=upscaler, detail=failure.detail)
        if not answers:
            self.metrics.count("canary_rounds", upscaler, "failed")
            return
        # Another gateway may have made a round meanwhile: its evidence is not thrown away.
        newest = await load(self.spool, calibration) or kept
        canaries = await asyncio.to_thread(observe, newest.canaries, answers, self.chance.random)
        after = newest.model_copy(
            update={
                "canaries": canaries,
                "at": datetime.now(UTC),
                "rounds": newest.rounds + 1,
                "alarm": newest.alarm or canaries.alarms(),
            }
        )
        await save(self.spool, calibration, after)
        self.metrics.count("canary_rounds", upscaler, "ok")
        self._remember(upscaler, calibration, after)

    async def _answer(self, model: Upscaler, calibration: str, item: Canary, samples: int) -> RGB:
        data = await input_of(self.spool, calibration, item.name)
        x = (await asyncio.to_thread(decode, data, PAIR_LIMITS)).rgb
        seed, spares = item.seed, list[int]()
        if item.sha256 is None:
            # A seed like those of the first draws. Models that are sampled through symmetries take
            # from the first M seeds other elements than from later ones, so one of M is drawn.
            seeds = sample_seeds(self.chance.getrandbits(53), samples)
            self.chance.shuffle(seeds)
            seed, *spares = seeds[: 1 + SPARES]
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        return await answer(model, x, seed, spare_seeds=spares, deadline=deadline)

    async def _watch(self, upscaler: str) -> None:
        """Look whether a round is due, and make it, for ever.

        It is due by the time of the last one, not by that of the start: gateways that are restarted
        every day still make rounds. The start itself only looks at what is known.
        """
        late = self.chance.uniform(1, 1 + _JITTER)
        look_s = late * min(self.fresh_s, self.interval_s)
        not_before = time.monotonic() + look_s / 2
        while True:
            try:
                is_due = await self._is_due(upscaler, late * self.interval_s)
                if is_due and time.monotonic() > not_before:
                    # However it ends: its calls are paid, also if the store then refuses them.
                    not_before = time.monotonic() + _AFTER_FAILURE * self.interval_s
                    await self.round(upscaler)
            except TrustscaleError as error:
                log.warning("canary_failed", upscaler=upscaler, detail=error.detail)
            except Exception:
                # The watch outlives a mistake of its own; requests do not depend on it.
                log.exception("canary_failed", upscaler=upscaler)
            await asyncio.sleep(look_s)

    async def _is_due(self, upscaler: str, interval_s: float) -> bool:
        calibration = await self.calibrations.active_id(upscaler)
        kept = None if calibration is None else await self._look(upscaler, calibration)
        return kept is not None and (datetime.now(UTC) - kept.at).total_seconds() >= interval_s

    async def _kept(self, upscaler: str, calibration: str) -> Kept | None:
        """The state, read again when it is older than `fresh_s` or of another calibration."""
        if upscaler not in self.policies:
            return None
        seen = self._seen.get(upscaler)
        if seen is None or seen.calibration != calibration:
            return await self._look(upscaler, calibration)
        if time.monotonic() - seen.at < self.fresh_s:
            return seen.kept
        try:
            return await self._look(upscaler, calibration)
        except StoreUnavailable as error:
            log.warning("canary_state_unread", upscaler=upscaler, detail=error.detail)
            return seen.kept

    async def _look(self, upscaler: str, calibration: str) -> Kept | None:
        """The state as it is in the spool now."""
        kept = await load(self.spool, calibration)
        self._remember(upscaler, calibration, kept)
        return kept

    def _remember(self, upscaler: str, calibration: str, kept: Kept | None) -> None:
        before = self._seen.get(upscaler)
        if before is not None and before.calibration != calibration:
            before = None
        self._seen[upscaler] = _Seen(calibration, kept, time.monotonic())
        evidence, alarm = (kept.canaries.evidence, kept.alarm) if kept else (0.0, False)
        self.metrics.set("canary_evidence", evidence, upscaler)
        self.metrics.set("canary_alarm", alarm, upscaler)
        if kept is None and before is None:
            log.warning("no_canaries", upscaler=upscaler, calibration=calibration)
        elif kept and alarm and not (before and before.kept and before.kept.alarm):
            log.error(
                "model_changed",
                upscaler=upscaler,
                calibration=calibration,
                policy=self.policies[upscaler],
                finding=_finding(kept),
            )


def _finding(kept: Kept) -> str:
    changed = kept.canaries.changed
    if changed:
        return (
            f"{len(changed)} of {len(kept.canaries.items)} canaries no longer give the same bytes "
            "for the same seed"
        )
    return (
        "the answers to the canaries differ from the earlier ones in a way that chance alone "
        f"brings about in at most {100 * DELTA:g} % of all cases"
    )


def _difference(kept: Kept) -> dict[str, Any]:
    return {"field": "canary", "calibrated": "the answers kept then", "live": _finding(kept)}
