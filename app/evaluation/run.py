"""The evaluation of one upscaler: calibration images first, then test images at the thresholds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.calibration.fit import seen_by
from app.calibration.folder import PairFiles
from app.calibration.pairs import Pair, load_pair
from app.conformal import Staircase, fidelity
from app.evaluation.baselines import Baselines
from app.evaluation.blurs import Blurs
from app.evaluation.cache import SampleCache
from app.evaluation.plan import Plan
from app.evaluation.price import Price
from app.evaluation.reduce import SEMANTIC, ErrorMaps, Within, inside
from app.evaluation.rules import RULES, Rule
from app.evaluation.samples import Drawn, Image, drawn, wanted
from app.evaluation.variants import Variant
from app.images.degrade import Degradation
from app.sampling.pipeline import Pipeline
from app.system import usable_cores
from app.upscalers.base import Source, Upscaler

Result = TypeVar("Result")

GRID_POINTS = 32

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many images are done, and of how many."""

Reduce = Callable[[int, Pair, Drawn], Result]
"""Reduces the image at a place of its side of the plan; runs in a thread."""


class Comparison(Protocol):
    """What is calibrated and tested along with a run, on its first variant.

    What `seen` says of the calibration images goes to `calibrate`; what `tested` says of each test
    image becomes a row of `scores`. None leaves an image out. Both run in threads.
    """

    scores: NDArray[np.float64]

    def seen(self, image: Image) -> Any: ...
    def calibrate(self, images: Sequence[Any], scenes: Sequence[str]) -> None: ...
    def tested(self, image: Image) -> Any: ...


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


class View(NamedTuple):
    """One image as one variant sees it, with the staircases of D and of the semantic D on its σ."""

    maps: ErrorMaps
    sigma: NDArray[np.float32]
    color: Staircase
    semantic: Staircase

    def stairs(self, rule: Rule) -> Staircase:
        """The one whose error a rule keeps small."""
        return self.semantic if rule.is_semantic else self.color


@dataclass(slots=True)
class Cell:
    """One upscaler under one variant with the thresholds of one rule.

    scenes, calibration, test: the scene of each calibration image, and the staircases of the error
        that the rule keeps small, in the order of the plan.
    highest: the largest σ of the calibration images: beyond it nothing is trusted, as in serving.
    alphas: the levels in rising order; thresholds: t_α of each, and last inf, the whole image.
    within: per test image, in the order of the plan.
    """

    variant: Variant
    rule: Rule
    bound: float
    scenes: Sequence[str]
    calibration: Sequence[Staircase]
    highest: float
    alphas: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    test: list[Staircase] = field(default_factory=list)
    within: list[Within] = field(default_factory=list)

    @classmethod
    def calibrated(
        cls,
        variant: Variant,
        rule: Rule,
        images: Sequence[tuple[Staircase, float]],
        scenes: Sequence[str],
        options: Options,
    ) -> Cell:
        """The thresholds from the staircase and the largest σ of each calibration image."""
        stairs = [staircase for staircase, _ in images]
        highest = max(largest for _, largest in images)
        bound = fidelity.bound(SEMANTIC if rule.is_semantic else variant.fidelity)
        curve = rule.curve(stairs, bound, options.delta, scenes=scenes, highest=highest)
        # The wanted α, and a grid up to a little beyond the one at which everything is trusted.
        grid = np.linspace(0, 1.15 * curve.risk(np.inf), GRID_POINTS + 1)[1:]
        alphas = np.unique(np.concatenate([np.asarray(options.alphas, np.float64), grid]))
        thresholds = np.array([*(curve.threshold(float(alpha)) for alpha in alphas), np.inf])
        return cls(variant, rule, bound, scenes, stairs, highest, alphas, thresholds)

    def column(self, name: str) -> NDArray[np.float64]:
        """A quantity of `Within` of all test images, [m, A + 1]."""
        return np.array([getattr(image, name) for image in self.within])

    def place(self, alpha: float) -> int:
        """The column of one of the levels."""
        return int(np.searchsorted(self.alphas, alpha))

    @property
    def controlled(self) -> str:
        """The quantity that this rule keeps below α."""
        return "semantic" if self.rule.is_semantic else "error"


