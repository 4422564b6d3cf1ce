"""Groups of pairs: which pair belongs to which, as folders, a table or a request say it.

A group is a function of X that is known before anything is measured, such as the camera or the
subject. The curve of a group's pairs speaks about images of that group.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from app.calibration.archive import is_text
from app.calibration.pairs import PairFiles, bad_pairs, find_pairs
from app.calibration.record import MeasuredPair
from app.errors import BadPairs, BadRequest

FOLDER = "folder"
MANIFEST = "manifest.csv"
MAX_GROUP_LETTERS = 100
_NAME_COLUMNS = ("name", "file")
_ROLES = {"x", "y", "labels"}


def wrong_group(group: str) -> str | None:
    """Why a name cannot be that of a group."""
    if not group.strip() or group != group.strip():
        return "the group has no name, or one with spaces around it"
    if len(group) > MAX_GROUP_LETTERS:
        return f"the name of the group has more than {MAX_GROUP_LETTERS} letters"
    if not is_text(group):
        return "the name of the group has control characters"
    return None


def parse_groups(text: str) -> dict[str, str]:
    """The group of each pair, from a JSON object or from CSV with the columns name and group.

    Raises:
        BadRequest: neither, or a name that cannot be that of a group.
    """
    if not text.strip():
        return {}
    groups = _from_json(text) if text.lstrip().startswith("{") else _from_csv(text, "group")
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


def find_grouped_pairs(folder: Path, by: str | None) -> list[PairFiles]:
    """The pairs of a folder with their groups; without `by`, without groups.

    Args:
        folder: as for `find_pairs`.
        by: "folder" for `y/GROUP/NAME` (and `x/GROUP/NAME`, `labels/GROUP/NAME`), or `GROUP/NAME`
            where there are only truths; such a pair is named GROUP.NAME. Or a column of the
            table manifest.csv in the folder, whose column name or file names the pair.

    Raises:
        BadPairs: as `find_pairs`, or there are no groups.
        BadRequest: the table cannot be read.
    """
    if by is None:
        return find_pairs(folder)
    pairs = _by_folder(folder) if by == FOLDER else _by_column(folder, by)
    items = [
        {"name": pair.name, "reason": reason}
        for pair in pairs
        if pair.group is not None and (reason := wrong_group(pair.group))
    ]
    if items:
        raise bad_pairs(items, len(pairs))
    if not any(pair.group for pair in pairs):
        raise BadPairs(f"{folder} has no pair with a group.", items=[])
    return pairs


def _by_folder(folder: Path) -> list[PairFiles]:
    base = folder / "y" if (folder / "y").is_dir() else folder
    if not base.is_dir():
        raise BadPairs(f"{folder} is not a folder.", items=[])
    names = sorted(
        path.name
        for path in base.iterdir()
        if path.is_dir() and path.name not in _ROLES and not path.name.startswith((".", "__"))
    )
    pairs = [replace(pair, group=name) for name in names for pair in find_pairs(folder, name)]
    seen: set[str] = set()
    items = [
        {"name": pair.name, "reason": "two groups have a pair of this name"}
        for pair in pairs
        if pair.name in seen or seen.add(pair.name)  # type: ignore[func-returns-value]
    ]
    if items:
        raise bad_pairs(items, len(pairs))
    return pairs


def _by_column(folder: Path, column: str) -> list[PairFiles]:
    path = folder / MANIFEST
    try:
        groups = _from_csv(path.read_text("utf-8-sig"), column)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read as text in UTF-8.") from error
    return [replace(pair, group=groups.get(pair.name) or None) for pair in find_pairs(folder)]


def _from_json(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("groups is not valid JSON.") from error
    if not all(isinstance(group, str) for group in found.values()):
        raise BadRequest("groups: each group is a text.")
    return dict(found)


def _from_csv(text: str, column: str) -> dict[str, str]:
    """The column by pair; the suffix of a file's name is dropped."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise BadRequest(f"The table of groups is not CSV: {error}.") from error
    header = rows[0].keys() if rows else ()
    key = next((name for name in _NAME_COLUMNS if name in header), None)
    if key is None or column not in header:
        raise BadRequest(
            f"The table of groups needs a column name or file, and a column {column[:80]!r}."
        )
    groups: dict[str, str] = {}
    for row in rows:
        name = (row[key] or "").strip()
        name = PurePosixPath(name).stem if key == "file" else name
        if name in groups:
            raise BadRequest(f"The table of groups names {name[:80]!r} twice.")
        groups[name] = (row[column] or "").strip()
    return groups
