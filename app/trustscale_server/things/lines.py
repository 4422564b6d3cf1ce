"""Where lines of text are, without reading them, so that a mask about colours can leave them out.

The reader's own network says of each pixel how likely it belongs to a line. It looks at a small
copy first, and closer only around what may be a line there: most pictures have none, and a
whole large one takes longer than enlarging it. Letters of the upload and letters that only the
model shows both count, so the copy is of the mean of both pictures, and each is looked at closer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.boxes import box_of
from trustscale_server.pixels.resize import size_within

Corners = NDArray[np.float32]
"""Of a line: (x, y) in pixels, clockwise, float32 [4, 2]."""

LineNetwork = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""BGR of −1 … 1, float32 [1, 3, h, w] with sides that 32 divides, to likelihoods [1, 1, h, w]."""

FindLines = Callable[[Sequence[NDArray[np.uint8]]], list[list[Corners]]]
"""The lines in each of some pictures of one place, uint8 [H, W, 3], in its pixels."""

_Box = tuple[int, int, int, int]  # top, left, bottom and right

# As the reader looks at a picture.
_LONGEST, _SHORTEST = 2000, 736
_LIKELY, _LINE = 0.3, 0.5  # of a pixel, and on average in a line
_MULTIPLE: Final = 32

# As a small copy is looked at.
_COPY: Final = 0.36  # of the longest side
_SMALLEST, _LARGEST = 736, 1024  # pixels of that side
_MAYBE_LIKELY, _MAYBE_LINE = 0.2, 0.35
_LARGE: Final = 40  # pixels of the shorter side of a line in the copy: of letters of about 25
_SEEN: Final = 0.15  # of a pixel on average in such a line: .21 and more in those with letters
_AROUND: Final = 24  # pixels around a line that are looked at closer


def line_network_file() -> bytes:
    """Return the ONNX file of the network. Raises FileNotFoundError: the reader is missing."""
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("rapidocr")
    return (Path(spec.origin).parent / "models" / "PP-OCRv6_det_small.onnx").read_bytes()


def find_lines(pictures: Sequence[NDArray[np.uint8]], network: LineNetwork) -> list[list[Corners]]:
    """Return the lines in each of some pictures of one place, uint8 [H, W, 3] of one size."""
    height, width, _ = pictures[0].shape
    everything = (0, 0, height, width)
    copied = min(_LARGEST, max(_SMALLEST, round(_COPY * max(height, width))))
    if max(height, width) <= 1.5 * copied:
        return [_lines_of(picture, everything, network) for picture in pictures]
    size = size_within((width, height), copied)
    copies = np.stack([_resized(picture, size) for picture in pictures])
    small = copies.mean(axis=0, dtype=np.float32)
    likely = _likelihoods(small, network)
    zoom = copied / max(height, width)
    regions = [_enlarged(part, zoom, height, width) for part in _parts(_near_lines(likely))]
    area = sum((bottom - top) * (right - left) for top, left, bottom, right in regions)
    if area > 0.35 * height * width:  # parts cost more than their share
        regions = [everything]
    found = [
        [line for region in regions for line in _lines_of(picture, region, network)]
        for picture in pictures
    ]
    return [[line for line in lines if _is_likely(zoom * line, likely)] for lines in found]


def _near_lines(likely: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pixels of the copy are in what may be a line."""
    is_near = np.zeros(likely.shape, np.bool_)
    for box in _boxes(likely, likely.shape, _MAYBE_LIKELY, _MAYBE_LINE):
        place, inside = box_of(box, is_near.shape)
        is_near[place] |= inside
    return is_near


def _is_likely(line: Corners, likely: NDArray[np.float32]) -> bool:
    """Whether a line, in pixels of the copy, is small or seen there, too.

    Closer by, a large shape or pattern passes for a letter; large letters are clearest in the copy.
    """
    if np.linalg.norm(np.diff(line[:3], axis=0), axis=1).min() < _LARGE:
        return True
    place, inside = box_of(line, likely.shape)
    return bool(likely[place][inside].mean() >= _SEEN)


def _parts(is_near: NDArray[np.bool_]) -> Iterator[_Box]:
    """The boxes, in pixels of the copy, of these pixels and of what is around them."""
    grown = scipy.ndimage.maximum_filter(is_near, 2 * _AROUND + 1)
    labels, _ = scipy.ndimage.label(grown)
    for rows, columns in scipy.ndimage.find_objects(labels):
        yield rows.start, columns.start, rows.stop, columns.stop


def _enlarged(region: _Box, zoom: float, height: int, width: int) -> _Box:
    """The part of the picture that is a part of the copy."""
    top, left = (math.floor(side / zoom) for side in region[:2])
    bottom, right = (math.ceil((side + 1) / zoom) for side in region[2:])
    return top, left, min(height, bottom), min(width, right)


def _lines_of(picture: NDArray[np.uint8], region: _Box, network: LineNetwork) -> list[Corners]:
    """The lines of a part, in pixels of the picture."""
    top, left, bottom, right = region
    pixels = picture[top:bottom, left:right]
    shortest, longest = min(picture.shape[:2]), max(picture.shape[:2])
    zoom = min(max(1.0, _SHORTEST / shortest), _LONGEST / longest)
    height, width = (max(1, round(zoom * side)) for side in pixels.shape[:2])
    likely = _likelihoods(_resized(pixels, (width, height)), network)
    boxes = _boxes(likely, pixels.shape[:2], _LIKELY, _LINE)
    return [box + np.array([left, top], np.float32) for box in boxes]


def _likelihoods(pixels: NDArray[Any], network: LineNetwork) -> NDArray[np.float32]:
    """Of each pixel of [h, w, 3] to belong to a line, float32 [h, w]."""
    height, width, _ = pixels.shape
    padded = (-(-side // _MULTIPLE) * _MULTIPLE for side in (height, width))
    tensor = np.zeros((1, 3, *padded), np.float32)
    tensor[0, :, :height, :width] = pixels.transpose(2, 0, 1)[::-1]
    tensor[0, :, :height, :width] /= 127.5
    tensor[0, :, :height, :width] -= 1
    return network(tensor)[0, 0, :height, :width].copy()


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _boxes(
    likely: NDArray[np.float32], shape: tuple[int, ...], of_pixel: float, of_line: float
) -> list[Corners]:
    """The lines of a picture of this height and width, made of likelihoods as the reader does."""
    from rapidocr.ch_ppocr_det.utils import DBPostProcess  # noqa: PLC0415 - only in the extra

    outlines = DBPostProcess(
        thresh=of_pixel, box_thresh=of_line, unclip_ratio=1.6, use_dilation=True, score_mode="fast"
    )
    boxes, _ = outlines(likely[None, None], (shape[0], shape[1]))
    return [np.asarray(box, np.float32) for box in boxes]
