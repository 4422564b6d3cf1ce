"""A whole evaluation: check the images, run every upscaler, judge, draw."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from trustscale_evaluation.bootstrap import Resamples
from trustscale_evaluation.figures import number_figures
from trustscale_evaluation.plan import EvaluationPlan
from trustscale_evaluation.report import Findings
from trustscale_evaluation.run import Evaluation, OnStep, Options
from trustscale_evaluation.samples import SampleCache
from trustscale_evaluation.showcase import showcase
from trustscale_evaluation.tables import cell_rows, class_rows
from trustscale_evaluation.variants import Variant
from trustscale_evaluation.verdict import judge
from trustscale_server.calibrating.intake.arrange import Arranged
from trustscale_server.calibrating.intake.find import files_of_pairs
from trustscale_server.calibrating.intake.take_in import take_in
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.unusable import raise_if_bad_pairs
from trustscale_server.images.decoding.header import image_size
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.platform.errors import BadInput, BadPairs
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers.base import Upscaler


async def conduct(
    upscalers: Sequence[Upscaler],
    plan: EvaluationPlan,
    variants: Sequence[Variant],
    cache: SampleCache,
    options: Options,
    on_progress: OnStep = lambda *_: None,
) -> Findings:
    """Evaluate every upscaler on the plan.

    Raises:
        BadPairs: unusable images that may not be skipped; or a side without images.
        UpscalerError: samples could not be had; those that came are in the cache.
    """
    plan, skipped = await _usable(upscalers, plan, variants, options, on_progress)
    results, rows, pictures = [], [], []
    for upscaler in upscalers:
        result = Evaluation(upscaler, plan, variants, cache, options, on_progress)
        await result.run()
        results.append(result)
        draws = Resamples.from_scenes(result.test_scenes, options.seed)
        for cell in result.cells:
            rows += cell_rows(result.name, cell, draws, options.alphas)
        rows += class_rows(result.name, result.main, draws, options.reference_alpha)
        if options.with_pictures:
            # Plots hold the interpreter; sheets read files.
            sheets, plots = await asyncio.gather(
                showcase(result), asyncio.to_thread(number_figures, result, draws)
            )
            pictures += [*sheets, *plots]
    verdict = judge(results, rows, plan, options)
    return Findings(plan, options, results, rows, pictures, verdict, skipped)


async def _usable(
    upscalers: Sequence[Upscaler],
    plan: EvaluationPlan,
    variants: Sequence[Variant],
    options: Options,
    on_progress: OnStep,
) -> tuple[EvaluationPlan, Sequence[dict[str, str]]]:
    """The plan of checked images, and the unusable ones; generates nothing.

    Raises:
        BadPairs: as `conduct`.
    """
    files = [*plan.calibration, *plan.test]
    usable = {pair.name: pair for pair in files}
    skipped: dict[str, dict[str, str]] = {}
    known = [
        pair.model_copy(update={"name": f"calibration/{pair.name}"})
        for variant in variants
        if variant.calibration is not None
        for pair in variant.calibration.manifest.pairs
    ]
    for upscaler in {upscaler.scale: upscaler for upscaler in upscalers}.values():
        pipelines = [variant.pipeline(upscaler) for variant in variants]
        checked = await take_in(
            partial(files_of_pairs, files),
            Arranged(files, []),
            _unfitted(max(pipelines, key=lambda pipeline: pipeline.indecision.window)),
            known=known,
            labels_are_claimed=False,
            on_progress=partial(on_progress, "checking images"),
        )
        raise_if_bad_pairs(
            checked.skipped, len(checked.usable), "skip" if options.skip_bad else "fail"
        )
        usable = {pair.name: pair for pair in checked.usable if pair.name in usable}
        skipped |= {item["name"]: item for item in checked.skipped}
    calibration, test = (
        [usable[item.name] for item in side if item.name in usable]
        for side in (plan.calibration, plan.test)
    )
    for side, name in ((calibration, "calibration"), (test, "test")):
        if not side and (variants[0].calibration is None or name == "test"):
            raise BadPairs(
                f"No usable image is left for the {name} side.", items=[*skipped.values()]
            )
    return replace(plan, calibration=calibration, test=test), [*skipped.values()]


def _unfitted(pipeline: MeasurementSpec) -> MeasurementSpec:
    """The pipeline as if its σ had seen no photograph.

    Which photographs stay must not depend on which variant has the largest window.
    """
    settings = pipeline.indecision
    if settings.fit is None:
        return pipeline
    fit, *fits = (replace(fit, photographs=()) for fit in settings.all_fits)
    unseen = replace(settings, fit=fit, fits=tuple(fits))
    return pipeline.model_copy(update={"indecision": unseen})


def typical_side(files: Sequence[PairSource]) -> float:
    """Return the median over the truths of √(width · height), from their headers."""
    sides = []
    for pair in files:
        try:
            size = in_decoder(image_size, Path(pair.paths["y"]).read_bytes(), PAIR_LIMITS)
        except (OSError, BadInput):
            continue
        sides.append(math.prod(size) ** 0.5)
    return statistics.median(sides) if sides else 0.0
