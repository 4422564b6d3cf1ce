"""Trustscale: upscale an image, and say where its colours are right, on average by a theorem."""

from typing import Final

__version__ = "0.9.0"

TRUSTED: Final = (
    "Trusted means, by default, that the mean colour error around the worst trusted point of a "
    "spot of 128×128 pixels is at most α on average over calibrations, pictures like theirs and "
    "spots, counted up to 0.25; a single picture may be worse."
)
"""What a mask promises, for every text that is not about one answer."""
