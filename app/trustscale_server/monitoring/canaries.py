"""Detects a model that its provider changes without notice.

Every `interval_s` the canaries of each watched upscaler's active calibration are sent again, like
any request. All processes share a state; the first gateway to claim a round makes it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.canaries import (
    FALSE_CANARY_ALARM,
    Canary,
    CanaryAnswer,
    CanaryState,
    observe,
)
from trustscale_server.calibration.canary_store import CanaryStore, answer
from trustscale_server.images.decoding.raster import stored_pixels
from trustscale_server.platform.errors import CalibrationMismatch, TrustscaleError, UpscalerError
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.sampling.draw import TimeLimits
from trustscale_server.sampling.measure import SPARES
from trustscale_server.sampling.spec import identify
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.upscalers.base import RGB, Upscaler
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.registry import UpscalerConfig
from trustscale_server.upscalers.symmetries import sample_seeds

_Policy = Literal["warn", "refuse"]

log = structlog.get_logger(__name__)


def policies(configs: Collection[UpscalerConfig]) -> dict[str, _Policy]:
    """Return what a change leads to, for each watched upscaler."""
    return {
        config.name: config.canary
        for config in configs
        if isinstance(config, RemoteConfig) and config.canary != "off"
    }


@dataclass(frozen=True, slots=True)
class _Cached:
    """What was last known of an upscaler's active calibration; state None: it has no canaries."""

    calibration: str
    state: CanaryState | None
    at: float


