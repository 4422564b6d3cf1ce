"""Which images calibrate and which ones test.

Crops of one photograph resemble each other. If they stood on both sides, the test would flatter the
calibration; so whole groups are drawn, never single images, whenever groups are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from app.calibration.intake import find_in
from app.calibration.layout import IMAGE_SUFFIXES, MANIFEST, PairFiles
from app.calibration.naming import FOLDER, SCENE_COLUMNS, Naming, column_of, read_table
from app.errors import BadRequest

CALIBRATION, TEST = "calibration", "test"

GROUP_COLUMNS = (*SCENE_COLUMNS, "group", "source_file", "photograph", "source")
"""Columns of a manifest that name what an image was cut from; the first one that exists counts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The two sides. how: `given` by folders, or drawn by `group` or by `image`."""

    calibration: Sequence[PairFiles]
    test: Sequence[PairFiles]
    how: Literal["given", "group", "image"]

    @property
    def scenes(self) -> list[str]:
        """The scene of each calibration image: its group, or one of its own."""
        return [group_of(item) for item in self.calibration]

    @property
    def test_groups(self) -> list[str]:
        """The group of each test image; an image without one is a group of its own."""
        return [group_of(item) for item in self.test]

    @property
    def shared(self) -> int:
        """Number of test images whose group also calibrates (possible only for a given split)."""
        known = {item.group for item in self.calibration if item.group is not None}
        return sum(item.group in known for item in self.test)

    @property
    def clustered(self) -> bool:
        """Whether several test images belong to one group, which intervals must respect."""
        return len(set(self.test_groups)) < len(self.test)


def group_of(item: PairFiles) -> str:
    """The group of an image, or a name of its own."""
    return f"group:{item.group}" if item.group is not None else f"image:{item.name}"


def make_plan(
    folders: Sequence[Path], *, share: float, seed: int, column: str | None = None
) -> Plan:
    """Find the images of the folders and divide them.

    A single folder with `calibration/` and `test/` brings its own division. Otherwise images are
    pairs as `trustscale calibrate` takes them, in sub-folders that are groups; or a `manifest.csv`
    beside the images names the group of each in a column.

    Args:
        folders: with images.
        share: of the images that calibrate, in (0, 1).
        seed: of the draw.
        column: of the manifest; None: the first of `GROUP_COLUMNS` that exists.

    Raises:
        BadPairs: no images, or images that cannot be paired.
        BadRequest: a manifest that cannot be used, or too few groups to divide.
    """
    if len(folders) == 1 and all((folders[0] / side).is_dir() for side in (CALIBRATION, TEST)):
        calibration, test = (find_items(folders[0] / side, column) for side in (CALIBRATION, TEST))
        # The two folders are independent lists of files, so names may repeat.
        return Plan(_prefixed(calibration, CALIBRATION), _prefixed(test, TEST), "given")
    found = [find_items(folder, column) for folder in folders]
    if len(folders) > 1:
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [f"{name}-{number}" for number, name in enumerate(names, start=1)]
        found = [_prefixed(part, name) for part, name in zip(found, names, strict=True)]
    items = [item for part in found for item in part]
    calibration, test = split(items, share, seed)
    grouped = any(item.group is not None for item in items)
    return Plan(calibration, test, "group" if grouped else "image")


def split(
    items: Sequence[PairFiles], share: float, seed: int
) -> tuple[list[PairFiles], list[PairFiles]]:
    """Divide by groups, at random, so that about `share` of the images calibrate.

    The order of the images does not matter. Groups are taken in random order until the share is
    reached; at least one group is left on each side.

    Raises:
        BadRequest: fewer than two groups.
    """
    groups = defaultdict(list)
    for item in sorted(items, key=lambda item: item.name):
        groups[group_of(item)].append(item)
    if len(groups) < 2:
        raise BadRequest(
            f"{len(items)} images of {len(groups)} photographs cannot be divided into calibration "
            "and test images; at least two photographs are needed."
        )
    names = sorted(groups)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    sizes = np.cumsum([len(groups[names[place]]) for place in order])
    # The number of groups whose total comes nearest to the wanted number of images.
    count = 1 + int(np.argmin(np.abs(sizes[:-1] - share * len(items))))
    sides: tuple[list[PairFiles], list[PairFiles]] = ([], [])
    for rank, place in enumerate(order):
        sides[rank >= count].extend(groups[names[place]])
    return sides


def find_items(folder: Path, column: str | None = None) -> list[PairFiles]:
    """The pairs of one folder with their groups, as far as folders or a manifest tell them.

    Raises:
        BadPairs: nothing there, or files without a partner.
        BadRequest: a manifest that cannot be used.
    """
    base = folder / "y" if (folder / "y").is_dir() else folder
    inner = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    if any(map(_holds_images, inner)) and not _holds_images(base):
        return find_in(folder, Naming(group_by=FOLDER))
    groups = _manifest_groups(folder / MANIFEST, column)
    return [pair._replace(group=groups.get(pair.name)) for pair in find_in(folder)]


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _manifest_groups(path: Path, column: str | None) -> Mapping[str, str]:
    """The group of each image that a manifest names, in a column or the first of `GROUP_COLUMNS`.

    Raises:
        BadRequest: it cannot be read, or has not the column that was asked for.
    """
    rows = read_table(path.read_bytes()) if path.is_file() else None
    if column is None and rows is None:
        return {}
    wanted = column or next((name for name in GROUP_COLUMNS if rows and name in rows[0]), None)
    if wanted is None:
        return {}
    return column_of(rows, wanted)


def _prefixed(items: Sequence[PairFiles], prefix: str) -> list[PairFiles]:
    return [item._replace(name=f"{prefix}/{item.name}") for item in items]
