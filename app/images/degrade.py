"""The degradation: how the input X is made from the truth Y when only Y is at hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)
from scipy import ndimage

from app.images.compression import (
    EDGES,
    LOSSLESS,
    Compression,
    class_of,
    read_compression,
)
from app.images.holes import Inpaint, cut, hole_mask, stream


def _checked(quality: int | tuple[int, int]) -> int | tuple[int, int]:
    low, high = _range(quality)
    if not 1 <= low <= high <= 100:
        raise ValueError("a quality is between 1 and 100, a range begins with the lower one")
    return quality


def _range(quality: int | tuple[int, int]) -> tuple[int, int]:
    return (quality, quality) if isinstance(quality, int) else quality


Quality = Annotated[int | tuple[int, int], AfterValidator(_checked)]
"""A quality from 1 to 100, or the lowest and the highest one, between which the seed draws."""

_REDUCTIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}


class Degradation(BaseModel):
    """Steps in the order in which they are applied.

    grey: drop the colour (colorization). blur: Gaussian, standard deviation in pixels of Y. Then
    reduction by the scale of the upscaler, antialiased. noise: Gaussian, standard deviation in grey
    levels of 255. jpeg or webp: quality of a round trip through such a file; None: none. inpaint:
    holes, cut last so that their colour stays exact; None: none.

    A calibration speaks about inputs made in this way, so choose what the real inputs went through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grey: bool = False
    blur: float = Field(0.0, ge=0, le=64)
    reduction: Literal["bicubic", "area", "lanczos"] = "bicubic"
    noise: float = Field(0.0, ge=0, le=128)
    jpeg: Quality | None = None
    webp: Quality | None = None
    inpaint: Inpaint | None = None

    def in_words(self, scale: int) -> str:
        """How X was made, such as "bicubic reduction by 4, JPEG of quality 50"."""
        steps = {
            "removal of the colour": self.grey,
            f"a blur of {self.blur:g} px": self.blur,
            f"{self.reduction} reduction by {scale}": scale > 1,
            f"noise of {self.noise:g} grey levels": self.noise,
            **dict.fromkeys(self.saved_in_words(), True),
            self.inpaint.in_words() if self.inpaint else "": self.inpaint,
        }
        return ", ".join(words for words, given in steps.items() if given) or "no change"

    def saved_in_words(self) -> list[str]:
        """The files that X went through."""
        return [
            f"{form} of quality {' to '.join(map(str, dict.fromkeys(_range(quality))))}"
            for form, quality in (("JPEG", self.jpeg), ("WebP", self.webp))
            if quality is not None
        ]


class Component(Degradation):
    """One way of making X, and how often it is drawn against the others of its class."""

    weight: float = Field(1.0, gt=0, le=1e6)


