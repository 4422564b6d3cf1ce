"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.api.deps import State, StateDep
from app.api.documents import Difference
from app.api.gauges import observe
from app.errors import TrustscaleError
from app.sampling.pipeline import differences
from app.upscalers.base import Upscaler

router = APIRouter(tags=["health"])


class ServicePart(BaseModel):
    """Whether a part can serve; of an upscaler, with which calibration."""

    ready: bool
    detail: str | None = None
    calibration: str | None = None
    differences: list[Difference] | None = None
    canary: dict[str, Any] | None = None


class Readiness(BaseModel):
    """Ready if all components are."""

    ready: bool
    components: dict[str, ServicePart]


@router.get("/healthz", response_class=PlainTextResponse)
async def get_health() -> str:
    """200 while the process lives."""
    return "ok\n"


@router.get(
    "/readyz",
    responses={503: {"description": "A component is not ready.", "model": Readiness}},
)
async def get_readiness(state: StateDep, response: Response) -> Readiness:
    """200 if every component can serve, else 503; the body names each component's state."""
    asked = {"store": _store(state), "jobs": _jobs(state)} | {
        f"upscaler:{upscaler.name}": _upscaler(state, upscaler)
        for upscaler in state.service.upscalers.values()
    }
    answers = await asyncio.gather(
        *(_in_time(answer, state.timings.answer_s) for answer in asked.values())
    )
    components = dict(zip(asked, answers, strict=True))
    for name, component in components.items():
        state.metrics.set("ready", component.ready, name)
    ready = all(component.ready for component in components.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, components=components)


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(state: StateDep) -> Response:
    """Metrics in the Prometheus text format."""
    await observe(state.metrics, state)
    return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _in_time(answer: Coroutine[Any, Any, ServicePart], seconds: float) -> ServicePart:
    """What a component says, or what is wrong with it, if only that it says nothing in time."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        return ServicePart(ready=False, detail=f"no answer within {seconds:g} seconds")
    except TrustscaleError as error:
        return ServicePart(ready=False, detail=error.detail)


async def _store(state: State) -> ServicePart:
    await state.stores.check()
    return ServicePart(ready=True)


async def _jobs(state: State) -> ServicePart:
    if state.worker is not None and state.worker.done():
        return ServicePart(ready=False, detail="the job worker has stopped")
    await state.queue.check()
    return ServicePart(ready=True)


async def _upscaler(state: State, upscaler: Upscaler) -> ServicePart:
    """Ready if it can be reached and its active calibration, if any, belongs to it."""
    await state.probes.check(upscaler)
    active = await state.calibrations.active_id(upscaler.name)
    if active is None:
        return ServicePart(ready=True, calibration=None, detail="no active calibration")
    found: list[dict[str, Any]] = []
    for calibration in (await state.calibrations.order(upscaler.name)).calibrations:
        settings = calibration.manifest.provenance.settings
        differs = differences(calibration.pipeline, upscaler, settings)
        if not differs:  # requests are answered from this one, and those after it
            found = []
            break
        found = found or differs
    canary = await state.canaries.report(upscaler.name, active)
    if found:
        return ServicePart(
            ready=False,
            calibration=active,
            detail="calibration-mismatch",
            differences=[Difference(**one) for one in found],
        )
    return ServicePart(**{"ready": True, "calibration": active, **canary})
