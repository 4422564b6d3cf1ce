"""The networks that come with the service, and what answers of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from types import MappingProxyType
from typing import Final, Literal

from trustscale_server.upscalers.base import Picture
from trustscale_server.upscalers.config import Character

ShippedName = Literal["span-x4", "realesr-x4", "realesr-x4-safe"]

SCALE: Final = 4  # of every shipped model


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """One shipped model; `models/MODEL_CARD.md` describes it.

    file: in `models/`.
    title: for display.
    halo: its radius in input pixels: no output pixel depends on anything farther away.
    tile: the default largest side of a tile in input pixels.
    picture: what answers.
    """

    file: str
    title: str
    character: Character
    halo: int
    tile: int
    picture: Picture = "model"

    def read(self) -> bytes:
        return resources.files(__package__).joinpath("models", self.file).read_bytes()


# The longest path has 21 convolutions of 3 x 3 and one of 1 x 1; 288 keeps a process near 520 MB.
_SPAN = ShippedModel("spanx4_ch52.onnx", "SPAN ×4", "faithful", 21, 288)
# 34 convolutions of 3 x 3.
_REALESR = ShippedModel("realesr-general-x4v3.onnx", "Real-ESRGAN ×4", "sharp", 34, 296)


SHIPPED_MODELS: Final[Mapping[ShippedName, ShippedModel]] = MappingProxyType(
    {
        "span-x4": _SPAN,
        "realesr-x4": _REALESR,
        "realesr-x4-safe": replace(
            _REALESR, title="Real-ESRGAN ×4, safe copy", character="faithful", picture="safe"
        ),
    }
)
