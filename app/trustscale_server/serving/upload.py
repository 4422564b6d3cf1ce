"""The upload as pixels, and what follows from its file alone: seed, credentials."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from trustscale_server.images.decoding.decode import Decoded, decode
from trustscale_server.images.decoding.header import image_size
from trustscale_server.images.decoding.raster import read_picture
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import ImageFile, decoding, waiting_at_most
from trustscale_server.kinds.features import InputFeatures, look_at
from trustscale_server.platform.errors import BadImage, BadInput, ImageTooLarge
from trustscale_server.platform.tasks import shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.serving.choose import Chosen
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.credentials import Parent, parent_of
from trustscale_server.serving.footprint import add_cost
from trustscale_server.stores.spool import byte_size
from trustscale_server.upscalers.base import RGB, image_digest
from trustscale_server.upscalers.supplied import size_mismatch

Upload = bytes | Callable[[], Awaitable[ImageFile]]
"""A file, or a function that gives it once it may be decoded."""

# How long a large file waits for memory to be decoded in, while somebody waits for the answer.
_MAX_WAIT_S: Final = 60.0

# An enlarged picture of the wrong size is refused with its size, up to this many pixels a side.
_MAX_NAMED_SIDE: Final = 2**16


@dataclass(frozen=True, slots=True)
class DecodedUpload:
    """The upload as pixels.

    seed: of its pixels, for requests that name none.
    parent: the file as an ingredient of content credentials, if they are made.
    notes: on what of its own credentials was not kept. enlarged: what somebody made of it, uint8
    [H, W, 3].
    """

    image: Decoded
    features: InputFeatures
    seed: int
    parent: Parent | None
    notes: list[str]
    enlarged: RGB | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width, _ = self.image.rgb.shape
        return height, width


async def decode_upload(
    context: ServiceContext,
    chosen: Chosen,
    upload: Upload,
    enlarged: Upload | None = None,
    *,
    unbounded_wait: bool,
) -> DecodedUpload:
    """Decode the pixels of the upload; `unbounded_wait` needs no free place, as jobs are few.

    `enlarged` is the file that somebody made of it.

    Raises:
        BadInput, Overloaded.
    """
    file = await _opened(upload)
    async with nullcontext() if unbounded_wait else context.decoding.held():
        with (
            span("decode", {"trustscale.upload_bytes": byte_size(file)}),
            waiting_at_most(math.inf if unbounded_wait else _MAX_WAIT_S),
        ):
            image = await _decoded(context, chosen, file)
            enlarged_image = None
            if enlarged is not None:
                size = image.rgb.shape[1], image.rgb.shape[0]
                enlarged_image = await _enlarged(context, chosen, await _opened(enlarged), size)
        seed = await shielded(_seed_of, image.rgb)
        parent, notes = None, list[str]()
        if context.credentials:
            parent, notes = await decoding(parent_of, file, image.format)
    features = await shielded(look_at, image.rgb, image.compression)
    return DecodedUpload(image, features, seed, parent, notes, enlarged_image)


async def _opened(upload: Upload) -> ImageFile:
    return upload if isinstance(upload, bytes) else await upload()


async def _decoded(context: ServiceContext, chosen: Chosen, file: ImageFile) -> Decoded:
    """The picture of a file; one of too many pixels is refused with what its answer would cost."""
    request = chosen.request
    try:
        return await decoding(
            read_picture,
            file,
            context.limits,
            stretch=chosen.pipeline.stretch,
            bands=request.bands,
            page=request.page,
            background=request.background,
            with_alpha=True,
            keep=request.metadata,
            max_input_side=request.fit,
        )
    except ImageTooLarge as error:
        if error.members["limit"] == "max_pixels" and "actual" in error.members:
            add_cost(error, context, chosen, error.members["actual"])
        raise


async def _enlarged(
    context: ServiceContext, chosen: Chosen, file: ImageFile, size: tuple[int, int]
) -> RGB:
    """A picture that somebody enlarged from one of this width and height."""
    width, height = (side * chosen.pipeline.scale for side in size)
    limits = Limits(
        context.limits.max_bytes, max_pixels=width * height, max_side=max(width, height)
    )
    of_header = replace(limits, max_pixels=_MAX_NAMED_SIDE**2, max_side=_MAX_NAMED_SIDE)
    try:
        found = await decoding(image_size, file, of_header)
        if (reason := size_mismatch(size, found, chosen.pipeline.scale)) is not None:
            raise BadImage(f"It has another size: {reason}.")
        decoded = await decoding(decode, file, limits, background=chosen.request.background)
    except BadInput as error:
        error.detail = f"The enlarged picture: {error.detail}"
        raise
    if decoded.rgb.dtype != np.uint8:
        raise BadImage("An enlarged picture has 8 bits.")
    return np.asarray(decoded.rgb, np.uint8)


def _seed_of(rgb: RGB) -> int:
    """The first 52 bits of an image's SHA-256, so equal images get equal answers.

    A seed must not depend on the image in a way that matters for the errors; a digest does not.
    """
    return int(image_digest(rgb)[:13], 16)
