"""Groups of pairs: which pair belongs to which, as tables and requests say it.

A group is a function of X that is known before anything is measured, such as the camera or the
subject. The curve of a group's pairs speaks about images of that group. Folders name groups too
(`app/calibration/layout.py`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from app.calibration.layout import wrong_group
from app.calibration.record import MeasuredPair
from app.errors import BadRequest

_NAME_COLUMNS = ("name", "file")


def parse_groups(text: str) -> dict[str, str]:
    """The group of each pair, from a JSON object or from CSV with the columns name and group.

    Raises:
        BadRequest: neither, or a name that cannot be that of a group.
    """
    if not text.strip():
        return {}
    is_json = text.lstrip().startswith("{")
    groups = _from_json(text) if is_json else column_of(parse_table(text), "group")
    for name, group in groups.items():
        if reason := wrong_group(group):
            raise BadRequest(f"groups: {name[:80]!r}: {reason}.")
    return groups


def grouped(pairs: Sequence[MeasuredPair], groups: Mapping[str, str | None]) -> list[MeasuredPair]:
    """The pairs with their groups; a pair that is not named keeps what it has."""
    return [
        replace(pair, info=pair.info.model_copy(update={"group": group}))
        if (group := groups.get(pair.info.name)) is not None
        else pair
        for pair in pairs
    ]


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises BadRequest if it is none."""
    try:
        return parse_table(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise BadRequest(f"{path} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read as text in UTF-8.") from error


def parse_table(text: str) -> list[dict[str, str]]:
    """The rows of CSV by column; cells that are missing are empty. Raises BadRequest."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True, restval=""))
    except csv.Error as error:
        raise BadRequest(f"The table is not CSV: {error}.") from error
    return [{key: value.strip() for key, value in row.items() if key is not None} for row in rows]


def column_of(rows: Sequence[Mapping[str, str]], column: str) -> dict[str, str]:
    """A column by name of the pair; the suffix of a file's name is dropped.

    Raises:
        BadRequest: no column names the pairs, the column is missing, or a pair is named twice.
    """
    header = rows[0].keys() if rows else ()
    key = next((name for name in _NAME_COLUMNS if name in header), None)
    if key is None:
        raise BadRequest("The table needs a column name or file, which names the pairs.")
    if column not in header:
        has = ", ".join(header)[:80]
        raise BadRequest(f"The table has no column {column[:80]!r}; it has: {has}.")
    found: dict[str, str] = {}
    for row in rows:
        name = PurePosixPath(row[key]).stem if key == "file" else row[key]
        if found.setdefault(name, row[column]) != row[column]:
            raise BadRequest(f"The table names {name[:80]!r} twice, and not alike.")
    return found


def _from_json(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("groups is not valid JSON.") from error
    if not all(isinstance(group, str) for group in found.values()):
        raise BadRequest("groups: each group is a text.")
    return dict(found)
