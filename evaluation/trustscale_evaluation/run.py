"""The evaluation of one upscaler: calibration images first, then test images at the thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from trustscale_evaluation.added import AddedShares
from trustscale_evaluation.earlier import Earlier
from trustscale_evaluation.measure import EvaluatedImage, evaluated_image
from trustscale_evaluation.plan import EvaluationPlan, scene_name
from trustscale_evaluation.records import Record
from trustscale_evaluation.reduce import Cell, Method
from trustscale_evaluation.samples import SampleCache
from trustscale_evaluation.variants import Variant
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import Pair, load_pair, variants_of
from trustscale_server.kinds.degradation import Degradation, Mixture
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import BadRequest
from trustscale_server.upscalers.assessment import Assessment, assess
from trustscale_server.upscalers.base import Upscaler

T = TypeVar("T")

TABLES: Final = ("price", "baselines", "added")
"""The tables of each upscaler, besides the one of all promises."""

OnStep = Callable[[str, int, int], None]
"""Called with the current step, the images done, and their total."""


@dataclass(frozen=True, slots=True)
class Options:
    """What an evaluation needs besides images, upscalers and settings.

    degradation: how X is made of Y; None: as a calibration would make it. made_by: takes its place
    for upscalers that answer only some classes of uploads, by their names. price_per_call: by the
    upscaler's name.
    """

    alphas: Sequence[float]
    reference_alpha: float
    delta: float = 0.1
    seed: int = 0
    degradation: Degradation | Mixture | None = None
    made_by: Mapping[str, Degradation | Mixture] = field(default_factory=dict)
    price_per_call: Mapping[str, float] = field(default_factory=dict)
    skip_bad: bool = False
    with_earlier: bool = False
    with_pictures: bool = True


class PlannedUpload(NamedTuple):
    """An image of the plan, uploaded in one way; place: on its side."""

    place: int
    source: PairSource


class Evaluation:
    """One upscaler's evaluation.

    Attributes:
        made_by: how X is made from Y; None: it is given.
        fitted_on: images that a σ in use was fitted on before.
        quickest: the fewest seconds that an upload took to generate: others may have waited.
        assessment: what four further generations of the first test upload show of the upscaler;
            None without new samples: a run from the cache calls nothing.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        plan: EvaluationPlan,
        variants: Sequence[Variant],
        cache: SampleCache,
        options: Options,
        on_progress: OnStep,
    ) -> None:
        self.upscaler, self.plan, self.options = upscaler, plan, options
        self._cache, self._on_progress = cache, on_progress
        chosen = options.made_by.get(upscaler.name, options.degradation)
        self.made_by = _made_by(upscaler, plan, variants[0], chosen)
        self.cells = [
            Cell.from_pairs(
                variant.made_by(self.made_by), upscaler, plan.calibration, options.alphas
            )
            for variant in variants
        ]
        pipelines = [cell.pipeline for cell in self.cells]
        if len({pipeline.stretch for pipeline in pipelines}) > 1:
            raise BadRequest("All settings need the same stretch: it makes X.")
        self._largest = max(pipelines, key=lambda pipeline: pipeline.samples)
        self._widest = max(pipelines, key=lambda pipeline: pipeline.indecision.window)
        self.calibration, self.test = map(self._uploads, (plan.calibration, plan.test))
        self.earlier = Earlier(self.main.pipeline, options.delta) if options.with_earlier else None
        self.added = AddedShares(self.main.pipeline)
        self.generated, self.seconds = 0, 0.0
        self.fitted_on: set[str] = set()
        self.quickest: float | None = None
        self.assessment: Assessment | None = None
        self._done = 0

    @property
    def name(self) -> str:
        """The name of the upscaler."""
        return self.upscaler.name

    @property
    def main(self) -> Cell:
        """The cell that is judged first."""
        return self.cells[0]

    def cell(self, name: str) -> Cell | None:
        """Return the cell of a variant, if there is one."""
        return next((cell for cell in self.cells if cell.name == name), None)

    @property
    def test_scenes(self) -> list[str]:
        """The scene of each test upload."""
        return [scene_name(upload.source) for upload in self.test]

    @cached_property
    def tables(self) -> dict[str, list[Record]]:
        """The rows of `TABLES`, after the run; a table that was not asked for has no rows."""
        unmasked = float(self.main.quantities["error"][:, -1].mean())
        return {
            "price": self._prices(),
            "baselines": self.earlier.records(unmasked) if self.earlier else [],
            "added": self._added(),
        }

    def _added(self) -> list[Record]:
        uploads, share = len(self.added.shares), self.added.share
        return [] if share is None else [{"uploads": uploads, "not_in_the_truth": share}]

    def _prices(self) -> list[Record]:
        """What numbers of generations cost, and let one trust: a row per M and α.

        Only for settings that differ from the first in M alone.
        """
        config = self.main.variant.config
        others = [
            cell
            for cell in self.cells[1:]
            if cell.variant.calibration is None
            and cell.variant.config == config.model_copy(update={"samples": cell.pipeline.samples})
        ]
        if not others:
            return []
        per_call = self.options.price_per_call.get(self.name)
        max_samples, rows = self._largest.samples, list[Record]()
        for cell in sorted([self.main, *others], key=lambda cell: cell.pipeline.samples):
            samples = cell.pipeline.samples
            calls = -(-samples // self.upscaler.capabilities.samples_per_call)
            areas = cell.quantities["area"].mean(axis=0)
            rows += [
                {
                    "samples": samples,
                    "alpha": alpha,
                    "trusted_area": float(areas[cell.place(alpha)]),
                    "seconds": self.quickest and round(self.quickest * samples / max_samples, 3),
                    "calls": calls,
                    "money": None if per_call is None else calls * per_call,
                }
                for alpha in self.options.alphas
            ]
        return rows

    async def run(self) -> None:
        """Generate what is missing, calibrate, and measure the test images.

        Raises UpscalerError if samples could not be had; those that came are in the cache.
        """
        to_fit = [
            upload
            for upload in self.calibration
            if any(cell.fits_on(upload.source.name) for cell in self.cells)
        ]
        photographs = await self.each(
            to_fit, lambda image: [cell.photograph_to_fit(image) for cell in self.cells]
        )
        for place, cell in enumerate(self.cells):
            await asyncio.to_thread(cell.fit, [of_image[place] for of_image in photographs])
        methods: list[Method] = [*self.cells, self.added]
        if self.earlier is not None:
            methods.append(self.earlier)
        reduced = await self.each(
            self.calibration, lambda image: [method.reduce_calibration(image) for method in methods]
        )
        for place, method in enumerate(methods):
            method.calibrate(
                [of_image[place] for of_image in reduced if of_image[place] is not None]
            )
        tested = await self.each(
            self.test, lambda image: [method.reduce_test(image) for method in methods]
        )
        for place, method in enumerate(methods):
            method.gather([of_image[place] for of_image in tested])
        if self.generated:
            # By new generations: cached samples have been matched to the colours of the upload.
            pair = await asyncio.to_thread(self._load, self.test[0])
            self.assessment = await assess(self.upscaler, pair.x, samples=self._largest.samples)

    async def each(
        self, uploads: Iterable[PlannedUpload], reduce: Callable[[EvaluatedImage], T]
    ) -> list[T]:
        """Return what `reduce` makes, in threads, of every upload, in their order.

        Raises the error of the first image that fails.
        """
        at_once = max(self.upscaler.capabilities.concurrency + 1, usable_cores())
        turns = asyncio.Semaphore(at_once)

        async def evaluate_one(upload: PlannedUpload) -> T:
            async with turns:
                pair = await asyncio.to_thread(self._load, upload)
                image = await evaluated_image(
                    upload.place, pair, self.upscaler, self._largest, self._cache
                )
                result = await asyncio.to_thread(reduce, image)
                self._count(image)
                return result

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(evaluate_one(upload)) for upload in uploads]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _uploads(self, side: Sequence[PairSource]) -> list[PlannedUpload]:
        variants = variants_of(self.made_by)
        pairs = [pair for source in side for pair in source.in_variants(variants)]
        return [PlannedUpload(place, pair) for place, pair in enumerate(pairs)]

    def _load(self, upload: PlannedUpload) -> Pair:
        source = upload.source
        return load_pair(
            source,
            {role: Path(path).read_bytes() for role, path in source.paths.items()},
            self._widest,
            degradation=self.made_by,
            seed=self.options.seed,
        )

    def _count(self, image: EvaluatedImage) -> None:
        if any(cell.was_fitted_on(image) for cell in self.cells):
            self.fitted_on.add(image.pair.y_sha256)
        seconds = image.samples.seconds
        if image.is_new:
            self.generated += 1
            self.seconds += seconds
        if seconds:
            self.quickest = min(seconds, self.quickest or seconds)
        self._done += 1
        uploads = len(self.calibration) + len(self.test)
        self._on_progress(f"evaluating {self.name}", min(self._done, uploads), uploads)


def _made_by(
    upscaler: Upscaler,
    plan: EvaluationPlan,
    first: Variant,
    chosen: Degradation | Mixture | None,
) -> Degradation | Mixture | None:
    """How X is made from Y, for all settings of a report: as for the first of them."""
    if "x" in (*plan.calibration, *plan.test)[0].paths:
        return None
    pipeline = first.pipeline(upscaler)
    made_by = chosen or first.config.input_made_by(pipeline.scale)
    if pipeline.stretch and (isinstance(made_by, Mixture) or not made_by.is_of_data):
        raise BadRequest("With a stretch X is made by blur, reduction and noise only.")
    return made_by
