"""The pairs in a folder of the admin's own machine: found, and checked without generating."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.calibration.config import AskedPair
from app.calibration.groups import claimed_predictions, column_of, read_table, scenes_of
from app.calibration.layout import MANIFEST, PREDICTIONS, arrange, is_clutter, placed
from app.calibration.pairs import (
    SAME_PIXELS,
    OnBadPair,
    bad_pairs,
    check_left_out,
    decode_label,
    duplicates,
    load_pair,
)
from app.conformal.fidelity import needs_label
from app.errors import BadImage, BadInput, BadPairs, BadRequest
from app.images.look import look_of, near_duplicates
from app.sampling.pipeline import Pipeline
from app.system import usable_cores
from app.upscalers.base import image_digest

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

    @property
    def by_role(self) -> dict[str, Path]:
        """The files that there are, by the folder that they belong into."""
        files = {"x": self.x, "y": self.y, "labels": self.label}
        return {role: path for role, path in files.items() if path is not None}

    @property
    def asked(self) -> AskedPair:
        """What a calibration is asked for."""
        return AskedPair(
            name=self.name,
            source=self.name,
            x=self.x is not None,
            label=self.label is not None,
            prediction=self.prediction,
            group=self.group,
            scene=self.scene,
        )


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
        {"name": pair.name, "reason": f"labels/{PREDICTIONS} does not name its prediction"}
        for pair in found
        if predictions and pair.label is not None and pair.prediction is None
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


@dataclass(frozen=True, slots=True)
class CheckedPair:
    """A pair that can be used: its files, and the digests of their content.

    pixels_sha256: of Y, whatever file it was in. key: of all of the pair.
    """

    files: PairFiles
    y_sha256: str
    pixels_sha256: str
    key: str
    look: int


@dataclass(frozen=True, slots=True)
class CheckedPairs:
    """The usable pairs and the skipped ones, each with its reason.

    alike: of each set of truths that look like parts of one scene, their names.
    """

    usable: Sequence[CheckedPair]
    skipped: Sequence[dict[str, str]]
    alike: Sequence[Sequence[str]] = ()


async def check_pairs(
    files: Sequence[PairFiles],
    pipeline: Pipeline,
    *,
    on_bad_pair: OnBadPair = "fail",
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckedPairs:
    """Decode and check every pair without generating.

    Raises:
        BadPairs: some pairs cannot be used and `on_bad_pair` is "fail", or none can be used.
    """
    places, done = asyncio.Semaphore(usable_cores()), 0

    async def one(pair: PairFiles) -> CheckedPair | dict[str, str]:
        nonlocal done
        async with places:
            try:
                found: CheckedPair | dict[str, str] = await asyncio.to_thread(
                    _checked, pair, pipeline
                )
            except (BadInput, OSError) as error:
                found = {"name": pair.name, "reason": str(error).rstrip(".")}
        done += 1
        if on_progress is not None:
            on_progress(done, len(files))
        return found

    found = await asyncio.gather(*map(one, files))
    usable = [pair for pair in found if isinstance(pair, CheckedPair)]
    items = [item for item in found if isinstance(item, dict)]
    usable, repeated = _without(usable, [(p.files.name, p.y_sha256) for p in usable])
    pixels_of = [(p.files.name, p.pixels_sha256) for p in usable]
    usable, encoded_again = _without(usable, pixels_of, reason=SAME_PIXELS)
    items += [*repeated, *encoded_again]
    check_left_out(items, len(usable), on_bad_pair)
    alike = near_duplicates([(p.files.name, p.files.scene, p.look) for p in usable])
    return CheckedPairs(usable, items, alike)


def _without(
    pairs: Sequence[CheckedPair], digests: Sequence[tuple[str, str]], **options: str
) -> tuple[list[CheckedPair], list[dict[str, str]]]:
    """The pairs without duplicates, and an item for each of these."""
    items = duplicates(digests, **options)
    again = {item["name"] for item in items}
    return [pair for pair in pairs if pair.files.name not in again], items


def _checked(files: PairFiles, pipeline: Pipeline) -> CheckedPair:
    """The pair, decoded; how X will be made from Y, and by which seed, cannot be wrong."""
    loaded = load_pair(
        files.name,
        files.y.read_bytes(),
        files.x.read_bytes() if files.x else None,
        pipeline,
        degradation=None,
        seed=0,
    )
    content = f"{loaded.name}:{loaded.x_sha256}:{loaded.y_sha256}"
    if needs_label(pipeline.fidelity):
        if files.label is None:
            raise BadImage("has no label, which the semantic metric needs")
        label = decode_label(files.label.read_bytes(), loaded.y.shape[:2])
        content += f":{hashlib.sha256(label.tobytes()).hexdigest()}"
    key = hashlib.sha256(content.encode()).hexdigest()
    return CheckedPair(files, loaded.y_sha256, image_digest(loaded.y), key, look_of(loaded.y))
