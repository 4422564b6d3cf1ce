"""How the files of a calibration are arranged: one rule for folders, archives, forms and pages.

    x/NAME.ext   y/NAME.ext   labels/NAME.ext            a pair called NAME
    enlarged/NAME.ext                                    what somebody made of its X
    x/DIR/NAME.ext   y/DIR/NAME.ext   labels/DIR/…       a pair called DIR.NAME, in the group DIR

One more folder may enclose it; X and labels may be missing; suffixes may differ. Without these
folders, the images of one folder are truths Y; with `folders`, those of `DIR/NAME.ext` are, in
groups. Other files are ignored beside the folders; what cannot be part of a pair is named with
its reason. Only names are read. Pairs are made in `arrange.py`; what DIR stands for is said in
`grouping.py`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from trustscale_server.calibrating.pair_source import ROLES, Role
from trustscale_server.platform.errors import BadPairs

IMAGE_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp"}

MANIFEST: Final = "manifest.csv"
"""A table beside the folders, which may name groups and scenes."""

PREDICTIONS: Final = "predictions.json"
"""Beside labels: by pair, the SHA-256 of the prediction that its label was drawn on."""

_MAX_GROUP_LETTERS: Final = 100

ELSEWHERE: Final = "not an image in x/, y/, labels/ or enlarged/ (y/NAME.png, or y/GROUP/NAME.png)"
"""Why an image is of no pair."""


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
        elsewhere = ELSEWHERE if len(folders) > 1 else None
        return FilePlace(path, None, name.stem, folder, elsewhere) if is_image else None
    reason = None
    if not is_image:
        reason = "not an image file"
    elif len(below) > 1:
        reason = f"too many folders below {role}/ ({role}/NAME.png, or {role}/GROUP/NAME.png)"
    return FilePlace(path, role, name.stem, folder, reason)


def _role(folders: Sequence[str]) -> tuple[int, Role | None]:
    """The role that one of the first two folders names, in any case, and the depth below it."""
    for depth, folder in enumerate(folders[:2], start=1):
        for role in ROLES:
            if folder.casefold() == role:
                return depth, role
    return 0, None


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