class Mixture(BaseModel):
    """Ways of making X. Of those that compress X into one class, the seed of the pair draws one.

    Each Y is thus used once under every class of compression that occurs, so that the curve of each
    class rests on all truths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixture: tuple[Component, ...] = Field(min_length=1, max_length=100)

    def in_words(self, scale: int) -> str:
        """How X was made, in one line."""
        plain = dict.fromkeys(
            part.model_copy(update={"jpeg": None, "webp": None}).in_words(scale)
            for part in self.mixture
        )
        files = dict.fromkeys(words for part in self.mixture for words in part.saved_in_words())
        return f"one of: {'; '.join(plain)}" + (
            f"; then saved as one of: {'; '.join(files)}" if files else ""
        )

    def variants(self) -> Mapping[str, Mixture]:
        """The parts of the mixture by class of compression; ranges are cut where classes begin."""
        found: dict[str, list[Component]] = {}
        for part in self.mixture:
            for name, cut_part in _by_class(part):
                found.setdefault(name, []).append(cut_part)
        return {name: Mixture(mixture=tuple(parts)) for name, parts in found.items()}

    def drawn(self, seed: int) -> Degradation:
        """The component of this seed."""
        weights = np.array([part.weight for part in self.mixture])
        place = stream(seed, 3).choice(len(weights), p=weights / weights.sum())
        return self.mixture[int(place)]

    @classmethod
    def single(cls, degradation: Degradation) -> Self:
        """One way of making X."""
        return cls(mixture=(Component(**degradation.model_dump()),))

    @classmethod
    def of(cls, parts: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]) -> Self:
        """Every way of reducing, saved in each of the ways."""
        return cls(mixture=tuple(Component(**a, **b) for b, a in product(files, parts)))


def _kind(value: Any) -> str:
    is_mixture = "mixture" in value if isinstance(value, dict) else isinstance(value, Mixture)
    return "mixture" if is_mixture else "steps"


MadeBy = Annotated[
    Annotated[Degradation, Tag("steps")] | Annotated[Mixture, Tag("mixture")],
    Discriminator(_kind),
]
"""How X is made: steps, or a mixture of them."""

USUAL = Mixture.of(
    [
        {"weight": 4},
        {"reduction": "area", "weight": 2},
        {"reduction": "lanczos", "weight": 1},
        {"noise": 1.0, "weight": 1},
    ],
    [
        {},
        {"jpeg": (90, 100)},
        {"jpeg": (80, 89)},
        {"jpeg": (68, 79)},
        {"jpeg": (50, 67)},
        {"webp": (82, 95)},
        {"webp": (58, 78)},
    ],
)
"""What is done to truths unless an admin says otherwise: what uploads commonly went through."""


def _by_class(part: Component) -> Sequence[tuple[str, Component]]:
    """The component cut into one per class of compression, with the weight of each piece."""
    codec: Literal["jpeg", "webp"] = "jpeg" if part.webp is None else "webp"
    quality = getattr(part, codec)
    if quality is None:
        return [(class_of(LOSSLESS), part)]
    low, high = _range(quality)
    edges = sorted({low, high + 1, *(edge for edge in EDGES[codec] if low < edge <= high)})
    return [
        (
            class_of(Compression(codec, first)),
            part.model_copy(
                update={
                    codec: (first, after - 1),
                    "weight": part.weight * (after - first) / (high + 1 - low),
                }
            ),
        )
        for first, after in pairwise(edges)
    ]


class Made(NamedTuple):
    """X, uint8 [H/k, W/k, 3], and how its file would be compressed."""

    pixels: NDArray[np.uint8]
    compression: Compression


def degrade(
    truth: NDArray[np.uint8], scale: int, degradation: Degradation | Mixture, seed: int
) -> NDArray[np.uint8]:
    """The pixels of `make_input`."""
    return make_input(truth, scale, degradation, seed).pixels


def make_input(
    truth: NDArray[np.uint8], scale: int, degradation: Degradation | Mixture, seed: int
) -> Made:
    """X from Y, uint8 [H, W, 3].

    Args:
        truth: Y; its sides must be multiples of the scale (`crop_to_multiple`).
        scale: k ≥ 1.
        degradation: the steps.
        seed: of the noise, of the holes, and of what a mixture or a range leaves open.

    Raises:
        ValueError: a side of Y is not a multiple of the scale.
    """
    height, width = truth.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{width}×{height} is not a multiple of {scale}")
    if isinstance(degradation, Mixture):
        degradation = degradation.drawn(seed)
    pixels = truth
    if degradation.grey:
        pixels = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
    if degradation.blur:
        pixels = ndimage.gaussian_filter(
            pixels, (degradation.blur, degradation.blur, 0), mode="reflect"
        )
    if scale > 1:
        small = Image.fromarray(pixels).resize(
            (width // scale, height // scale), _REDUCTIONS[degradation.reduction]
        )
        pixels = np.asarray(small)
    if degradation.noise:
        noisy = pixels + stream(seed, 1).normal(0, degradation.noise, pixels.shape)
        pixels = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    compression = LOSSLESS
    for number, (form, quality) in enumerate(
        (("JPEG", degradation.jpeg), ("WEBP", degradation.webp)), start=4
    ):
        if quality is not None:
            low, high = _range(quality)
            file = io.BytesIO()
            drawn = int(stream(seed, number).integers(low, high + 1))
            Image.fromarray(pixels).save(file, form, quality=drawn)
            saved = Image.open(file)
            compression, pixels = read_compression(file.getvalue(), saved), np.asarray(saved)
    if degradation.inpaint is not None:
        height, width = pixels.shape[:2]
        mask = hole_mask(height, width, degradation.inpaint, seed)
        pixels = cut(pixels, mask, degradation.inpaint.color)
    return Made(np.ascontiguousarray(pixels), compression)


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The image without the right and lower rows that do not fill a multiple of the scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
