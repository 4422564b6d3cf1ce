"""Images and pairs for sending, from files, bytes, PIL images and arrays."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AnyPicture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[np.uint8]"
"""A file, its content, or an image in memory."""

AnyPairs: TypeAlias = (
    "str | Path | Mapping[str, AnyPicture | tuple[AnyPicture, AnyPicture]] "
    "| Sequence[AnyPicture | tuple[AnyPicture, AnyPicture]]"
)
"""A folder with y/ and perhaps x/, an archive of one, truths Y, or tuples (X, Y)."""

GROUP = "group"
"""The column of `manifest` that names groups."""

_CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE


def content(picture: AnyPicture) -> bytes:
    """Return the picture as a file; images in memory become PNG."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, Path)):
        return Path(picture).read_bytes()
    out = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def archive_of(
    pairs: AnyPairs | Tar, on_sent: Callable[[int, int], None] | None = None
) -> IO[bytes] | Tar:
    """Return the archive of pairs; files are packed while they are sent."""
    if isinstance(pairs, Tar):
        return pairs
    if isinstance(pairs, (str, Path)):
        path = Path(pairs)
        if not path.is_dir():
            return path.open("rb")
        return Tar({p.relative_to(path).as_posix(): p for p in _files(path)}, on_sent)
    named = pairs.items() if isinstance(pairs, Mapping) else enumerate(pairs)
    members: dict[str, Path | bytes] = {}
    for name, pair in named:
        label = name if isinstance(name, str) else f"{name:06}"
        x, y = pair if isinstance(pair, tuple) else (None, pair)
        for role, picture in (("x", x), ("y", y)):
            if isinstance(picture, (str, Path)):
                members[f"{role}/{label}{Path(picture).suffix}"] = Path(picture)
            elif picture is not None:
                members[f"{role}/{label}.png"] = content(picture)
    return Tar(members, on_sent)


class Tar:
    """A readable tar archive, made while it is read; it can be rewound.

    members: by name. on_sent: called with (bytes read, all bytes).
    """

    _chunks: Iterator[bytes]
    _unread: bytes
    _done: int

    def __init__(
        self, members: Mapping[str, Path | bytes], on_sent: Callable[[int, int], None] | None = None
    ) -> None:
        self._members = [(_header(name, data), data) for name, data in members.items()]
        self._size = sum(len(info.tobuf()) + _padded(info.size) for info, _ in self._members)
        self._size += 2 * _BLOCK
        self._on_sent = on_sent
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""
        if not self._unread:
            self._unread = next(self._chunks, b"")
        take = len(self._unread) if size < 0 else size
        data, self._unread = self._unread[:take], self._unread[take:]
        self._done += len(data)
        if data and self._on_sent is not None:
            self._on_sent(self._done, self._size)
        return data

    def close(self) -> None:
        """Do nothing, since files are open only while they are read."""

    def tell(self) -> int:
        """Return the number of bytes read."""
        return self._done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Rewind, or return the size for SEEK_END."""
        if whence == os.SEEK_END:
            return self._size
        if offset == 0:
            # An empty part would mean the end.
            self._chunks, self._unread, self._done = filter(None, self._file_bytes()), b"", 0
        return offset

    def _file_bytes(self) -> Iterator[bytes]:
        for info, data in self._members:
            yield info.tobuf()
            yield from [data] if isinstance(data, bytes) else _read(data, info.size)
            yield bytes(_padded(info.size) - info.size)
        yield bytes(2 * _BLOCK)


def _files(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(base) / name for name in sorted(files) if not name.startswith("."))


def _header(name: str, data: Path | bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data) if isinstance(data, bytes) else data.stat().st_size
    return info


def _read(path: Path, size: int) -> Iterator[bytes]:
    remaining = size
    with path.open("rb") as source:
        while remaining and (chunk := source.read(min(_CHUNK, remaining))):
            remaining -= len(chunk)
            yield chunk
    if remaining:
        raise OSError(0, "It became shorter while it was sent", str(path))


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def form(**fields: Any) -> dict[str, str]:
    """Return the fields that are not None, as a form sends them."""
    return {name: str(value) for name, value in fields.items() if value is not None}


def manifest(groups: Mapping[str, str] | None, scenes: Mapping[str, str] | None) -> bytes | None:
    """Return the table of the pairs' groups and scenes; None if there are none."""
    groups, scenes = groups or {}, scenes or {}
    if not groups and not scenes:
        return None
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(("name", GROUP, "scene"))
    table.writerows(
        (name, groups.get(name, ""), scenes.get(name, "")) for name in {**groups, **scenes}
    )
    return out.getvalue().encode()
