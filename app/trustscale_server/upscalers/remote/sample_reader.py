"""From an API's answer to a sample: decoded, of the right size, aligned, and not the input."""

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

from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.kinds.holes import holes_of
from trustscale_server.platform.errors import BadInput, ImageTooLarge, ProtocolError
from trustscale_server.upscalers.alignment import alignment
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.failures import WrongSample, WrongSize
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.remote.upstream import Upstream

log = structlog.get_logger()

T = TypeVar("T")

ASPECT_TOLERANCE = 0.01
"""By how much the aspect ratio of a sample may differ with `resize_mode="resize"`."""


class SampleReader:
    """Decodes and checks the samples of one upscaler.

    `resize_mode="resize"` resizes answers of the right aspect ratio to k·h × k·w by Lanczos.
    `lossy` becomes true, with a warning in the log, at the first answer in a lossy format, whose
    noise adds to σ.
    """

    def __init__(self, config: OneAddress, upstream: Upstream) -> None:
        self._name = config.name
        self._scale = config.scale
        self._config = config
        self._upstream = upstream
        self.lossy = False
        # Large answers fragment the heap of each thread: in the default pool, eight samples of
        # 4096 x 4096 took 1.3 GiB instead of 0.8.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"decode-{config.name}")

    def max_pixels(self, source: Source) -> int:
        """Return how many pixels a sample may have."""
        pixels = self._scale**2 * source.height * source.width
        return max(pixels, 16 * 2**20) if self._config.resize_mode == "resize" else pixels

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def read_text(self, text: object, source: Source, permit: MemoryPermit) -> RGB:
        """Read a sample from a data URI, a URL or bare base64. Raises as `read`."""
        if not isinstance(text, str) or not text:
            raise ProtocolError(f"{self._name!r} sent no image where one was expected.")
        if text.startswith(("http://", "https://")):
            return await self.read(await self._upstream.fetch(text, permit), source, permit)
        if text.startswith("data:"):
            head, _, text = text.partition(",")
            if not head.endswith(";base64"):
                raise ProtocolError(f"{self._name!r} sent a data URI that is not base64.")
        return await self.read(lambda: self._from_base64(text), source, permit)

    async def read(
        self, data: bytes | bytearray | Callable[[], bytes], source: Source, permit: MemoryPermit
    ) -> RGB:
        """Read a sample from an encoded file.

        Raises:
            ProtocolError: not an image.
            WrongSample: of another size, misaligned, or the input unchanged.
        """
        await permit.take()
        file = await self.in_thread(lambda: data() if callable(data) else bytes(data))
        rgb = await self._decoded(file, source)
        return await self.in_thread(lambda: self._checked(self._fitted(rgb, source), source))

    async def examine(self, sample: RGB, source: Source) -> RGB:
        return await self.in_thread(self._checked, sample, source)

    def _from_base64(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProtocolError(f"{self._name!r} sent an image that is not base64.") from error

    async def _decoded(self, file: bytes, source: Source) -> RGB:
        k = self._scale
        limits = Limits(max_bytes=len(file), max_pixels=self.max_pixels(source), max_side=2**16)
        expected = f"{k * source.width}×{k * source.height} ({k} times the input)"
        try:
            # Some APIs add an alpha channel.
            decoded = await decoding(decode, file, limits, background="black")
        except ImageTooLarge as error:
            raise WrongSample(
                f"{self._name!r} sent an image larger than {expected}: {error.detail}"
            ) from error
        except BadInput as error:
            raise ProtocolError(f"{self._name!r} sent no usable image: {error.detail}") from error
        if not self.lossy and decoded.compression.codec != "lossless":
            self.lossy = True
            log.warning("lossy_samples", upscaler=self._name, format=decoded.format)
        return decoded.rgb

    def _fitted(self, rgb: RGB, source: Source) -> RGB:
        height, width = self._scale * source.height, self._scale * source.width
        if self._config.resize_mode == "exact" or rgb.shape[:2] == (height, width):
            return rgb
        aspect = (rgb.shape[1] / rgb.shape[0]) / (width / height)
        if abs(aspect - 1) > ASPECT_TOLERANCE:
            return rgb  # refused by its size
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
        holes = None if color is None else holes_of(source.rgb, color)
        if (holes is None or holes.any()) and is_unchanged(source.rgb, rgb, k):
            ending = ", merely resized" if k > 1 else " unchanged"
            raise WrongSample(f"{self._name!r} sent the input back{ending}: no model has run.")
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


def is_unchanged(source: RGB, sample: RGB, scale: int) -> bool:
    """Return whether the sample is merely the input resized by a usual filter: no model has run.

    Judged on the centre, and only where the filters differ.
    """
    if scale == 1:
        return bool(np.array_equal(source, sample)) and bool((source != source[0, 0]).any())
    height, width = source.shape[:2]
    side_y, side_x = min(96, height), min(96, width)
    top, left = (height - side_y) // 2, (width - side_x) // 2
    crop = Image.fromarray(source[top : top + side_y, left : left + side_x])
    size = (side_x * scale, side_y * scale)
    # Filters reach four input pixels beyond a cut edge.
    margin = 4 * scale if min(side_y, side_x) >= 16 else 0
    inner = (slice(margin, size[1] - margin), slice(margin, size[0] - margin))
    nearest, bilinear, bicubic, lanczos = (
        np.asarray(crop.resize(size, method), np.float32)[inner]
        for method in (
            Image.Resampling.NEAREST,
            Image.Resampling.BILINEAR,
            Image.Resampling.BICUBIC,
            Image.Resampling.LANCZOS,
        )
    )
    middle = sample[top * scale : top * scale + size[1], left * scale : left * scale + size[0]]
    texture = float(np.abs(bilinear - bicubic).mean())
    difference = min(
        float(np.abs(middle[inner] - image).mean())
        for image in (nearest, bilinear, bicubic, lanczos)
    )
    return texture >= 1.0 and difference <= 0.25 * texture
