"""A calibration on one side, and what its masks contain on the other.

Thresholds are known before the first test image, so its maps are reduced at once and released.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_evaluation.measure import EvaluatedImage
from trustscale_evaluation.variants import Variant
from trustscale_server.calibrating.fit import (
    Photograph,
    fitted_pipeline,
    is_fitted_on,
    photograph_of,
)
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.reduction import pair_from_maps, pair_info
from trustscale_server.calibrating.request import CalibrationRequest
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal import LossCurve
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.sampling.spec import MeasurementSpec, raise_if_pipeline_differs
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.upscalers.base import Upscaler

_Quantities = dict[str, NDArray[np.float64]]


class Method:
    """What is calibrated on one side of the plan and tested on the other.

    A reduced calibration image of None is left out. By default nothing is calibrated.
    """

    def reduce_calibration(self, image: EvaluatedImage) -> Any:
        """Reduce a calibration image to what `calibrate` needs."""

    def calibrate(self, images: Sequence[Any]) -> None:
        """Calibrate."""

    def reduce_test(self, image: EvaluatedImage) -> Any:
        """Reduce a test image to what `gather` needs."""

    def gather(self, images: Sequence[Any]) -> None:
        """Store what was reduced from the test images."""


class JudgedImage(NamedTuple):
    """A test image: what answers it, the losses of its spots, and what its masks hold."""

    applicable: ApplicableCalibration
    losses: Sequence[LossCurve]
    quantities: _Quantities


def mean_below(
    losses: Sequence[LossCurve], thresholds: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of the losses of spots in the mask {σ < t} of each threshold."""
    return np.asarray(
        np.mean([curve.losses_below(thresholds) for curve in losses], axis=0, dtype=np.float64)
    )


