"""How many bytes one request holds at most while its answer is made: what admission counts.

All of it is proportional to the pixels of the output, and none of it to M, since samples are folded
into sums as they arrive. `tests/test_footprint.py` holds the formula against what is allocated.
"""

from __future__ import annotations

from typing import Final

from app.sampling.draw import largest_call
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Capabilities

# Bytes per output pixel. The sums of two samples and more: three int32 planes and one of float64.
_SUMS: Final = 20
_SAMPLE: Final = 3
# The enlarged input.
_INPUT: Final = 3
# Ŷ: one of the samples, or the sum of all as three planes of uint32 and then the mean.
_PREDICTION: Final = {"first": 3, "mean": 15}

# Scoring a result against the truth: the images, one of them while it is decoded, the mask and σ.
_TRUTH: Final = 20


def footprint(height: int, width: int, pipeline: Pipeline, capabilities: Capabilities) -> int:
    """Bytes that a request of an h×w input holds at most, without what its model needs.

    While samples arrive: the sums, Ŷ, the samples of the call that is being folded, the one that
    waits for a second, blocks of their colours, and the answers of the other calls, which may be
    uncompressed. Afterwards: the sums, Ŷ and the planes of σ.
    """
    output = height * width * pipeline.scale**2
    call = largest_call(capabilities, output * _SAMPLE)
    arriving = _SAMPLE * (3 + min(call * capabilities.concurrency, pipeline.samples))
    making = max(arriving, pipeline.indecision.row.bytes_per_pixel)
    kept = _PREDICTION[pipeline.prediction] + (_SUMS if pipeline.samples > 1 else 0)
    kept += _INPUT if pipeline.indecision.needs_input else 0
    return output * (kept + making)


def truth_footprint(height: int, width: int, pipeline: Pipeline) -> int:
    """Bytes that scoring an H×W output against its truth holds at most."""
    return height * width * (_TRUTH + pipeline.fidelity.row.bytes_per_pixel)
