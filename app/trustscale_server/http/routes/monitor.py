"""What operators look at: the reports of the monitor."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query

from trustscale_server.http.access import AdminDep, admin_router
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.state import State, StateDep
from trustscale_server.monitoring.report import (
    MonitorReport,
    UpscalerReport,
    report_of,
    uncalibrated,
)
from trustscale_server.platform.errors import NoCalibration, UpscalerUnavailable
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.upscalers.base import Upscaler, named

router = admin_router("", "bad-request")


@router.get("/monitor", responses=problem_responses("not-found", "store-unavailable"))
async def get_monitor(
    state: StateDep,
    _: AdminDep,
    upscaler: Annotated[str | None, Query(description="Only this upscaler.")] = None,
) -> MonitorReport:
    """Read what the monitor has found.

    It says whether inputs look as in calibration, the promise holds, and models are the same.
    """
    reports = [await _reports(state, chosen) for chosen in _named_or_all(state, upscaler)]
    return MonitorReport(at=datetime.now(UTC), upscalers=[row for rows in reports for row in rows])


def _named_or_all(state: State, name: str | None) -> list[Upscaler]:
    upscalers = state.context.upscalers
    return list(upscalers.values()) if name is None else [named(upscalers, name, name)]


async def _reports(state: State, upscaler: Upscaler) -> list[UpscalerReport]:
    """An entry for each active calibration that answers."""
    monitor, canaries = state.services.monitor, state.services.canaries
    try:
        active = await state.services.calibrations.priority(upscaler.name)
    except NoCalibration:
        return [uncalibrated(upscaler)]
    await monitor.settle()
    reports = []
    for calibration in active.calibrations:
        is_first = calibration is active.first
        differences = []
        with suppress(UpscalerUnavailable):  # never reached yet
            differences = pipeline_differences(calibration.pipeline, upscaler)
        if differences and not is_first:  # nothing is answered from it
            continue
        canary = await canaries.report(upscaler.name, calibration.id) if is_first else {}
        known = await monitor.known(calibration.id)
        reports.append(
            await asyncio.to_thread(
                report_of,
                upscaler,
                calibration,
                known,
                canary=canary.get("canary"),
                differences=differences,
            )
        )
    return reports
