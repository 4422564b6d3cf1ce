"""How the files of a calibration are arranged: one rule for folders, archives, forms and pages.

    x/NAME.ext   y/NAME.ext   labels/NAME.ext            a pair called NAME
    enlarged/NAME.ext                                    what somebody made of its X
    x/DIR/NAME.ext   y/DIR/NAME.ext   labels/DIR/…       a pair called DIR.NAME, in the group DIR

One more folder may enclose it; X and labels may be missing; suffixes may differ. Without these
folders, the images of one folder are truths Y; with `folders`, those of `DIR/NAME.ext` are, in
groups. Other files are ignored beside the folders; what cannot be part of a pair is named with
its reason. Only names are read.

A group is a function of X known before anything is measured, such as the camera or the subject; the
curve of its pairs holds for its images. A scene is what pairs were taken from (crops of one
photograph, frames of one camera run, slices of one patient); it counts once. DIR names either, or a
table does: `manifest.csv` among the files, or a file of the form, whose column `name` or `file`
names the pair.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

from trustscale_server.calibrating.pair_source import ROLES, PairSource, Role
from trustscale_server.platform.errors import BadPairs, BadRequest

IMAGE_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp"}

MANIFEST: Final = "manifest.csv"
"""A table beside the folders, which may name groups and scenes."""

PREDICTIONS: Final = "predictions.json"
"""Beside labels: by pair, the SHA-256 of the prediction that its label was drawn on."""

MAX_NAME_BYTES: Final = 240  # percent-encoded; with its role it becomes a file name among the blobs
_MAX_GROUP_LETTERS: Final = 100

_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_ELSEWHERE = "not an image in x/, y/, labels/ or enlarged/ (y/NAME.png, or y/GROUP/NAME.png)"


class NamedFile(NamedTuple):
    """A file of a folder, an archive or a form.

    path: with forward slashes.
    read: its content; of an archive only until the next file is asked for.
    role: as a form says; None: its path says it.
    """

    path: str
    read: Callable[[], bytes]
    role: Role | None = None

    @property
    def is_table(self) -> bool:
        """Whether it may name groups and scenes."""
        return self.role is None and PurePosixPath(self.path).name == MANIFEST

    @property
    def is_predictions(self) -> bool:
        """Whether it says which predictions labels were drawn on."""
        return self.role is None and is_predictions(self.path)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """What the path of a file says about its role in a pair.

    role: None: no folder names one.
    stem: its name without suffix.
    folder: below the role, or its own without a role.
    reason: why it cannot be part of a pair.
    """

    path: str
    role: Role | None
    stem: str
    folder: str | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """The name of its pair."""
        return self.stem if self.folder is None else f"{self.folder}.{self.stem}"


class Arranged(NamedTuple):
    """The pairs in the order of their names, and an item (name, reason) for every other file."""

    pairs: list[PairSource]
    items: list[dict[str, str]]


def place_of(path: str, role: Role | None = None) -> FilePlace | None:
    """Return what a path says, or None if it does not concern a calibration.

    A form's `role` makes any file an image of that role.
    """
    if role is not None:
        stem = path.replace("\\", "/").rsplit("/", 1)[-1].rpartition(".")
        return FilePlace(path, role, stem[0] or stem[2])
    name = PurePosixPath(path)
    if not name.name or is_clutter(path) or is_predictions(path):
        return None
    folders = name.parts[:-1]
    is_image = name.suffix.lower() in IMAGE_SUFFIXES
    depth, role = _role(folders)
    below = folders[depth:]
    folder = below[-1] if below else None
    if role is None:
        reason = _ELSEWHERE if len(folders) > 1 else None
        return FilePlace(path, None, name.stem, folder, reason) if is_image else None
    if not is_image:
        return FilePlace(path, role, name.stem, folder, "not an image file")
    deep = None
    if len(below) > 1:
        deep = f"too many folders below {role}/ ({role}/NAME.png, or {role}/GROUP/NAME.png)"
    return FilePlace(path, role, name.stem, folder, deep)


def arrange(files: Iterable[FilePlace | None], *, folders: bool = False) -> Arranged:
    """Make pairs of files, given what `place_of` says of each.

    A name that several files of one role have is left out. `folders`: DIR/NAME.ext without x/, y/
    and labels/ is a truth in the group DIR.
    """
    judged = _without_strays([file for file in files if file is not None], folders=folders)
    items = [{"name": file.path, "reason": file.reason} for file in judged if file.reason]
    sides: dict[Role, dict[str, list[FilePlace]]] = {role: defaultdict(list) for role in ROLES}
    for file in judged:
        if file.role is not None and not file.reason:
            sides[file.role][file.name].append(file)
    sides["enlarged"] = _by_input(sides["enlarged"], sides["x"])
    needed: list[Role] = [role for role in ("x", "enlarged") if sides[role]]
    if "enlarged" in needed and "x" not in needed:
        needed = ["x"]
    pairs = []
    for name in sorted(set().union(*sides.values())):
        by_role = {role: sides[role].get(name, []) for role in ROLES}
        reason = _wrong(name, by_role, needed)
        if reason:
            items.append({"name": name, "reason": reason})
            continue
        paths = {role: files[0].path for role, files in by_role.items() if files}
        pairs.append(PairSource(name, paths, group=by_role["y"][0].folder))
    return Arranged(pairs, items)


def _role(folders: Sequence[str]) -> tuple[int, Role | None]:
    """How many folders lead to the role and include it, and the role, in any case."""
    for depth, folder in enumerate(folders[:2], start=1):
        for role in ROLES:
            if folder.casefold() == role:
                return depth, role
    return 0, None


def _without_strays(files: Sequence[FilePlace], *, folders: bool) -> list[FilePlace]:
    """The files; those without a role are Y if nothing contradicts that."""
    loose = [file for file in files if file.role is None and not file.reason]
    if folders:
        is_plain = all(file.folder is not None for file in loose)
    else:
        is_plain = len({file.folder for file in loose}) <= 1
    are_truths = is_plain and not any(file.role for file in files)

    def judged(file: FilePlace) -> FilePlace:
        if file.role is not None or file.reason:
            return file
        if not are_truths:
            return replace(file, reason=_ELSEWHERE)
        return replace(file, role="y", folder=file.folder if folders else None)

    return [judged(file) for file in files]


def is_made_of(stem: str, source: str) -> bool:
    """Return whether a file is named like its source, also where a program added to the name.

    `cat-4x` is made of `cat`, and `cats` is not.
    """
    return stem == source or (stem.startswith(source) and not stem[len(source)].isalnum())


def _by_input(
    enlarged: Mapping[str, list[FilePlace]], inputs: Iterable[str]
) -> dict[str, list[FilePlace]]:
    """Enlarged files by the name of what they were made of."""
    names, by_input = set(inputs), defaultdict[str, list[FilePlace]](list)
    for name, files in enlarged.items():
        alike = [] if name in names else [other for other in names if is_made_of(name, other)]
        by_input[max(alike, key=len, default=name)] += files
    return by_input


def _wrong(
    name: str, by_role: Mapping[Role, Sequence[FilePlace]], needed: Iterable[Role]
) -> str | None:
    ys = by_role["y"]
    several = next((side for side in by_role.values() if len(side) > 1), None)
    if several:
        return f"several files have this name: {', '.join(sorted(file.path for file in several))}"
    if not ys:
        return "y/ has no image of this name"
    if lacking := [role for role in needed if not by_role[role]]:
        return f"{lacking[0]}/ has no image of this name"
    if not is_text(name):
        return "the name has control characters"
    if len(quote(name, safe="")) > MAX_NAME_BYTES:
        return "the name is too long"
    return None if ys[0].folder is None else wrong_group(ys[0].folder)


def wrong_group(group: str) -> str | None:
    """Return why a name cannot be that of a group."""
    if not group.strip() or group != group.strip():
        return "the group has no name, or one with spaces around it"
    if len(group) > _MAX_GROUP_LETTERS:
        return f"the name of the group has more than {_MAX_GROUP_LETTERS} letters"
    if not is_text(group):
        return "the name of the group has control characters"
    return None


def is_text(name: str) -> bool:
    """Return whether a name has neither control characters nor bytes that are not UTF-8."""
    return not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name)


def is_clutter(path: str) -> bool:
    """Return whether a file is hidden, or added by an operating system."""
    components = PurePosixPath(path).parts
    return any(
        component in _CLUTTER or (component.startswith(".") and component not in {".", ".."})
        for component in components
    )


def is_predictions(path: str) -> bool:
    """Return whether a file names the predictions that labels were drawn on."""
    components = [component.casefold() for component in PurePosixPath(path).parts[-2:]]
    return components == ["labels", PREDICTIONS]


_Rows: TypeAlias = Sequence[Mapping[str, str]]

BY_FOLDER: Final = "folder"
BY_MANIFEST: Final = "manifest"

SCENE_COLUMNS: Final = ("scene", "pool_id")
"""Columns of a table that name scenes; the first one that exists counts."""

_NAME_COLUMNS: Final = ("name", "file")


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
        groups: Mapping[str, str] = folders if self.scene_by != BY_FOLDER else {}
        if self.group_by not in {None, BY_FOLDER}:
            groups = column_of(rows, self.group_by or "")
        scenes = folders if self.scene_by == BY_FOLDER else self._scenes(rows)
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

    def _scenes(self, rows: _Rows | None) -> Mapping[str, str]:
        if self.scene_by not in {None, BY_MANIFEST}:
            return column_of(rows, self.scene_by or "")
        column = next((name for name in SCENE_COLUMNS if rows and name in rows[0]), None)
        if column is None and self.scene_by == BY_MANIFEST:
            return column_of(rows, SCENE_COLUMNS[0])  # which says what is missing
        return {} if column is None else column_of(rows, column)


def claimed_predictions(data: bytes) -> dict[str, str]:
    """Return, by pair, the SHA-256 of the prediction that its label was drawn on.

    Raises:
        BadPairs: not a JSON object of texts.
    """
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to import

    try:
        return TypeAdapter(dict[str, str]).validate_json(data)
    except ValueError as error:
        raise BadPairs(f"labels/{PREDICTIONS} is not a JSON object of texts.", items=[]) from error


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
    key = next((name for name in _NAME_COLUMNS if name in header), None)
    if key is None:
        raise BadRequest(f"{MANIFEST} needs a column name or file, which names the pairs.")
    if column not in header:
        has = ", ".join(header)[:80]
        raise BadRequest(f"{MANIFEST} has no column {column[:80]!r}; it has: {has}.")
    values: dict[str, str] = {}
    for row in rows:
        name, value = (PurePosixPath(row[key]).stem if key == "file" else row[key]), row[column]
        if values.setdefault(name, value) != value:
            raise BadRequest(f"{MANIFEST} names {name[:80]!r} twice, and not alike.")
    return {name: value for name, value in values.items() if value}
