"""What a calibration job keeps of measured pairs between its tasks, as bytes."""

from __future__ import annotations

import io
import json

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.calibration.measured_pair import MeasuredPair
from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.pixels.npy import read_arrays
from trustscale_server.platform.errors import BadCalibration
from trustscale_server.sampling.measure import Measurement
from trustscale_server.upscalers.base import RGB


def npz_bytes(**arrays: ArrayLike) -> bytes:
    """Return arrays as bytes for `np.load`."""
    out = io.BytesIO()
    np.savez(out, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()


def pack(pair: MeasuredPair) -> bytes:
    """Return a measured pair as bytes, for the record of a calibration job."""
    curves = LossCurves.from_curves(pair.loss_curves)
    return npz_bytes(
        info=np.frombuffer(pair.info.model_dump_json().encode(), np.uint8),
        levels=curves.levels,
        errors=curves.errors,
        lengths=curves.lengths,
        quantiles=pair.sigma_quantiles,
        described=pair.described,
        **({} if pair.marked is None else {"marked": pair.marked}),
    )


def unpack(data: bytes) -> MeasuredPair:
    """Return the measured pair of `pack`; BadCalibration if it is damaged."""
    try:
        arrays = read_arrays(data)
        curves = LossCurves(arrays["levels"], arrays["errors"], arrays["lengths"])
        curves.raise_if_inconsistent()
        return MeasuredPair(
            PairInfo(**json.loads(arrays["info"].tobytes())),
            list(curves),
            arrays["quantiles"],
            arrays.get("marked"),
            arrays["described"],
        )
    except Exception as error:  # any parser may fail on damaged input
        raise BadCalibration(f"A checkpoint is damaged: {error}.") from error


def pack_measurement(measurement: Measurement) -> bytes:
    """Return what a label is drawn on, as bytes."""
    return npz_bytes(
        prediction=measurement.prediction,
        sigma=measurement.sigma,
        mean_log_sigma=measurement.mean_log_sigma,
    )


def unpack_measurement(data: bytes) -> tuple[RGB, NDArray[np.float32], float]:
    """Return Ŷ, σ and the mean log σ of `pack_measurement`."""
    arrays = read_arrays(data)
    return arrays["prediction"], arrays["sigma"], float(arrays["mean_log_sigma"])
