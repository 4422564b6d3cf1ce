"""What names the groups and the scenes of pairs: folders, or a table beside them.

A group is a function of X known before anything is measured, such as the camera or the subject; the
curve of its pairs holds for its images. A scene is what pairs were taken from (crops of one
photograph, frames of one camera run, slices of one patient); it counts once. DIR of `layout.py`
names either, or a table does: `manifest.csv` among the files, or a file of the form, whose column
`name` or `file` names the pair.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, TypeAlias

from trustscale_server.calibrating.intake.layout import MANIFEST, wrong_group
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.platform.errors import BadPairs, BadRequest

_Rows: TypeAlias = Sequence[Mapping[str, str]]

BY_FOLDER: Final = "folder"

SCENE_COLUMNS: Final = ("scene", "pool_id")
"""Columns of a table that name scenes; the first one that exists counts."""


@dataclass(frozen=True, slots=True)
class GroupingRule:
    """What names the groups and the scenes of pairs; naming none is an error.

    group_by: "folder" or a column of the table. None: the folder, if any.
    scene_by: "folder", a column, or "manifest" for the first of `SCENE_COLUMNS`. None: that one, if
    the table has it.
    """

    group_by: str | None = None
    scene_by: str | None = None

    @property
    def by_folder(self) -> bool:
        """Whether DIR/NAME without x/, y/ and labels/ is a truth of the group or scene DIR."""
        return BY_FOLDER in {self.group_by, self.scene_by}

    def named(self, pairs: Iterable[PairSource], table: bytes | None) -> list[PairSource]:
        """Return the pairs with their groups and scenes.

        Raises:
            BadRequest: the table or a column is missing or unreadable, or folders are to name both.
            BadPairs: no pair has a group or scene, although something was to name them.
        """
        if self.group_by == self.scene_by == BY_FOLDER:
            raise BadRequest("A level of folders names groups or scenes, not both.")
        pairs = [*pairs]
        rows = None if table is None else read_table(table)
        folders = {pair.name: pair.group for pair in pairs if pair.group}
        groups, scenes = self._groups(rows, folders), self._scenes(rows, folders)
        named = [
            replace(pair, group=groups.get(pair.name), scene=scenes.get(pair.name))
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

    def _groups(self, rows: _Rows | None, folders: Mapping[str, str]) -> Mapping[str, str]:
        if self.group_by is not None and self.group_by != BY_FOLDER:
            return column_of(rows, self.group_by)
        return {} if self.scene_by == BY_FOLDER else folders

    def _scenes(self, rows: _Rows | None, folders: Mapping[str, str]) -> Mapping[str, str]:
        if self.scene_by == BY_FOLDER:
            return folders
        if self.scene_by is not None and self.scene_by != "manifest":
            return column_of(rows, self.scene_by)
        column = next((name for name in SCENE_COLUMNS if rows and name in rows[0]), None)
        if column is None and self.scene_by is None:
            return {}
        return column_of(rows, column or SCENE_COLUMNS[0])  # which says what is missing


def read_table(data: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column; missing cells are empty. Raises BadRequest."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{MANIFEST} cannot be read as text in UTF-8.") from error
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True, restval=""))
    except csv.Error as error:
        raise BadRequest(f"{MANIFEST} is not CSV: {error}.") from error
    return [{key: value.strip() for key, value in row.items() if key is not None} for row in rows]


def column_of(rows: _Rows | None, column: str) -> dict[str, str]:
    """Return a table's column by name of the pair, without empty cells or file suffixes.

    Raises:
        BadRequest: table, column or names of pairs are missing, or a pair is named twice.
    """
    if rows is None:
        raise BadRequest(f"{MANIFEST} is missing.")
    header = rows[0].keys() if rows else ()
    key = next((name for name in ("name", "file") if name in header), None)
    if key is None:
        raise BadRequest(f"{MANIFEST} needs a column name or file, which names the pairs.")
    if column not in header:
        has = ", ".join(header)[:80]
        raise BadRequest(f"{MANIFEST} has no column {column[:80]!r}; it has: {has}.")
    values: dict[str, str] = {}
    for row in rows:
        name = PurePosixPath(row[key]).stem if key == "file" else row[key]
        value = row[column]
        if values.setdefault(name, value) != value:
            raise BadRequest(f"{MANIFEST} names {name[:80]!r} twice, and not alike.")
    return {name: value for name, value in values.items() if value}
