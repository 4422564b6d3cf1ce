"""An imported model must equal the original, and tile without seams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.upscalers.base import RGB
from app.upscalers.probe import pattern
from app.upscalers.runtime import OnnxModel, Tensor
from workers.errors import WeightsError

# Between an imported model and its original: grey levels of 255, and dB. Some networks amplify
# rounding.
LARGEST_DIFFERENCE, LEAST_PSNR = 2.0, 70.0

_SEAM = 0.5  # grey levels by which a tile may differ from the whole
_FARTHEST = 64  # input pixels: the largest halo that leaves most of a tile of 288


@dataclass(frozen=True)
class Difference:
    """Between two answers to a picture: the largest, in grey levels of 255, and the PSNR in dB."""

    largest: float
    psnr: float


def compare(original: Callable[[Tensor], Tensor], model: OnnxModel, picture: RGB) -> Difference:
    """How far the model's answer is from the original's, in [0, 1] without rounding.

    Raises:
        WeightsError: they differ by more than the limits, or in size.
    """
    tensor = _tensor(picture)
    try:
        one, other = original(tensor), _run(model, tensor)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{model.name} fails on {tensor.shape[2:]}") from error
    if one.shape != other.shape:
        raise WeightsError(f"{model.name} makes {other.shape} where the original makes {one.shape}")
    apart = np.abs(np.clip(one, 0, 1) - np.clip(other, 0, 1))
    largest, mean = 255 * float(apart.max()), float(np.square(apart, dtype=np.float64).mean())
    psnr = -10 * np.log10(mean) if mean else np.inf
    if not (largest <= LARGEST_DIFFERENCE and psnr >= LEAST_PSNR):
        raise WeightsError(
            f"{model.name} differs from the original by {largest:.3g} grey levels ({psnr:.1f} dB)"
        )
    return Difference(largest, float(psnr))


def halo_of(model: OnnxModel) -> int:
    """The overlap of tiles that the network needs, in input pixels.

    Its radius (how far a change of one pixel reaches), if at most 64; else the distance from a cut
    beyond which the answer changes by less than half a grey level.

    Raises:
        WeightsError: there is none, so tiles would show.
    """
    radius = _radius(model)
    if radius <= _FARTHEST:
        return radius
    side = 3 * _FARTHEST
    picture = _tensor(np.tile(pattern(), (3, 3, 1))[:side, :side])
    cut = slice(_FARTHEST // 2, side - _FARTHEST // 2)
    whole, part = _run(model, picture), _run(model, picture[..., cut, cut].copy())
    k = model.scale
    inner = slice(k * cut.start, k * cut.stop)
    moved = 255 * np.abs(np.clip(whole[..., inner, inner], 0, 1) - np.clip(part, 0, 1)).max(
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
    picture[..., centre, centre] += 1e4  # far beyond pixels: outermost weights show
    places = np.argwhere((_run(model, picture) != before).any(axis=(0, 1))) // model.scale
    return int(np.abs(places - centre).max(initial=0))


def _run(model: OnnxModel, tensor: Tensor) -> Tensor:
    return model.session.run(tensor).copy()  # the session may reuse its output


def _tensor(picture: RGB) -> Tensor:
    tensor: Tensor = np.ascontiguousarray(picture.transpose(2, 0, 1)[np.newaxis], np.float32)
    tensor /= 255
    return tensor
