"""What a calibration uses that says nothing of M or σ.

M is what users pay for, in seconds or money, so it is as small as the figures of docs/mask-power.md
allow: where a model is sampled through its symmetries, or has to be paid for, few samples and a
fitted σ trust more than many with a plain one.
"""

from __future__ import annotations

from app.conformal.indecision import Settings
from app.upscalers.base import Upscaler

DEFAULT_SAMPLES = 8
"""M of the paper's settings, and of those who want the spread of the samples alone."""


def default_samples(upscaler: Upscaler) -> int:
    """M for an upscaler; never more than it can draw."""
    most = upscaler.capabilities.max_samples
    return DEFAULT_SAMPLES if most is None else min(DEFAULT_SAMPLES, most)


def default_estimator(samples: int) -> str:
    """The plain σ for M samples: a single one has no variance."""
    return Settings().estimator if samples > 1 else "residual"
