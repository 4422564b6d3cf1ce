"""The degradation: how the input X is made from the truth Y when only Y is at hand.

Line art (text, lines and flat areas, as screenshots, slides and charts have them) is drawn here at
the size of the truth, with the standard font of Pillow, so that no data of others is needed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from trustscale_server.images.compression import (
    LOSSLESS,
    PALETTE,
    TITLES,
    Codec,
    Compression,
    read_compression,
)
from trustscale_server.images.decode import installed_formats
from trustscale_server.images.drawings import Inpaint, cut_holes, hole_mask, stream
from trustscale_server.images.line_art import line_art, page_around, rectangle
from trustscale_server.pixels.resize import resized
from trustscale_server.platform.errors import BadRequest

N = TypeVar("N", int, float)


def _range(value: N | tuple[N, N]) -> tuple[N, N]:
    return value if isinstance(value, tuple) else (value, value)


def _within(least: float, most: float) -> AfterValidator:
    """That a number, or the two of a range, lie between these."""

    def checked(value: N | tuple[N, N]) -> N | tuple[N, N]:
        low, high = _range(value)
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

_FILTERS: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
_FILES: Final[Mapping[str, Codec]] = {
    "before": "jpeg",
    "jpeg": "jpeg",
    "webp": "webp",
    "avif": "avif",
    "heic": "heic",
}
_PILLOW: Final = {"heic": "heif"}  # what Pillow calls it, where that is another name
_PALETTE_COLOURS: Final = 256
_GRID: Final = 8  # pixels; a decoded picture may have been cut between two blocks
_PATCH_SIDES: Final = (0.3, 0.8)

# Streams of random numbers, one for each thing that is drawn.
_NOISE, _MIXTURE, _BLUR, _ENLARGED, _SHARPENED, _VARIATION = 1, 3, 8, 9, 10, 11
_SUBJECT, _MOTION, _PATCH, _CUT, _SHRUNK = 12, 13, 14, 15, 17
_QUALITIES: Final = {"jpeg": 4, "webp": 5, "before": 6, "avif": 7, "heic": 16}

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
        return "lossless" if self.is_shrunk and last == "before" else _FILES[last]

    @property
    def is_shrunk(self) -> bool:
        """Whether the first JPEG file was larger than X."""
        return _range(self.shrunk)[1] > 1

    @property
    def is_of_data(self) -> bool:
        """Whether all steps apply to data that are no picture."""
        is_shown = self.subject == "photograph"
        return is_shown and not (self.grey or self.qualities or self.palette or self.inpaint)

    @property
    def qualities(self) -> dict[str, _Quality]:
        """The qualities of the files that X goes through, in order, by field."""
        qualities = {field: getattr(self, field) for field in _FILES}
        return {field: quality for field, quality in qualities.items() if quality is not None}

    def lowest_quality(self, codec: Codec) -> float | None:
        """Return the lowest quality of a file of this form that X goes through, or None."""
        lowest = [_range(q)[0] for field, q in self.qualities.items() if _FILES[field] == codec]
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
            f"reduction by as much and {larger}": _range(self.enlarged)[1] > 1,
            f"reduction by {_words(self.shrunk)} after a first JPEG file": _range(self.shrunk)[1]
            > 1,
            f"noise of {_words(self.noise)} grey levels": self.noise,
            "a median filter": self.median,
            f"removal of noise by total variation ({_words(self.variation)})": self.variation,
            f"sharpening by {_words(self.sharpened)}": self.sharpened,
            **dict.fromkeys(self.saved_in_words(), True),
            self.inpaint.describe() if self.inpaint else "": self.inpaint,
        }
        return ", ".join(words for words, applies in steps.items() if applies) or "no change"

    def saved_in_words(self) -> list[str]:
        """Describe the files that X went through."""
        files = [
            f"{TITLES[_FILES[field]]} of quality {_words(quality)}"
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
    return " to ".join(f"{number:g}" for number in dict.fromkeys(_range(value)))


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

    Each Y is used once for every way, of which the seed draws a component.

    shares: how frequent uploads of each way are; 1 of those that it does not name.
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
        found = [component.lowest_quality(codec) for component in self.mixture]
        return min((quality for quality in found if quality is not None), default=None)

    def share(self, way: str) -> int:
        """Return how frequent uploads of a way are, in parts of the sum over all ways."""
        return self.shares.get(way, 1)

    def describe(self, scale: int) -> str:
        """Return how X was made, in one line."""
        unsaved = {**dict.fromkeys(_FILES), "palette": False, "decoded": False}
        plain = dict.fromkeys(
            component.model_copy(update=unsaved).describe(scale) for component in self.mixture
        )
        ranges: dict[str, list[int]] = {}
        for component in self.mixture:
            for field, quality in component.qualities.items():
                ranges.setdefault(TITLES[_FILES[field]], []).extend(_range(quality))
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
        place = stream(seed, _MIXTURE).choice(len(weights), p=weights / weights.sum())
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


_SHARP: Final[Sequence[Mapping[str, Any]]] = (
    {"weight": 8},
    {"reduction": "area", "weight": 4},
    {"reduction": "lanczos", "weight": 2},
    {"noise": (0.5, 4.0), "weight": 3},
    {"subject": "grey", "weight": 1},
)
"""How pictures become sharp uploads."""

_SOFT: Final[Sequence[Mapping[str, Any]]] = (
    {"enlarged": (1.2, 2.1), "weight": 4},
    {"enlarged": (1.2, 2.1), "reduction": "area", "weight": 2},
    {"enlarged": (1.2, 2.1), "kernel": "lanczos", "weight": 2},
    {"enlarged": (1.2, 2.1), "kernel": "bilinear", "weight": 2},
    {"blur": (0.5, 1.3), "weight": 4},
)
"""How they become soft ones: screenshots, thumbnails, digital zoom, a lens out of focus."""

_KERNELS: Final[Sequence[Mapping[str, Any]]] = ({}, {"kernel": "bilinear"}, {"kernel": "lanczos"})
_FAR: Final = [{"enlarged": (2.1, 4.0), **kernel} for kernel in _KERNELS]
_PART: Final = [{"enlarged": (1.3, 4.0), "patch": True, **kernel} for kernel in _KERNELS]
_PAGE: Final[Mapping[str, Any]] = {"subject": "page", "reduction": "area"}
_SMOOTHED: Final = {"noise": (0.5, 6.0), "median": True, "sharpened": (0.0, 1.6)}
_DENOISED: Final = {"noise": (1.0, 6.0), "variation": (0.05, 0.12)}
_CLEAR: Final[Sequence[Mapping[str, Any]]] = ({}, {"jpeg": (80, 97)})
_PHONE: Final[Sequence[Mapping[str, Any]]] = (
    {"avif": (40, 95)},
    *([{"heic": (40, 95)}] if find_spec("pillow_heif") else []),
)

USUAL = (
    Mixture.from_ways("lossless", _SHARP, share=24)
    + Mixture.from_ways(
        "noisy", [{"noise": (4.0, 8.0)}, {"noise": (4.0, 8.0), "reduction": "area"}], share=2
    )
    + Mixture.from_ways(
        "jpeg-85",
        _SHARP,
        [{"jpeg": (85, 100), "weight": 3}, {"before": (85, 98), "jpeg": (85, 98)}],
        share=20,
    )
    + Mixture.from_ways(
        "jpeg-65",
        _SHARP,
        [
            {"jpeg": (65, 84), "weight": 4},
            {"before": (65, 84), "jpeg": (80, 96)},
            {"before": (80, 98), "jpeg": (65, 84)},
        ],
        share=14,
    )
    + Mixture.from_ways(
        "jpeg-30",
        _SHARP,
        [
            {"jpeg": (30, 64), "weight": 4},
            {"before": (30, 64), "jpeg": (70, 96)},
            {"before": (60, 98), "jpeg": (30, 64)},
        ],
        share=5,
    )
    + Mixture.from_ways("webp", _SHARP, [{"webp": (20, 95)}], share=5)
    + Mixture.from_ways("heic", _SHARP, _PHONE, share=6)
    + Mixture.from_ways("palette", _SHARP, [{"palette": True}])
    + Mixture.from_ways(
        "decoded",
        _SHARP,
        [
            {"webp": (30, 95), "decoded": True, "weight": 3},
            *({**file, "decoded": True} for file in _PHONE),
            {"jpeg": (40, 95), "decoded": True, "weight": 2},
            {"before": (40, 92), "shrunk": (1.2, 2.2), "weight": 2},
        ],
        share=7,
    )
    + Mixture.from_ways("soft", _SOFT, share=6)
    + Mixture.from_ways(
        "soft-lossy", _SOFT, [{"jpeg": (30, 97), "weight": 4}, {"webp": (20, 95)}, *_PHONE], share=5
    )
    + Mixture.from_ways("enlarged", _FAR, _CLEAR, share=3)
    + Mixture.from_ways(
        "smoothed", [_SMOOTHED, {**_SMOOTHED, "reduction": "area"}], _CLEAR, share=2
    )
    + Mixture.from_ways("denoised", [_DENOISED, {**_DENOISED, "reduction": "area"}], _CLEAR)
    + Mixture.from_ways("motion", [{"motion": (1.5, 5.0)}], _CLEAR, share=2)
    + Mixture.from_ways("collage", _PART, _CLEAR, share=2)
    + Mixture.from_ways(
        "page", [_PAGE, {**_PAGE, "patch": True, "enlarged": (1.2, 3.0)}], _CLEAR, share=3
    )
    + Mixture.from_ways("drawn", [{"subject": "drawing", "reduction": "area"}], _CLEAR, share=3)
)
"""The default: what uploads commonly went through, and how often."""


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


class DegradedInput(NamedTuple):
    """X, [H/k, W/k, 3], with the compression of its file."""

    pixels: NDArray[Any]
    compression: Compression


def degrade(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> NDArray[Any]:
    """Return only the pixels of `make_input`."""
    return make_input(truth, scale, degradation, seed).pixels


def make_input(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> DegradedInput:
    """Make X from Y, uint8 [H, W, 3].

    Args:
        truth: Y; its sides are multiples of the scale, or ValueError (`crop_to_multiple`).
        scale: k ≥ 1.
        degradation: the steps.
        seed: of noise, holes, and draws from mixtures and ranges.
    """
    height, width = truth.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{width}×{height} is not a multiple of {scale}")
    if isinstance(degradation, Mixture):
        degradation = degradation.drawn(seed)
    pixels = truth
    if degradation.grey:
        pixels = without_colour(pixels)
    if blur := scale * _drawn(degradation.blur, seed, _BLUR):
        pixels = scipy.ndimage.gaussian_filter(pixels, (blur, blur, 0), mode="reflect")
    if length := scale * _drawn(degradation.motion, seed, _MOTION):
        pixels = _moved(pixels, length, stream(seed, _MOTION).uniform(0, math.pi))
    factor = _drawn(degradation.enlarged, seed, _ENLARGED)
    larger = _drawn(degradation.shrunk, seed, _SHRUNK)
    if degradation.before is not None and larger > 1:
        size = [max(1, round(side * larger / scale)) for side in (width, height)]
        pixels = resized(pixels, (size[0], size[1]), _FILTERS[degradation.reduction])
        pixels = _filed(pixels, degradation, "before", seed).pixels
        pixels = resized(pixels, (width // scale, height // scale), _FILTERS[degradation.reduction])
    elif degradation.patch:
        pixels = _patched(pixels, scale, degradation, factor, seed)
    else:
        pixels = _resized(pixels, scale, degradation, factor)
    pixels = _filtered(pixels, degradation, seed)
    compression, pixels = _saved(pixels, degradation, seed)
    if degradation.inpaint is not None:
        height, width = pixels.shape[:2]
        mask = hole_mask(height, width, degradation.inpaint, seed)
        pixels = cut_holes(pixels, mask, degradation.inpaint.color)
    return DegradedInput(np.ascontiguousarray(pixels), compression)


def subject_of(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> NDArray[Any]:
    """Return Y, or the picture of its size that replaces it before X is made."""
    if isinstance(degradation, Mixture):
        degradation = degradation.drawn(seed)
    if degradation.subject == "grey":
        return without_colour(truth)
    if degradation.subject == "drawing":
        height, width = truth.shape[:2]
        return line_art(height, width, scale, stream(seed, _SUBJECT))
    if degradation.subject == "page":
        return page_around(truth, scale, stream(seed, _SUBJECT))
    return truth


def without_colour(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the luma in all channels, uint8 [h, w, 3]."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _saved(
    pixels: NDArray[Any], degradation: Degradation, seed: int
) -> tuple[Compression, NDArray[Any]]:
    compression, cut = LOSSLESS, (0, 0)
    if degradation.decoded:
        down, across = stream(seed, _CUT).integers(0, _GRID, 2).tolist()
        cut = (down, across) if stream(seed, _CUT).random() < 0.5 else (0, 0)
        pixels = np.pad(pixels, ((cut[0], 0), (cut[1], 0), (0, 0)), mode="edge")
    for field in degradation.qualities:
        if field != "before" or not degradation.is_shrunk:
            pixels, compression = _filed(pixels, degradation, field, seed)
    if degradation.decoded:
        compression, pixels = LOSSLESS, pixels[cut[0] :, cut[1] :]
    if degradation.palette:
        few = Image.fromarray(pixels).quantize(_PALETTE_COLOURS)
        compression, pixels = PALETTE, np.asarray(few.convert("RGB"))
    return compression, pixels


def _filed(pixels: NDArray[Any], degradation: Degradation, field: str, seed: int) -> DegradedInput:
    low, high = _range(degradation.qualities[field])
    return round_trip(
        pixels, _FILES[field], int(stream(seed, _QUALITIES[field]).integers(low, high + 1))
    )


def round_trip(pixels: NDArray[Any], codec: Codec, quality: int) -> DegradedInput:
    """Write a picture, uint8 [h, w, 3], with a codec, and read it back.

    BadRequest: it cannot be written.
    """
    if codec == "heic" and "HEIF" not in installed_formats():
        raise BadRequest("HEIC files are written by the extra “formats”, which is not installed.")
    file = io.BytesIO()
    # The number of threads changes what the encoder of AVIF writes.
    alone = {"max_threads": 1} if codec == "avif" else {}
    Image.fromarray(pixels).save(file, _PILLOW.get(codec, codec), quality=quality, **alone)
    saved = Image.open(file)
    compression = read_compression(file.getvalue(), saved)
    return DegradedInput(np.asarray(saved.convert("RGB")), compression)


def _moved(pixels: NDArray[Any], length: float, angle: float) -> NDArray[Any]:
    """Blurred as by a straight movement of the camera, in pixels and radians."""
    side = 2 * math.ceil(length / 2) + 1
    steps = np.linspace(-length / 2, length / 2, 8 * side) + 0.0
    places = side // 2 + np.stack([steps * math.sin(angle), steps * math.cos(angle)])
    kernel = np.zeros((side + 1, side + 1), np.float32)
    low = np.floor(places).astype(int)
    share = places - low
    for corner in np.ndindex(2, 2):
        weight = np.abs(1 - np.array(corner)[:, None] - share).prod(axis=0)
        np.add.at(kernel, tuple(low + np.array(corner)[:, None]), weight)
    kernel /= kernel.sum()
    planes = [
        scipy.ndimage.convolve(plane, kernel, mode="reflect")
        for plane in np.moveaxis(pixels.astype(np.float32), 2, 0)
    ]
    return _as(pixels.dtype, np.stack(planes, axis=2))


def _patched(
    pixels: NDArray[Any], scale: int, degradation: Degradation, factor: float, seed: int
) -> NDArray[Any]:
    """X with a rectangle that was enlarged, or with one that was not."""
    sharp = _resized(pixels, scale, degradation, 1)
    soft = _resized(pixels, scale, degradation, factor)
    random = stream(seed, _PATCH)
    below, above = (sharp, soft) if random.random() < 0.5 else (soft, sharp)
    patched = below.copy()
    height, width = patched.shape[:2]
    place = rectangle(height, width, random, _PATCH_SIDES)
    patched[place] = above[place]
    return patched


def make_values(
    truth: NDArray[Any], scale: int, degradation: Degradation, seed: int
) -> NDArray[Any]:
    """Make X from Y where both are data, [H, W, c]; noise is in 255ths of the range of Y."""
    low, high = float(truth.min()), float(truth.max())
    unit = (high - low) / 255 or 1.0
    values = ((truth.astype(np.float64) - low) / unit).astype(np.float32)
    reduced = make_input(values, scale, degradation, seed).pixels.astype(np.float64)
    return _as(truth.dtype, reduced * unit + low)


def _as(dtype: np.dtype[Any], values: NDArray[Any]) -> NDArray[Any]:
    """The values as a type; integers are rounded and cut to its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    rounded: NDArray[Any] = np.rint(np.clip(values, 0, np.iinfo(dtype).max)).astype(dtype)
    return rounded


