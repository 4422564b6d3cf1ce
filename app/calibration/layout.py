"""How the files of a calibration are arranged: one rule for folders, archives, forms and pages.

    x/NAME.ext   y/NAME.ext   labels/NAME.ext            a pair called NAME
    x/DIR/NAME.ext   y/DIR/NAME.ext   labels/DIR/…       a pair called DIR.NAME, in the group DIR

One more folder may enclose it; X and labels may be missing; suffixes may differ. Without x/, y/ and
labels/, the images of one folder are truths Y; with `folders`, those of `DIR/NAME.ext` are, in
groups. Other files are ignored beside these folders; what cannot be part of a pair is named with
its reason. Only names are read.

A group is a function of X known before anything is measured, such as the camera or the subject; the
curve of its pairs holds for its images. A scene is what pairs were taken from (crops of one
photograph, frames of one camera run, slices of one patient); it counts once. DIR names either, or a
table does: `manifest.csv` among the files, or a file of the form, whose column `name` or `file`
names the pair.

An archive that was uploaded is read safely: regular files are read one at a time, into memory,
under bounds on their number, their sizes, and how far the archive expands. Skipped members count
too, and too long a list of members is not parsed. No name becomes a path. Links, devices, encrypted
members, nested archives, names that leave the folder, and names that differ only in case are
refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import stat
import tarfile
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO, BinaryIO, Final, Literal, NamedTuple, Self, TypeAlias
from urllib.parse import quote

from trustscale_server.errors import (
    BadPairs,
    BadRequest,
    ImageTooLarge,
    TrustscaleError,
    UnsupportedMedia,
    reason_of,
    shortened,
)

# --- How the files of a calibration are arranged: one rule for folders, archives, forms and pages.

Role = Literal["x", "y", "labels"]
ROLES: Final[tuple[Role, ...]] = ("x", "y", "labels")

IMAGE_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp"}

MANIFEST: Final = "manifest.csv"
"""A table beside the folders, which may name groups and scenes."""

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


class PairFiles(NamedTuple):
    """The paths of one pair.

    folder: of its files below x/, y/ and labels/.
    group, scene: see above.
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
    """Return what a path says, or None if it does not concern a calibration.

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
    judged = _without_strays([file for file in files if file is not None], folders=folders)
    items = [{"name": file.path, "reason": file.reason} for file in judged if file.reason]
    sides: dict[Role, dict[str, list[Placed]]] = {role: defaultdict(list) for role in ROLES}
    for file in judged:
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
    """Return why a name cannot be that of a group."""
    if not group.strip() or group != group.strip():
        return "the group has no name, or one with spaces around it"
    if len(group) > MAX_GROUP_LETTERS:
        return f"the name of the group has more than {MAX_GROUP_LETTERS} letters"
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


Rows: TypeAlias = Sequence[Mapping[str, str]]

FOLDER: Final = "folder"
TABLE: Final = "manifest"

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
        return FOLDER in {self.group_by, self.scene_by}

    def named(self, pairs: Iterable[PairFiles], table: bytes | None) -> list[PairFiles]:
        """Return the pairs with their groups and scenes.

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


def column_of(rows: Rows | None, column: str) -> dict[str, str]:
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


# --- Reads an uploaded archive safely.

_ZIP_ENTRY = b"PK\x01\x02"
_LONGEST_ZIP_ENTRY = 1024  # bytes in the list of a zip file, on average
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP_START = b"\x1f\x8b"
_TAR_TEXTS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
_MAX_TAR_TEXT = 64 * 1024


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds on what is read from one archive."""

    max_files: int = 20_000
    max_file_bytes: int = 256 * 1024 * 1024
    max_total_bytes: int = 64 * 1024**3
    max_ratio: int = 100  # images hardly shrink in an archive; black labels do
    free_bytes: int = 64 * 1024 * 1024  # which may be expanded by any ratio

    def check_files(self, count: int) -> None:
        """Raise ImageTooLarge if an archive has too many members."""
        _check(count, self.max_files, "max_files", "The archive holds", "files")

    def check_file(self, name: str, size: int) -> None:
        """Raise ImageTooLarge if a member is too large."""
        _check(size, self.max_file_bytes, "max_file_bytes", f"{shortened(name)} has", "bytes")

    def check_total(self, total: int, size: int) -> None:
        """Raise ImageTooLarge if the members of an archive of this size are too large together."""
        most = min(self.max_total_bytes, self.free_bytes + self.max_ratio * size)
        limit = "max_total_bytes" if most == self.max_total_bytes else "max_ratio"
        _check(total, most, limit, "The archive holds", "bytes")


def _check(value: int, most: int, limit: str, what: str, unit: str) -> None:
    if value > most:
        raise ImageTooLarge(f"{what} more than {most:,} {unit}.", limit=limit, maximum=most)


def archive_files(file: BinaryIO, limits: ArchiveLimits) -> Iterator[NamedFile]:
    """Yield the files of an archive (zip, tar, tar.gz), in its order; read each before the next.

    Raises:
        UnsupportedMedia: none of them.
        BadRequest: a member that is not acceptable, or a damaged archive.
        ImageTooLarge: over a limit.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    with _damage_refused():
        # By its start: a tar file whose last member is a zip file ends like a zip file.
        if start.startswith(_ZIP_STARTS):
            yield from _files(_zip_members(file, limits), limits, size)
            return
        tar = gzip.GzipFile(fileobj=file, mode="rb") if start.startswith(_GZIP_START) else file
        with _opened_tar(_Counted(tar, limits, size)) as archive:
            yield from _files(_tar_members(archive), limits, size)


