"""Which of several active calibrations answers an upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.images.features import InputFeatures

EVERY: Final = "*"
"""The class of every upload, where a calibration has no classes."""


@dataclass(frozen=True, slots=True)
class CalibrationPriority:
    """The active calibrations of an upscaler, in order.

    The first that covers an upload's class, and the size of its output, answers; else the first of
    all, which says that nothing is known. A curve keeps its promise only for uploads like all of
    its pairs, so one that sorts uploads otherwise than those before it, or not at all, answers no
    class that they may answer.
    """

    calibrations: Sequence[Calibration]

    @property
    def first(self) -> Calibration:
        """The one that was activated last."""
        return self.calibrations[0]

    @property
    def stretches(self) -> list[str | None]:
        """The stretches of data, None for pictures, in order, each once."""
        return list(
            dict.fromkeys(calibration.pipeline.stretch for calibration in self.calibrations)
        )

    def choose(self, features: InputFeatures, height: int, width: int) -> Calibration:
        """Return the calibration that answers an upload whose output has this size."""
        for place, calibration in enumerate(self.calibrations):
            if calibration.everything.covers(features) and calibration.answers_size(height, width):
                name = calibration.everything.class_of(features)
                if not self._is_taken(
                    place, covered_classes(calibration) if name is None else [name]
                ):
                    return calibration
        return self.first

    def answers(self) -> list[list[str]]:
        """Return the classes that each calibration answers, even if only for some sizes."""
        answered = []
        for place, calibration in enumerate(self.calibrations):
            names = covered_classes(calibration)
            if calibration.pipeline.input_rule is None and self._is_taken(place, names):
                names = []
            answered.append([name for name in names if not self._is_taken(place, [name])])
        return answered

    def of_words(self, *, is_for_text: bool) -> CalibrationPriority:
        """Return only the calibrations for text, or only the others; all if there are none such."""
        chosen = [
            calibration
            for calibration in self.calibrations
            if calibration.is_for_text == is_for_text
        ]
        is_same = len(chosen) in {0, len(self.calibrations)}
        return self if is_same else CalibrationPriority(chosen)

    def _is_taken(self, place: int, names: Sequence[str]) -> bool:
        """Whether one before it answers uploads of these classes, for the same data and sizes."""
        own = self.calibrations[place]
        rule, sizes = own.pipeline.input_rule, own.sizes
        for other in self.calibrations[:place]:
            if answers_other_uploads(own, other):
                continue  # no request is for both
            if other.sizes is not None and (sizes is None or not sizes & other.sizes):
                continue
            same = rule is not None and other.pipeline.input_rule == rule
            for known in covered_classes(other):
                if known in names or not same:
                    return True
        return False


def answers_other_uploads(first: Calibration, second: Calibration) -> bool:
    """Return whether they are for other data, or one is for text and one is not."""
    return (first.pipeline.stretch, first.is_for_text) != (
        second.pipeline.stretch,
        second.is_for_text,
    )


def covered_classes(calibration: Calibration) -> list[str]:
    """Return the classes that a calibration covers; without a rule `EVERY`."""
    has_rule = calibration.pipeline.input_rule is not None
    return [*calibration.everything.classes] if has_rule else [EVERY]
