"""Which images calibrate, and which ones test.

Crops of one photograph resemble each other, so whole scenes are drawn where they are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from trustscale_server.calibrating.intake.find import find_in
from trustscale_server.calibrating.intake.grouping import (
    BY_FOLDER,
    SCENE_COLUMNS,
    GroupingRule,
    column_of,
    read_table,
)
from trustscale_server.calibrating.intake.layout import IMAGE_SUFFIXES, MANIFEST
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.platform.errors import BadRequest

CALIBRATION, _TEST = "calibration", "test"

_PHOTOGRAPH_COLUMNS = (*SCENE_COLUMNS, "group", "source_file", "photograph", "source")
"""Columns of a manifest that name the photograph of an image, the first that exists counts."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The calibration images and the test images, and how they were divided.

    how: `given` by folders, or drawn by `scene` or by `image`.
    """

    calibration: Sequence[PairSource]
    test: Sequence[PairSource]
    how: Literal["given", "scene", "image"]

    @property
    def scenes(self) -> list[str]:
        """The scene of each calibration image."""
        return [scene_name(item) for item in self.calibration]

    @property
    def test_scenes(self) -> list[str]:
        """The scene of each test image."""
        return [scene_name(item) for item in self.test]

    @property
    def shared(self) -> int:
        """Number of test images whose scene also calibrates, in a given division."""
        known = {item.scene for item in self.calibration if item.scene is not None}
        return sum(item.scene in known for item in self.test)


def scene_name(item: PairSource) -> str:
    """Return the scene of an image, or a unique name."""
    return f"scene:{item.scene}" if item.scene is not None else f"pair:{item.upload}"


def make_plan(
    folders: Sequence[Path], *, share: float | None, seed: int, column: str | None = None
) -> EvaluationPlan:
    """Find the images of the folders and divide them; without a share all of them test.

    A single folder with `calibration/` and `test/` brings its own division. Else images are pairs
    as `trustscale calibrate` takes them, in sub-folders that are scenes, or with scenes in a column
    of `manifest.csv`, by default the first of `_PHOTOGRAPH_COLUMNS` that exists.

    Raises:
        BadPairs: no images, or images that cannot be paired.
        BadRequest: an unusable manifest, or too few scenes to divide.
    """
    if len(folders) == 1 and all((folders[0] / side).is_dir() for side in (CALIBRATION, _TEST)):
        calibration, test = (find_items(folders[0] / side, column) for side in (CALIBRATION, _TEST))
        # Names may repeat in the two folders.
        return EvaluationPlan(_prefixed(calibration, CALIBRATION), _prefixed(test, _TEST), "given")
    by_folder = [find_items(folder, column) for folder in folders]
    if len(folders) > 1:
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [f"{name}-{number}" for number, name in enumerate(names, start=1)]
        by_folder = [
            _prefixed(of_folder, name) for of_folder, name in zip(by_folder, names, strict=True)
        ]
    items = [item for of_folder in by_folder for item in of_folder]
    if share is None:
        return EvaluationPlan([], items, "given")
    calibration, test = split(items, share, seed)
    has_scenes = any(item.scene is not None for item in items)
    return EvaluationPlan(calibration, test, "scene" if has_scenes else "image")


def split(
    items: Sequence[PairSource], share: float, seed: int
) -> tuple[list[PairSource], list[PairSource]]:
    """Divide by scenes, at random, so that about `share` of the images calibrate.

    The order of the images does not matter; at least one scene is on each side. Raises BadRequest
    for fewer than two scenes.
    """
    scenes = defaultdict(list)
    for item in sorted(items, key=lambda item: item.name):
        scenes[scene_name(item)].append(item)
    if len(scenes) < 2:
        raise BadRequest(
            f"{len(items)} images of {len(scenes)} photographs cannot be divided into calibration "
            "and test images; at least two photographs are needed."
        )
    names = sorted(scenes)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    sizes = np.cumsum([len(scenes[names[place]]) for place in order])
    # The number of scenes whose images come nearest to the share.
    count = 1 + int(np.argmin(np.abs(sizes[:-1] - share * len(items))))
    sides: tuple[list[PairSource], list[PairSource]] = ([], [])
    for rank, place in enumerate(order):
        sides[rank >= count].extend(scenes[names[place]])
    return sides


def find_items(folder: Path, column: str | None = None) -> list[PairSource]:
    """Return the pairs of one folder, with their scenes where folders or a manifest name them.

    Raises BadPairs or BadRequest, as `make_plan`.
    """
    base = folder / "y" if (folder / "y").is_dir() else folder
    inner = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    if any(map(_holds_images, inner)) and not _holds_images(base):
        return find_in(folder, GroupingRule(scene_by=BY_FOLDER))
    scenes = _manifest_scenes(folder / MANIFEST, column)
    return [replace(pair, scene=scenes.get(pair.name)) for pair in find_in(folder)]


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _manifest_scenes(path: Path, column: str | None) -> Mapping[str, str]:
    """The scenes of a manifest by image. Raises BadRequest."""
    rows = read_table(path.read_bytes()) if path.is_file() else None
    scene_column = column or next(
        (name for name in _PHOTOGRAPH_COLUMNS if rows and name in rows[0]), None
    )
    return {} if scene_column is None else column_of(rows, scene_column)


def _prefixed(items: Sequence[PairSource], prefix: str) -> list[PairSource]:
    return [replace(item, name=f"{prefix}/{item.name}") for item in items]
