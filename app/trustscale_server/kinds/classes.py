"""What kind of upload a picture is.

One table, linear in the description of the picture and in what its file says, has a row for each
*kind*, a typical way of making uploads (`typical.py`). `python -m benchmarks.kinds` learns it
(multinomial logistic regression). The kind with the highest score gives the class. A table that is
wrong costs power, never validity, since the same function reads calibrating pictures. Nothing here
tells whether a picture is like the calibrating ones: what a picture looks like does not say whether
its errors are larger, as was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.compression import Compression

UNKNOWN: Final = "other"
"""The class of files that are compressed in a way that nothing reads: it is never calibrated."""

MAX_DEVIATIONS: Final = 5.0
"""Standard deviations that a number counts at most, so that none decides alone."""

_OTHERS: Final = {
    UNKNOWN: "compressed in an unknown way",
    "grey": "of one channel",
    "colour": "of three channels",
}
_SHARP: Final = {"lossless", "noisy"}
_REMADE: Final = {"soft", "enlarged", "smoothed", "denoised", "motion", "page", "line-art"}
_FORMS: Final = {
    "jpeg": "jpeg",
    "webp": "webp",
    "avif": "heic",
    "heic": "heic",
    "palette": "palette",
}


class Kind(NamedTuple):
    """The kind of an upload.

    name: the class. softness: how much better a soft kind explains it than its own.
    """

    name: str
    softness: float

    @property
    def is_nearly_soft(self) -> bool:
        """Whether it passes as sharp, and a soft kind explains it nearly as well."""
        return self.name in _SHARP and self.softness > -1  # nats

    @property
    def falls_off_as_taken(self) -> bool:
        """Whether its finest detail is as it was taken: neither removed afterwards nor drawn."""
        return self.name not in _REMADE


class Table(NamedTuple):
    """The learned table that tells kinds of uploads apart.

    numbers: names, [d]. kinds: names, [k]. centre, spread: of each number, [d]. classes: of the
    kinds, [k]. weights: [k, d]. bias: [k]. is_soft: bool [k]. words: by class.
    """

    numbers: tuple[str, ...]
    kinds: tuple[str, ...]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    classes: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    is_soft: NDArray[np.bool_]
    words: Mapping[str, str]

    def standardised(self, numbers: Mapping[str, float]) -> NDArray[np.float64]:
        """Return the numbers of a picture as the table sees them, [d]; 0: unknown, or typical."""
        values = (np.array([numbers[name] for name in self.numbers]) - self.centre) / self.spread
        return np.nan_to_num(np.clip(values, -MAX_DEVIATIONS, MAX_DEVIATIONS))

    def kind_of(self, standardised: NDArray[np.float64]) -> Kind:
        """Return the kind of a picture with these numbers."""
        scores = self.weights @ standardised + self.bias
        place = int(scores.argmax())
        softness = scores[self.is_soft].max() - scores[place]
        return Kind(self.classes[place], round(float(softness), 3))


@cache
def kinds_table() -> Table:
    """Return the table in the repository."""
    document = json.loads(
        (resources.files(__package__) / "classes.json").read_text(encoding="utf-8")
    )
    kinds = document["kinds"]
    centre, spread = np.array(list(document["numbers"].values())).T
    return Table(
        numbers=tuple(document["numbers"]),
        kinds=tuple(kinds),
        centre=centre,
        spread=spread,
        classes=tuple(kind["class"] for kind in kinds.values()),
        weights=np.array([kind["weights"] for kind in kinds.values()]),
        bias=np.array([kind["bias"] for kind in kinds.values()]),
        is_soft=np.array([name.startswith("soft") for name in kinds]),
        words=document["classes"],
    )


def file_numbers(declared: Compression, worst: Compression) -> dict[str, float]:
    """Return numbers for what the file says, and what its pixels show of an earlier JPEG."""
    file_loss, loss = (compression_loss(each) ** 0.5 for each in (declared, worst))
    forms = {
        form: float(_FORMS.get(declared.codec) == form) for form in dict.fromkeys(_FORMS.values())
    }
    return {"file loss": file_loss, "loss": loss, "resaved": loss - file_loss, **forms}


def compression_loss(compression: Compression) -> float:
    """Return how much a compression lost, 0 (lossless) to 1, by its quality."""
    if compression.codec == "lossless":
        return 0.0
    return 1 - (compression.scored_quality or 50) / 100  # 50: of a file that does not declare it


def kind_of(standardised: NDArray[np.float64], declared: Compression) -> Kind:
    """Return the kind of an upload from its description and what its file says."""
    kind = kinds_table().kind_of(standardised)
    return kind._replace(name=UNKNOWN) if declared.codec == "other" else kind


def ways_of_class(name: str) -> list[str]:
    """Return the typical ways of making uploads of a class."""
    kinds = zip(kinds_table().kinds, kinds_table().classes, strict=True)
    return [kind for kind, its_class in kinds if its_class == name]


def class_of_way(way: str) -> str | None:
    """Return the class that a way of making uploads is meant for, or None if unknown."""
    table = kinds_table()
    return dict(zip(table.kinds, table.classes, strict=True)).get(way)


def class_in_words(name: str) -> str:
    """Return the class for people, such as "saved as JPEG of quality 85 or more"."""
    return {**kinds_table().words, **_OTHERS}.get(name, name)
