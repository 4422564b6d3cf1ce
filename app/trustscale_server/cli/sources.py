"""The sources of `trustscale upscale` (files, folders and patterns), and where answers go."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from trustscale_server.calibrating.intake.arrange import is_made_of
from trustscale_server.calibrating.intake.layout import IMAGE_SUFFIXES
from trustscale_server.platform.errors import ConfigError, reason_of

STREAM: Final = "-"
"""Standard input and output."""

_SUFFIXES: Final = IMAGE_SUFFIXES | {".gif", ".heic", ".heif", ".jxl"}
"""The endings of the files that count as images in a folder."""

_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class InputFile:
    """An image to upscale.

    path: None: standard input. place: where its answer goes below the output folder. data: what
    standard input held.
    """

    path: Path | None
    place: PurePosixPath
    data: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)

    def content(self) -> bytes:
        """Return the bytes of the file. Raises OSError."""
        return self.data if self.path is None else self.path.read_bytes()


def input_files(
    texts: Sequence[str], out: Path | None, *, recursive: bool
) -> tuple[list[InputFile], list[Path]]:
    """Return the images that the arguments name, in order, and other files in folders.

    Answers keep the tree of a folder or pattern; with several folders, also the folders' names.

    Raises:
        ConfigError: a folder or pattern without images, or the output folder is one of them.
    """
    folders = [text for text in texts if _is_folder(text)]
    sources: list[InputFile] = []
    skipped: list[Path] = []
    for text in texts:
        if text == STREAM:
            sources.append(InputFile(None, PurePosixPath("stdin"), sys.stdin.buffer.read()))
        elif text in folders:
            base = Path(text)
            under = base.resolve().name if len(folders) > 1 else ""
            images, others = _in_folder(base, PurePosixPath(under), out, recursive=recursive)
            sources += images
            skipped += others
        elif _PATTERN.search(text) and not Path(text).exists():
            sources += _matching(text)
        else:
            path = Path(text)
            sources.append(InputFile(path, PurePosixPath(path.name)))
    return sources, skipped


def enlarged_of(source: InputFile, where: Path) -> Path:
    """Return what somebody made of an image: the file, or that of its name in a folder.

    Programs add to names: `cat-4x.png` is of `cat.jpg` where there is no `cat.*`.

    Raises:
        FileNotFoundError: the folder has none, or several.
    """
    if not where.is_dir():
        return where
    folder, stem = where.joinpath(*source.place.parent.parts), source.place.stem
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    images = [path for path in paths if path.suffix.lower() in _SUFFIXES]
    candidates = [path for path in images if path.stem == stem] or [
        path for path in images if is_made_of(path.stem, stem)
    ]
    if len(candidates) != 1:
        count = (
            f"{len(candidates)} files of {folder} have"
            if candidates
            else f"no file of {folder} has"
        )
        raise FileNotFoundError(errno.ENOENT, f"{count} its name", str(folder))
    return candidates[0]


def raise_if_missing(sources: Sequence[InputFile]) -> None:
    """Raise FileNotFoundError if the only source is missing."""
    path = sources[0].path if len(sources) == 1 else None
    if path is not None and not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def is_tree(texts: Sequence[str]) -> bool:
    """Return whether the arguments name images by a folder or a pattern."""
    return any(_is_folder(text) or _PATTERN.search(text) for text in texts)


def targets(sources: Sequence[InputFile], out: Path) -> list[Path]:
    """Return the stem of each answer: the source's path, with suffix only if needed.

    Raises:
        ConfigError: two sources have the same.
    """
    stems = Counter(str(source.place.with_suffix("")).casefold() for source in sources)
    places: dict[str, InputFile] = {}
    targets = []
    for source in sources:
        shared = stems[str(source.place.with_suffix("")).casefold()] > 1
        place = source.place if shared else source.place.with_suffix("")
        other = places.setdefault(str(place).casefold(), source)
        if other is not source:
            raise ConfigError(
                f"{other} and {source} would be written to one place: give the folder above them, "
                "or upscale them into different folders."
            )
        targets.append(out.joinpath(*place.parts))
    return targets


def _is_folder(text: str) -> bool:
    return text != STREAM and Path(text).is_dir()


def _in_folder(
    base: Path, under: PurePosixPath, out: Path | None, *, recursive: bool
) -> tuple[list[InputFile], list[Path]]:
    if out is not None and _same(base, out):
        raise ConfigError(f"{base} cannot also hold the answers: name another folder with --out.")
    sources, deeper = list[InputFile](), 0
    skipped: list[Path] = []
    for folder, names, files in _walk(base):
        # Hidden folders are skipped, and the folder of answers.
        inner = [name for name in sorted(names) if not name.startswith(".")]
        inner = [name for name in inner if out is None or not _same(folder / name, out)]
        deeper += 0 if recursive else len(inner)
        names[:] = inner if recursive else []
        below = PurePosixPath(*folder.relative_to(base).parts)
        visible = [name for name in sorted(files) if not name.startswith(".")]
        images = [name for name in visible if PurePosixPath(name).suffix.lower() in _SUFFIXES]
        skipped += [folder / name for name in visible if name not in images]
        sources += [InputFile(folder / name, under / below / name) for name in images]
    if not sources:
        hint = f"; --recursive looks into the {deeper} folders in it, too" if deeper else ""
        raise ConfigError(f"{base} holds no images{hint}.")
    return sources, skipped


def _walk(base: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `Path.walk`, which Python 3.11 lacks."""
    yield from ((Path(folder), names, files) for folder, names, files in os.walk(base))


def _matching(pattern: str) -> list[InputFile]:
    fixed, slash, _ = re.split(_PATTERN, pattern, maxsplit=1)[0].rpartition("/")
    start = fixed + slash
    base = Path(start or ".")
    try:
        paths = sorted(path for path in base.glob(pattern[len(start) :]) if path.is_file())
    except ValueError as error:  # Python before 3.13 takes ** only as a whole folder
        raise ConfigError(f"{pattern}: {reason_of(error)}.") from None
    if not paths:
        raise ConfigError(f"No file matches {pattern}.")
    return [InputFile(path, PurePosixPath(*path.relative_to(base).parts)) for path in paths]


def _same(first: Path, second: Path) -> bool:
    return str(first.absolute()) == str(second.absolute())