@dataclass(eq=False, repr=False)
class CanaryWatch:
    """Watches upscalers for changes of their models.

    policies: of the watched upscalers.
    fresh_s: how old the state behind an answer may be, and how often it is read.
    chance: of seeds and their order, ties, and rounds.
    """

    upscalers: Mapping[str, Upscaler]
    policies: Mapping[str, _Policy]
    calibrations: Calibrations
    store: CanaryStore
    metrics: Metrics = field(default_factory=Metrics)
    _: KW_ONLY
    interval_s: float
    request_timeout_s: float
    fresh_s: float = 60.0
    chance: random.Random = field(default_factory=random.Random)
    _cached: dict[str, _Cached] = field(default_factory=dict, init=False)

    async def warnings(self, upscaler: str, calibration: str) -> list[str]:
        """Return the warnings that an answer under this calibration must carry.

        Raises:
            CalibrationMismatch: the model seems to have changed, and the policy is "refuse".
            StoreUnavailable: nothing is known and the store cannot be read.
        """
        state = await self._fresh(upscaler, calibration)
        if state is None or not state.alarm:
            return []
        finding = (
            f"The model behind {upscaler!r} seems to have changed since it was calibrated: "
            f"{_finding(state)}."
        )
        if self.policies[upscaler] == "refuse":
            raise CalibrationMismatch(
                f"{finding} Calibrate it again; a new calibration is watched afresh.",
                differences=[_difference(state)],
            )
        return [f"{finding} The guarantee may not hold until it is calibrated again."]

    async def report(self, upscaler: str, calibration: str) -> dict[str, Any]:
        """Return what /readyz says of the upscaler's canaries; empty if it is not watched."""
        if upscaler not in self.policies:
            return {}
        policy, state = self.policies[upscaler], await self._fresh(upscaler, calibration)
        if state is None:
            detail = "this calibration has no canaries: it was imported, or made without them"
            return {"canary": {"policy": policy, "detail": detail}}
        canary = {
            "policy": policy,
            "alarm": state.alarm,
            "evidence": state.evidence if math.isfinite(state.evidence) else "inf",
            "rounds": state.rounds,
            "at": state.at.isoformat(timespec="seconds"),
        }
        if state.alarm and policy == "refuse":
            report = {"detail": "calibration-mismatch", "differences": [_difference(state)]}
            return {"ready": False, **report, "canary": canary}
        return {"canary": canary}

    async def run(self) -> None:
        """Make every round that is due, until cancelled."""
        await asyncio.gather(*(self._watch(upscaler) for upscaler in self.policies))

    async def round(self, upscaler: str, *, due_s: float = 0.0) -> None:
        """Send the canaries of the active calibration, if a round is due.

        Nothing is sent without canaries, after an alarm, while another process makes a round, or
        under another fingerprint, since every request warns of that.

        Raises:
            TrustscaleError: a store cannot be used.
        """
        calibration = await self.calibrations.active_id(upscaler)
        state = calibration and await self.store.load(calibration)
        if not calibration or not state or not self._is_due(state, due_s):
            return

        def begin(newest: CanaryState) -> CanaryState | None:
            if newest.begun != state.begun or not self._is_due(newest, due_s):
                return None
            return newest.model_copy(update={"begun": datetime.now(UTC)})

        if not await self._change(upscaler, calibration, begin):
            return
        answers = await self._answers(upscaler, calibration, state)
        if not answers:
            self.metrics.count("canary_rounds", upscaler, "failed")
            return

        def end(newest: CanaryState) -> CanaryState:
            return observe(newest, answers, self.chance.random, datetime.now(UTC))

        await self._change(upscaler, calibration, end)
        self.metrics.count("canary_rounds", upscaler, "ok")

    async def _answers(
        self, upscaler: str, calibration: str, state: CanaryState
    ) -> dict[str, CanaryAnswer]:
        model = self.upscalers[upscaler]
        answers: dict[str, CanaryAnswer] = {}
        failure: UpscalerError | None = None
        # One after the other, not to crowd out requests.
        for item in state.items:
            try:
                await identify(model)
                if model.fingerprint != state.fingerprint:
                    return {}
                picture = await self._answer(model, calibration, item, state.samples)
                answers[item.name] = await asyncio.to_thread(CanaryAnswer.from_picture, picture)
            except UpscalerError as error:
                failure = error
        if failure is not None:
            log.warning("canary_failed", upscaler=upscaler, detail=failure.detail)
        return answers

    async def _answer(self, model: Upscaler, calibration: str, item: Canary, samples: int) -> RGB:
        data = await self.store.input_of(calibration, item.name)
        x = await asyncio.to_thread(stored_pixels, data)
        seed, spares = item.seed, list[int]()
        if item.sha256 is None:
            # Models sampled through symmetries take other elements from the first M seeds than from
            # later ones, so draw one of M.
            seeds = sample_seeds(self.chance.getrandbits(53), samples)
            self.chance.shuffle(seeds)
            seed, *spares = seeds[: 1 + SPARES]
        limits = TimeLimits.within(self.request_timeout_s)
        return await answer(model, x, seed, spare_seeds=spares, limits=limits)

    async def _watch(self, upscaler: str) -> None:
        """Make rounds for ever, due after the last round, since gateways restart."""
        # Gateways are spread by up to a tenth of the interval.
        late = self.chance.uniform(1, 1.1)
        pause_s = late * min(self.fresh_s, self.interval_s)
        while True:
            try:
                if (calibration := await self.calibrations.active_id(upscaler)) is not None:
                    await self._look(upscaler, calibration)
                await asyncio.sleep(pause_s)
                await self.round(upscaler, due_s=late * self.interval_s)
            except TrustscaleError as error:
                log.warning("canary_failed", upscaler=upscaler, detail=error.detail)
                await asyncio.sleep(pause_s)
            except Exception:
                # A bug must not end the watch.
                log.exception("canary_failed", upscaler=upscaler)
                await asyncio.sleep(pause_s)

    def _is_due(self, state: CanaryState, due_s: float) -> bool:
        if state.alarm:
            return False
        now, interval = datetime.now(UTC), timedelta(seconds=due_s)
        # A round that was begun and failed is repeated after a 24th of the interval.
        rests = state.begun is not None and now - state.begun < interval / 24
        return now - state.at >= interval and not rests

    async def _change(
        self, upscaler: str, calibration: str, work: Callable[[CanaryState], CanaryState | None]
    ) -> bool:
        """Whether the state was changed by `work`; see `CanaryStore.change`."""
        state, is_changed = await self.store.change(calibration, work)
        self._remember(upscaler, calibration, state)
        return is_changed

    async def _fresh(self, upscaler: str, calibration: str) -> CanaryState | None:
        """The state, at most `fresh_s` old if the store can be read."""
        if upscaler not in self.policies:
            return None
        cached = self._cached.get(upscaler)
        if cached is None or cached.calibration != calibration:
            return await self._look(upscaler, calibration)
        if time.monotonic() - cached.at < self.fresh_s:
            return cached.state
        try:
            return await self._look(upscaler, calibration)
        except StoreUnavailable as error:
            log.warning("canary_state_unread", upscaler=upscaler, detail=error.detail)
            return cached.state

    async def _look(self, upscaler: str, calibration: str) -> CanaryState | None:
        state = await self.store.load(calibration)
        self._remember(upscaler, calibration, state)
        return state

    def _remember(self, upscaler: str, calibration: str, state: CanaryState | None) -> None:
        before = self._cached.get(upscaler)
        if before is not None and before.calibration != calibration:
            before = None
        self._cached[upscaler] = _Cached(calibration, state, time.monotonic())
        self.metrics.set("canary_evidence", state.evidence if state else 0.0, upscaler)
        self.metrics.set("canary_alarm", state is not None and state.alarm, upscaler)
        was_alarming = before is not None and before.state is not None and before.state.alarm
        if state is None:
            if before is None:
                log.warning("no_canaries", upscaler=upscaler, calibration=calibration)
        elif state.alarm and not was_alarming:
            log.error(
                "model_changed",
                upscaler=upscaler,
                calibration=calibration,
                policy=self.policies[upscaler],
                finding=_finding(state),
            )


def _finding(state: CanaryState) -> str:
    if state.changed:
        return (
            f"{len(state.changed)} of {len(state.items)} canaries no longer give the same bytes "
            "for the same seed"
        )
    return (
        "the answers to the canaries differ from the earlier ones in a way that chance alone "
        f"brings about in at most {100 * FALSE_CANARY_ALARM:g} % of all cases"
    )


def _difference(state: CanaryState) -> dict[str, Any]:
    return {"field": "canary", "calibrated": "the answers kept then", "live": _finding(state)}
