"""What is done to a truth Y to make the input X of it: steps, and mixtures of ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from trustscale_server.images.compression import TITLES, Codec
from trustscale_server.kinds.holes import Inpaint
from trustscale_server.kinds.streams import Stream, stream

T = TypeVar("T", int, float)


def range_of(value: T | tuple[T, T]) -> tuple[T, T]:
    """Return the lowest and the highest value of a number or a range."""
    return value if isinstance(value, tuple) else (value, value)


def _within(least: float, most: float) -> AfterValidator:
    """That a number, or the two of a range, lie between these."""

    def checked(value: T | tuple[T, T]) -> T | tuple[T, T]:
        low, high = range_of(value)
        if not least <= low <= high <= most:
            raise ValueError(
                f"it is between {least:g} and {most:g}, and a range begins with the lower one"
            )
        return value

    return AfterValidator(checked)


def _seldom(default: Any) -> Any:
    """A field that is left out where it has its default, since mixtures are long."""
    return Field(default, exclude_if=lambda value: value == default)


_Quality = Annotated[int | tuple[int, int], _within(1, 100)]
"""A quality from 1 to 100, or the lowest and the highest one, between which the seed draws."""

FILE_CODECS: Final[Mapping[str, Codec]] = {
    "before": "jpeg",
    "jpeg": "jpeg",
    "webp": "webp",
    "avif": "avif",
    "heic": "heic",
}
"""How the files that X goes through are compressed, in order, by field of `Degradation`."""

_Subject = Literal["photograph", "grey", "drawing", "page"]


class Degradation(BaseModel):
    """Steps that make X from Y, in order; a step with a range draws its value by the seed.

    subject: what the truth becomes before: as it is, without its colours, a drawing in its place,
    or a page around a part of it. grey: drop the colour of X alone (colorization).
    blur: Gaussian, standard deviation in pixels of X. motion: length in pixels of X of a straight
    movement of the camera. Then antialiased reduction by the scale of the upscaler, and by
    `enlarged`, the factor by which `kernel` enlarges it again. patch: only a rectangle is enlarged
    so, or all but that, as in a collage. noise: Gaussian, standard deviation in grey levels of 255.
    median: of 3×3 pixels. variation: weight of denoising by total variation (Chambolle).
    sharpened: share of the difference from a Gaussian blur of 1 pixel that is added. before:
    quality of a first JPEG file; shrunk: the factor by which that was larger than X. jpeg, webp,
    avif, heic: quality of a round trip through such a file. decoded: what it held was saved again
    without loss, perhaps cut before. palette: of 256 colours, with dithering. inpaint: holes, cut
    last so that their colour stays exact.

    A calibration holds for inputs made in this way: choose what the real inputs went through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: _Subject = _seldom("photograph")
    grey: bool = False
    blur: Annotated[float | tuple[float, float], _within(0, 64)] = 0.0
    motion: Annotated[float | tuple[float, float], _within(0, 64)] = _seldom(0.0)
    reduction: Literal["bicubic", "area", "lanczos"] = _seldom("bicubic")
    enlarged: Annotated[float | tuple[float, float], _within(1, 16)] = _seldom(1.0)
    kernel: Literal["bicubic", "bilinear", "lanczos"] = _seldom("bicubic")
    patch: bool = _seldom(False)
    noise: Annotated[float | tuple[float, float], _within(0, 128)] = 0.0
    median: bool = _seldom(False)
    variation: Annotated[float | tuple[float, float], _within(0, 1)] = _seldom(0.0)
    sharpened: Annotated[float | tuple[float, float], _within(0, 10)] = _seldom(0.0)
    before: _Quality | None = _seldom(None)
    shrunk: Annotated[float | tuple[float, float], _within(1, 4)] = _seldom(1.0)
    jpeg: _Quality | None = None
    webp: _Quality | None = _seldom(None)
    avif: _Quality | None = _seldom(None)
    heic: _Quality | None = _seldom(None)
    decoded: bool = _seldom(False)
    palette: bool = _seldom(False)
    inpaint: Inpaint | None = None

    @property
    def form(self) -> Codec:
        """How the file of X is compressed."""
        last = next(reversed(self.qualities), None)
        if self.palette or last is None or self.decoded:
            return "palette" if self.palette else "lossless"
        return "lossless" if self.is_shrunk and last == "before" else FILE_CODECS[last]

    @property
    def is_shrunk(self) -> bool:
        """Whether the first JPEG file was larger than X."""
        return range_of(self.shrunk)[1] > 1

    @property
    def is_of_data(self) -> bool:
        """Whether all steps apply to data that are no picture."""
        is_shown = self.subject == "photograph"
        return is_shown and not (self.grey or self.qualities or self.palette or self.inpaint)

    @property
    def qualities(self) -> dict[str, _Quality]:
        """The qualities of the files that X goes through, in order, by field."""
        qualities = {field: getattr(self, field) for field in FILE_CODECS}
        return {field: quality for field, quality in qualities.items() if quality is not None}

    def lowest_quality(self, codec: Codec) -> float | None:
        """Return the lowest quality of a file of this form that X goes through, or None."""
        lowest = [
            range_of(q)[0] for field, q in self.qualities.items() if FILE_CODECS[field] == codec
        ]
        return min(lowest, default=None)

    def describe(self, scale: int) -> str:
        """Return how X was made, such as "bicubic reduction by 4, JPEG of quality 50"."""
        larger = f"{self.kernel} enlargement by {_words(self.enlarged)}"
        larger += " of a part" if self.patch else ""
        steps = {
            _SUBJECTS.get(self.subject, ""): self.subject in _SUBJECTS,
            "removal of the colour": self.grey,
            f"a blur of {_words(self.blur)} px": self.blur,
            f"a motion blur of {_words(self.motion)} px": self.motion,
            f"{self.reduction} reduction by {scale}": scale > 1,
            f"reduction by as much and {larger}": range_of(self.enlarged)[1] > 1,
            f"reduction by {_words(self.shrunk)} after a first JPEG file": range_of(self.shrunk)[1]
            > 1,
            f"noise of {_words(self.noise)} grey levels": self.noise,
            "a median filter": self.median,
            f"removal of noise by total variation ({_words(self.variation)})": self.variation,
            f"sharpening by {_words(self.sharpened)}": self.sharpened,
            **dict.fromkeys(self._saved_in_words(), True),
            self.inpaint.describe() if self.inpaint else "": self.inpaint,
        }
        return ", ".join(words for words, applies in steps.items() if applies) or "no change"

    def _saved_in_words(self) -> list[str]:
        """The files that X went through."""
        files = [
            f"{TITLES[FILE_CODECS[field]]} of quality {_words(quality)}"
            for field, quality in self.qualities.items()
        ]
        files += ["a file without loss"] if self.decoded else []
        return [*files, *(["a palette of colours"] if self.palette else [])]


