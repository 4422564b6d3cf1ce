"""The evaluation of one upscaler: calibration images first, then test images at the thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.calibration.fit import seen_by
from app.calibration.folder import PairFiles
from app.calibration.pairs import Pair, load_pair
from app.conformal import Staircase, fidelity
from app.evaluation.blurs import MOST_CALIBRATION, MOST_TEST, Grid, Sketch
from app.evaluation.cache import SampleCache
from app.evaluation.comparison import Compared, Comparison
from app.evaluation.plan import Plan
from app.evaluation.price import Price
from app.evaluation.reduce import SEMANTIC, ErrorMaps, Within, inside, within
from app.evaluation.rules import RULES, Rule, alpha_grid, curve_of
from app.evaluation.samples import Drawn, drawn, wanted
from app.evaluation.variants import Variant
from app.images.degrade import Degradation
from app.sampling.pipeline import Pipeline
from app.system import usable_cores
from app.upscalers.base import Source, Upscaler

Result = TypeVar("Result")

Reduce = Callable[[int, Pair, Drawn], Result]
"""Reduces the image at a place of its side of the plan; runs in a thread."""


@dataclass(frozen=True, slots=True)
class Options:
    """What an evaluation needs besides images, upscalers and settings."""

    alphas: Sequence[float]
    reference_alpha: float
    delta: float = 0.1
    seed: int = 0
    degradation: Degradation | None = None
    samples: Sequence[int] = ()
    """Numbers of generations whose price is compared."""
    price_per_call: Mapping[str, float] = field(default_factory=dict)
    """Of an upscaler, by its name."""
    with_baselines: bool = True
    with_blurs: bool = True
    with_pictures: bool = True


@dataclass(slots=True)
class Cell:
    """One upscaler under one variant with the thresholds of one rule.

    alphas: the levels in rising order; thresholds: t_α of each, and last inf, the whole image.
    within: per test image, in the order of the plan.
    """

    variant: Variant
    rule: Rule
    bound: float
    alphas: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    within: list[Within] = field(default_factory=list)

    def column(self, name: str) -> NDArray[np.float64]:
        """A quantity of `Within` of all test images, [m, A + 1]."""
        return np.array([getattr(image, name) for image in self.within])

    @property
    def controlled(self) -> str:
        """The quantity that this rule keeps below α."""
        return "semantic" if self.rule.is_semantic else "error"


class Stairs(NamedTuple):
    """The staircases of D and of the semantic D on one σ, and the largest σ."""

    color: Staircase
    semantic: Staircase
    highest: float

    def of(self, rule: Rule) -> Staircase:
        """The one whose error a rule keeps small."""
        return self.semantic if rule.is_semantic else self.color


def highest_of(images: Sequence[Stairs]) -> float:
    """The largest σ of calibration images: beyond it nothing is trusted, as in serving."""
    return max(stairs.highest for stairs in images)


class View(NamedTuple):
    """One image as one variant sees it."""

    maps: ErrorMaps
    sigma: NDArray[np.float32]
    stairs: Stairs


@dataclass(slots=True)
class Evaluated:
    """All that is known of one upscaler after its run.

    scenes: of the calibration images. fitted_on: images that a σ in use was fitted on.
    """

    upscaler: str
    fingerprint: str
    scale: int
    variants: Sequence[Variant]
    scenes: Sequence[str]
    calibration: dict[str, list[Stairs]]
    test: dict[str, list[Stairs]]
    cells: list[Cell]
    baselines: Compared | None
    blurs: Grid | None
    price: list[dict[str, Any]]
    fitted_on: int
    generated: int
    seconds: float

    def cell(self, variant: str, rule: str) -> Cell:
        """The cell of these names."""
        return next(
            cell for cell in self.cells if (cell.variant.name, cell.rule.name) == (variant, rule)
        )


@dataclass(slots=True)
class Run:
    """One upscaler's evaluation on its way."""

    upscaler: Upscaler
    variants: Sequence[Variant]
    cache: SampleCache
    options: Options
    on_progress: Callable[[], object]
    priced: Sequence[Pipeline] = ()
    generated: int = 0
    seconds: float = 0.0
    fitted_on: set[str] = field(default_factory=set)
    quickest: float | None = None
    """Seconds of generation of the image that took least: others may have waited."""

    @property
    def pipelines(self) -> list[Pipeline]:
        """Of the variants, in their order."""
        return [variant.pipeline(self.upscaler) for variant in self.variants]

    async def look(self, place: int, item: PairFiles, reduce: Reduce[Result]) -> Result:
        """Samples of one image, and what `reduce` makes of them in a thread."""
        pair = await asyncio.to_thread(self.load, item)
        wanted = [*self.pipelines, *self.priced]
        found = await drawn(self.upscaler, Source(pair.x), pair.seed, wanted, self.cache)
        result = await asyncio.to_thread(reduce, place, pair, found)
        if any(seen_by(pipeline.indecision.fit, pair) for pipeline in wanted):
            self.fitted_on.add(item.name)
        self.generated += found.generated
        self.seconds += found.seconds
        if took := found.samples.seconds:
            self.quickest = min(took, self.quickest or took)
        self.on_progress()
        return result

    def load(self, item: PairFiles) -> Pair:
        """The decoded pair of an item."""
        return load_pair(
            item.name,
            item.y.read_bytes(),
            item.x.read_bytes() if item.x else None,
            widest(self.pipelines),
            degradation=self.options.degradation,
            seed=self.options.seed,
        )

    async def all(self, items: Sequence[PairFiles], reduce: Reduce[Result]) -> list[Result]:
        """`look` at every item, one more at once than the upscaler takes, in the order given."""
        at_once = max(self.upscaler.capabilities.concurrency + 1, usable_cores())
        work = [partial(self.look, place, item, reduce) for place, item in enumerate(items)]
        return await in_order(work, at_once)

    def views(self, pair: Pair, found: Drawn) -> dict[str, View]:
        """What every variant makes of one image; maps that two of them share are made once."""
        maps: dict[tuple[str, int], ErrorMaps] = {}
        views = {}
        for variant, pipeline in zip(self.variants, self.pipelines, strict=True):
            measurement = found.measurements[wanted(pipeline)]
            # Ŷ depends on the rule alone, and for `mean` on M.
            key = (pipeline.prediction, pipeline.samples if pipeline.prediction == "mean" else 0)
            if key not in maps:
                maps[key] = ErrorMaps(pair.y, measurement.prediction)
            sigma = measurement.sigma
            color, semantic = (
                Staircase.from_maps(sigma, maps[key].error(settings))
                for settings in (pipeline.fidelity, SEMANTIC)
            )
            stairs = Stairs(color, semantic, float(sigma.max()))
            views[variant.name] = View(maps[key], sigma, stairs)
        return views


