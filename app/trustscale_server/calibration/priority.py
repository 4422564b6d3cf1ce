"""Which of several active calibrations answers an upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.subset import Subset
from trustscale_server.kinds.features import InputFeatures

EVERY: Final = "*"
"""The class of every upload, where a calibration has no classes."""


@dataclass(frozen=True, slots=True)
class CalibrationPriority:
    """The active calibrations of an upscaler, in order.

    The first calibration that covers an upload's class and the size of its output answers. If none
    does, the first of all says that nothing is known. A curve keeps its promise only for uploads
    like all of its pairs. So a calibration with another rule for classes than an earlier one, or
    with none, answers no class that the earlier one may answer.
    """

    calibrations: Sequence[Calibration]

    @property
    def first(self) -> Calibration:
        """The calibration that was activated last."""
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
            everything = calibration.everything
            name = everything.class_of(features) or EVERY
            if (
                everything.covers(features)
                and pairs_of(calibration, name).answers_size(height, width)
                and not self._is_taken(place, name)
            ):
                return calibration
        return self.first

    def answers(self) -> list[list[str]]:
        """Return the classes that each calibration answers, even if only for some sizes."""
        return [
            [name for name in covered_classes(calibration) if not self._is_taken(place, name)]
            for place, calibration in enumerate(self.calibrations)
        ]

    def without_text(self) -> CalibrationPriority:
        """Return the calibrations that are not for text; all if each is."""
        others = [known for known in self.calibrations if not known.is_for_text]
        return CalibrationPriority(others) if others else self

    def _is_taken(self, place: int, name: str) -> bool:
        """Whether an earlier calibration answers uploads like some of its pairs of this class."""
        own = self.calibrations[place]
        sizes = pairs_of(own, name).sizes
        for other in self.calibrations[:place]:
            if answers_other_uploads(own, other):
                continue  # no request is for both
            theirs = covered_classes(other)
            if own.pipeline.input_rule == other.pipeline.input_rule:
                theirs = [known for known in theirs if known == name]
            for known in theirs:
                their_sizes = pairs_of(other, known).sizes
                # A promise about spots is about outputs of any size.
                if their_sizes is None or (sizes is not None and sizes & their_sizes):
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


def pairs_of(calibration: Calibration, name: str) -> Subset:
    """Return the pairs that answer uploads of a class; all pairs for `EVERY`."""
    return calibration.everything.of_class(None if name == EVERY else name)