@dataclass(slots=True, repr=False)  # asyncio.run writes results out when it ends
class Evaluation:
    """One upscaler's evaluation, on its way and when it is done.

    cells: of every variant under each of `RULES`.
    fitted_on: names of the images that a σ in use was fitted on.
    quickest: seconds of generation of the image that took least: others may have waited.
    """

    upscaler: Upscaler
    variants: Sequence[Variant]
    cache: SampleCache
    options: Options
    on_progress: Progress
    pipelines: Sequence[Pipeline] = field(init=False)
    price: Price = field(init=False)
    baselines: Baselines | None = field(init=False)
    blurs: Blurs | None = field(init=False)
    cells: list[Cell] = field(default_factory=list)
    images: int = 0
    looked_at: int = 0
    generated: int = 0
    seconds: float = 0.0
    fitted_on: set[str] = field(default_factory=set)
    quickest: float | None = None

    def __post_init__(self) -> None:
        options = self.options
        self.variants = [variant.for_upscaler(self.upscaler) for variant in self.variants]
        self.pipelines = [variant.pipeline(self.upscaler) for variant in self.variants]
        self.price = Price.of(self.upscaler, options.alphas, options.samples)
        self.baselines = Baselines(options.delta) if options.with_baselines else None
        self.blurs = Blurs(options.reference_alpha) if options.with_pictures else None

    @property
    def name(self) -> str:
        """Of the upscaler."""
        return self.upscaler.name

    def cell(self, rule: Rule, variant: Variant | None = None) -> Cell:
        """The cell of a rule, under the first variant unless another one is named."""
        wanted = (variant or self.variants[0]), rule
        return next(cell for cell in self.cells if (cell.variant, cell.rule) == wanted)

    def prices(self) -> list[dict[str, Any]]:
        """What so many generations cost, and let one trust."""
        return self.price.rows(self.quickest, self.options.price_per_call.get(self.name))

    async def run(self, plan: Plan) -> None:
        """Generate what is missing, calibrate, and measure the test images.

        Raises:
            BadInput: an image that cannot be used (they are checked before, see `check_items`).
            UpscalerError: samples could not be had; those that came are kept.
        """
        self.images = len(plan.calibration) + len(plan.test)
        every: list[Comparison | None] = [self.price, self.baselines, self.blurs]
        comparisons = [one for one in every if one is not None]

        pairs = [(variant, rule) for variant in self.variants for rule in RULES]

        def calibrating(
            place: int, pair: Pair, found: Drawn
        ) -> tuple[list[tuple[Staircase, float]], list[Any]]:
            views = self.views(pair, found)
            image = self.image(place, found, views)
            stairs = [(views[v].stairs(rule), float(views[v].sigma.max())) for v, rule in pairs]
            return stairs, [comparison.seen(image) for comparison in comparisons]

        all_stairs, all_seen = zip(*await self.all(plan.calibration, calibrating), strict=True)
        self.cells = [
            Cell.calibrated(variant, rule, images, plan.scenes, self.options)
            for (variant, rule), images in zip(pairs, zip(*all_stairs, strict=True), strict=True)
        ]
        for comparison, seen in zip(comparisons, zip(*all_seen, strict=True), strict=True):
            comparison.calibrate([one for one in seen if one is not None], plan.scenes)

        def testing(
            place: int, pair: Pair, found: Drawn
        ) -> tuple[list[tuple[Staircase, Within]], list[Any]]:
            views = self.views(pair, found)
            image = self.image(place, found, views)
            scores = [comparison.tested(image) for comparison in comparisons]
            return _masks(self.cells, views), scores

        all_masks, all_scores = zip(*await self.all(plan.test, testing), strict=True)
        for cell, masks in zip(self.cells, zip(*all_masks, strict=True), strict=True):
            cell.test, cell.within = (list(part) for part in zip(*masks, strict=True))
        for comparison, scores in zip(comparisons, zip(*all_scores, strict=True), strict=True):
            comparison.scores = np.array([one for one in scores if one is not None])

    async def all(self, items: Sequence[PairFiles], reduce: Reduce[Result]) -> list[Result]:
        """`look` at every item, one more at once than the upscaler takes; in the order given.

        Raises:
            Exception: of the first item that failed; the others are cancelled.
        """
        at_once = max(self.upscaler.capabilities.concurrency + 1, usable_cores())
        turns = asyncio.Semaphore(at_once)

        async def one(place: int, item: PairFiles) -> Result:
            async with turns:
                return await self.look(place, item, reduce)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(place, item)) for place, item in enumerate(items)]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others fail for the same cause
        return [task.result() for task in tasks]

    async def look(self, place: int, item: PairFiles, reduce: Reduce[Result]) -> Result:
        """Samples of one image, and what `reduce` makes of them in a thread."""
        pair = await asyncio.to_thread(self.load, item)
        pipelines = [*self.pipelines, *self.price.pipelines]
        found = await drawn(self.upscaler, Source(pair.x), pair.seed, pipelines, self.cache)
        result = await asyncio.to_thread(reduce, place, pair, found)
        if any(seen_by(pipeline.indecision.fit, pair) for pipeline in pipelines):
            self.fitted_on.add(item.name)
        took = found.samples.seconds
        self.generated += found.generated
        self.seconds += took if found.generated else 0
        if took:
            self.quickest = min(took, self.quickest or took)
        self.looked_at += 1
        self.on_progress(f"evaluating {self.name}", min(self.looked_at, self.images), self.images)
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

    def views(self, pair: Pair, found: Drawn) -> dict[Variant, View]:
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
            views[variant] = View(maps[key], sigma, color, semantic)
        return views

    def image(self, place: int, found: Drawn, views: Mapping[Variant, View]) -> Image:
        """An image as the first variant sees it."""
        view = views[self.variants[0]]
        return Image(place, found, view.maps, view.sigma)


def widest(pipelines: Sequence[Pipeline]) -> Pipeline:
    """The pipeline with the largest window, which the images must not be smaller than."""
    return max(pipelines, key=lambda pipeline: pipeline.indecision.window)


def _masks(cells: Sequence[Cell], views: Mapping[Variant, View]) -> list[tuple[Staircase, Within]]:
    """One image inside the masks of every cell; cells that share σ and Ŷ share the pass over it."""

    def shared(cell: Cell) -> tuple[int, int]:
        view = views[cell.variant]
        return id(view.sigma), id(view.maps)

    wanted: dict[tuple[int, int], list[NDArray[np.float64]]] = defaultdict(list)
    for cell in cells:
        wanted[shared(cell)].append(cell.thresholds)
    passes = {}
    found = []
    for cell in cells:
        view, key = views[cell.variant], shared(cell)
        if key not in passes:
            passes[key] = inside(view.sigma, view.maps, np.unique(np.concatenate(wanted[key])))
        masks = passes[key].within(cell.thresholds, view.color, view.semantic)
        found.append((view.stairs(cell.rule), masks))
    return found