@contextmanager
def _damage_refused() -> Iterator[None]:
    """Raise BadRequest for any error of a decompressor or parser."""
    try:
        yield
    except TrustscaleError:
        raise
    except Exception as error:
        raise BadRequest(f"The archive is damaged: {reason_of(error)}.") from error


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses names and attributes that tarfile would read into many megabytes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _TAR_TEXTS and info.size > _MAX_TAR_TEXT:
            raise BadRequest("A header of the archive is too large.")
        return info


class _Counted:
    """A file that raises beyond the bytes that an archive of its size may hold."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, limits: ArchiveLimits, size: int) -> None:
        self._file, self._limits, self._size = file, limits, size
        self._read = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._read += len(data)
        self._limits.check_total(self._read, self._size)
        return data


class _BoundedList:
    """A zip file that refuses too long a list of members."""

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file, self._limits = file, limits
        self.is_listing = True

    def read(self, size: int = -1) -> bytes:
        if not self.is_listing:
            return self._file.read(size)
        if size > io.DEFAULT_BUFFER_SIZE:
            self._limits.check_files(size // _LONGEST_ZIP_ENTRY)
        data = self._file.read(size)
        self._limits.check_files(data.count(_ZIP_ENTRY))
        return data


def _opened_tar(file: _Counted) -> tarfile.TarFile:
    try:
        # A stream also counts what it skips.
        return tarfile.open(None, "r|", file, tarinfo=_BoundedTarInfo)  # type: ignore[call-overload, no-any-return]
    except tarfile.ReadError as error:
        raise UnsupportedMedia("The archive is neither a zip nor a tar or tar.gz file.") from error


class _Member(NamedTuple):
    """A member's header, and what opens its content."""

    name: str
    is_folder: bool
    is_file: bool
    size: int
    content: Callable[[], IO[bytes] | None]


def _zip_members(file: BinaryIO, limits: ArchiveLimits) -> Iterator[_Member]:
    listed = _BoundedList(file, limits)
    with zipfile.ZipFile(listed) as archive:
        listed.is_listing = False
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise BadRequest(f"{shortened(info.filename)} is encrypted.")
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_file = kind in {0, stat.S_IFREG}
            content = partial(archive.open, info)
            yield _Member(info.filename, info.is_dir(), is_file, info.file_size, content)


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        content = partial(archive.extractfile, info)
        yield _Member(info.name, info.isdir(), info.isreg(), info.size, content)


def _files(members: Iterator[_Member], limits: ArchiveLimits, size: int) -> Iterator[NamedFile]:
    seen: dict[str, str] = {}
    total = 0

    def read(member: _Member) -> bytes:
        nonlocal total
        with _damage_refused():
            content = member.content()
            # A header may lie about the size.
            data = content.read(limits.max_file_bytes + 1) if content else b""
        limits.check_file(member.name, len(data))
        total += len(data)
        limits.check_total(total, size)
        return data

    for count, member in enumerate(members, start=1):
        limits.check_files(count)
        if member.is_folder or is_clutter(member.name):
            continue
        name = member.name
        if not member.is_file:
            raise BadRequest(f"{shortened(name)} is a link or a device, not a file.")
        path = _clean(name)
        folded = path.casefold()
        if folded in seen:
            raise BadRequest(f"{shortened(name)} and {shortened(seen[folded])} are the same name.")
        seen[folded] = name
        limits.check_file(name, member.size)
        yield NamedFile(path, partial(read, member))


def _clean(name: str) -> str:
    path = PurePosixPath(name)
    folders = tuple(folder for folder in path.parts if folder != ".")
    wrong = (
        path.is_absolute()
        or not folders
        or not is_text(name)
        or any(folder == ".." or "\\" in folder or ":" in folder for folder in folders)
    )
    if wrong:
        raise BadRequest(f"{shortened(name)} is not an acceptable name in an archive.")
    if PurePosixPath(folders[-1]).suffix.lower() in _ARCHIVES:
        raise BadRequest(f"{shortened(name)} is an archive inside the archive.")
    return "/".join(folders)
