"""The conformal core: pure functions on arrays, no I/O.

`fidelity` makes D from a truth and a prediction. `LossCurve` reduces one image's (σ, D) to its loss
as a function of the threshold. `RiskCurve` and `HighProbabilityCurve` turn a `CalibrationSet` of
these into thresholds, masks and trust levels.
"""

from trustscale_server.conformal import fidelity
from trustscale_server.conformal.calibration_set import CalibrationSet
from trustscale_server.conformal.high_probability import HighProbabilityCurve
from trustscale_server.conformal.loss_curve import LossCurve
from trustscale_server.conformal.risk_curve import RiskCurve
from trustscale_server.conformal.step_curve import StepCurve

__all__ = [
    "CalibrationSet",
    "HighProbabilityCurve",
    "LossCurve",
    "RiskCurve",
    "StepCurve",
    "fidelity",
]
