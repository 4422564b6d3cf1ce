"""The conformal core: pure functions on arrays, no I/O.

`indecision` makes σ from samples and `fidelity` D from a truth and a prediction. `Staircase`
reduces one image's (σ, D) to its loss as a function of the threshold. `RiskCurve` and
`HighProbabilityCurve` turn the staircases of a calibration into thresholds, masks and trust levels.
"""

from trustscale_server.conformal import fidelity
from trustscale_server.conformal.curve import StepCurve
from trustscale_server.conformal.high_probability import HighProbabilityCurve
from trustscale_server.conformal.loss_curve import Staircase
from trustscale_server.conformal.risk import RiskCurve

__all__ = ["HighProbabilityCurve", "RiskCurve", "Staircase", "StepCurve", "fidelity"]
