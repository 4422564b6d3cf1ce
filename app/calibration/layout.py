"""How the files of a calibration are arranged: one rule for folders, archives, forms and pages.

    x/NAME.ext   y/NAME.ext   labels/NAME.ext            a pair called NAME
    x/DIR/NAME.ext   y/DIR/NAME.ext   labels/DIR/…       a pair called DIR.NAME, in the group DIR

One more folder may enclose it; X and labels may be missing; suffixes may differ. Without x/, y/ and
labels/, the images of one folder are truths Y; with `folders`, those of `DIR/NAME.ext` are, in
groups. Other files are ignored beside these folders; what cannot be part of a pair is named with
its reason. Only names are read.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

Role = Literal["x", "y", "labels"]
ROLES: Final[tuple[Role, ...]] = ("x", "y", "labels")

IMAGE_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp"}

MANIFEST: Final = "manifest.csv"
"""A table beside the folders, which may name groups and scenes (`naming.py`)."""

PREDICTIONS: Final = "predictions.json"
"""Beside labels: by pair, the SHA-256 of the prediction that its label was drawn on."""

MAX_NAME_BYTES: Final = 240  # percent-encoded; with its role it becomes a file name among the blobs
MAX_GROUP_LETTERS: Final = 100

_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_ELSEWHERE = "not an image in x/, y/ or labels/ (y/NAME.png, or y/GROUP/NAME.png)"


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
class Placed:
    """What a file's path says.

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


class PairFiles(NamedTuple):
    """The paths of one pair.

    folder: of its files below x/, y/ and labels/.
    group, scene: see `naming.py`.
    prediction: the SHA-256 of the one that the label was drawn on, if known.
    """

    name: str
    y: str
    x: str | None = None
    label: str | None = None
    folder: str | None = None
    group: str | None = None
    scene: str | None = None
    prediction: str | None = None

    @property
    def by_role(self) -> dict[Role, str]:
        """The files that there are."""
        files: dict[Role, str | None] = {"x": self.x, "y": self.y, "labels": self.label}
        return {role: path for role, path in files.items() if path is not None}


class Arranged(NamedTuple):
    """The pairs in the order of their names, and an item (name, reason) for every other file."""

    pairs: list[PairFiles]
    items: list[dict[str, str]]


def placed(path: str, role: Role | None = None) -> Placed | None:
    """What a path says; None if it does not concern a calibration.

    A form's `role` makes any file an image of that role.
    """
    if role is not None:
        stem = path.replace("\\", "/").rsplit("/", 1)[-1].rpartition(".")
        return Placed(path, role, stem[0] or stem[2])
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
        return Placed(path, None, name.stem, folder, reason) if is_image else None
    if not is_image:
        return Placed(path, role, name.stem, folder, "not an image file")
    deep = None
    if len(below) > 1:
        deep = f"too many folders below {role}/ ({role}/NAME.png, or {role}/GROUP/NAME.png)"
    return Placed(path, role, name.stem, folder, deep)


def arrange(files: Iterable[Placed | None], *, folders: bool = False) -> Arranged:
    """Make pairs of files, given what `placed` says of each.

    A name that several files of one role have is left out. `folders`: DIR/NAME.ext without x/, y/
    and labels/ is a truth in the group DIR.
    """
    found = _without_strays([file for file in files if file is not None], folders=folders)
    items = [{"name": file.path, "reason": file.reason} for file in found if file.reason]
    sides: dict[Role, dict[str, list[Placed]]] = {role: defaultdict(list) for role in ROLES}
    for file in found:
        if file.role is not None and not file.reason:
            sides[file.role][file.name].append(file)
    pairs = []
    for name in sorted(set().union(*sides.values())):
        ys, xs, labels = (sides[role].get(name, []) for role in ("y", "x", "labels"))
        reason = _wrong(name, ys, xs, labels, has_inputs=bool(sides["x"]))
        if reason:
            items.append({"name": name, "reason": reason})
            continue
        x, label = (side[0].path if side else None for side in (xs, labels))
        pairs.append(PairFiles(name, ys[0].path, x, label, ys[0].folder))
    return Arranged(pairs, items)


def _role(folders: Sequence[str]) -> tuple[int, Role | None]:
    """How many folders lead to the role and include it, and the role, in any case."""
    for depth, folder in enumerate(folders[:2], start=1):
        for role in ROLES:
            if folder.casefold() == role:
                return depth, role
    return 0, None


def _without_strays(files: Sequence[Placed], *, folders: bool) -> list[Placed]:
    """The files; those without a role are Y if nothing contradicts that."""
    loose = [file for file in files if file.role is None and not file.reason]
    if folders:
        is_plain = all(file.folder is not None for file in loose)
    else:
        is_plain = len({file.folder for file in loose}) <= 1
    are_truths = is_plain and not any(file.role for file in files)

    def judged(file: Placed) -> Placed:
        if file.role is not None or file.reason:
            return file
        if not are_truths:
            return replace(file, reason=_ELSEWHERE)
        return replace(file, role="y", folder=file.folder if folders else None)

    return [judged(file) for file in files]


def _wrong(
    name: str,
    ys: Sequence[Placed],
    xs: Sequence[Placed],
    labels: Sequence[Placed],
    *,
    has_inputs: bool,
) -> str | None:
    several = next((side for side in (ys, xs, labels) if len(side) > 1), None)
    if several:
        return f"several files have this name: {', '.join(sorted(file.path for file in several))}"
    if not ys:
        return "y/ has no image of this name"
    if has_inputs and not xs:
        return "x/ has no image of this name"
    if not is_text(name):
        return "the name has control characters"
    if len(quote(name, safe="")) > MAX_NAME_BYTES:
        return "the name is too long"
    return None if ys[0].folder is None else wrong_group(ys[0].folder)


def wrong_group(group: str) -> str | None:
    """Why a name cannot be that of a group."""
    if not group.strip() or group != group.strip():
        return "the group has no name, or one with spaces around it"
    if len(group) > MAX_GROUP_LETTERS:
        return f"the name of the group has more than {MAX_GROUP_LETTERS} letters"
    if not is_text(group):
        return "the name of the group has control characters"
    return None


def is_text(name: str) -> bool:
    """Whether a name has neither control characters nor bytes that are not UTF-8."""
    return not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name)


def is_clutter(path: str) -> bool:
    """Whether a file is hidden, or added by an operating system."""
    parts = PurePosixPath(path).parts
    return any(
        part in _CLUTTER or (part.startswith(".") and part not in {".", ".."}) for part in parts
    )


def is_predictions(path: str) -> bool:
    """Whether a file names the predictions that labels were drawn on."""
    parts = [part.casefold() for part in PurePosixPath(path).parts[-2:]]
    return parts == ["labels", PREDICTIONS]
