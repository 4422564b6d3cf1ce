"""What is said of pairs by their names: groups, scenes, and what their labels were drawn on.

A group is a function of X that is known before anything is measured, such as the camera or the
subject. The curve of a group's pairs speaks about images of that group. Folders name groups too
(`app/calibration/layout.py`).

A scene is what pairs were taken from: crops of one photograph, frames of one camera run, slices of
one patient. It counts once, however many pairs it brings.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from app.calibration.layout import PREDICTIONS, wrong_group, wrong_name
from app.errors import BadPairs, BadRequest

_TEXTS = TypeAdapter(dict[str, str])

_NAME_COLUMNS = ("name", "file")

SCENE_COLUMNS = ("scene", "pool_id")
"""Columns of a table that name scenes; the first one that exists counts."""


def parse_groups(text: str) -> dict[str, str]:
    """The group of each pair, from a JSON object or from CSV with the columns name and group.

    Raises:
        BadRequest: neither, or a name that cannot be that of a group.
    """
    return _parsed(text, "groups", lambda rows: column_of(rows, "group"))


def parse_scenes(text: str) -> dict[str, str]:
    """The scene of each pair, from a JSON object or from CSV with the columns name and scene.

    Raises:
        BadRequest: neither, or a name that cannot be that of a scene.
    """
    return _parsed(text, "scenes", lambda rows: scenes_of(rows) or column_of(rows, "scene"))


def scenes_of(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The scenes that a table names in one of `SCENE_COLUMNS`; empty if it has none of them.

    Raises:
        BadRequest: as `column_of`.
    """
    header = rows[0].keys() if rows else ()
    column = next((name for name in SCENE_COLUMNS if name in header), None)
    if column is None:
        return {}
    return {name: scene for name, scene in column_of(rows, column).items() if scene}


def claimed_predictions(data: bytes) -> dict[str, str]:
    """The SHA-256 of the predictions that labels were drawn on, by name of the pair.

    Raises:
        BadPairs: not a JSON object of texts.
    """
    try:
        return _TEXTS.validate_json(data)
    except ValueError as error:
        raise BadPairs(f"labels/{PREDICTIONS} is not a JSON object of texts.", items=[]) from error


def _parsed(
    text: str, what: str, of_table: Callable[[list[dict[str, str]]], dict[str, str]]
) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        is_json = text.lstrip().startswith("{")
        found = _TEXTS.validate_json(text) if is_json else of_table(parse_table(text))
    except ValidationError as error:
        raise BadRequest(f"{what} is not a JSON object of texts.") from error
    for name, value in found.items():
        # A name that is no text could not even be told in the answer.
        if reason := wrong_name(name) or wrong_group(value):
            raise BadRequest(f"{what}: {name[:80]!r}: {reason}.")
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises BadRequest if it is none."""
    try:
        return table_of(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise BadRequest(f"{path} is missing.") from error
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error


def table_of(data: bytes, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of this name. Raises BadRequest if it is none."""
    try:
        return parse_table(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name} cannot be read as text in UTF-8.") from error


def parse_table(text: str) -> list[dict[str, str]]:
    """The rows of CSV by column; cells that are missing are empty. Raises BadRequest."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True, restval=""))
    except csv.Error as error:
        raise BadRequest(f"The table is not CSV: {error}.") from error
    return [{key: value.strip() for key, value in row.items() if key is not None} for row in rows]


def column_of(rows: Sequence[Mapping[str, str]], column: str) -> dict[str, str]:
    """The group or scene that a column names, by name of the pair.

    Raises:
        BadRequest: as `values_of`, or a value cannot be that of a group or scene.
    """
    found = values_of(rows, column)
    for name, value in found.items():
        if value and (reason := wrong_group(value)):
            raise BadRequest(f"The table: {name[:80]!r}: {reason}.")
    return found


def values_of(rows: Sequence[Mapping[str, str]], column: str) -> dict[str, str]:
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
