"""How many bytes the making of an answer holds, which is known before it begins."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final

from trustscale_server.platform.errors import ImageTooLarge, duration
from trustscale_server.platform.ordered_map import map_threads
from trustscale_server.sampling.draw import largest_call
from trustscale_server.sampling.sigma.moments import MAX_KEPT
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.serving.choose import Chosen
from trustscale_server.serving.context import ServiceContext
from trustscale_server.stores.spool import IN_MEMORY
from trustscale_server.upscalers.base import Capabilities

LETTERS: Final = 28
"""Bytes per pixel of the output that looking for text in Ŷ and the enlarged upload holds."""

# Bytes per pixel of the output of all else.
_SAMPLE: Final = 3
_SUMS: Final = 23  # of more samples than are kept, and Ŷ
_MEAN: Final = 15  # more where Ŷ is the mean of the samples
_ANSWER: Final = 6  # Ŷ, mask and trust levels
_ADDED: Final = 6  # more while what was added is examined
_FILES: Final = 8  # of noise, while they are small
_MAX_FILES: Final = 3 * IN_MEMORY  # bytes; larger ones are on the disk
_DRAWN: Final = 20  # more where `believed.png` or a card is made
_INPUT: Final = 3  # per pixel of X
_SUPPLIED: Final = 16  # more where the picture comes with the upload, and is moved
# Bytes of rows that are worked on together, per pixel of width and thread.
_STRIP: Final = 64 * 70  # that are scored
_ADDED_STRIP: Final = 64 * 130  # that are examined for what was added


def answer_footprint(chosen: Chosen, height: int, width: int) -> int:
    """Return the bytes that making the answer to an h×w upload holds at most."""
    request = chosen.request
    drawn = request.believed or request.safe or request.card  # one after the other
    form_bytes = chosen.picture_format.bytes_per_pixel + _DRAWN * drawn
    form_bytes += LETTERS * (request.letters == "leave_out")
    form_bytes += _SUPPLIED * request.has_enlarged
    return footprint(height, width, chosen.pipeline, chosen.upscaler.capabilities, form_bytes)


def footprint(
    height: int, width: int, pipeline: MeasurementSpec, capabilities: Capabilities, form_bytes: int
) -> int:
    """Return how many bytes answering an h×w input holds at most, without its model.

    Measured, with a margin (`tests/serving/test_footprint.py`): proportional to the output's
    pixels, little to M, since samples are accumulated as they arrive. form_bytes: per pixel, of
    making the picture's file (`ChosenFormat.bytes_per_pixel`).
    """
    depth = 1 if pipeline.stretch is None else 2  # bytes
    output = height * width * pipeline.scale**2 * depth
    samples = pipeline.samples
    measuring: float = _SAMPLE * samples if samples <= MAX_KEPT else _SUMS
    if not (capabilities.by_tiles and samples <= MAX_KEPT):  # else samples come as they are kept
        at_once = largest_call(capabilities, output * _SAMPLE) * capabilities.concurrency
        measuring += _SAMPLE * min(at_once, samples)
    if pipeline.prediction == "mean":
        measuring += _MEAN
    scoring: float = pipeline.indecision.spec.bytes_per_pixel
    files = min(output * _FILES, _MAX_FILES)
    row = width * pipeline.scale * map_threads()
    measured = output * (measuring + scoring) + row * _STRIP
    added = output * (_ANSWER + _ADDED) + row * _ADDED_STRIP
    answer = output * (_ANSWER + form_bytes)
    return height * width * _INPUT + math.ceil(max(measured, added, answer)) + files


def fitting_side(chosen: Chosen, height: int, width: int, budget: int) -> int:
    """Return the longest side to which an h×w upload is reduced for its answer to fit a budget."""
    longest = max(height, width)

    def cost_of(side: int) -> int:
        return answer_footprint(
            chosen, math.ceil(height * side / longest), math.ceil(width * side / longest)
        )

    return bisect_right(range(1, longest), budget, key=cost_of)


def add_cost(error: ImageTooLarge, context: ServiceContext, chosen: Chosen, pixels: int) -> None:
    """Add to an error the memory and time that the answer to this many pixels would take."""
    cost = answer_footprint(chosen, pixels, 1)
    error.members["bytes"] = cost
    takes = f"about {cost / 1e9:.1f} GB of memory"
    seconds = context.throughput.estimate(chosen.upscaler, pixels, chosen.pipeline.samples)
    if seconds is not None:
        error.members["seconds"] = round(seconds, 1)
        takes += f" and about {duration(seconds)}"
    error.detail += (
        f" Its answer would take {takes} (settings max_input_pixels, max_in_flight_bytes)."
    )
