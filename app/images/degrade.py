"""The degradation: how the input X is made from the truth Y when only Y is at hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import groupby, product
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from trustscale_server.images.compression import (
    LOSSLESS,
    PALETTE,
    TITLES,
    Codec,
    Compression,
    Look,
    class_of,
    read_compression,
)
from trustscale_server.images.drawings import Inpaint, cut_holes, hole_mask, stream
from trustscale_server.images.resize import resized

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


Quality = Annotated[int | tuple[int, int], _within(1, 100)]
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
}
_PALETTE_COLOURS: Final = 256
_ROUGH_NOISE: Final = 4  # grey levels in each channel from which nearly every picture looks rough

# Streams of random numbers, one for each thing that is drawn.
_NOISE, _MIXTURE, _BLUR, _ENLARGED, _SHARPENED, _VARIATION = 1, 3, 8, 9, 10, 11
_QUALITIES: Final = {"jpeg": 4, "webp": 5, "before": 6, "avif": 7}


class Degradation(BaseModel):
    """Steps in the order in which they are applied; of a range the seed draws a value.

    grey: drop the colour (colorization). blur: Gaussian, standard deviation in pixels of X. Then
    antialiased reduction by the scale of the upscaler, and by `enlarged`, the factor by which
    `kernel` enlarges it again. noise: Gaussian, standard deviation in grey levels of 255. median:
    of 3×3 pixels. variation: weight of denoising by total variation (Chambolle). sharpened: share
    of the difference from a Gaussian blur of 1 pixel that is added. before: quality of a first JPEG
    file. jpeg, webp, avif: quality of a round trip through such a file. palette: of 256 colours,
    with dithering. inpaint: holes, cut last so that their colour stays exact.

    A calibration holds for inputs made in this way: choose what the real inputs went through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grey: bool = False
    blur: Annotated[float | tuple[float, float], _within(0, 64)] = 0.0
    reduction: Literal["bicubic", "area", "lanczos"] = _seldom("bicubic")
    enlarged: Annotated[float | tuple[float, float], _within(1, 4)] = _seldom(1.0)
    kernel: Literal["bicubic", "bilinear", "lanczos"] = _seldom("bicubic")
    noise: Annotated[float | tuple[float, float], _within(0, 128)] = 0.0
    median: bool = _seldom(False)
    variation: Annotated[float | tuple[float, float], _within(0, 1)] = _seldom(0.0)
    sharpened: Annotated[float | tuple[float, float], _within(0, 10)] = _seldom(0.0)
    before: Quality | None = _seldom(None)
    jpeg: Quality | None = None
    webp: Quality | None = _seldom(None)
    avif: Quality | None = _seldom(None)
    palette: bool = _seldom(False)
    inpaint: Inpaint | None = None

    @property
    def look(self) -> Look:
        """The intended look of X."""
        if self.median or _range(self.variation)[1] > 0:
            return "smoothed" if _range(self.sharpened)[1] > 0 else "denoised"
        if _range(self.enlarged)[1] > 1:
            return "bilinear" if self.kernel == "bilinear" else "soft"
        if _range(self.blur)[1] > 0:
            return "soft"
        return "rough" if _range(self.noise)[0] >= _ROUGH_NOISE else "sharp"

    @property
    def is_of_data(self) -> bool:
        """Whether all steps apply to data that are no picture."""
        return not (self.grey or self.qualities or self.palette or self.inpaint)

    @property
    def qualities(self) -> dict[str, Quality]:
        """Of the files that X goes through, in order, by field."""
        found = {field: getattr(self, field) for field in _FILES}
        return {field: quality for field, quality in found.items() if quality is not None}

    def describe(self, scale: int) -> str:
        """How X was made, such as "bicubic reduction by 4, JPEG of quality 50"."""
        larger = f"{self.kernel} enlargement by {_words(self.enlarged)}"
        steps = {
            "removal of the colour": self.grey,
            f"a blur of {_words(self.blur)} px": self.blur,
            f"{self.reduction} reduction by {scale}": scale > 1,
            f"reduction by as much and {larger}": _range(self.enlarged)[1] > 1,
            f"noise of {_words(self.noise)} grey levels": self.noise,
            "a median filter": self.median,
            f"removal of noise by total variation ({_words(self.variation)})": self.variation,
            f"sharpening by {_words(self.sharpened)}": self.sharpened,
            **dict.fromkeys(self.saved_in_words(), True),
            self.inpaint.describe() if self.inpaint else "": self.inpaint,
        }
        return ", ".join(words for words, given in steps.items() if given) or "no change"

    def saved_in_words(self) -> list[str]:
        """The files that X went through."""
        files = [
            f"{TITLES[_FILES[field]]} of quality {_words(quality)}"
            for field, quality in self.qualities.items()
        ]
        return [*files, *(["a palette of colours"] if self.palette else [])]


