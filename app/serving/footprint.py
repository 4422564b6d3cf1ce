"""How many bytes one request holds at most while its answer is made: what admission counts.

All of it is proportional to the pixels of the output, and none of it to M, since samples are folded
into sums as they arrive. `tests/test_footprint.py` holds the formula against what is allocated.
"""

from __future__ import annotations

from typing import Final

from app.conformal.indecision import Estimator
from app.sampling.draw import largest_call
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Capabilities

# Bytes per output pixel. The sums of the samples: three int32 planes and one of float64.
_SUMS: Final = 20
_SAMPLE: Final = 3
# Ŷ: one of the samples, or the sum of all as three planes of uint32 and then the mean.
_PREDICTION: Final = {"first": 3, "mean": 15}
# Up to four samples wait until compiled kernels fold them at once.
_WAITING: Final = 4 * _SAMPLE
# What making σ of the sums allocates: planes of float32, and of float64 where digits cancel.
_SIGMA: Final[dict[Estimator, int]] = {
    "pixel_variance": 12,
    "smoothed_variance": 12,
    "patch_variance": 36,
    "learned": 34,
}

# Scoring a result against the truth: the images, one of them while it is decoded, the mask and σ.
_TRUTH: Final = 20


def footprint(height: int, width: int, pipeline: Pipeline, capabilities: Capabilities) -> int:
    """Bytes that a request of an h×w input holds at most, without what its model needs.

    While samples arrive: the sums, Ŷ, the samples of the call that is being folded, and the answers
    of the other calls, which may be uncompressed. Afterwards: the sums, Ŷ and the planes of σ.
    """
    output = height * width * pipeline.scale**2
    call = largest_call(capabilities, output * _SAMPLE)
    arriving = _WAITING + _SAMPLE * min(call * capabilities.concurrency, pipeline.samples)
    making = max(arriving, _SIGMA[pipeline.indecision.estimator])
    return output * (_SUMS + _PREDICTION[pipeline.prediction] + making)


def truth_footprint(height: int, width: int, pipeline: Pipeline) -> int:
    """Bytes that scoring an H×W output against its truth holds at most."""
    return height * width * (_TRUTH + pipeline.fidelity.row.bytes_per_pixel)
