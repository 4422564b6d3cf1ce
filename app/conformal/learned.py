"""The learned σ: fitted weights of the terms of `texture.py`, and what names them.

The weights were fitted for the embedded upscaler on photographs that have no part in the shipped
calibrations (docs/mask-power.md is their card). Under any other upscaler the promise holds as well,
since a calibration measures whatever σ is used; only the mask may be smaller than it could be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from app.conformal import texture

NAME = "span-x4-small64"

# As `python -m benchmarks.power_fit` prints them. σ is about as large as D; the mask does not
# depend on the offset.
OFFSET = -0.40
WEIGHTS: Mapping[str, float] = {
    "variance@1": 0.1247,
    "log detail@2": 0.0672,
    "log slope@2": 0.0484,
    "curve@2": -0.0374,
    "log curve@2": -0.0580,
    "light0@2": 0.0692,
    "log light0@2": -0.0318,
    "variance@3": 0.0617,
    "light0@3": 0.0028,
    "variance@5": 0.1264,
    "log variance@5": -0.0798,
    "log detail@5": 0.0491,
    "log slope@5": 0.0615,
    "log curve@5": -0.0670,
    "log light1@5": -0.0723,
    "log color2@5": 0.0429,
    "variance@7": 0.1328,
    "curve@7": -0.0976,
    "log light0@7": -0.0582,
    "log color0@7": -0.0319,
    "light1@7": 0.1301,
    "log light1@7": -0.1004,
    "log light2@7": -0.0006,
    "color4@7": -0.0150,
}


def state_of(name: str, offset: float, weights: Mapping[str, float]) -> str:
    """What a calibration remembers of the weights: other weights are another σ."""
    content = json.dumps([offset, sorted(weights.items())])
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


STATE = state_of(NAME, OFFSET, WEIGHTS)


def sigma(variance: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """σ = exp(w₀ + Σ_j w_j f_j), float32 [H, W], finite and > 0.

    Args:
        variance: Σ_c Var_M over the channels, float32 [H, W] ≥ 0.
        mean: E_M[μ] in normalised Lab, float32 [3, H, W].
    """
    cells = np.exp(texture.log_sigma(variance, mean, WEIGHTS) + OFFSET)
    return texture.enlarge(cells, (variance.shape[0], variance.shape[1]))
