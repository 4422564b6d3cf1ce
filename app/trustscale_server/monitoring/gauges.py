"""The gauges of /metrics, read when it is asked, so they are never older than the scrape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args

from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.platform.errors import BadCalibration, NotFound, UpscalerUnavailable
from trustscale_server.platform.fair import AdmissionController
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JobKind
from trustscale_server.stores.opened import Stores
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.resilience.upscaler import ResilientUpscaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Reads the state of slots, stores, jobs, calibrations and remote upscalers into `metrics`."""

    metrics: Metrics
    slots: AdmissionController
    stores: Stores
    upscalers: Mapping[str, Upscaler]
    calibrations: Calibrations

    async def update(self) -> None:
        """Set all; while the store is away, those that need it keep their last values."""
        self._set_slots()
        try:
            for upscaler in self.upscalers.values():
                await self._set_upstream(upscaler)
            await self.stores.results.probe()
            self.metrics.set("store_persists", await self.stores.weakness() is None)
            await self._set_stored()
            for upscaler in self.upscalers.values():
                await self._set_calibration(upscaler)
        except StoreUnavailable:
            self.metrics.set("store_up", 0)
        else:
            self.metrics.set("store_up", 1)

    def _set_slots(self) -> None:
        self.metrics.set("slots", self.slots.in_flight, "in_flight")
        self.metrics.set("slots", self.slots.waiting, "waiting")
        self.metrics.set("slots_limit", self.slots.capacity, "in_flight")
        self.metrics.set("slots_limit", self.slots.max_waiting, "waiting")
        self.metrics.set("slot_bytes", self.slots.bytes_in_flight, "in_flight")
        budget = self.slots.max_in_flight_bytes
        self.metrics.set("slot_bytes", math.inf if budget is None else budget, "limit")

    async def _set_upstream(self, upscaler: Upscaler) -> None:
        if not isinstance(upscaler, ResilientUpscaler):
            return
        self.metrics.set("upstream_breaker_open", upscaler.breaker_open, upscaler.name)
        if (spent := await upscaler.spent()) is not None:
            self.metrics.set("upstream_calls_last_hour", spent[0], upscaler.name)
            self.metrics.set("upstream_calls_limit", spent[1], upscaler.name)

    async def _set_stored(self) -> None:
        """The sizes of the store and of the results, and the jobs that have not ended."""
        for name, space in (
            ("store_bytes", await self.stores.space()),
            ("result_bytes", await self.stores.results.space()),
        ):
            self.metrics.set(name, space.used, "used")
            self.metrics.set(name, space.limit, "limit")
        for kind in get_args(JobKind):
            jobs = await self.stores.jobs.waiting(kind)
            oldest = 0 if jobs.oldest is None else jobs.oldest.timestamp()
            self.metrics.set("jobs", jobs.queued, kind, "queued")
            self.metrics.set("jobs", jobs.running, kind, "running")
            self.metrics.set("jobs_oldest_queued_timestamp_seconds", oldest, kind)

    async def _set_calibration(self, upscaler: Upscaler) -> None:
        """Set the gauges of the active calibration."""
        name = upscaler.name
        active = await self.calibrations.active_id(name)
        calibration: Calibration | None = None
        if active is not None:
            with suppress(BadCalibration, NotFound):  # damaged
                calibration = await self.calibrations.get(active)
        self.metrics.set("calibration_active", calibration is not None, name)
        if calibration is None:
            return
        created_at = calibration.manifest.created_at.timestamp()
        self.metrics.set("calibration_created_timestamp_seconds", created_at, name)
        self.metrics.set("calibration_scenes", calibration.n, name)
        self.metrics.set("calibration_min_alpha", calibration.everything.min_alpha, name)
        self.metrics.set("calibration_default_alpha", calibration.manifest.default_alpha, name)
        with suppress(UpscalerUnavailable):  # never reached yet
            mismatch = bool(pipeline_differences(calibration.pipeline, upscaler))
            self.metrics.set("calibration_mismatch", mismatch, name)
