"""An imported model against its original, and its tiles against the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.upscalers.base import RGB
from trustscale_server.upscalers.embedded.onnx_model import OnnxModel
from trustscale_server.upscalers.pattern import pattern
from trustscale_worker.errors import WeightsError

# Between an imported model and its original: grey levels of 255, and dB. Some networks amplify
# rounding.
_MAX_DIFFERENCE, _MIN_PSNR = 2.0, 70.0

_SEAM = 0.5  # grey levels by which a tile may differ from the whole
_FARTHEST = 64  # input pixels: the largest halo that leaves most of a tile of 288


@dataclass(frozen=True)
class Deviation:
    """The largest difference between answers, in grey levels, and their least PSNR in dB."""

    largest: float
    psnr: float


def picture_of(path: Path) -> RGB:
    """Return the pixels of a file, uint8 [h, w, 3]. Raises OSError or BadInput."""
    return asyncio.run(decoding(decode, path.read_bytes(), Limits())).rgb


def deviation_of(
    original: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    model: OnnxModel,
    picture: RGB,
) -> Deviation:
    """Measure how far the model's answers are from the original's, in [0, 1].

    They are compared on `picture`, uint8 [h, w, 3], and on a pattern with odd sides.

    Raises WeightsError: they differ by more than the limits, or in size.
    """
    deviations = [
        _deviation(original, model, compared) for compared in (picture, pattern()[:61, :83])
    ]
    return Deviation(
        max(deviation.largest for deviation in deviations),
        min(deviation.psnr for deviation in deviations),
    )


def _deviation(
    original: Callable[[NDArray[np.float32]], NDArray[np.float32]], model: OnnxModel, picture: RGB
) -> Deviation:
    tensor = _tensor(picture)
    try:
        expected, actual = original(tensor), _run(model, tensor)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{model.name} fails on {tensor.shape[2:]}") from error
    if expected.shape != actual.shape:
        raise WeightsError(
            f"{model.name} makes {actual.shape} where the original makes {expected.shape}"
        )
    difference = np.abs(np.clip(expected, 0, 1) - np.clip(actual, 0, 1))
    largest = 255 * float(difference.max())
    mean = float(np.square(difference, dtype=np.float64).mean())
    psnr = -10 * np.log10(mean) if mean else np.inf
    if not (largest <= _MAX_DIFFERENCE and psnr >= _MIN_PSNR):
        raise WeightsError(
            f"{model.name} differs from the original by {largest:.3g} grey levels ({psnr:.1f} dB)"
        )
    return Deviation(largest, float(psnr))


def halo_of(model: OnnxModel) -> int:
    """Return the overlap of tiles that the network needs, in input pixels.

    Its radius (how far a change of one pixel reaches), if at most 64; else the distance from a cut
    beyond which the answer changes by less than half a grey level.

    Raises WeightsError: there is none, so tiles would show.
    """
    radius = _radius(model)
    if radius <= _FARTHEST:
        return radius
    side = 3 * _FARTHEST
    picture = _tensor(np.tile(pattern(), (3, 3, 1))[:side, :side])
    cut = slice(_FARTHEST // 2, side - _FARTHEST // 2)
    whole, cropped = _run(model, picture), _run(model, picture[..., cut, cut].copy())
    k = model.scale
    inner = slice(k * cut.start, k * cut.stop)
    moved = 255 * np.abs(np.clip(whole[..., inner, inner], 0, 1) - np.clip(cropped, 0, 1)).max(
        axis=(0, 1)
    )
    rows = np.arange(moved.shape[0])
    from_edge = np.minimum(rows, rows[::-1]) // k
    distance = np.minimum(from_edge[:, np.newaxis], from_edge)
    halo = 1 + int(distance[moved > _SEAM].max(initial=0))
    if halo > _FARTHEST - 2:
        raise WeightsError(
            f"{model.name}: its answer depends on pixels more than {_FARTHEST} away, so that tiles "
            "would show; give --halo if you accept that"
        )
    return halo


def _radius(model: OnnxModel) -> int:
    """How many input pixels a change of one pixel reaches; `_FARTHEST` + 1: or more."""
    centre = _FARTHEST + 1
    picture = np.random.default_rng(0).random((1, 3, 2 * centre + 1, 2 * centre + 1), np.float32)
    before = _run(model, picture)
    picture[..., centre, centre] += 1e4
    places = np.argwhere((_run(model, picture) != before).any(axis=(0, 1))) // model.scale
    return int(np.abs(places - centre).max(initial=0))


def _run(model: OnnxModel, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    return model.session.run(tensor).copy()  # the session may reuse its output


def _tensor(picture: RGB) -> NDArray[np.float32]:
    tensor: NDArray[np.float32] = np.ascontiguousarray(
        picture.transpose(2, 0, 1)[np.newaxis], np.float32
    )
    tensor /= 255
    return tensor
