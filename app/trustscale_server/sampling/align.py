"""Keep the file's own colours: what a model adds, on top of what the upload already says.

A generative model also changes what the upload had right: tones, colours, the weight of lines. So
each sample Ŷ is moved until its reduction agrees with X (`pixels/align.py`).

**Softness.** Where the file is exact, none: the detail stays and its tones become the file's. Where
it was compressed or is noisy, X holds blocks, ringing and grain that the model has removed, and an
exact correction brings them back; one pixel leaves most of them out (six crops were looked at;
`benchmarks.added` has the figures).

Aligning belongs to Ŷ as the weights of the model do: a calibration is about aligned samples or
about others, never both (`MeasurementSpec.align`).
"""

from __future__ import annotations

from typing import Final

from trustscale_server.kinds.features import UPLOAD, InputFeatures, classify
from trustscale_server.upscalers.base import Upscaler

_EXACT: Final = frozenset({"lossless", "soft", "palette"})
"""Classes of uploads whose pixels are taken at their word."""

SOFTNESS: Final = 1.0
"""Of all other classes, in pixels of X."""


def softness_for(features: InputFeatures | None) -> float:
    """Return the softness for an upload with these features; None: they are not known."""
    is_exact = features is not None and classify(UPLOAD, features) in _EXACT
    return 0.0 if is_exact else SOFTNESS


def aligns(upscaler: Upscaler) -> bool:
    """Return whether samples of an upscaler are aligned, unless a calibration says otherwise.

    A restoration, of scale 1, changes on purpose what X shows.
    """
    return upscaler.scale > 1 and upscaler.capabilities.align_colours
