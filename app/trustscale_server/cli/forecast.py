"""What a long or large run of `trustscale upscale` takes, said before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from rich.filesize import decimal

from trustscale_server.cli.sources import InputFile
from trustscale_server.images.decoding.header import image_size
from trustscale_server.images.limits import Limits
from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import TrustscaleError, duration
from trustscale_server.serving.request import UpscaleRequest

_LARGE_BYTES: Final = 100e6
_BYTES_A_PIXEL: Final = 2  # of a PNG file of a photograph


def forecast(
    sources: Sequence[InputFile],
    request: UpscaleRequest,
    *,
    scale: int,
    seconds_per_megapixel: float,
    files: int,
) -> str | None:
    """Return what a run takes, with a smaller choice; None if that is little.

    Args:
        sources: what is upscaled.
        request: how.
        scale: of the upscaler.
        seconds_per_megapixel: of input; 0: not known.
        files: that are written of each image and are as large as its picture.
    """
    seconds = size = max_side = 0.0
    for source in sources:
        # What cannot be read fails in its turn.
        with suppress(TrustscaleError, OSError):
            width, height = image_size(source.content(), Limits())
            if (request.fit or math.inf) < max(width, height):
                width, height = size_within((width, height), request.fit or 1)
            side = max(width, height)
            seconds += seconds_per_megapixel * width * height / 1e6
            output_side = min(request.to or (request.scale or scale) * side, scale * side)
            size += files * _BYTES_A_PIXEL * width * height * (output_side / side) ** 2
            max_side = max(max_side, output_side)
    if seconds < 60 and size < _LARGE_BYTES:
        return None
    time = f"about {duration(seconds)} and " if seconds_per_megapixel else ""
    smaller = ". --to 4k writes less, --fit 1000 is faster" if max_side > 3840 else ""
    return f"This takes {time}some {decimal(int(size))} of files{smaller}."
