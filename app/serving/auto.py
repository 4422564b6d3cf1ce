"""`auto`: which upscaler an upload gets follows from its class, and from nothing else about it.

So what a calibration promises about uploads of a class stands: the choice was made before any
upload of that class was looked at more closely.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from app.images.compression import class_in_words
from app.images.facts import UPLOAD, Facts, classify

AUTO: Final = "auto"

TABLE: Final = MappingProxyType({"lossless": "span-x4", "*": "realesr-x4"})
"""Patterns of classes and their upscalers; the first pattern that fits counts.

SPAN, made for clean input, is nearer to the truth there and hardly invents. Of what compression and
noise have left it makes wires and grain; the generative model cleans it (docs/upscalers.md).
"""


def chosen_for(table: Mapping[str, str], facts: Facts) -> tuple[str, str]:
    """The upscaler for an upload of these facts, and its class in words.

    `table` has the pattern `*`.
    """
    name = classify(UPLOAD, facts)
    return chosen_from(table, name), class_in_words(name)


def chosen_from(table: Mapping[str, str], name: str) -> str:
    """The upscaler for uploads of a class."""
    return next(upscaler for pattern, upscaler in table.items() if fnmatchcase(name, pattern))
