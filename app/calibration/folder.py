"""The pairs in a folder of the admin's own machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.calibration.groups import column_of, read_table, scenes_of
from app.calibration.layout import MANIFEST, PREDICTIONS, arrange, is_clutter, placed, wrong_group
from app.calibration.pairs import bad_pairs, claimed_predictions
from app.errors import BadPairs, BadRequest

FOLDER: Final = "folder"

# Files below a folder: who names the root of a disk by mistake is told soon.
MOST_FILES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PairFiles:
    """The undecoded files of one pair; without `x` it is made from `y` by the degradation."""

    name: str
    y: Path
    x: Path | None = None
    label: Path | None = None
    group: str | None = None
    scene: str | None = None
    prediction: str | None = None  # SHA-256 of the prediction that the label was drawn on


def find_pairs(
    folder: Path, group_by: str | None = None, scene_by: str | None = None
) -> list[PairFiles]:
    """The pairs of a folder as `app/calibration/layout.py` says, in the order of their names.

    Args:
        folder: with x/, y/, labels/, or with images.
        group_by: "folder": there must be groups, and DIR/NAME without y/ is one. Or a column of the
            table manifest.csv in the folder, whose column name or file names the pair.
        scene_by: the same for scenes; "manifest" stands for the column scene or pool_id, which is
            also read if nothing is said and the table has it.

    Raises:
        BadPairs: no pairs, files that make no pair, no groups or scenes although they were asked
            for, or labels that `labels/predictions.json`, where there is one, does not name.
        BadRequest: the table cannot be read, or one level of folders is to be two things.
    """
    if not folder.is_dir():
        raise BadPairs(f"{folder} is not a folder.", items=[])
    if group_by == scene_by == FOLDER:
        raise BadRequest("A level of folders names groups or scenes, not both.")
    paths = list(_files(folder))
    pairs, items = arrange(map(placed, paths), folders=FOLDER in {group_by, scene_by})
    if items:
        raise bad_pairs(items, len(pairs) + len(items))
    if not pairs:
        raise BadPairs(f"{folder} contains no images.", items=[])
    folders = {pair.name: pair.folder for pair in pairs}
    groups: dict[str, str | None] = {} if scene_by == FOLDER else {**folders}
    if group_by is not None and group_by != FOLDER:
        groups = {**column_of(read_table(folder / MANIFEST), group_by)}
    scenes = folders if scene_by == FOLDER else _scenes(folder / MANIFEST, scene_by)
    predictions = _predictions(folder, has_labels=any(pair.label for pair in pairs))
    found = [
        PairFiles(
            pair.name,
            folder / pair.y,
            None if pair.x is None else folder / pair.x,
            None if pair.label is None else folder / pair.label,
            groups.get(pair.name) or None,
            scenes.get(pair.name) or None,
            predictions.get(pair.name),
        )
        for pair in pairs
    ]
    if group_by is not None and not any(pair.group for pair in found):
        raise BadPairs(f"{folder} has no pair with a group.", items=[])
    if scene_by is not None and not any(pair.scene for pair in found):
        raise BadPairs(f"{folder} has no pair with a scene.", items=[])
    wrong = [
        {"name": pair.name, "reason": reason}
        for pair in found
        if (reason := _wrong(pair, claimed=bool(predictions)))
    ]
    if wrong:
        raise bad_pairs(wrong, len(found))
    return found


def _scenes(path: Path, scene_by: str | None) -> Mapping[str, str | None]:
    """The scenes that a table names, if there is one, or has to be."""
    if scene_by is None and not path.is_file():
        return {}
    rows = read_table(path)
    return scenes_of(rows) if scene_by in {None, "manifest"} else column_of(rows, scene_by or "")


def _wrong(pair: PairFiles, *, claimed: bool) -> str | None:
    if claimed and pair.label is not None and pair.prediction is None:
        return f"labels/{PREDICTIONS} does not name its prediction"
    reasons = (wrong_group(name) for name in (pair.group, pair.scene) if name is not None)
    return next((reason for reason in reasons if reason), None)


def _files(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder, relative to it, with forward slashes."""
    count = 0
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        count += len(files)
        if count > MOST_FILES:
            raise BadPairs(f"{folder} holds more than {MOST_FILES:,} files.", items=[])
        for file in sorted(files):
            yield (Path(base) / file).relative_to(folder).as_posix()


def _predictions(folder: Path, *, has_labels: bool) -> dict[str, str]:
    """What labels say about their predictions; empty if there is no such file."""
    path = folder / "labels" / PREDICTIONS
    return claimed_predictions(path.read_bytes()) if has_labels and path.is_file() else {}
