"""What an answer is about: an upload, and the part of the calibration that speaks about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from app.calibration.record import Calibration
from app.calibration.sizes import Applicability
from app.images.compression import class_in_words
from app.images.facts import Facts
from app.serving.answer import InputClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an answer is about.

    whole: the calibration. part: those of its pairs whose curve is used.
    size: (height, width) of the output. applicability: how the part speaks about it.
    group: that the request named. input_class: of the upload, if the calibration has classes.
    is_covered: whether there were pairs like the upload, as far as classes show.
    third: how hard the upload is among those of its class; None: the part is not divided so.
    mean_log_sigma: what that follows from.
    """

    whole: Calibration
    part: Calibration
    size: tuple[int, int]
    applicability: Applicability
    group: str | None = None
    input_class: str | None = None
    is_covered: bool = True
    third: str | None = None
    mean_log_sigma: float | None = None

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        group: str | None = None,
        facts: Facts | None = None,
        *,
        size: tuple[int, int],
    ) -> Self:
        """An upload of these facts under a calibration, and an output of this size.

        Raises:
            BadGroup: the calibration has no such group.
        """
        whole = calibration.of_group(group)
        name = None if facts is None else whole.class_of(facts)
        is_covered = facts is None or whole.covers(facts)
        own = whole.of_class(name)
        return cls(
            whole=calibration,
            part=own.of_size(*size),
            size=size,
            applicability=own.applicability(*size) if is_covered else "unknown",
            group=group,
            input_class=name,
            is_covered=is_covered,
        )

    @property
    def awaits_score(self) -> bool:
        """Whether the part that speaks is known only when the picture has a score."""
        return (
            self.third is None
            and self.applicability in {"exact", "whole"}
            and self.part.is_divided
            and self.part.sizes.all == [self.size[::-1]]
        )

    def scored(self, mean_log_sigma: float) -> Self:
        """The same, and the part that speaks, of a picture with this score."""
        if not self.awaits_score:
            return self
        third, part = self.part.of_third(mean_log_sigma)
        return replace(self, part=part, third=third, mean_log_sigma=mean_log_sigma)

    @property
    def is_of_known_size(self) -> bool:
        """Whether the promise speaks about outputs of this size."""
        return self.part.applicability(*self.size) != "unknown"

    @property
    def document(self) -> InputClass | None:
        """The class as the answer names it."""
        rule = self.whole.pipeline.input_rule
        if self.input_class is None or rule is None:
            return None
        n = self.part.n if self.is_covered else 0
        return InputClass(
            name=self.input_class,
            title=class_in_words(self.input_class),
            rule=rule,
            n=n,
            third=self.third,
            mean_log_sigma=self.mean_log_sigma,
        )

    @property
    def scenes(self) -> str:
        """How many there were of what, such as "40 calibration scenes (120 images) of the …"."""
        n, pairs = self.part.n, self.part.pairs
        words = f"{n} calibration images"
        if pairs > n:
            words = f"{n} calibration scenes ({pairs} images, each scene counting once)"
        if self.group is not None:
            words += f" of the group {self.group!r}"
        if self.input_class is not None and self.is_covered:
            words += f" whose input was of the class {self.input_class!r}"
            words += f" ({class_in_words(self.input_class)})"
        if self.third is not None:
            words += f" and that are as hard as this one (the {self.third} third by mean log σ)"
        return words