_SUBJECTS: Final = {
    "grey": "truths without colour",
    "drawing": "drawn lines and text",
    "page": "a page with a photograph",
}


def _words(value: float | tuple[float, float]) -> str:
    return " to ".join(f"{number:g}" for number in dict.fromkeys(range_of(value)))


class Component(Degradation):
    """One way of making X, or a part of one.

    way: the name of the way; those without share the name of their file's form. weight: against the
    others of this way.
    """

    way: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9 /.-]*$", max_length=40)
    weight: float = Field(1.0, gt=0, le=1e6)

    @property
    def way_name(self) -> str:
        """The way, or how the file of X is compressed."""
        return self.way or self.form


class Mixture(BaseModel):
    """Several ways of making X, with their frequencies.

    Each Y is used once for every way; the seed draws one of the way's components.

    shares: how frequent uploads of each way are; a way without a share has 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixture: tuple[Component, ...] = Field(min_length=1, max_length=200)
    shares: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shares_are_of_ways(self) -> Self:
        if unknown := self.shares.keys() - {component.way_name for component in self.mixture}:
            raise ValueError(f"shares of ways that are not in the mixture: {sorted(unknown)}")
        return self

    def lowest_quality(self, codec: Codec) -> float | None:
        """Return the lowest quality of a file of this form that some X go through, or None."""
        qualities = [component.lowest_quality(codec) for component in self.mixture]
        return min((quality for quality in qualities if quality is not None), default=None)

    def share(self, way: str) -> int:
        """Return how frequent uploads of a way are, in parts of the sum over all ways."""
        return self.shares.get(way, 1)

    def describe(self, scale: int) -> str:
        """Return how X was made, in one line."""
        unsaved = {**dict.fromkeys(FILE_CODECS), "palette": False, "decoded": False}
        plain = dict.fromkeys(
            component.model_copy(update=unsaved).describe(scale) for component in self.mixture
        )
        ranges: dict[str, list[int]] = {}
        for component in self.mixture:
            for field, quality in component.qualities.items():
                ranges.setdefault(TITLES[FILE_CODECS[field]], []).extend(range_of(quality))
        files = [f"{form} of quality {min(q)} to {max(q)}" for form, q in ranges.items()]
        if any(component.before for component in self.mixture):
            files.append("twice")
        if any(component.palette for component in self.mixture):
            files.append("with a palette of colours")
        if any(component.decoded for component in self.mixture):
            files.append("and again without loss")
        saved = f"; then, some of them, saved as {', '.join(files)}" if files else ""
        return f"one of: {'; '.join(plain)}{saved}"

    def variants(self) -> Mapping[str, Mixture]:
        """Return the parts of the mixture by the name of their way."""
        return _variants(self.mixture, tuple(self.shares.items()))

    def drawn(self, seed: int) -> Degradation:
        """Return the component of this seed."""
        weights = np.array([component.weight for component in self.mixture])
        place = stream(seed, Stream.MIXTURE).choice(len(weights), p=weights / weights.sum())
        return self.mixture[int(place)]

    @classmethod
    def single(cls, degradation: Degradation) -> Self:
        """Return a mixture with one way of making X."""
        return cls(mixture=(Component(**degradation.model_dump()),))

    @classmethod
    def from_ways(
        cls,
        way: str,
        pixels: Sequence[Mapping[str, Any]],
        files: Sequence[Mapping[str, Any]] = ({},),
        share: int = 1,
    ) -> Self:
        """Combine every way of making pixels with each form of file; weights are multiplied."""
        components = [
            {**a, **b, "weight": a.get("weight", 1.0) * b.get("weight", 1.0)}
            for b, a in product(files, pixels)
        ]
        return cls(
            mixture=tuple(Component(**fields, way=way) for fields in components),
            shares={way: share},
        )

    def __add__(self, other: Mixture) -> Mixture:
        return Mixture(
            mixture=(*self.mixture, *other.mixture), shares={**self.shares, **other.shares}
        )


def _kind(value: Any) -> str:
    is_mixture = "mixture" in value if isinstance(value, dict) else isinstance(value, Mixture)
    return "mixture" if is_mixture else "steps"


MadeBy = Annotated[
    Annotated[Degradation, Tag("steps")] | Annotated[Mixture, Tag("mixture")], Discriminator(_kind)
]
"""How X is made: steps, or a mixture of them."""


@lru_cache(maxsize=64)  # milliseconds, and asked for with each pair
def _variants(
    components: tuple[Component, ...], shares: tuple[tuple[str, int], ...]
) -> Mapping[str, Mixture]:
    by_way: dict[str, list[Component]] = {}
    for component in components:
        by_way.setdefault(component.way_name, []).append(component)
    stated = dict(shares)
    return MappingProxyType(
        {
            way: Mixture(mixture=tuple(of_way), shares={way: stated[way]} if way in stated else {})
            for way, of_way in by_way.items()
        }
    )
