"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from trustscale_server.calibrating.detail import Difference
from trustscale_server.http.state import State, StateDep
from trustscale_server.platform.errors import TrustscaleError
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.upscalers.base import Upscaler

log = structlog.get_logger(__name__)

router = APIRouter(tags=["health"])


class ServicePart(BaseModel):
    """Whether a part can serve; for an upscaler, with which calibration."""

    ready: bool
    detail: str | None = None
    calibration: str | None = None
    differences: list[Difference] | None = None
    canary: dict[str, Any] | None = None


class Readiness(BaseModel):
    """Ready if all components are."""

    ready: bool
    components: dict[str, ServicePart]
    startup: dict[str, float] = Field(
        default_factory=dict, description="Seconds that each phase of the start took."
    )


@router.get("/healthz", response_class=PlainTextResponse)
async def get_health() -> str:
    """Say that the process lives."""
    return "ok\n"


@router.get(
    "/readyz", responses={503: {"description": "A component is not ready.", "model": Readiness}}
)
async def get_readiness(state: StateDep, response: Response) -> Readiness:
    """Say whether every component can serve.

    The answer is 200 if so, else 503; the body names each component's state.
    """
    components = await _checked_components(state)
    ready = all(component.ready for component in components.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, components=components, startup=dict(state.services.startup))


async def _checked_components(state: State) -> dict[str, ServicePart]:
    """The state of each component, which is also what the gauge `ready` shows."""
    checks = {"store": _store(state), "jobs": _jobs(state)} | {
        f"upscaler:{upscaler.name}": _upscaler(state, upscaler)
        for upscaler in state.context.upscalers.values()
    }
    answers = await asyncio.gather(
        *(_in_time(check, state.timings.answer_s) for check in checks.values())
    )
    components = dict(zip(checks, answers, strict=True))
    for name, component in components.items():
        state.metrics.set("ready", component.ready, name)
    return components


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(state: StateDep) -> Response:
    """Read the metrics in the Prometheus text format."""
    await asyncio.gather(state.services.gauges.update(), _checked_components(state))
    return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _in_time(check: Coroutine[Any, Any, ServicePart], seconds: float) -> ServicePart:
    """The state of a component; one that does not answer in time is not ready."""
    try:
        async with asyncio.timeout(seconds):
            return await check
    except TimeoutError:
        return ServicePart(ready=False, detail=f"no answer within {seconds:g} seconds")
    except TrustscaleError as error:
        return ServicePart(ready=False, detail=error.detail)
    except Exception:
        # The states of the other components, and the metrics, are answered all the same.
        log.exception("not_ready")
        return ServicePart(ready=False, detail="an unexpected error; the log has it")


async def _store(state: State) -> ServicePart:
    await state.services.stores.probe()
    return ServicePart(ready=True, detail=await state.services.stores.weakness())


async def _jobs(state: State) -> ServicePart:
    if state.worker is not None and state.worker.done():
        return ServicePart(ready=False, detail="the job worker has stopped")
    await state.services.queue.probe()
    return ServicePart(ready=True)


async def _upscaler(state: State, upscaler: Upscaler) -> ServicePart:
    """Check whether an upscaler can be reached and its active calibration belongs to it."""
    await state.health_checks.check(upscaler)
    active = await state.services.calibrations.active_id(upscaler.name)
    if active is None:
        return ServicePart(ready=True, detail="no active calibration")
    differences = await _differences(state, upscaler)
    canary = await state.services.canaries.report(upscaler.name, active)
    if differences:
        return ServicePart(
            ready=False,
            calibration=active,
            detail="calibration-mismatch",
            differences=[Difference(**difference) for difference in differences],
        )
    return ServicePart(**{"ready": True, "calibration": active, **canary})


async def _differences(state: State, upscaler: Upscaler) -> list[dict[str, Any]]:
    """How the first active calibration differs; nothing if any of them answers requests."""
    of_first: list[dict[str, Any]] = []
    for calibration in (await state.services.calibrations.priority(upscaler.name)).calibrations:
        settings = calibration.manifest.provenance.settings
        differences = pipeline_differences(calibration.pipeline, upscaler, settings)
        if not differences:
            return []
        of_first = of_first or differences
    return of_first
