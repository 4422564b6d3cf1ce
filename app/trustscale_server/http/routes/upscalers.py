"""The configured upscalers."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, TypeAdapter

from trustscale_server.calibrating.activation import Answering, answering
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantee_kinds import AFTER_LOOKING
from trustscale_server.calibration.guarantees import GuaranteeSummary
from trustscale_server.calibration.insight import (
    CalibratedClass,
    ThresholdRow,
    classes_of,
    thresholds,
    thresholds_by_class,
)
from trustscale_server.calibration.priority import EVERY
from trustscale_server.conformal.error_metrics import ErrorUnit
from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.state import State, StateDep
from trustscale_server.platform.errors import UpscalerUnavailable
from trustscale_server.sampling.spec import DEFAULT_SAMPLES
from trustscale_server.sampling.throughput import ANSWERS
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.config import Character

router = client_router("/v1/upscalers")


class TrustedArea(BaseModel):
    """The mean trusted area of the calibration's pairs at an α."""

    alpha: float
    trusted_fraction: float


class NamedLevel(BaseModel):
    """A strictness by the name that people choose it by.

    least, most: the mean trusted area of the class of uploads that has least, and most.
    """

    name: Literal["strict", "balanced", "lenient"]
    alpha: float
    least: float
    most: float


class UpscalerOut(BaseModel):
    """One upscaler; scale and fingerprint are null while a remote one cannot be reached.

    default_alpha, min_alpha (B/(n + 1), below which nothing can be trusted) and bound (B) are of
    the first active calibration; null without one.
    """

    name: str
    title: str = Field(description="The name for people.")
    character: Character | None = Field(
        description="faithful hardly invents and is soft; sharp repaints and is crisp; null "
        "is not known."
    )
    kind: str
    scale: int | None
    fingerprint: str | None
    samples: int = Field(
        description="M, the samples of a picture, which take at most as many calls."
    )
    seconds_per_megapixel: float | None = Field(
        description="Seconds per megapixel of input and sample, as measured here; null if "
        "not measured yet."
    )
    answer_seconds_per_megapixel: float | None = Field(
        description="Seconds per megapixel of input, for a whole answer with a mask; null "
        "if not measured yet."
    )
    max_bytes: int = Field(description="The largest file of an upload.")
    max_pixels: int = Field(
        description="The largest upload in pixels; `fit` reduces larger ones where they can be "
        "read so."
    )
    price_per_call: float | None = Field(description="The configured price of a call.")
    cold_start_s: float = Field(description="The longest that a call waits for a model to start.")
    calibration: str | None = Field(description="The active calibration that is asked first.")
    calibrations: list[Answering] = Field(
        description="All active calibrations, in order: the first that covers the class and "
        "size of an upload answers it."
    )
    guarantee: GuaranteeSummary | None = Field(
        description="The kind of promise of the first active calibration."
    )
    calibrated_on: str | None = Field(description="A description of the first one's pictures.")
    groups: dict[str, int] = Field(
        description="The groups of the first one, with the number of pairs of each."
    )
    classes: list[CalibratedClass] = Field(
        description="The classes of uploads that they cover, each with its own curve."
    )
    default: bool = Field(
        description="Whether it answers requests that name none; of several, the class of "
        "the upload decides."
    )
    default_alpha: float | None
    min_alpha: float | None
    bound: float | None
    metric: str | None = Field(description="What an error is: the calibration's metric.")
    error_unit: ErrorUnit | None = Field(
        description="The unit of the error: lab, L1 in normalised CIELAB; ssim, (1 − "
        "SSIM)/2; label, 1 where marked."
    )
    words: bool = Field(description="Whether `words=true` says which words can be believed.")
    table: list[TrustedArea] = Field(description="Trusted area at common α, in ascending order.")
    levels: list[NamedLevel] = Field(
        description="The strictness to choose from: three of which each may be chosen after "
        "looking (`guarantee=post_hoc`), or the default alone."
    )


_LIST = TypeAdapter(list[UpscalerOut])


@router.get(
    "", response_model=list[UpscalerOut], responses=problem_responses("unauthorized", "bad-request")
)
async def list_upscalers(
    request: Request,
    state: StateDep,
    _: ClientDep,
    brief: Annotated[
        bool, Query(description="Leave out what is read from calibrations, except their ids.")
    ] = False,
) -> Response:
    """List the configured upscalers with their calibrations.

    `samples` is M of the active calibration.
    """
    rows = []
    for upscaler in state.context.upscalers.values():
        calibration = None
        if brief:
            ids = await state.services.calibrations.active_ids(upscaler.name)
            active = [Answering(id=name, name=None, classes=[]) for name in ids]
        elif active := await answering(state.services.calibrations, upscaler.name):
            calibration = await state.services.calibrations.get(active[0].id)
        classes = []
        for answers in [] if brief else active:
            classes += await _classes(state, answers)
        rows.append(
            UpscalerOut(
                **_identity(state, upscaler),
                words=await state.services.calibrations.can_judge_text(upscaler),
                **await asyncio.to_thread(_calibrated, calibration),
                calibration=active[0].id if active else None,
                calibrations=active,
                classes=[row for row, _ in classes],
                levels=levels_of(calibration, active, [table for _, table in classes]),
            )
        )
    return _compressed(request, _LIST.dump_json(rows))


