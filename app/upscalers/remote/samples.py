"""From an API's answer to a checked sample."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from app.errors import BadInput, ImageTooLarge
from app.images.decode import Limits, decode
from app.images.decoders import decoding
from app.images.holes import holes_of
from app.upscalers.base import RGB, Source, Turn
from app.upscalers.config import OneAddress
from app.upscalers.remote.checks import alignment, is_unchanged
from app.upscalers.remote.errors import ProtocolError, WrongSample, WrongSize
from app.upscalers.remote.http import Upstream

log = structlog.get_logger()

T = TypeVar("T")

# Each thread has a heap, which large answers fragment: in the default pool of many threads, eight
# samples of 4096 x 4096 took 1.3 GiB instead of 0.8.
_THREADS = 2

_ASPECT_TOLERANCE = 0.01
_LARGEST_FREE_SIZE = 16 * 2**20  # pixels of an answer with fit="resize", even if fewer are wanted


class SampleReader:
    """Decodes and checks the samples of one upscaler.

    `fit="resize"` resizes answers of the right aspect ratio to k·h × k·w by Lanczos. `lossy`
    becomes true, with a warning in the log, at the first answer in a lossy format, whose noise adds
    to σ.
    """

    def __init__(self, config: OneAddress, upstream: Upstream) -> None:
        self._name = config.name
        self._scale = config.scale
        self._config = config
        self._upstream = upstream
        self.lossy = False
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"decode-{config.name}")

    def largest(self, source: Source) -> int:
        """Pixels that a sample may have."""
        pixels = self._scale**2 * source.height * source.width
        return max(pixels, _LARGEST_FREE_SIZE) if self._config.fit == "resize" else pixels

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run in one of the decoding threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    async def read_text(self, value: object, source: Source, turn: Turn) -> RGB:
        """A sample from a data URI, a URL or bare base64; errors as of `read`."""
        if not isinstance(value, str) or not value:
            raise ProtocolError(f"{self._name!r} sent no image where one was expected.")
        if value.startswith(("http://", "https://")):
            return await self.read(await self._upstream.fetch(value, turn), source, turn)
        if value.startswith("data:"):
            head, _, value = value.partition(",")
            if not head.endswith(";base64"):
                raise ProtocolError(f"{self._name!r} sent a data URI that is not base64.")
        return await self.read(lambda: self._from_base64(value), source, turn)

    async def read(
        self, data: bytes | bytearray | Callable[[], bytes], source: Source, turn: Turn
    ) -> RGB:
        """A sample from an encoded file.

        Raises:
            ProtocolError: not an image.
            WrongSample: of another size, misaligned, or the input unchanged.
        """
        await turn.take()
        file = await self.in_thread(lambda: data() if callable(data) else bytes(data))
        rgb = await self._decoded(file, source)
        return await self.in_thread(lambda: self._checked(self._fitted(rgb, source), source))

    async def examine(self, sample: RGB, source: Source) -> RGB:
        """A sample from raw pixels; see `read`."""
        return await self.in_thread(self._checked, sample, source)

    def _from_base64(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProtocolError(f"{self._name!r} sent an image that is not base64.") from error

    async def _decoded(self, file: bytes, source: Source) -> RGB:
        k = self._scale
        limits = Limits(max_bytes=len(file), max_pixels=self.largest(source), max_side=2**16)
        wanted = f"{k * source.width}×{k * source.height} ({k} times the input)"
        try:
            # Some APIs add an alpha channel; real transparency is flattened.
            decoded = await decoding(decode, file, limits, background="black")
        except ImageTooLarge as error:
            raise WrongSample(
                f"{self._name!r} sent an image larger than {wanted}: {error.detail}"
            ) from error
        except BadInput as error:
            raise ProtocolError(f"{self._name!r} sent no usable image: {error.detail}") from error
        if not self.lossy and decoded.compression.codec != "lossless":
            self.lossy = True
            log.warning("lossy_samples", upscaler=self._name, format=decoded.format)
        return decoded.rgb

    def _fitted(self, rgb: RGB, source: Source) -> RGB:
        height, width = self._scale * source.height, self._scale * source.width
        if self._config.fit == "exact" or rgb.shape[:2] == (height, width):
            return rgb
        aspect = (rgb.shape[1] / rgb.shape[0]) / (width / height)
        if abs(aspect - 1) > _ASPECT_TOLERANCE:
            return rgb  # the size check says what is wrong
        image = Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS)
        return np.ascontiguousarray(image)

    def _checked(self, rgb: RGB, source: Source) -> RGB:
        k = self._scale
        if rgb.shape != (k * source.height, k * source.width, 3):
            raise WrongSize(
                f"{self._name!r} sent a sample of {rgb.shape[1]}×{rgb.shape[0]} pixels; expected "
                f"{k * source.width}×{k * source.height}, {k} times the input.",
                (rgb.shape[1], rgb.shape[0]),
            )
        color = self._config.mask_color
        # What the model is to fill in, bool [h, w]; None: nothing ever.
        holes = None if color is None else holes_of(source.rgb, color)
        if (holes is None or holes.any()) and is_unchanged(source.rgb, rgb, k):
            how = ", merely resized" if k > 1 else " unchanged"
            raise WrongSample(f"{self._name!r} sent the input back{how}: no model has run.")
        if self._config.alignment == "refuse":
            problem = alignment(*_outside(source.rgb, rgb, holes), k).problem
            if problem:
                raise WrongSample(
                    f"The samples of {self._name!r} do not lie on the input's pixels: {problem}."
                )
        return rgb


def _outside(source: RGB, sample: RGB, holes: NDArray[np.bool_] | None) -> tuple[RGB, RGB]:
    """Input and sample with grey holes, since what was filled in says nothing about alignment."""
    if holes is None or not holes.any():
        return source, sample
    k = sample.shape[0] // source.shape[0]
    large = holes.repeat(k, axis=0).repeat(k, axis=1)
    grey = np.uint8(128)
    return np.where(holes[..., None], grey, source), np.where(large[..., None], grey, sample)
