"""Several active calibrations of an upscaler, in order: which one answers an upload?

The first that covers the upload's class and the size of its output; else the first of all, whose
answer says that nothing is known. The choice depends on the upload alone. A curve keeps its promise
only if its uploads are also exchangeable with its scenes. So a calibration answers only by pairs
that none before it covers: then its curve would be asked for every pair that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from app.calibration.record import Calibration
from app.images.degrade import Mixture
from app.images.facts import Facts

EVERY: Final = "*"
"""Stands for the class of every upload, where a calibration sorts uploads into none."""

_LARGE: Final = (10**6, 10**6)  # an output larger than all pairs


Key: TypeAlias = tuple[int, str | None, frozenset[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Order:
    """The active calibrations of an upscaler, in order."""

    calibrations: Sequence[Calibration]
    _is_clear: dict[Key, bool] = field(default_factory=dict)

    @property
    def first(self) -> Calibration:
        """The one that was activated last."""
        return self.calibrations[0]

    @property
    def stretches(self) -> list[str | None]:
        """How X was made: of data by which stretches, None: of pictures; in order, each once."""
        return list(dict.fromkeys(one.pipeline.stretch for one in self.calibrations))

    def choose(self, facts: Facts, height: int, width: int) -> Calibration:
        """The one that answers an upload of these facts; the size is that of its output."""
        for place, calibration in enumerate(self.calibrations):
            name = calibration.class_of(facts)
            if calibration.covers(facts) and self._speaks(place, name, height, width):
                return calibration
        return self.first

    def answers(self) -> list[list[str]]:
        """The classes that each one answers, be it for some sizes only."""
        found = []
        for place, calibration in enumerate(self.calibrations):
            has_classes = calibration.pipeline.input_rule is not None
            found.append(
                [
                    name
                    for name in classes_of(calibration)
                    if self._speaks_somewhere(place, name if has_classes else None)
                ]
            )
        return found

    def _speaks_somewhere(self, place: int, name: str | None) -> bool:
        """Whether a calibration answers uploads of a class, None: of all, at some size."""
        sizes = self.calibrations[place].of_class(name).sizes.all
        return any(self._speaks(place, name, h, w) for w, h in (*sizes, _LARGE))

    def _speaks(self, place: int, name: str | None, height: int, width: int) -> bool:
        """Whether a calibration answers uploads of a class with outputs of this size.

        None of the pairs that it would do so with may be one that a calibration before it covers.
        """
        part = self.calibrations[place].of_class(name)
        speaking = part.sizes.speaking_about(height, width, part.pipeline.indecision)
        if speaking.how == "unknown":
            return False
        key = (place, name, speaking.sizes)
        if key not in self._is_clear:
            self._is_clear[key] = not any(
                before.applicability(h, w) != "unknown"
                for before in self._before(place, name)
                for w, h in speaking.sizes
            )
        return self._is_clear[key]

    def _before(self, place: int, name: str | None) -> Iterator[Calibration]:
        """The parts of the calibrations before that may answer uploads of a class."""
        calibration = self.calibrations[place]
        rule = calibration.pipeline.input_rule
        names = classes_of(calibration) if name is None else [name]
        for other in self.calibrations[:place]:
            if other.pipeline.stretch != calibration.pipeline.stretch:
                continue  # no upload is asked of both
            same = rule is not None and other.pipeline.input_rule == rule
            for known in classes_of(other):
                if known == name if same else any(_meet(known, one) for one in names):
                    yield other.of_class(known)


def classes_of(calibration: Calibration) -> list[str]:
    """The classes that a calibration covers; without a rule how its X were made, or `EVERY`."""
    if calibration.pipeline.input_rule is not None:
        return [*calibration.classes]
    made = calibration.manifest.degradation
    if made is None:
        return [EVERY]
    return [*(made if isinstance(made, Mixture) else Mixture.single(made)).variants()]


def _meet(one: str, other: str) -> bool:
    """Whether some upload may be of both classes, of different rules."""
    return EVERY in {one, other} or _codec(one) == _codec(other)


def _codec(name: str) -> str:
    """How uploads of a class were compressed, without the quality: rules divide it differently."""
    return name.removesuffix("/rough").rpartition("/")[2].partition("-")[0]
