"""How many bytes one request holds at most while its answer is made: what admission counts.

All of it is proportional to the pixels of the output, and none of it to M, since samples are folded
into sums as they arrive. `tests/serving/test_footprint.py` holds the formula against what is
allocated.
"""

from __future__ import annotations

import math
from typing import Final

from app.conformal.folding import MOST_KEPT
from app.sampling.draw import largest_call
from app.sampling.pipeline import Pipeline
from app.upscalers.base import Capabilities

# Bytes per pixel.
_SAMPLE: Final = 3
# The sums of many samples: three int32 planes and one of float64.
_SUMS: Final = 20
# The witness's answer; that of its network, four times the input's size, before it is resized.
_WITNESS: Final = 3
_WITNESS_SCALE: Final = 4
# X.
_INPUT: Final = 3
# The sum of all samples as three planes of uint32, and the mean.
_MEAN: Final = 15
# While files are made: Ŷ as an image of Pillow, σ, mask and trust levels, and the files of the last
# two, were they of noise.
_ANSWER: Final = 4 + 4 + 1 + 2 + 3

# Scoring a result against the truth: the images, one of them while it is decoded, the mask and σ.
_TRUTH: Final = 20


def footprint(
    height: int, width: int, pipeline: Pipeline, capabilities: Capabilities, form_bytes: int
) -> int:
    """Bytes that a request of an h×w input holds at most, without what its model needs.

    `form_bytes` is what making the picture's file takes per pixel (`ChosenForm.bytes_per_pixel`).
    """
    output = height * width * pipeline.scale**2
    making = max(measuring(height, width, pipeline, capabilities), output * (_ANSWER + form_bytes))
    return height * width * _INPUT + making


def fitting(height: int, width: int, cost: int, budget: int) -> int:
    """The longest side of an h×w input for an answer that costs no more than the budget."""
    return int(max(height, width) * math.sqrt(budget / cost))


def measuring(height: int, width: int, pipeline: Pipeline, capabilities: Capabilities) -> int:
    """Bytes that Ŷ and σ of an h×w input take at most.

    While samples arrive: those that are kept, or their sums and Ŷ; the samples of the call that is
    being folded, and the answers of the other calls, which may be uncompressed. Afterwards: what is
    kept, and the planes of σ.
    """
    output = height * width * pipeline.scale**2
    samples = pipeline.samples
    call = largest_call(capabilities, output * _SAMPLE)
    if samples <= MOST_KEPT:  # each is kept or still an answer, but for those of one call
        kept, arriving = _SAMPLE * samples, _SAMPLE * min(call, samples)
    else:
        kept = _SUMS + _SAMPLE
        arriving = _SAMPLE * (1 + min(call * capabilities.concurrency, samples))
    kept += _MEAN if pipeline.prediction == "mean" else 0
    if pipeline.witness is not None and pipeline.scale != 1:
        kept += _WITNESS
        if pipeline.scale != _WITNESS_SCALE:
            of_network = _WITNESS * math.ceil((_WITNESS_SCALE / pipeline.scale) ** 2)
            arriving = max(arriving, of_network)
    return output * (kept + max(arriving, pipeline.indecision.bytes_per_pixel))


def truth_footprint(height: int, width: int, pipeline: Pipeline) -> int:
    """Bytes that scoring an H×W output against its truth holds at most."""
    return height * width * (_TRUTH + pipeline.fidelity.row.bytes_per_pixel)
