"""`auto`: which upscaler an upload gets follows from its class, and from nothing else about it.

So what a calibration promises about uploads of a class stands: the choice was made before any
upload of that class was looked at more closely, by a table or by what was measured on scenes that
calibrate nothing (`app/calibration/choice.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from app.images.compression import class_in_words
from app.images.facts import UPLOAD, Facts, classify

if TYPE_CHECKING:  # settings need the table only
    from app.calibration.choice import Choice

TABLE: Final = MappingProxyType({"lossless": "span-x4", "*": "realesr-x4"})
"""Patterns of classes and their upscalers; the first pattern that fits counts.

SPAN, made for clean input, is nearer to the truth there and hardly invents. Of what compression and
noise have left it makes wires and grain; the generative model cleans it (docs/upscalers.md).
"""


def chosen_for(
    table: Mapping[str, str], measured: Mapping[str, Choice], facts: Facts
) -> tuple[str, str, str]:
    """The upscaler for an upload of these facts, its class in words, and why it is this one.

    `table` has the pattern `*`; what was `measured` of a class comes first.
    """
    name = classify(UPLOAD, facts)
    words = class_in_words(name)
    if (choice := measured.get(name)) is not None:
        why = f"{choice.upscaler} was chosen for uploads of this class ({words}): {choice.why}."
        return choice.upscaler, words, why
    upscaler = chosen_from(table, name)
    return upscaler, words, f"{upscaler} was chosen, as for every upload of this class: {words}."


def chosen_from(table: Mapping[str, str], name: str) -> str:
    """The upscaler for uploads of a class."""
    return next(upscaler for pattern, upscaler in table.items() if fnmatchcase(name, pattern))
