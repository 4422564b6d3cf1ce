"""The upscalers that can be asked for."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, TypeAdapter

from app.api.deps import ClientDep, State, StateDep
from app.api.documents import Answering, CalibratedClass, GuaranteeFacts, answering
from app.api.problems import problem_responses
from app.calibration.insight import classes_of, tables, thresholds
from app.conformal.fidelity import Unit
from app.errors import UpscalerUnavailable
from app.sampling.pipeline import DEFAULT_SAMPLES
from app.serving.answer import threshold_json
from app.upscalers.base import Upscaler
from app.upscalers.shipped import Character

router = APIRouter(prefix="/v1/upscalers", tags=["upscale"])


class TrustedArea(BaseModel):
    """What an α means for a typical image: the mean trusted area of the calibration's pairs."""

    alpha: float
    trusted_fraction: float


class UpscalerOut(BaseModel):
    """One upscaler; scale and fingerprint are null while a remote one cannot be reached.

    The last three are of the active calibration, null without one: the α of requests that name
    none, B/(n + 1) below which nothing can be trusted, and B.
    """

    name: str
    title: str = Field(description="The name for people.")
    character: Character | None = Field(
        description="faithful: hardly invents, soft; sharp: repaints, crisp; null: not known."
    )
    kind: str
    scale: int | None
    fingerprint: str | None
    samples: int = Field(description="M: samples, and at most as many calls, that a picture costs.")
    seconds_per_megapixel: float | None = Field(
        description="Of input and sample, as measured here; null: not known yet."
    )
    price_per_call: float | None = Field(description="As configured.")
    cold_start_s: float = Field(
        description="So long at most a call waits for a model that must be started first."
    )
    calibration: str | None = Field(description="The first of the active ones.")
    calibrations: list[Answering] = Field(
        description="All of them, in the order in which they are asked: an upload is answered from "
        "the first that covers its class and size."
    )
    guarantee: GuaranteeFacts | None = Field(description="Of the active calibration.")
    calibrated_on: str | None = Field(description="What its pictures are.")
    groups: dict[str, int] = Field(description="Its groups, with the number of pairs of each.")
    classes: list[CalibratedClass] = Field(
        description="The classes of uploads that they cover, each with a curve of its own."
    )
    default: bool = Field(
        description="Asked where a request names none; of several, the class of the upload decides."
    )
    chosen_for: dict[str, str] = Field(
        description="Classes of uploads for which `auto` takes it because it was measured, and "
        "what. Of other classes the configuration decides."
    )
    default_alpha: float | None
    min_alpha: float | None
    bound: float | None
    unit: Unit | None = Field(
        description="Of the error: lab, L1 in normalised CIELAB; ssim, (1 − SSIM)/2; label, 1 "
        "where marked."
    )
    table: list[TrustedArea] = Field(description="Trusted area at common α, in ascending order.")


_LIST = TypeAdapter(list[UpscalerOut])


def _pace(state: State, upscaler: Upscaler) -> float | None:
    with suppress(UpscalerUnavailable):
        return state.service.throughput.seconds_per_megapixel(upscaler)
    return None


@router.get(
    "",
    response_model=list[UpscalerOut],
    responses=problem_responses("unauthorized", "bad-request"),
)
async def list_upscalers(
    request: Request,
    state: StateDep,
    _: ClientDep,
    brief: Annotated[
        bool, Query(description="Nothing that is read from calibrations, but their ids.")
    ] = False,
) -> Response:
    """All configured upscalers; `samples` is M of the active calibration."""
    found = []
    choices = {} if brief else await state.service.choices()
    for upscaler in state.service.upscalers.values():
        scale: int | None = None
        fingerprint: str | None = None
        with suppress(UpscalerUnavailable):
            scale, fingerprint = upscaler.scale, upscaler.fingerprint
        ids = await state.calibrations.active_ids(upscaler.name)
        active = next(iter(ids), None)
        calibration = await state.calibrations.get(ids[0]) if ids and not brief else None
        table = await asyncio.to_thread(thresholds, calibration) if calibration else []
        asked = [Answering(id=one, name=None, classes=[]) for one in ids]
        if not brief:
            asked = await answering(state, upscaler.name)
        classes = [row for one in asked if not brief for row in await _classes(state, one)]
        entry = state.settings.upscaler(upscaler.name)
        title, character = (upscaler.name, None) if entry is None else entry.shown
        found.append(
            UpscalerOut(
                name=upscaler.name,
                title=title,
                character=character,
                kind=upscaler.kind,
                scale=scale,
                fingerprint=fingerprint,
                samples=calibration.pipeline.samples if calibration else DEFAULT_SAMPLES,
                seconds_per_megapixel=_pace(state, upscaler),
                price_per_call=state.settings.price_per_call(upscaler.name),
                cold_start_s=getattr(entry, "cold_start_s", 0.0),
                calibration=active,
                calibrations=asked,
                guarantee=GuaranteeFacts(**calibration.guarantee.facts()) if calibration else None,
                calibrated_on=calibration.made_of if calibration else None,
                groups=dict(calibration.groups) if calibration else {},
                classes=classes,
                default=upscaler in state.service.candidates(None),
                chosen_for={
                    name: choice.why
                    for name, choice in choices.items()
                    if choice.upscaler == upscaler.name
                },
                default_alpha=calibration.manifest.default_alpha if calibration else None,
                min_alpha=calibration.min_alpha if calibration else None,
                bound=calibration.bound if calibration else None,
                unit=calibration.pipeline.fidelity.row.unit if calibration else None,
                table=[TrustedArea.model_validate(row) for row in table],
            )
        )
    return _packed(request, _LIST.dump_json(found))


def _packed(request: Request, body: bytes) -> Response:
    """JSON, by gzip where that is taken: tables of all classes are most of a page's first view."""
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, compresslevel=6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type="application/json", headers=headers)


def _shown(tables: Mapping[str, list[dict[str, float]]]) -> dict[str, list[dict[str, Any]]]:
    """The tables of a class as JSON has them."""
    return {
        kind: [{**row, "threshold": threshold_json(row["threshold"])} for row in rows]
        for kind, rows in tables.items()
    }


async def _classes(state: State, asked: Answering) -> list[CalibratedClass]:
    """The classes that one of the active calibrations answers."""
    calibration = await state.calibrations.get(asked.id)
    by_class = await asyncio.to_thread(tables, calibration)
    return [
        CalibratedClass(**row, tables=_shown(by_class[row["name"]]))
        for row in await asyncio.to_thread(classes_of, calibration)
        if row["name"] in asked.classes
    ]