@dataclass(slots=True)
class Tools:
    """The comparisons that go along with a run, on the first variant; None: left out."""

    options: Options
    price: Price
    comparison: Comparison | None
    sketch: Sketch | None

    @classmethod
    def of(cls, options: Options, upscaler: Upscaler) -> Tools:
        """Those that are asked for."""
        return cls(
            options,
            Price.of(upscaler, options.alphas, options.samples),
            Comparison(options.delta) if options.with_baselines else None,
            Sketch() if options.with_blurs else None,
        )

    def calibrate_on(self, place: int, view: View, found: Drawn) -> None:
        """Take in the calibration image at this place of the plan."""
        self.price.calibrate_on(place, view.maps, found.measurements)
        if self.comparison is not None:
            self.comparison.calibrate_on(place, view.maps, view.sigma, found.samples)
        if self.sketch is not None and place < MOST_CALIBRATION:
            self.sketch.calibrate_on(place, view.maps, found.samples)

    def finish(self, scenes: Sequence[str]) -> None:
        """All calibration images were taken in; `scenes` are theirs."""
        self.price.finish(scenes)
        if self.comparison is not None:
            self.comparison.finish()
        if self.sketch is not None:
            self.sketch.finish(self.options.reference_alpha)

    def test_on(self, place: int, view: View, found: Drawn) -> None:
        """Measure the test image at this place of the plan."""
        self.price.test_on(place, found.measurements)
        if self.comparison is not None:
            self.comparison.test_on(place, view.maps, view.sigma, found.samples)
        if self.sketch is not None and place < MOST_TEST:
            self.sketch.test_on(place, found.samples)