@dataclass(slots=True)
class Cell(Method):
    """The masks of one variant.

    request: for a calibration of these images; None: one is given.
    alphas: the levels, rising.
    answers: in the order of the plan.
    quantities: of the test images at each level, and last of the whole image, [m, A + 1]: `loss`,
    what the guarantee counts; `error`, the largest D inside; and those of `mask_quantities`.
    """

    variant: Variant
    upscaler: Upscaler
    pipeline: MeasurementSpec
    request: CalibrationRequest | None
    alphas: NDArray[np.float64]
    calibration: Calibration = field(init=False)
    answers: Sequence[JudgedImage] = ()
    quantities: _Quantities = field(default_factory=dict)
    _thresholds: dict[Subset, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def from_pairs(
        cls,
        variant: Variant,
        upscaler: Upscaler,
        pairs: Sequence[PairSource],
        alphas: Sequence[float],
    ) -> Cell:
        """Make the cell of a variant, whose calibration is made of these pairs.

        Raises:
            BadRequest: the upscaler cannot make that many samples.
            CalibrationMismatch: the given calibration is of another pipeline.
        """
        pipeline, request = variant.pipeline(upscaler), None
        if variant.calibration is not None:
            raise_if_pipeline_differs(pipeline, upscaler)
        else:
            request = CalibrationRequest.from_uploads(
                variant.config, pipeline, upscaler, pairs, skipped=[], created_by="evaluate"
            )
            pipeline = request.pipeline
        cell = cls(variant, upscaler, pipeline, request, np.array(alphas))
        if variant.calibration is not None:
            cell.calibration = variant.calibration
            cell._add_levels_for_figures()
        return cell

    @property
    def name(self) -> str:
        """The name of its variant."""
        return self.variant.name

    @property
    def classes(self) -> Mapping[str, list[int]]:
        """The places of the test images by class of uploads; empty without a rule."""
        places = defaultdict(list)
        for place, answer in enumerate(self.answers):
            if answer.applicable.input_class is not None:
                places[answer.applicable.input_class].append(place)
        return dict(sorted(places.items()))

    @property
    def color_error(self) -> FidelitySettings:
        """The D on colours that is reported, whatever the guarantee counts."""
        settings = self.pipeline.fidelity
        return FidelitySettings() if settings.spec.error_unit == "label" else settings

    def place(self, alpha: float) -> int:
        """Return the column of one of the levels."""
        return int(np.searchsorted(self.alphas, alpha))

    def fits_on(self, name: str) -> bool:
        """Return whether σ is fitted on the pair of this name."""
        return self.request is not None and name in self.request.fit_split.fitted

    def was_fitted_on(self, image: EvaluatedImage) -> bool:
        """Return whether σ had seen the photograph before the evaluation."""
        indecision = self.variant.pipeline(self.upscaler).indecision
        return is_fitted_on(indecision, image.pair.pixels_sha256)

    def photograph_to_fit(self, image: EvaluatedImage) -> Photograph | None:
        """Return what the fit uses of a calibration image."""
        if not self.fits_on(image.pair.name):
            return None
        samples = image.drawn(self.pipeline.samples)
        return photograph_of(image.pair, samples, self.pipeline)

    def fit(self, photographs: Sequence[Photograph | None]) -> None:
        """Fit σ, if it is to be fitted."""
        known = [photograph for photograph in photographs if photograph is not None]
        if known and self.request is not None:
            scenes, name = self.request.fit_split.scenes, self.upscaler.name
            self.pipeline = fitted_pipeline(known, self.pipeline, scenes, name)

    def reduce_calibration(self, image: EvaluatedImage) -> MeasuredPair | None:
        """Measure a calibration image."""
        if self.request is None or self.fits_on(image.pair.name):
            return None
        spec, measurement = self.request.pair(image.pair.name), image.measured(self.pipeline)
        info = pair_info(image.pair, measurement, self.pipeline)
        return pair_from_maps(
            info.model_copy(update={"scene": spec.scene}),
            measurement.sigma,
            image.error(self.pipeline, self.pipeline.fidelity),
            self.pipeline.fidelity,
        )

    def calibrate(self, images: Sequence[MeasuredPair]) -> None:
        """Make the calibration, unless it was given."""
        if self.request is None:
            return
        self.calibration = Calibration.from_pairs(
            images,
            upscaler=self.upscaler.name,
            pipeline=self.pipeline,
            **self.request.config.manifest_fields(),
        )
        self._add_levels_for_figures()

    def _add_levels_for_figures(self) -> None:
        """Add 32 levels for the figures, up to a little beyond where everything is trusted."""
        grid = np.linspace(0, 1.15 * self.calibration.curve.risk(np.inf), 33)[1:]
        self.alphas = np.unique(np.concatenate([self.alphas, grid]))

    def thresholds(self, subset: Subset) -> NDArray[np.float64]:
        """Return t_α of each level from the curve of a subset, and last ∞ for the whole image."""
        if subset not in self._thresholds:
            levels = [*map(subset.curve.threshold, self.alphas.tolist()), np.inf]
            self._thresholds[subset] = np.array(levels)
        return self._thresholds[subset]

    def reduce_test(self, image: EvaluatedImage) -> JudgedImage:
        """Measure a test image under the part of the calibration that would answer it."""
        pipeline, measurement = self.pipeline, image.measured(self.pipeline)
        features = image.pair.features
        applicable = ApplicableCalibration.from_calibration(
            self.calibration, None, features, shape=measurement.sigma.shape
        )
        thresholds = self.thresholds(applicable.subset)
        settings = pipeline.fidelity
        sigma, error = measurement.sigma, image.error(pipeline, settings)
        losses = [
            self.calibration.guarantee.loss(LossCurve.from_maps(sigma[window], error[window]))
            for window in settings.windows(*sigma.shape)
        ]
        if settings != self.color_error:
            error = image.error(pipeline, self.color_error)
        of_colours = LossCurve.from_maps(sigma, error)
        quantities = image.quantities(pipeline, thresholds)
        quantities["error"] = of_colours.losses_below(thresholds).astype(np.float64)
        quantities["loss"] = mean_below(losses, thresholds)
        return JudgedImage(applicable, losses, quantities)

    def gather(self, images: Sequence[JudgedImage]) -> None:
        """Store the answers."""
        self.answers = images
        names = images[0].quantities
        self.quantities = {
            name: np.array([answer.quantities[name] for answer in images]) for name in names
        }

    def of_places(self, places: Sequence[int]) -> Cell:
        """Return the cell of some of the test images."""
        selected = replace(self, answers=[self.answers[place] for place in places])
        selected.calibration = self.calibration
        selected.quantities = {name: values[places] for name, values in self.quantities.items()}
        return selected