def _identity(state: State, upscaler: Upscaler) -> dict[str, Any]:
    scale = fingerprint = sample_pace = answer_pace = model_max_pixels = None
    with suppress(UpscalerUnavailable):
        scale, fingerprint = upscaler.scale, upscaler.fingerprint
        sample_pace = state.context.throughput.seconds_per_megapixel(upscaler)
        answer_pace = state.context.throughput.seconds_per_megapixel(upscaler, ANSWERS)
        model_max_pixels = upscaler.capabilities.max_input_pixels
    entry = state.services.settings.upscaler(upscaler.name)
    title, character = (upscaler.name, None) if entry is None else entry.title_and_character
    limits = state.services.settings.limits
    return {
        "name": upscaler.name,
        "title": title,
        "character": character,
        "kind": upscaler.kind,
        "scale": scale,
        "fingerprint": fingerprint,
        "seconds_per_megapixel": sample_pace,
        "answer_seconds_per_megapixel": answer_pace,
        "max_bytes": limits.max_bytes,
        "max_pixels": min(limits.max_pixels, model_max_pixels or limits.max_pixels),
        "price_per_call": state.services.settings.price_per_call(upscaler.name),
        "cold_start_s": getattr(entry, "cold_start_s", 0.0),
        "default": upscaler in state.context.candidates(None),
    }


def _calibrated(calibration: Calibration | None) -> dict[str, Any]:
    if calibration is None:
        names = ("guarantee", "calibrated_on", "default_alpha", "min_alpha", "bound")
        rest = dict.fromkeys((*names, "metric", "error_unit"))
        return {**rest, "samples": DEFAULT_SAMPLES, "groups": {}, "table": []}
    return {
        "samples": calibration.pipeline.samples,
        "guarantee": calibration.guarantee.summary(),
        "calibrated_on": calibration.everything.made_of,
        "groups": dict(calibration.groups),
        "default_alpha": calibration.manifest.default_alpha,
        "min_alpha": calibration.everything.min_alpha,
        "bound": calibration.everything.bound,
        "metric": calibration.pipeline.fidelity.metric,
        "error_unit": calibration.pipeline.fidelity.spec.error_unit,
        "table": [row.model_dump() for row in thresholds(calibration.everything)],
    }


def levels_of(
    first: Calibration | None, active: list[Answering], class_tables: list[list[ThresholdRow]]
) -> list[NamedLevel]:
    """Return three levels if every class offers each for a choice after looking, else one.

    class_tables: of each class of uploads, the table under `post_hoc`.
    """
    if first is None:
        return []
    may_choose_after_looking = (
        bool(class_tables)
        and all(any(row.threshold != "-inf" for row in rows) for rows in class_tables)
        and all(EVERY not in answers.classes for answers in active)
    )
    own, (least, most) = first.manifest.default_alpha, AFTER_LOOKING
    alphas = {"balanced": own}
    if may_choose_after_looking and least < own < most:
        alphas = {"strict": least, **alphas, "lenient": most}
    else:
        class_tables = [thresholds(first.everything)]

    def area(rows: list[ThresholdRow], alpha: float) -> float:
        return max((row.trusted_fraction for row in rows if row.alpha <= alpha), default=0.0)

    return [
        NamedLevel.model_validate(
            {
                "name": name,
                "alpha": alpha,
                "least": min(area(rows, alpha) for rows in class_tables),
                "most": max(area(rows, alpha) for rows in class_tables),
            }
        )
        for name, alpha in alphas.items()
    ]


def _compressed(request: Request, body: bytes) -> Response:
    """Send JSON, compressed where accepted: it is part of a page's first view."""
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, compresslevel=6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type="application/json", headers=headers)


async def _classes(
    state: State, answers: Answering
) -> list[tuple[CalibratedClass, list[ThresholdRow]]]:
    """The classes that a calibration answers, each with its table under `post_hoc`."""
    calibration = await state.services.calibrations.get(answers.id)
    by_class = await asyncio.to_thread(thresholds_by_class, calibration)
    return [
        (row, by_class.get(row.name, []))
        for row in await asyncio.to_thread(classes_of, calibration.everything)
        if row.name in answers.classes
    ]
