"""Calibrations drawn from populations that are known entirely, so that a risk is exact.

A set of scenes is taken as the whole law. Calibrations are drawn from it with replacement, and the
expected loss of a threshold, for one new crop of a new scene, is a mean over the population.
"""

import numpy as np

from trustscale_server.conformal import CalibrationSet
from trustscale_server.conformal.step_curve import LARGEST

from .strategies import CURVES


def expected_losses(scenes, thresholds):
    """For each threshold E[L(t−)] of one crop of one scene of the population."""
    different, places = np.unique(thresholds, return_inverse=True)
    of_scenes = [
        np.mean([crop.losses_below(different) for crop in crops], axis=0, dtype=float)
        for crops in scenes
    ]
    return np.mean(of_scenes, axis=0)[places]


def thresholds(scenes, rule, *, n, draws, alpha, bound=1.0, pooled=False, highest=LARGEST, seed=7):
    """t_α of each calibration of n scenes by a rule of `CURVES`; pooled: every crop for itself."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = [scenes[k] for k in random.integers(len(scenes), size=n)]
        crops = [crop for one in drawn for crop in one]
        names = None if pooled else [k for k, one in enumerate(drawn) for _ in one]
        curve = CURVES[rule](CalibrationSet(crops, bound, scenes=names, highest=highest))
        found.append(curve.threshold(alpha))
    return found
