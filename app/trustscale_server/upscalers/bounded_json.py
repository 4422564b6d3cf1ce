"""JSON of strangers, parsed only if it has no more values than an answer can need.

Eight megabytes of `[1,1,…` are four million values: they would take hundreds of megabytes, and
parsing holds the interpreter's lock, so that a thread would not help. Looking at each value takes
seconds more. A picture in an answer is one long text.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

MAX_VALUES: Final = 2**18
"""Of an answer besides numbers of a picture; its values are parsed within a tenth of a second."""

_SLICE: Final = 2**16


class TooManyValues(ValueError):
    """The text was not parsed."""


def parse(text: bytes | bytearray | str, max_values: float = MAX_VALUES) -> Any:
    """Return the value of a JSON text.

    Raises:
        TooManyValues: it has more than `max_values`; commas in texts count, too.
        ValueError: no JSON, or too deep.
    """
    if max_values < math.inf:
        remaining, marks = (
            max_values,
            (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{"),
        )
        for start in range(0, len(text), _SLICE):
            section: Any = text[start : start + _SLICE]
            remaining -= sum(section.count(mark) for mark in marks)
            if remaining < 0:
                raise TooManyValues(f"more than {max_values:,} values")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
