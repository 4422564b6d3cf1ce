"""The witness: the shipped faithful network, run on the input of another upscaler.

A generative model invents where it departs from a network that hardly does (DeSRA, Xie et al., ICML
2023). One local pass says as much as several calls of the upscaler, or more.
"""

from __future__ import annotations

from functools import cached_property

from PIL import Image

from app.images.resize import resized
from app.system import shielded
from app.upscalers.base import RGB, Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.runtime import PrecisionSetting
from app.upscalers.seeds import GROUP_ORDER
from app.upscalers.shipped import ShippedName

WITNESS: ShippedName = "span-x4"
"""The shipped model that is the witness."""


class FaithfulWitness:
    """`Witness` by the shipped SPAN, loaded at first use."""

    def __init__(self, precision: PrecisionSetting = "f32") -> None:
        self._precision: PrecisionSetting = precision

    @cached_property
    def upscaler(self) -> EmbeddedUpscaler:
        """What answers; another one of the same fingerprint may be set instead."""
        return EmbeddedUpscaler("witness", WITNESS, precision=self._precision)

    def fingerprint(self, scale: int) -> str:
        return "input" if scale == 1 else self.upscaler.fingerprint

    async def answer(self, source: Source, scale: int) -> RGB:
        """See `Witness`; at scale 1 the input, else the bicubically resized answer at scale 4."""
        if scale == 1:
            return source.rgb
        # A multiple of the order is the identity of the symmetries.
        [large] = await self.upscaler.generate(source, [GROUP_ORDER])
        if scale == self.upscaler.scale:
            return large
        size = (scale * source.width, scale * source.height)
        return await shielded(resized, large, size, Image.Resampling.BICUBIC)

    async def close(self) -> None:
        if "upscaler" in self.__dict__:
            await self.upscaler.close()
