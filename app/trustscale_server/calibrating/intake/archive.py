"""Reads an uploaded archive safely.

Regular files are read one at a time, into memory, under bounds on their number, their sizes, and
how far the archive expands. Skipped members count too, and too long a list of members is not
parsed. No name becomes a path. Links, devices, encrypted members, nested archives, names that leave
the folder, and names that differ only in case are refused.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from trustscale_server.calibrating.intake.layout import NamedFile, is_clutter, is_text
from trustscale_server.platform.errors import (
    BadRequest,
    ImageTooLarge,
    TrustscaleError,
    UnsupportedMedia,
    reason_of,
    shortened,
)

_TAR_TEXTS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds on what is read from one archive."""

    max_files: int = 20_000
    max_file_bytes: int = 256 * 1024 * 1024
    max_total_bytes: int = 64 * 1024**3
    max_ratio: int = 100  # images hardly shrink in an archive; black labels do
    free_bytes: int = 64 * 1024 * 1024  # which may be expanded by any ratio

    def raise_if_too_many(self, count: int) -> None:
        """Raise ImageTooLarge if an archive has too many members."""
        _check(count, self.max_files, "max_files", "The archive holds", "files")

    def raise_if_too_large(self, name: str, size: int) -> None:
        """Raise ImageTooLarge if a member is too large."""
        _check(size, self.max_file_bytes, "max_file_bytes", f"{shortened(name)} has", "bytes")

    def raise_if_total_too_large(self, total: int, size: int) -> None:
        """Raise ImageTooLarge if the members of an archive of this size are too large together."""
        most = min(self.max_total_bytes, self.free_bytes + self.max_ratio * size)
        limit = "max_total_bytes" if most == self.max_total_bytes else "max_ratio"
        _check(total, most, limit, "The archive holds", "bytes")


def _check(value: int, most: int, limit: str, subject: str, unit: str) -> None:
    if value > most:
        raise ImageTooLarge(f"{subject} more than {most:,} {unit}.", limit=limit, maximum=most)


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
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            yield from _files(_zip_members(file, limits), limits, size)
            return
        is_gzip = start.startswith(b"\x1f\x8b")
        tar = gzip.GzipFile(fileobj=file, mode="rb") if is_gzip else file
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

    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo | None:
        # tarfile lets subclasses override this; newer releases do not call `frombuf`.
        if self.type in _TAR_TEXTS and self.size > 64 * 1024:
            raise BadRequest("A header of the archive is too large.")
        return super()._proc_member(tarfile)  # type: ignore[misc, no-any-return]


class _Counted:
    """A file that raises beyond the bytes that an archive of its size may hold."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, limits: ArchiveLimits, size: int) -> None:
        self._file, self._limits, self._size = file, limits, size
        self._read = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._read += len(data)
        self._limits.raise_if_total_too_large(self._read, self._size)
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
            self._limits.raise_if_too_many(size // 1024)  # entries are shorter, on average
        data = self._file.read(size)
        self._limits.raise_if_too_many(data.count(b"PK\x01\x02"))  # the start of an entry
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
        limits.raise_if_too_large(member.name, len(data))
        total += len(data)
        limits.raise_if_total_too_large(total, size)
        return data

    for count, member in enumerate(members, start=1):
        limits.raise_if_too_many(count)
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
        limits.raise_if_too_large(name, member.size)
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
