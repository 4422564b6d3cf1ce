"""The evaluation of one upscaler: calibration images first, then test images at the thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from app.calibration.fit import seen_by
from app.calibration.layout import PairFiles
from app.calibration.pairs import Pair, load_pair
from app.evaluation.baselines import Baselines
from app.evaluation.cache import SampleCache
from app.evaluation.measure import Image, image_of
from app.evaluation.plan import Plan
from app.evaluation.price import PricePoint
from app.evaluation.price import priced as with_prices
from app.evaluation.reduce import FIDELITY, RULES, Cell, Part, Rule
from app.evaluation.variants import Variant, blurred, priced, widest
from app.images.degrade import Degradation
from app.sampling.pipeline import Pipeline
from app.system import usable_cores
from app.upscalers.base import Upscaler

Result = TypeVar("Result")

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many images are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Options:
    """What an evaluation needs besides images, upscalers and settings.

    samples: numbers of generations whose price is compared.
    skip_bad: leave out images that cannot be used.
    price_per_call: of an upscaler, by its name.
    """

    alphas: Sequence[float]
    reference_alpha: float
    delta: float = 0.1
    seed: int = 0
    degradation: Degradation | None = None
    samples: Sequence[int] = ()
    price_per_call: Mapping[str, float] = field(default_factory=dict)
    skip_bad: bool = False
    with_baselines: bool = True
    with_pictures: bool = True


class Evaluation:
    """One upscaler's evaluation, on its way and when it is done.

    Attributes:
        cells: of every variant by each of `RULES`.
        priced: for each M whose price is compared; rows of `blurs` as of `variants.blurred`.
        fitted_on: names of the images that a σ in use was fitted on.
        quickest: seconds of generation of the image that took least: others may have waited.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        plan: Plan,
        variants: Sequence[Variant],
        cache: SampleCache,
        options: Options,
        on_progress: Progress,
    ) -> None:
        self.upscaler, self.plan, self.options = upscaler, plan, options
        self.variants = [variant.for_upscaler(upscaler) for variant in variants]
        self._cache, self._on_progress = cache, on_progress
        own = {variant.name: variant.pipeline(upscaler) for variant in self.variants}
        compared = priced(upscaler, options.samples)
        self._largest = max([*own.values(), *compared], key=lambda pipeline: pipeline.samples)
        self._widest = widest(own.values())
        self._witnessed = any(one.witness for one in (*own.values(), *compared))
        self._fits = {one.indecision.fit for one in (*own.values(), *compared)}

        def cell(pipeline: Pipeline, rule: Rule = FIDELITY, **fields: Any) -> Cell:
            return Cell(pipeline, rule, np.array(options.alphas), options.delta, **fields)

        self.cells = [
            cell(pipeline, rule, variant=name) for name, pipeline in own.items() for rule in RULES
        ]
        self.priced = [cell(pipeline) for pipeline in compared]
        first, most = self.cells[0].pipeline, self._largest.samples
        self.baselines = Baselines(first, options.delta) if options.with_baselines else None
        # The plain σ needs two samples.
        rows = blurred(upscaler, most) if options.with_pictures and most > 1 else []
        alpha = np.array([options.reference_alpha])
        self.blurs = [
            [Cell(pipeline, FIDELITY, alpha, options.delta, is_sketch=True) for pipeline in row]
            for row in rows
        ]
        self.generated, self.seconds = 0, 0.0
        self.fitted_on: set[str] = set()
        self.quickest: float | None = None
        self._looked_at = 0

    @property
    def name(self) -> str:
        """Of the upscaler."""
        return self.upscaler.name

    def cell(self, rule: Rule, variant: str | None = None) -> Cell:
        """The cell of a rule, under the first variant unless another one is named."""
        wanted = variant or self.variants[0].name
        return next(cell for cell in self.cells if (cell.variant, cell.rule) == (wanted, rule))

    def prices(self) -> list[dict[str, Any]]:
        """What so many generations cost, and let one trust: a row per M and α."""
        points = [
            PricePoint(
                samples=cell.pipeline.samples,
                alpha=alpha,
                trusted_area=float(area),
                seconds=self.quickest
                and round(self.quickest * cell.pipeline.samples / self._largest.samples, 3),
            )
            for cell in self.priced
            for alpha, area in zip(
                cell.alphas.tolist(), cell.quantities["area"].mean(axis=0)[:-1], strict=True
            )
        ]
        per_call = self.options.price_per_call.get(self.name)
        return with_prices(points, self.upscaler.capabilities.samples_per_call, per_call)

    async def run(self) -> None:
        """Generate what is missing, calibrate, and measure the test images.

        Raises:
            BadInput: an image that cannot be used (they are checked before, see `plan.usable`).
            UpscalerError: samples could not be had; those that came are kept.
        """
        parts: list[Part] = [*self.cells, *self.priced, *chain(*self.blurs)]
        if self.baselines is not None:
            parts.append(self.baselines)
        seen = await self.each(
            enumerate(self.plan.calibration), lambda image: [part.seen(image) for part in parts]
        )
        for part, images in zip(parts, zip(*seen, strict=True), strict=True):
            part.calibrate([one for one in images if one is not None], self.plan.scenes)
        tested = await self.each(
            enumerate(self.plan.test), lambda image: [part.tested(image) for part in parts]
        )
        for part, images in zip(parts, zip(*tested, strict=True), strict=True):
            part.gather([one for one in images if one is not None])

    async def each(
        self, items: Iterable[tuple[int, PairFiles]], reduce: Callable[[Image], Result]
    ) -> list[Result]:
        """What `reduce` makes, in a thread, of every image with its place; in the order given.

        One more image at once than the upscaler takes.

        Raises:
            Exception: of the first image that failed; the others are cancelled.
        """
        at_once = max(self.upscaler.capabilities.concurrency + 1, usable_cores())
        turns = asyncio.Semaphore(at_once)

        async def one(place: int, item: PairFiles) -> Result:
            async with turns:
                pair = await asyncio.to_thread(self._load, item)
                image = await image_of(
                    place,
                    pair,
                    self.upscaler,
                    self._largest,
                    self._cache,
                    witnessed=self._witnessed,
                )
                result = await asyncio.to_thread(reduce, image)
                self._count(image)
                return result

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(place, item)) for place, item in items]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others fail for the same cause
        return [task.result() for task in tasks]

    def _load(self, item: PairFiles) -> Pair:
        return load_pair(
            item.name,
            Path(item.y).read_bytes(),
            Path(item.x).read_bytes() if item.x else None,
            self._widest,
            degradation=self.options.degradation,
            seed=self.options.seed,
        )

    def _count(self, image: Image) -> None:
        if any(seen_by(fit, image.pair.pixels_sha256) for fit in self._fits):
            self.fitted_on.add(image.pair.name)
        took = image.samples.seconds
        if image.is_new:
            self.generated += 1
            self.seconds += took
        if took:
            self.quickest = min(took, self.quickest or took)
        self._looked_at += 1
        images = len(self.plan.calibration) + len(self.plan.test)
        self._on_progress(f"evaluating {self.name}", min(self._looked_at, images), images)
