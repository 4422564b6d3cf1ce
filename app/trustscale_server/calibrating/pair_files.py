"""The files of a pair: decoded, and whether their sizes fit."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.decoding.decode import Decoded, decode
from trustscale_server.images.decoding.raster import read_picture, read_values
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.images.stretch import RasterData
from trustscale_server.platform.errors import BadImage, BadInput
from trustscale_server.sampling.spec import MeasurementSpec

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

WHOLE_RANGE: Final = "p0,p100"
"""The stretch that keeps all values of data."""


def decoded(data: bytes, role: str, *, is_data: bool = False) -> Decoded:
    """Decode an image of a pair; data by the range of their values.

    Raises BadImage, naming its role.
    """
    try:
        if is_data:
            return in_decoder(read_picture, data, PAIR_LIMITS, stretch=WHOLE_RANGE)
        return in_decoder(decode, data, PAIR_LIMITS)
    except BadInput as error:
        raise BadImage(f"{role}: {error.detail}") from error


def read_data(data: bytes, role: str) -> RasterData:
    """Read data of an image of a pair. Raises BadImage, naming its role."""
    try:
        read = in_decoder(read_values, data, PAIR_LIMITS)
    except BadInput as error:
        raise BadImage(f"{role}: {error.detail}") from error
    if read.valid is not None:
        raise BadImage(f"{role}: some pixels have no data")
    return read


def decode_label(data: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Decode a label as bool [H, W]: pixels that are not black differ in meaning."""
    label = np.asarray(decoded(data, "label").rgb.any(axis=2))
    if label.shape != shape:
        raise BadImage(f"label is {label.shape[1]}×{label.shape[0]}, y is {shape[1]}×{shape[0]}")
    return label


def array_size(image: NDArray[Any]) -> Size:
    """Return the width and height of an image."""
    return image.shape[1], image.shape[0]


def wrong_pair_sizes(
    y: Size, x: Size | None, label: Size | None, pipeline: MeasurementSpec
) -> str | None:
    """Explain why images of these sizes are no pair, or no label of one."""
    k, window = pipeline.scale, pipeline.indecision.window
    size = (y[0] - y[0] % k, y[1] - y[1] % k) if x is None else (x[0] * k, x[1] * k)
    if x is not None and y != size:
        return f"y is {y[0]}×{y[1]}, but {k}× the size of x is {size[0]}×{size[1]}"
    if min(size) < k:
        return f"y is smaller than {k} pixels"
    if min(size) < window:
        return f"y is {y[0]}×{y[1]}, smaller than the window of {window} pixels that σ needs"
    if label is not None and label != size:
        return f"label is {label[0]}×{label[1]}, the prediction will be {size[0]}×{size[1]}"
    return None


def raise_if_wrong_size(y: NDArray[Any], x: NDArray[Any] | None, pipeline: MeasurementSpec) -> None:
    """Raise BadImage if Y and X, or Y alone, [H, W, bands], are no pair."""
    if reason := wrong_pair_sizes(
        array_size(y), None if x is None else array_size(x), None, pipeline
    ):
        raise BadImage(reason)
