"""Thresholds from the calibration images, and what their masks hold in the test images.

Thresholds are known before the first test image is looked at, so its maps are reduced at once and
let go: memory does not grow with the number of images, and nothing is binned or approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.calibration.guarantee import Expectation, GuaranteeKind, HighProbability
from app.conformal import Staircase, fidelity
from app.conformal.fidelity import FidelitySettings
from app.evaluation.measure import SEMANTIC, Image
from app.sampling.pipeline import Pipeline

Quantities = dict[str, NDArray[np.float64]]

GRID_POINTS = 32

FEW_CALIBRATION, FEW_TEST = 40, 12
"""Images that are enough where only the shape of an effect is of interest."""


class Part(Protocol):
    """What is calibrated on one side of the plan and tested on the other.

    What `seen` says of the calibration images goes to `calibrate`, what `tested` says of the test
    images to `gather`, in the order of the plan. None leaves an image out.
    """

    def seen(self, image: Image) -> Any: ...
    def calibrate(self, images: Sequence[Any], scenes: Sequence[str]) -> None: ...
    def tested(self, image: Image) -> Any: ...
    def gather(self, images: Sequence[Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Which error is kept below α, and in which sense."""

    name: str
    title: str
    is_semantic: bool = False
    kind: GuaranteeKind = "expectation"


FIDELITY = Rule("fidelity", "D in expectation")
SEMANTICS = Rule("semantic", "semantic D in expectation", is_semantic=True)
HIGH_PROBABILITY = Rule("high_probability", "D with high probability", kind="high_probability")
RULES = (FIDELITY, SEMANTICS, HIGH_PROBABILITY)


@dataclass(slots=True)
class Cell:
    """The masks of one pipeline by one rule (a `Part`).

    variant: the name of the settings; None: only the area is measured, and only at the given α.
    is_sketch: a few images are enough, each a scene of its own.
    alphas: the levels in rising order; thresholds: t_α of each, and last inf, the whole image.
    scenes, calibration, test: the scene of each calibration image, and the staircases of the error
        that the rule keeps small, in the order of the plan.
    highest: the largest σ of the calibration images: beyond it nothing is trusted, as in serving.
    quantities: of the test images at each threshold, [m, A + 1]: `error` and `semantic`, the
        largest D and the largest semantic D inside the mask, 0 for an empty one; and those of
        `Inside.at`.
    """

    pipeline: Pipeline
    rule: Rule
    alphas: NDArray[np.float64]
    delta: float
    variant: str | None = None
    is_sketch: bool = False
    thresholds: NDArray[np.float64] = field(init=False)
    scenes: Sequence[str] = field(init=False)
    calibration: Sequence[Staircase] = field(init=False)
    highest: float = field(init=False)
    test: Sequence[Staircase] = ()
    quantities: Quantities = field(default_factory=dict)

    @property
    def error(self) -> FidelitySettings:
        """The D that the rule keeps small."""
        return SEMANTIC if self.rule.is_semantic else self.pipeline.fidelity

    @property
    def controlled(self) -> str:
        """Its name among the quantities."""
        return "semantic" if self.rule.is_semantic else "error"

    @property
    def bound(self) -> float:
        """B."""
        return fidelity.bound(self.error)

    def place(self, alpha: float) -> int:
        """The column of one of the levels."""
        return int(np.searchsorted(self.alphas, alpha))

    def seen(self, image: Image) -> tuple[Staircase, float] | None:
        """The staircase and the largest σ of a calibration image."""
        if self.is_sketch and image.place >= FEW_CALIBRATION:
            return None
        largest = float(image.sigma(self.pipeline).max())
        return image.stairs(self.pipeline, self.error), largest

    def calibrate(self, images: Sequence[tuple[Staircase, float]], scenes: Sequence[str]) -> None:
        """Find the thresholds."""
        self.scenes = [str(k) for k in range(len(images))] if self.is_sketch else scenes
        self.calibration = [stairs for stairs, _ in images]
        self.highest = max(largest for _, largest in images)
        is_likely = self.rule.kind == "high_probability"
        promise = HighProbability(delta=self.delta) if is_likely else Expectation()
        curve = promise.curve(
            self.calibration, self.bound, scenes=self.scenes, highest=self.highest
        )
        if self.variant is not None:
            # For the figures a grid, up to a little beyond the α at which everything is trusted.
            grid = np.linspace(0, 1.15 * curve.risk(np.inf), GRID_POINTS + 1)[1:]
            self.alphas = np.unique(np.concatenate([self.alphas, grid]))
        self.thresholds = np.array([*map(curve.threshold, self.alphas.tolist()), np.inf])

    def tested(self, image: Image) -> tuple[list[Staircase], Quantities] | None:
        """The staircase of a test image, where it is wanted, and its quantities."""
        if self.is_sketch and image.place >= FEW_TEST:
            return None
        pipeline, thresholds = self.pipeline, self.thresholds
        if self.variant is None:
            sigma = image.sigma(pipeline)
            return [], {"area": np.array([np.mean(sigma < t) for t in thresholds])}
        inside = image.inside(pipeline).at(thresholds)
        for name, error in (("error", pipeline.fidelity), ("semantic", SEMANTIC)):
            losses = image.stairs(pipeline, error).losses(thresholds, "left")
            inside[name] = losses.astype(np.float64)
        return [image.stairs(pipeline, self.error)], inside

    def gather(self, images: Sequence[tuple[list[Staircase], Quantities]]) -> None:
        """Keep what was found."""
        self.test = [staircase for found, _ in images for staircase in found]
        names = images[0][1].keys()
        self.quantities = {name: np.array([found[name] for _, found in images]) for name in names}
