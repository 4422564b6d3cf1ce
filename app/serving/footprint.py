"""The most bytes that one request holds, for admission.

Nearly all of it is proportional to the output's pixels, and little to M, since samples are
accumulated as they arrive; strips of the score are as wide as the output. The figures are measured,
with a margin; `tests/serving/test_footprint.py` compares them with allocations.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from app.conformal.moments import MOST_KEPT
from app.images.facts import BY_SCORE
from app.sampling.draw import largest_call
from app.sampling.pipeline import Pipeline
from app.system import score_threads
from app.upscalers.base import Capabilities
from app.upscalers.shipped import SCALE

# Bytes per pixel of the output.
_SAMPLE: Final = 3  # also of what the witness answers, before it is reduced
_SUMS: Final = 23  # of more samples than are kept, and Ŷ
_MEAN: Final = 15  # more where Ŷ is the mean of the samples
_ANSWER: Final = 9  # Ŷ, mask and trust levels while files are made, and the files of masks
_LARGE_ANSWER: Final = 6  # the same without trust levels: their file is made before
LARGE: Final = 16 * 2**20
"""Pixels of outputs whose files are made one after the other, so that less is held at once."""
BELIEVED: Final = 16  # more where `believed.png` is made

_TRUTH: Final = 20  # the images, one of them while it is decoded, the mask and σ

_WHOLE: Final = 7  # σ and what the witness answers, where its mean tells which curve is used

_INPUT: Final = 3  # per pixel of X
_STRIP: Final = 64 * 70  # per pixel of an output's width and thread: rows that are scored together


def footprint(
    height: int, width: int, pipeline: Pipeline, capabilities: Capabilities, form_bytes: int
) -> int:
    """Bytes that a request of an h×w input holds at most, without what its model needs.

    `form_bytes` is what making the picture's file takes per pixel (`ChosenForm.bytes_per_pixel`).
    """
    depth = 1 if pipeline.stretch is None else 2  # bytes
    output = height * width * pipeline.scale**2 * depth
    samples = pipeline.samples
    measuring: float = _SAMPLE * samples if samples <= MOST_KEPT else _SUMS
    if not (capabilities.by_tiles and samples <= MOST_KEPT):  # else what comes is what is kept
        at_once = largest_call(capabilities, output * _SAMPLE) * capabilities.concurrency
        measuring += _SAMPLE * min(at_once, samples)
    if pipeline.prediction == "mean":
        measuring += _MEAN
    scoring: float = pipeline.indecision.row.bytes_per_pixel
    if pipeline.input_rule == BY_SCORE:
        scoring += _WHOLE
    if pipeline.witness is not None:
        is_reduced = 1 < pipeline.scale < SCALE
        network = _SAMPLE * (SCALE / pipeline.scale) ** 2 if is_reduced else 0
        scoring = _SAMPLE + max(scoring, network)
    answer = (_ANSWER if output < LARGE else _LARGE_ANSWER) + form_bytes
    strips = width * pipeline.scale * _STRIP * score_threads()
    measured = output * (measuring + scoring) + strips
    return height * width * _INPUT + math.ceil(max(measured, output * answer))


def fitting(height: int, width: int, cost: Callable[[int, int], int], budget: int) -> int:
    """The longest side of an h×w input for an answer that costs no more than the budget."""
    longest = max(height, width)

    def cost_of(side: int) -> int:
        return cost(math.ceil(height * side / longest), math.ceil(width * side / longest))

    return bisect_right(range(1, longest), budget, key=cost_of)


def truth_footprint(height: int, width: int, pipeline: Pipeline) -> int:
    """Bytes that scoring an H×W output against its truth holds at most."""
    return height * width * (_TRUTH + pipeline.fidelity.row.bytes_per_pixel)
