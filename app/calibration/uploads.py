"""Uploaded pairs: from form files or an archive into the spool, checked from their headers.

Each file is looked at as it arrives: format, size, content digest. So mistakes that concern the
whole set (missing partners, wrong sizes, repeated images) are named before anything is queued;
damage deep inside a file shows when the pair is measured, and is named then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from app.calibration.archive import ArchiveLimits, read_archive
from app.calibration.config import AskedPair
from app.calibration.groups import claimed_predictions, scenes_of, table_of
from app.calibration.layout import (
    MANIFEST,
    Arranged,
    PairPaths,
    Placed,
    Role,
    arrange,
    is_predictions,
    placed,
    wrong_name,
)
from app.calibration.pairs import Size, bad_pairs, duplicates, wrong_size
from app.conformal.fidelity import needs_label
from app.errors import BadInput, BadPairs
from app.images.decode import PAIR_LIMITS, image_size
from app.images.look import alike_in_words, look_of_file, near_duplicates
from app.sampling.pipeline import Pipeline
from app.stores.base import Spool


class Upload(NamedTuple):
    """One uploaded file: where it belongs, its path as the user knows it, its content.

    place: None for a file that is no image of a pair.
    """

    place: Placed | None
    path: str
    data: bytes

    @property
    def is_predictions(self) -> bool:
        """Whether it says which predictions labels were drawn on."""
        return is_predictions(self.path)


@dataclass(frozen=True, slots=True)
class Naming:
    """The group and the scene of each pair, by its name.

    Of pairs that are not named a folder is the group, or, with `scene_folders`, the scene; and the
    scene may be named by an uploaded table.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    scenes: Mapping[str, str] = field(default_factory=dict)
    scene_folders: bool = False


class SpooledFile(NamedTuple):
    """An image as it was found: its size, the SHA-256 of the file, and the look of a truth."""

    size: Size
    sha256: str
    look: int | None = None


@dataclass(slots=True)
class UploadedPairs:
    """What has been spooled, by path as the user knows it, and what is wrong."""

    arranged: Arranged
    files: dict[str, SpooledFile] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # why it is no image
    predictions: Mapping[str, str] = field(default_factory=dict)  # claimed by labels, by pair
    scenes: Mapping[str, str] = field(default_factory=dict)  # of a table among the files, by pair


def archive_files(file: BinaryIO, limits: ArchiveLimits) -> Iterator[Upload]:
    """The files of an archive, placed by their paths."""
    for entry in read_archive(file, limits):
        path = "/".join(entry.parts)
        yield Upload(placed(path), path, entry.data)


def form_file(role: Role, filename: str, data: bytes) -> Upload:
    """A file whose form field says what it is for; whatever the suffix, its content decides."""
    stem = filename.replace("\\", "/").rsplit("/", 1)[-1].rpartition(".")
    path = f"{role}/{filename}"
    return Upload(Placed(path, role, stem[0] or stem[2]), path, data)


async def spool_pairs(files: Iterable[Upload], spool: Spool, job: str) -> UploadedPairs:
    """Store every image under `ROLE/NAME` and look at its header; problems are collected."""
    found = UploadedPairs(Arranged([], []))
    places: list[Placed] = []
    iterator = iter(files)
    while (file := await asyncio.to_thread(next, iterator, None)) is not None:
        place, path, data = file
        if file.is_predictions:
            found.predictions = claimed_predictions(data)
        if place is None and path.rsplit("/", 1)[-1] == MANIFEST:
            found.scenes = scenes_of(table_of(data, MANIFEST))
        if place is None:
            continue
        places.append(place)
        # Without a role it is a truth, if it turns out to be anything.
        role, name = (place.role, place.name) if place.role else ("y", place.stem)
        if place.reason or wrong_name(name):
            continue
        try:
            size = await asyncio.to_thread(image_size, data, PAIR_LIMITS)
        except BadInput as error:
            found.broken[path] = f"{role}: {error.detail.rstrip('.')}"
            continue
        look = await asyncio.to_thread(look_of_file, data) if role == "y" else None
        found.files[path] = SpooledFile(size, hashlib.sha256(data).hexdigest(), look)
        await spool.put(job, f"{role}/{name}", data)
    found.arranged = arrange(places)
    return found


def check_uploaded(
    found: UploadedPairs,
    pipeline: Pipeline,
    naming: Naming,
    known: Sequence[tuple[str, str]] = (),
) -> tuple[list[AskedPair], list[dict[str, str]]]:
    """The pairs that can be used, as job requests keep them, and an item for every other one.

    `known` is (name, digest of Y) of pairs that exist already, when a calibration is extended.
    """
    pairs, items = {pair.name: pair for pair in found.arranged.pairs}, [*found.arranged.items]
    named = {item["name"] for item in items}

    def refuse(name: str, reason: str) -> None:
        pairs.pop(name, None)
        items.append({"name": name, "reason": reason})

    for name in (naming.groups.keys() | naming.scenes.keys()) - pairs.keys() - named:
        refuse(name, "y/ has no image of this name")
    taken = {name for name, _ in known}
    for pair in [*pairs.values()]:
        if reason := _wrong(pair, found, pipeline, taken):
            refuse(pair.name, reason)
    digests = [(name, found.files[pair.y].sha256) for name, pair in pairs.items()]
    for item in duplicates([*known, *digests]):
        refuse(item["name"], item["reason"])
    usable = [
        AskedPair(
            name=pair.name,
            source=pair.name,
            x=pair.x is not None,
            label=pair.label is not None,
            prediction=found.predictions.get(pair.name),
            group=naming.groups.get(pair.name, None if naming.scene_folders else pair.folder),
            scene=naming.scenes.get(pair.name)
            or (pair.folder if naming.scene_folders else None)
            or found.scenes.get(pair.name),
        )
        for pair in pairs.values()
    ]
    return usable, items


def warnings_about(found: UploadedPairs, usable: Sequence[AskedPair]) -> list[str]:
    """What a careful admin should know of the pairs before anything is generated."""
    truths = {pair.name: found.files.get(pair.y) for pair in found.arranged.pairs}
    looks = [
        (pair.name, pair.scene, truth.look)
        for pair in usable
        if (truth := truths[pair.name]) is not None and truth.look is not None
    ]
    return [alike_in_words(names) for names in near_duplicates(looks)]


def check_labels(pairs: Sequence[AskedPair], pipeline: Pipeline) -> None:
    """Raises BadPairs if labels do not belong to the metric, or on which prediction is unsaid."""
    labelled = [pair.name for pair in pairs if pair.label]
    if labelled and not needs_label(pipeline.fidelity):
        raise BadPairs(
            "Labels belong to the semantic metric of people only.",
            items=[{"name": name, "reason": "has a label"} for name in labelled],
        )
    unfounded = [
        {"name": pair.name, "reason": "labels/predictions.json does not name its prediction"}
        for pair in pairs
        if pair.label and not pair.prediction
    ]
    if unfounded:
        raise bad_pairs(unfounded, len(pairs))


def _wrong(
    pair: PairPaths, found: UploadedPairs, pipeline: Pipeline, taken: set[str]
) -> str | None:
    for path in (pair.y, pair.x, pair.label):
        if path in found.broken:
            return found.broken[path]
    if pair.name in taken:
        return "the calibration has a pair of this name already"
    x, label = (None if path is None else found.files[path].size for path in (pair.x, pair.label))
    return wrong_size(found.files[pair.y].size, x, label, pipeline)
