"""The conformal core: pure functions on arrays, no I/O.

`indecision` makes σ from samples and `fidelity` D from a truth and a prediction. `Staircase`
reduces one image's (σ, D) to its loss as a function of the threshold. `RiskCurve` and
`HighProbabilityCurve` turn the staircases of a calibration into thresholds, masks and trust levels.
"""

from app.conformal import fidelity, indecision
from app.conformal.curve import StepCurve
from app.conformal.high_probability import HighProbabilityCurve
from app.conformal.risk import RiskCurve
from app.conformal.staircase import Staircase

__all__ = ["HighProbabilityCurve", "RiskCurve", "Staircase", "StepCurve", "fidelity", "indecision"]
