"""How the files of a calibration are arranged: one rule for folders, archives, forms and pages.

    x/NAME.ext   y/NAME.ext   labels/NAME.ext            a pair called NAME
    enlarged/NAME.ext                                    what somebody made of its X
    x/DIR/NAME.ext   y/DIR/NAME.ext   labels/DIR/…       a pair called DIR.NAME, in the group DIR

One more folder may enclose it; X and labels may be missing; suffixes may differ. Without these
folders, the images of one folder are truths Y; with `folders`, those of `DIR/NAME.ext` are, in
groups. Other files are ignored beside the folders; what cannot be part of a pair is named with
its reason. Only names are read. What DIR stands for is said in `grouping.py`.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, NamedTuple
from urllib.parse import quote

from trustscale_server.calibrating.pair_source import ROLES, PairSource, Role
from trustscale_server.platform.errors import BadPairs

IMAGE_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp"}

MANIFEST: Final = "manifest.csv"
"""A table beside the folders, which may name groups and scenes."""

PREDICTIONS: Final = "predictions.json"
"""Beside labels: by pair, the SHA-256 of the prediction that its label was drawn on."""

MAX_NAME_BYTES: Final = 240  # percent-encoded; with its role it becomes a file name among the blobs
_MAX_GROUP_LETTERS: Final = 100

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
    """What the path of a file says of its role in a pair.

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
        stem, _, suffix = path.replace("\\", "/").rpartition("/")[2].rpartition(".")
        return FilePlace(path, role, stem or suffix)
    name = PurePosixPath(path)
    if not name.name or is_clutter(path) or is_predictions(path):
        return None
    folders = name.parts[:-1]
    is_image = name.suffix.lower() in IMAGE_SUFFIXES
    depth, role = _role(folders)
    below = folders[depth:]
    folder = below[-1] if below else None
    if role is None:
        elsewhere = _ELSEWHERE if len(folders) > 1 else None
        return FilePlace(path, None, name.stem, folder, elsewhere) if is_image else None
    reason = None
    if not is_image:
        reason = "not an image file"
    elif len(below) > 1:
        reason = f"too many folders below {role}/ ({role}/NAME.png, or {role}/GROUP/NAME.png)"
    return FilePlace(path, role, name.stem, folder, reason)


def arrange(files: Iterable[FilePlace | None], *, folders: bool = False) -> Arranged:
    """Make pairs of files, given what `place_of` says of each.

    A name that several files of one role have is left out. `folders`: DIR/NAME.ext without x/, y/
    and labels/ is a truth in the group DIR.
    """
    judged = _with_roles([file for file in files if file is not None], folders=folders)
    items = [{"name": file.path, "reason": file.reason} for file in judged if file.reason]
    sides: dict[Role, dict[str, list[FilePlace]]] = {role: defaultdict(list) for role in ROLES}
    for file in judged:
        if file.role is not None and not file.reason:
            sides[file.role][file.name].append(file)
    sides["enlarged"] = _by_input(sides["enlarged"], sides["x"])
    needed: list[Role] = [role for role in ("x", "enlarged") if sides[role]]
    if needed == ["enlarged"]:
        needed = ["x"]  # what the enlarged pictures were made of, which every pair lacks
    pairs = []
    for name in sorted(set().union(*sides.values())):
        by_role = {role: sides[role].get(name, []) for role in ROLES}
        reason = _why_no_pair(name, by_role, needed)
        if reason:
            items.append({"name": name, "reason": reason})
            continue
        paths = {role: files[0].path for role, files in by_role.items() if files}
        pairs.append(PairSource(name, paths, group=by_role["y"][0].folder))
    return Arranged(pairs, items)


def _role(folders: Sequence[str]) -> tuple[int, Role | None]:
    """The role that one of the first two folders names, in any case, and the depth below it."""
    for depth, folder in enumerate(folders[:2], start=1):
        for role in ROLES:
            if folder.casefold() == role:
                return depth, role
    return 0, None


def _with_roles(files: Sequence[FilePlace], *, folders: bool) -> list[FilePlace]:
    """The files, each with a role or a reason; a loose one is Y if nothing contradicts that."""
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
        sources = [] if name in names else [source for source in names if is_made_of(name, source)]
        by_input[max(sources, key=len, default=name)] += files
    return by_input


def _why_no_pair(
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
        component in {"__MACOSX", "Thumbs.db", "desktop.ini"}
        or (component.startswith(".") and component not in {".", ".."})
        for component in components
    )


def is_predictions(path: str) -> bool:
    """Return whether a file names the predictions that labels were drawn on."""
    components = [component.casefold() for component in PurePosixPath(path).parts[-2:]]
    return components == ["labels", PREDICTIONS]


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
