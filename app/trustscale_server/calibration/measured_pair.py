"""One pair of a calibration after generation: what is kept of it, with its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.conformal import LossCurve


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """What was measured of one pair.

    loss_curves: of its spots, `coarse`; of the whole picture where the promise is about that.
    sigma_quantiles: float32 [101].
    marked: `Marked.packed` of what was added, uint16 [2, 65]; None: it was not looked at.
    described: `InputFeatures.described` of X, [d]; empty: not kept.
    """

    info: PairInfo
    loss_curves: Sequence[LossCurve]
    sigma_quantiles: NDArray[np.float32]
    marked: NDArray[np.uint16] | None = None
    described: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
