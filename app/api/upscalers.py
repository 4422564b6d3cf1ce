"""The upscalers that can be asked for."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.deps import ClientDep, StateDep
from app.api.problems import problem_responses
from app.errors import UpscalerUnavailable

router = APIRouter(prefix="/v1/upscalers", tags=["upscale"])

DEFAULT_SAMPLES = 8


class UpscalerOut(BaseModel):
    """One upscaler; scale and fingerprint are null while a remote one cannot be reached."""

    name: str
    kind: str
    scale: int | None
    fingerprint: str | None
    samples: int
    calibration: str | None
    default: bool


@router.get("", responses=problem_responses("unauthorized"))
async def list_upscalers(state: StateDep, _: ClientDep) -> list[UpscalerOut]:
    """All configured upscalers; `samples` is M of the active calibration."""
    found = []
    for upscaler in state.service.upscalers.values():
        scale: int | None = None
        fingerprint: str | None = None
        with suppress(UpscalerUnavailable):
            scale, fingerprint = upscaler.scale, upscaler.fingerprint
        active = await state.calibrations.active_id(upscaler.name)
        samples = DEFAULT_SAMPLES
        if active is not None:
            samples = (await state.calibrations.get(active)).pipeline.samples
        found.append(
            UpscalerOut(
                name=upscaler.name,
                kind=upscaler.kind,
                scale=scale,
                fingerprint=fingerprint,
                samples=samples,
                calibration=active,
                default=upscaler.name == state.service.default,
            )
        )
    return found
