"""Groups and scenes of pairs, and the predictions that labels were drawn on.

A group is a function of X known before anything is measured, such as the camera or the subject; the
curve of its pairs holds for its images. A scene is what pairs were taken from: crops of one
photograph, frames of one camera run, slices of one patient. It counts once.

One level of folders below x/ and y/ names either, or a table does: `manifest.csv` among the files,
or a file of the form, whose column `name` or `file` names the pair.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, TypeAlias

from pydantic import TypeAdapter

from app.calibration.layout import MANIFEST, PREDICTIONS, PairFiles, wrong_group
from app.errors import BadPairs, BadRequest

Rows: TypeAlias = Sequence[Mapping[str, str]]

FOLDER: Final = "folder"
TABLE: Final = "manifest"

SCENE_COLUMNS: Final = ("scene", "pool_id")
"""Columns of a table that name scenes; the first one that exists counts."""

_NAME_COLUMNS: Final = ("name", "file")
_TEXTS = TypeAdapter(dict[str, str])


@dataclass(frozen=True, slots=True)
class Naming:
    """What names the groups and the scenes of pairs; it is an error if it names none.

    group_by: "folder" or a column of the table. None: the folder, if any.
    scene_by: "folder", a column, or "manifest" for the first of `SCENE_COLUMNS`. None: that one, if
    the table has it.
    """

    group_by: str | None = None
    scene_by: str | None = None

    @property
    def by_folder(self) -> bool:
        """Whether DIR/NAME without x/, y/ and labels/ is a truth of the group or scene DIR."""
        return FOLDER in {self.group_by, self.scene_by}

    def named(self, pairs: Iterable[PairFiles], table: bytes | None) -> list[PairFiles]:
        """The pairs with their groups and scenes.

        Raises:
            BadRequest: the table or a column is missing or unreadable, or folders are to name both.
            BadPairs: no pair has a group or scene, although something was to name them.
        """
        if self.group_by == self.scene_by == FOLDER:
            raise BadRequest("A level of folders names groups or scenes, not both.")
        pairs = [*pairs]
        rows = None if table is None else read_table(table)
        folders = {pair.name: pair.folder for pair in pairs if pair.folder}
        groups: Mapping[str, str] = folders if self.scene_by != FOLDER else {}
        if self.group_by not in {None, FOLDER}:
            groups = column_of(rows, self.group_by or "")
        scenes = folders if self.scene_by == FOLDER else self._scenes(rows)
        named = [
            pair._replace(group=groups.get(pair.name), scene=scenes.get(pair.name))
            for pair in pairs
        ]
        for pair in named:
            for value in filter(None, (pair.group, pair.scene)):
                if reason := wrong_group(value):
                    raise BadRequest(f"{MANIFEST}: {pair.name[:80]!r}: {reason}.")
        if self.group_by is not None and not any(pair.group for pair in named):
            raise BadPairs("No pair has a group.", items=[])
        if self.scene_by is not None and not any(pair.scene for pair in named):
            raise BadPairs("No pair has a scene.", items=[])
        return named

    def _scenes(self, rows: Rows | None) -> Mapping[str, str]:
        if self.scene_by not in {None, TABLE}:
            return column_of(rows, self.scene_by or "")
        column = next((name for name in SCENE_COLUMNS if rows and name in rows[0]), None)
        if column is None and self.scene_by == TABLE:
            return column_of(rows, SCENE_COLUMNS[0])  # which says what is missing
        return {} if column is None else column_of(rows, column)


def claimed_predictions(data: bytes) -> dict[str, str]:
    """By pair, the SHA-256 of the prediction that its label was drawn on.

    Raises:
        BadPairs: not a JSON object of texts.
    """
    try:
        return _TEXTS.validate_json(data)
    except ValueError as error:
        raise BadPairs(f"labels/{PREDICTIONS} is not a JSON object of texts.", items=[]) from error


def read_table(data: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file by column; missing cells are empty. Raises BadRequest."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{MANIFEST} cannot be read as text in UTF-8.") from error
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True, restval=""))
    except csv.Error as error:
        raise BadRequest(f"{MANIFEST} is not CSV: {error}.") from error
    return [{key: value.strip() for key, value in row.items() if key is not None} for row in rows]


def column_of(rows: Rows | None, column: str) -> dict[str, str]:
    """A column of a table by name of the pair, without empty cells, nor the suffix in `file`.

    Raises:
        BadRequest: table, column or names of pairs are missing, or a pair is named twice.
    """
    if rows is None:
        raise BadRequest(f"{MANIFEST} is missing.")
    header = rows[0].keys() if rows else ()
    key = next((name for name in _NAME_COLUMNS if name in header), None)
    if key is None:
        raise BadRequest(f"{MANIFEST} needs a column name or file, which names the pairs.")
    if column not in header:
        has = ", ".join(header)[:80]
        raise BadRequest(f"{MANIFEST} has no column {column[:80]!r}; it has: {has}.")
    found: dict[str, str] = {}
    for row in rows:
        name, value = (PurePosixPath(row[key]).stem if key == "file" else row[key]), row[column]
        if found.setdefault(name, value) != value:
            raise BadRequest(f"{MANIFEST} names {name[:80]!r} twice, and not alike.")
    return {name: value for name, value in found.items() if value}