def _words(value: float | tuple[float, float]) -> str:
    return " to ".join(f"{number:g}" for number in dict.fromkeys(_range(value)))


class Component(Degradation):
    """One way of making X; weight: against the others of its class."""

    weight: float = Field(1.0, gt=0, le=1e6)


class Mixture(BaseModel):
    """Ways of making X. Of those for one class, the seed of the pair draws one.

    So each Y is used once for every class, and the curve of each class rests on all truths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixture: tuple[Component, ...] = Field(min_length=1, max_length=200)

    def describe(self, scale: int) -> str:
        """How X was made, in one line."""
        unsaved = {**dict.fromkeys(_FILES), "palette": False}
        plain = dict.fromkeys(
            part.model_copy(update=unsaved).describe(scale) for part in self.mixture
        )
        ranges: dict[str, list[int]] = {}
        for part in self.mixture:
            for field, quality in part.qualities.items():
                ranges.setdefault(TITLES[_FILES[field]], []).extend(_range(quality))
        files = [f"{form} of quality {min(q)} to {max(q)}" for form, q in ranges.items()]
        if any(part.before for part in self.mixture):
            files.append("twice")
        if any(part.palette for part in self.mixture):
            files.append("with a palette of colours")
        saved = f"; then, some of them, saved as {', '.join(files)}" if files else ""
        return f"one of: {'; '.join(plain)}{saved}"

    def variants(self) -> Mapping[str, Mixture]:
        """The parts of the mixture by the class of the lowest quality in their chain.

        Ranges are cut where classes begin.
        """
        return _variants(self)

    def shares(self) -> Mapping[str, Fraction]:
        """How frequent each of `variants` is among uploads, in any unit."""
        return {
            name: sum((Fraction(part.weight) for part in one.mixture), Fraction())
            for name, one in self.variants().items()
        }

    def drawn(self, seed: int) -> Degradation:
        """The component of this seed."""
        weights = np.array([part.weight for part in self.mixture])
        place = stream(seed, _MIXTURE).choice(len(weights), p=weights / weights.sum())
        return self.mixture[int(place)]

    @classmethod
    def single(cls, degradation: Degradation) -> Self:
        """One way of making X."""
        return cls(mixture=(Component(**degradation.model_dump()),))

    @classmethod
    def of(cls, parts: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]) -> Self:
        """Every way of making the pixels, saved in each of the ways; weights are multiplied."""
        return cls(
            mixture=tuple(
                Component(**{**a, **b, "weight": a.get("weight", 1.0) * b.get("weight", 1.0)})
                for b, a in product(files, parts)
            )
        )

    def __add__(self, other: Mixture) -> Mixture:
        return Mixture(mixture=(*self.mixture, *other.mixture))


def _kind(value: Any) -> str:
    is_mixture = "mixture" in value if isinstance(value, dict) else isinstance(value, Mixture)
    return "mixture" if is_mixture else "steps"


MadeBy = Annotated[
    Annotated[Degradation, Tag("steps")] | Annotated[Mixture, Tag("mixture")], Discriminator(_kind)
]
"""How X is made: steps, or a mixture of them."""

SHARP_PARTS: Final[Sequence[Mapping[str, Any]]] = (
    {"weight": 8},
    {"reduction": "area", "weight": 4},
    {"reduction": "lanczos", "weight": 2},
    {"noise": (0.5, 5.0), "weight": 3},
)
"""How pictures become sharp uploads."""

SOFT_PARTS: Final[Sequence[Mapping[str, Any]]] = (
    {"enlarged": (1.2, 2.1), "weight": 4},
    {"enlarged": (1.2, 2.1), "reduction": "area", "weight": 2},
    {"enlarged": (1.2, 2.1), "kernel": "bilinear", "weight": 2},
    {"enlarged": (1.2, 2.1), "kernel": "lanczos", "weight": 2},
    {"blur": (0.5, 1.3), "weight": 4},
)
"""How they become soft ones: screenshots, thumbnails, digital zoom, a lens out of focus."""

SMOOTHED_PARTS: Final[Sequence[Mapping[str, Any]]] = (
    {"noise": (0.5, 6.0), "median": True, "sharpened": (0.0, 1.6), "weight": 2},
    {"noise": (0.5, 6.0), "median": True, "sharpened": (0.0, 1.6), "reduction": "area"},
)
"""How they lose their noise, and detail with it, as in phones, and are perhaps sharpened."""

DENOISED_PARTS: Final[Sequence[Mapping[str, Any]]] = (
    {"noise": (1.0, 6.0), "variation": (0.05, 0.12), "weight": 2},
    {"noise": (1.0, 6.0), "variation": (0.05, 0.12), "reduction": "area"},
)
"""How they lose noise and detail, and are not sharpened. A median looks alike but loses less: one
curve for both would average over them."""

ROUGH_PARTS: Final[Sequence[Mapping[str, Any]]] = (
    {"noise": (4.0, 8.0), "weight": 2},
    {"noise": (4.0, 8.0), "reduction": "area"},
)
"""How they are noisier than most."""

PARTS: Final[Mapping[Look, Sequence[Mapping[str, Any]]]] = {
    "sharp": SHARP_PARTS,
    "fine": SHARP_PARTS,
    "rough": (*SHARP_PARTS, *ROUGH_PARTS),
    "soft": SOFT_PARTS,
    "bilinear": [part for part in SOFT_PARTS if part.get("kernel") == "bilinear"],
    "smoothed": SMOOTHED_PARTS,
    "denoised": DENOISED_PARTS,
}
"""How they become uploads of each look."""

USUAL = (
    Mixture.of(
        SHARP_PARTS,
        [
            {"weight": 3},
            {"jpeg": (90, 100), "weight": 3},
            {"jpeg": (80, 89), "weight": 3},
            {"jpeg": (68, 79), "weight": 3},
            {"jpeg": (50, 67), "weight": 3},
            {"jpeg": (30, 49), "weight": 3},
            {"webp": (80, 95)},
            {"webp": (50, 79)},
            {"webp": (20, 49)},
            {"avif": (65, 95)},
            {"avif": (40, 64)},
            {"palette": True},
        ],
    )
    + Mixture.of(
        SHARP_PARTS[:3],
        [
            {"before": (80, 89), "jpeg": (92, 98)},
            {"before": (68, 79), "jpeg": (85, 96)},
            {"before": (50, 67), "jpeg": (80, 96)},
            {"before": (30, 49), "jpeg": (70, 96)},
            {"before": (85, 98), "jpeg": (68, 79)},
            {"before": (75, 98), "jpeg": (50, 67)},
            {"before": (60, 98), "jpeg": (30, 49)},
        ],
    )
    + Mixture.of(SOFT_PARTS, [{}, {"jpeg": (80, 97)}, {"jpeg": (30, 79)}, {"webp": (20, 95)}])
    + Mixture.of(SMOOTHED_PARTS, [{}, {"jpeg": (80, 97)}])
    + Mixture.of(DENOISED_PARTS, [{}, {"jpeg": (80, 97)}])
    + Mixture.of(ROUGH_PARTS, [{}])
)
"""The default: what uploads commonly went through."""


@lru_cache(maxsize=64)  # milliseconds, and asked for with each pair
def _variants(mixture: Mixture) -> Mapping[str, Mixture]:
    found: dict[str, list[Component]] = {}
    for part in mixture.mixture:
        for name, cut_part in _by_class(part):
            found.setdefault(name, []).append(cut_part)
    return MappingProxyType({name: Mixture(mixture=tuple(parts)) for name, parts in found.items()})


def _by_class(part: Component) -> Sequence[tuple[str, Component]]:
    """The component cut into one per class, each with its share of the weight."""
    look = part.look
    qualities = {field: _range(quality) for field, quality in part.qualities.items()}
    if part.palette or not qualities:
        return [(class_of(PALETTE if part.palette else LOSSLESS, look), part)]
    field = min(qualities, key=qualities.__getitem__)
    low, high = qualities[field]
    classes = {q: class_of(Compression(_FILES[field], q), look) for q in range(low, high + 1)}
    pieces = [list(piece) for _, piece in groupby(classes, key=classes.__getitem__)]
    found = []
    for piece in pieces:
        weight = part.weight * len(piece) / len(classes)
        cut_part = part.model_copy(update={field: (piece[0], piece[-1]), "weight": weight})
        found.append((classes[piece[0]], cut_part))
    return found


class DegradedInput(NamedTuple):
    """X, [H/k, W/k, 3], and the compression of its file."""

    pixels: NDArray[Any]
    compression: Compression


def degrade(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> NDArray[Any]:
    """The pixels of `make_input`."""
    return make_input(truth, scale, degradation, seed).pixels


def make_input(
    truth: NDArray[Any], scale: int, degradation: Degradation | Mixture, seed: int
) -> DegradedInput:
    """X from Y, uint8 [H, W, 3].

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
        pixels = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
    if blur := scale * _drawn(degradation.blur, seed, _BLUR):
        pixels = scipy.ndimage.gaussian_filter(pixels, (blur, blur, 0), mode="reflect")
    pixels = _resized(pixels, scale, degradation, _drawn(degradation.enlarged, seed, _ENLARGED))
    pixels = _filtered(pixels, degradation, seed)
    compression = LOSSLESS
    for field, quality in degradation.qualities.items():
        low, high = _range(quality)
        drawn = int(stream(seed, _QUALITIES[field]).integers(low, high + 1))
        file = io.BytesIO()
        # The number of threads changes what the encoder of AVIF writes.
        alone = {"max_threads": 1} if field == "avif" else {}
        Image.fromarray(pixels).save(file, _FILES[field].upper(), quality=drawn, **alone)
        saved = Image.open(file)
        compression, pixels = read_compression(file.getvalue(), saved), np.asarray(saved)
    if degradation.palette:
        few = Image.fromarray(pixels).quantize(_PALETTE_COLOURS)
        compression, pixels = PALETTE, np.asarray(few.convert("RGB"))
    if degradation.inpaint is not None:
        height, width = pixels.shape[:2]
        mask = hole_mask(height, width, degradation.inpaint, seed)
        pixels = cut_holes(pixels, mask, degradation.inpaint.color)
    return DegradedInput(np.ascontiguousarray(pixels), compression)


def make_values(
    truth: NDArray[Any], scale: int, degradation: Degradation, seed: int
) -> NDArray[Any]:
    """X from Y where both are data, [H, W, c] of any type; noise is in 255ths of the range of Y."""
    low, high = float(truth.min()), float(truth.max())
    unit = (high - low) / 255 or 1.0
    values = ((truth.astype(np.float64) - low) / unit).astype(np.float32)
    made = make_input(values, scale, degradation, seed).pixels.astype(np.float64)
    return _as(truth.dtype, made * unit + low)


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
    """The image, cut at the right and bottom to multiples of the scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
