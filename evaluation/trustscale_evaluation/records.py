"""Rows of tables, and how CSV and JSON hold them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

Record = dict[str, object]
"""A row of a table by its columns."""


def as_csv(records: Sequence[Record]) -> str:
    """Write records as CSV with Unix line ends."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(json_record, records))
    return out.getvalue()


def json_record(record: Record) -> Record:
    """Return the record as JSON can hold it: null for NaN, "inf" and "-inf"."""
    return {name: _json_value(value) for name, value in record.items()}


def _json_value(value: object) -> object:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)
