"""What a calibration uses that says nothing of M or σ.

M is what users pay for, in seconds or money. Of a model that is asked under its symmetries two
samples and a fitted σ trust more than eight samples did. The spread of a model that draws at random
is known less well from two, and no fit is shipped for it: four (docs/mask-power.md).
"""

from __future__ import annotations

from app.conformal.fidelity import FidelitySettings
from app.conformal.fitted import shipped_for
from app.conformal.indecision import IndecisionSettings
from app.upscalers.base import Upscaler

EMBEDDED_SAMPLES, OTHER_SAMPLES = 2, 4


def default_samples(upscaler: Upscaler) -> int:
    """M for an upscaler; never more than it can draw."""
    samples = EMBEDDED_SAMPLES if upscaler.kind == "embedded" else OTHER_SAMPLES
    most = upscaler.capabilities.max_samples
    return samples if most is None else min(samples, most)


def default_estimator(samples: int) -> str:
    """The plain σ for M samples: a single one has no variance."""
    return IndecisionSettings().estimator if samples > 1 else "residual"


def default_indecision(
    fingerprint: str, samples: int, fidelity: FidelitySettings
) -> IndecisionSettings:
    """The σ that was fitted to this very upscaler, or else the plain one."""
    fit = shipped_for(fingerprint, samples, fidelity.title)
    return (
        IndecisionSettings("fitted", fit=fit)
        if fit
        else IndecisionSettings(default_estimator(samples))
    )
