"""Which pairs there are, by the names of files in a folder, an archive or a form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from trustscale_server.calibrating.intake.arrange import Arranged, arrange
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.calibrating.intake.layout import (
    NamedFile,
    claimed_predictions,
    is_clutter,
    place_of,
)
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.unusable import bad_pairs
from trustscale_server.platform.errors import BadPairs

_MAX_FILES: Final = 1_000_000
"""Below a folder; stops a command that names the root of a disk by mistake."""


def folder_files(folder: Path) -> Iterator[NamedFile]:
    """Yield all files below a folder, in order, but hidden ones and clutter of operating systems.

    Raises:
        BadPairs: it is no folder, or holds too many files.
    """
    if not folder.is_dir():
        raise BadPairs(f"{folder} is not a folder.", items=[])
    count = 0
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        count += len(names)
        if count > _MAX_FILES:
            raise BadPairs(f"{folder} holds more than {_MAX_FILES:,} files.", items=[])
        for name in sorted(names):
            path = Path(base) / name
            yield NamedFile(path.relative_to(folder).as_posix(), path.read_bytes)


def find_pairs(
    files: Iterable[NamedFile], naming: GroupingRule, table: bytes | None = None
) -> Arranged:
    """Arrange files to pairs by their names.

    `table`, or else `manifest.csv` among the files, names groups and scenes.

    Raises:
        BadRequest, BadPairs: as `GroupingRule.named` and `claimed_predictions`.
    """
    places, predictions = [], {}
    for file in files:
        if file.is_table:
            table = table or file.read()
        elif file.is_predictions:
            predictions = claimed_predictions(file.read())
        places.append(place_of(file.path, file.role))
    pairs, items = arrange(places, folders=naming.by_folder)
    claimed = [
        replace(pair, prediction=predictions.get(pair.name) if "labels" in pair.paths else None)
        for pair in naming.named(pairs, table)
    ]
    return Arranged(claimed, items)


def find_in(folder: Path, naming: GroupingRule | None = None) -> list[PairSource]:
    """Return the pairs of a folder, in the order of their names, with full paths.

    Raises:
        BadPairs: no pairs, or files that make none; each is named.
        BadRequest: as `find_pairs`.
    """
    pairs, items = find_pairs(folder_files(folder), naming or GroupingRule())
    if items:
        raise bad_pairs(items, len(pairs) + len(items))
    if not pairs:
        raise BadPairs(f"{folder} contains no images.", items=[])
    return [
        replace(pair, paths={role: str(folder / path) for role, path in pair.paths.items()})
        for pair in pairs
    ]


def files_of_pairs(pairs: Iterable[PairSource]) -> Iterator[NamedFile]:
    """Yield the files of pairs with full paths."""
    for pair in pairs:
        for path in pair.paths.values():
            yield NamedFile(path, Path(path).read_bytes)
