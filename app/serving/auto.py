"""`auto`: the class of an upload, and nothing else about it, chooses the upscaler.

So a calibration's promise about a class of uploads holds: the choice was fixed before, by a table
or by measurements on scenes that calibrate nothing (`app/calibration/choice.py`).
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

TABLE: Final = MappingProxyType(
    {"lossless": "span-x4", "lossless/fine": "span-x4", "*": "realesr-x4"}
)
"""Patterns of classes and their upscalers; the first match counts.

SPAN, made for clean input, is nearer to the truth there and hardly invents. It turns traces of
compression and noise into wires and grain, which the generative model cleans (docs/upscalers.md).
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
