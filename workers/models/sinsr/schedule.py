"""The noise schedule of ResShift/SinSR and the constants of the one-step sampler.

SinSR (Wang et al. 2024) evaluates the network once, at the last of all T steps, so of the
whole schedule only that step's numbers reach a pixel. Everything is float64 until then.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.models.sinsr.config import DiffusionConfig


def sqrt_etas(config: DiffusionConfig) -> NDArray[np.float64]:
    """Square roots of the schedule's eta, one per step, rising to `etas_end`.

    A geometric path from s0 to etas_end whose exponent is (i/(T-1))**power: ResShift's
    "exponential" schedule. Returns float64[T].
    """
    start = min(config.min_noise_level / config.kappa, config.min_noise_level, math.sqrt(0.001))
    position = (np.arange(config.steps) / (config.steps - 1)) ** config.schedule_kwargs.power
    path: NDArray[np.float64] = start * (config.etas_end / start) ** position
    return path


@dataclass(frozen=True)
class OneStep:
    """What the sampler needs of the schedule's last step."""

    timestep: int
    """Index given to the network: T-1, counted in the original, unrespaced schedule."""

    noise_std: float
    """How strongly the noise is mixed to the encoded image: kappa * sqrt(eta)."""

    input_std: float
    """Divisor that brings the noisy latent back to about unit variance."""

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> "OneStep":
        """The constants of step T-1."""
        last = float(sqrt_etas(config)[-1])
        noise_std = config.kappa * last
        return cls(config.steps - 1, noise_std, math.sqrt(noise_std**2 + 1))