def _drawn(value: float | tuple[float, float], seed: int, number: int) -> float:
    """The value, or one of its range by this stream of the seed."""
    low, high = _range(value)
    return low if low == high else float(stream(seed, number).uniform(low, high))


def _filtered(pixels: NDArray[Any], degradation: Degradation, seed: int) -> NDArray[Any]:
    """The picture, uint8 [h, w, 3], with noise, freed of it, sharpened."""
    if noise := _drawn(degradation.noise, seed, _NOISE):
        noisy = pixels + stream(seed, _NOISE).normal(0, noise, pixels.shape)
        pixels = _as(pixels.dtype, noisy)
    if degradation.median:
        pixels = scipy.ndimage.median_filter(pixels, (3, 3, 1))
    if weight := _drawn(degradation.variation, seed, _VARIATION):
        from skimage.restoration import denoise_tv_chambolle  # noqa: PLC0415 - takes long to load

        plain = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
            pixels / 255, weight=weight, channel_axis=2
        )
        pixels = np.rint(255 * np.clip(plain, 0, 1)).astype(np.uint8)
    if amount := _drawn(degradation.sharpened, seed, _SHARPENED):
        plain = pixels.astype(np.float32)
        blurred = scipy.ndimage.gaussian_filter(plain, (1, 1, 0))
        sharper = plain + np.float32(amount) * (plain - blurred)
        pixels = _as(pixels.dtype, sharper)
    return pixels


def _resized(
    pixels: NDArray[Any], scale: int, degradation: Degradation, factor: float
) -> NDArray[Any]:
    """The picture reduced by the scale, or by factor × scale and then enlarged by the factor."""
    height, width = (side // scale for side in pixels.shape[:2])
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        small = resized(pixels, size, _FILTERS[degradation.reduction])
        return resized(small, (width, height), _FILTERS[degradation.kernel])
    if scale == 1:
        return pixels
    return resized(pixels, (width, height), _FILTERS[degradation.reduction])


def crop_to_multiple(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Crop the image at the right and bottom to multiples of the scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