async def evaluate(run: Run, plan: Plan, tools: Tools) -> Evaluated:
    """Generate what is missing, calibrate, and measure the test images.

    `tools` are calibrated and asked along the way.

    Raises:
        BadInput: an image that cannot be used (they are checked before, see `check_items`).
        UpscalerError: samples could not be had; those that came are kept.
    """
    first = run.variants[0].name

    def calibrating(place: int, pair: Pair, found: Drawn) -> dict[str, Stairs]:
        views = run.views(pair, found)
        tools.calibrate_on(place, views[first], found)
        return {name: view.stairs for name, view in views.items()}

    seen = await run.all(plan.calibration, calibrating)
    calibration = {v.name: [image[v.name] for image in seen] for v in run.variants}
    cells = [
        _calibrated(variant, rule, calibration[variant.name], plan.scenes, run.options)
        for variant in run.variants
        for rule in RULES
    ]
    tools.finish(plan.scenes)

    def testing(place: int, pair: Pair, found: Drawn) -> tuple[dict[str, Stairs], list[Within]]:
        views = run.views(pair, found)
        tools.test_on(place, views[first], found)
        return {name: view.stairs for name, view in views.items()}, _masks(cells, views)

    tested = await run.all(plan.test, testing)
    for _, images in tested:
        for cell, image in zip(cells, images, strict=True):
            cell.within.append(image)
    return Evaluated(
        upscaler=run.upscaler.name,
        fingerprint=run.upscaler.fingerprint,
        scale=run.upscaler.scale,
        variants=run.variants,
        scenes=plan.scenes,
        calibration=calibration,
        test={v.name: [stairs[v.name] for stairs, _ in tested] for v in run.variants},
        cells=cells,
        baselines=tools.comparison.compared() if tools.comparison else None,
        blurs=tools.sketch.grid() if tools.sketch else None,
        price=tools.price.rows(run.quickest, run.options.price_per_call.get(run.upscaler.name)),
        fitted_on=len(run.fitted_on),
        generated=run.generated,
        seconds=run.seconds,
    )


def widest(pipelines: Sequence[Pipeline]) -> Pipeline:
    """The pipeline with the largest window, which the images must not be smaller than."""
    return max(pipelines, key=lambda pipeline: pipeline.indecision.window)


def _calibrated(
    variant: Variant, rule: Rule, stairs: Sequence[Stairs], scenes: Sequence[str], options: Options
) -> Cell:
    chosen = [image.of(rule) for image in stairs]
    bound = fidelity.bound(SEMANTIC if rule.is_semantic else variant.fidelity)
    curve = curve_of(rule, chosen, bound, options.delta, scenes=scenes, highest=highest_of(stairs))
    alphas = alpha_grid(curve, options.alphas)
    thresholds = np.array([*(curve.threshold(float(alpha)) for alpha in alphas), np.inf])
    return Cell(variant, rule, bound, alphas, thresholds)


def _masks(cells: Sequence[Cell], views: Mapping[str, View]) -> list[Within]:
    """One image inside the masks of every cell; cells that share σ and Ŷ share the pass over it."""
    passes: dict[tuple[int, int], list[int]] = {}
    for number, cell in enumerate(cells):
        view = views[cell.variant.name]
        passes.setdefault((id(view.sigma), id(view.maps)), []).append(number)
    found: dict[int, Within] = {}
    for numbers in passes.values():
        view = views[cells[numbers[0]].variant.name]
        thresholds = np.unique(np.concatenate([cells[number].thresholds for number in numbers]))
        all_masks = inside(view.sigma, view.maps, thresholds)
        for number in numbers:
            cell = cells[number]
            places = np.searchsorted(thresholds, cell.thresholds)
            stairs = views[cell.variant.name].stairs[:2]
            found[number] = within(all_masks, places, stairs, cell.thresholds)
    return [found[number] for number in range(len(cells))]


async def in_order(work: Sequence[Callable[[], Awaitable[Result]]], at_once: int) -> list[Result]:
    """Results in the order of the work, of which `at_once` pieces are under way at a time.

    Raises:
        Exception: of the first piece that failed; the others are cancelled.
    """
    places = asyncio.Semaphore(at_once)

    async def one(piece: Callable[[], Awaitable[Result]]) -> Result:
        async with places:
            return await piece()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(piece)) for piece in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were cancelled or fail for the same cause
    return [task.result() for task in tasks]
