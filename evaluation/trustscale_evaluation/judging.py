"""Which upscalers and settings `trustscale evaluate` judges, as it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import typer

from trustscale_evaluation import report
from trustscale_evaluation.conduct import conduct, typical_side
from trustscale_evaluation.plan import EvaluationPlan
from trustscale_evaluation.run import Options
from trustscale_evaluation.samples import SampleCache
from trustscale_evaluation.variants import Variant, compared, paper, served
from trustscale_server.bootstrap.assembly import Services
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.routing import (
    AnsweredUploads,
    answered_uploads,
    answering_in_words,
)
from trustscale_server.calibration import file
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.cli.bars import progress_bars
from trustscale_server.cli.in_process import services_in_process
from trustscale_server.platform.errors import BadRequest
from trustscale_server.sampling.sigma.moments import MAX_SAMPLES
from trustscale_server.sampling.spec import identify
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.embedded.shipped import SCALE

PAPER_SAMPLES = 8

_ACTIVE = "active"


class Requested(NamedTuple):
    """What is to be judged.

    upscalers: none: those that would answer such uploads. variants: None: the default ones.
    calibration: in place of settings: active, an id, or a file. samples: further numbers of
    generations to compare.
    """

    upscalers: Sequence[str]
    variants: Sequence[Variant] | None
    is_paper: bool
    calibration: str | None
    samples: Sequence[int]


async def judge_requested(
    requested: Requested, plan: EvaluationPlan, cache: Path | None, options: Options
) -> report.Findings:
    """Evaluate what was requested, with the service's own settings, stores and upscalers.

    cache: folder of the samples; None: in the data folder. Raises as `conduct`.
    """
    async with services_in_process(many=True) as session:
        answering = await _answering(requested, session, plan, options)
        upscalers = [session.service.context.upscaler(share.upscaler) for share in answering]
        for upscaler in upscalers:
            await identify(upscaler)
        with progress_bars() as bars:
            prices = {
                upscaler.name: session.settings.price_per_call(upscaler.name)
                for upscaler in upscalers
            }
            known = {name: price for name, price in prices.items() if price is not None}
            made_by = {share.upscaler: share.made_by for share in answering if share.made_by}
            return await conduct(
                upscalers,
                plan,
                await _variants(requested, session, upscalers, plan, options),
                SampleCache(cache or session.settings.data_dir / "evaluation"),
                replace(options, price_per_call=known, made_by=made_by),
                bars,
            )


async def _answering(
    requested: Requested, session: Services, plan: EvaluationPlan, options: Options
) -> Sequence[AnsweredUploads]:
    """The upscalers to judge: as named, else those that answer such uploads."""
    if requested.upscalers:
        return [AnsweredUploads(name, []) for name in dict.fromkeys(requested.upscalers)]
    settings = session.settings
    if requested.calibration not in {None, _ACTIVE}:
        judged = await _calibration(requested.calibration, session.calibrations, "")
        return [AnsweredUploads(judged.manifest.upscaler, [])]
    if not settings.prefers_auto:
        return [AnsweredUploads(settings.default, [])]
    first = requested.variants[0].config if requested.variants else CalibrationConfig()
    rule = {"input_rule": None} if requested.is_paper else {}
    config = first.model_copy(update={"degradation": options.degradation, **rule})
    answering = await asyncio.to_thread(
        answered_uploads, settings.active_routing, config, [*plan.calibration, *plan.test], SCALE
    )
    typer.echo(f"{answering_in_words(answering)}.", err=True)
    return answering


async def _variants(
    requested: Requested,
    session: Services,
    upscalers: Sequence[Upscaler],
    plan: EvaluationPlan,
    options: Options,
) -> Sequence[Variant]:
    """The settings to compare; the first is judged."""
    if requested.calibration is not None:
        if len(upscalers) > 1:
            raise BadRequest("A calibration is of one upscaler: name that one with --upscaler.")
        judged = await _calibration(requested.calibration, session.calibrations, upscalers[0].name)
        config = CalibrationConfig.from_manifest(judged.manifest, activate=False)
        return [Variant(judged.manifest.name or judged.id, config, calibration=judged)]
    limits = [upscaler.capabilities.max_samples for upscaler in upscalers]
    limit = min((count for count in limits if count is not None), default=MAX_SAMPLES)
    if requested.is_paper:
        samples = max(requested.samples, default=PAPER_SAMPLES)
        side = typical_side([*plan.calibration, *plan.test])
        return paper(min(samples, limit), side, options.delta)
    variants = [*(requested.variants or served())]
    return variants + compared(
        variants[0], [count for count in requested.samples if count <= limit]
    )


async def _calibration(name: str, calibrations: Calibrations, upscaler: str) -> Calibration:
    if name == _ACTIVE:
        return await calibrations.active(upscaler)
    if name.endswith(file.SUFFIX):
        return file.load(await asyncio.to_thread(Path(name).read_bytes))
    return await calibrations.get(name)
