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
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import quote

from app.calibration.archive import ArchiveLimits, Entry, is_text, read_archive
from app.calibration.pairs import (
    IMAGE_SUFFIXES,
    PAIR_LIMITS,
    PREDICTIONS,
    claimed_predictions,
    duplicates,
)
from app.errors import BadInput
from app.images.decode import image_size
from app.sampling.pipeline import Pipeline
from app.stores.base import Spool

Role = Literal["x", "y", "labels"]
ROLES: tuple[Role, ...] = ("x", "y", "labels")
_NO_ROLE = "not an image in x/, y/ or labels/"
MAX_NAME_BYTES = 240  # percent-encoded; with its role it becomes a file name in the spool


class UploadedFile(NamedTuple):
    """One uploaded image: what it is for, the name of its pair, its content.

    loose: its path, if it lies in no folder that says what it is for.
    """

    role: Role
    name: str
    data: bytes
    group: str | None = None
    loose: tuple[str, ...] | None = None


@dataclass(slots=True)
class UploadedPairs:
    """What has been spooled: per role the (width, height) by pair name, and what is wrong."""

    sizes: dict[Role, dict[str, tuple[int, int]]] = field(
        default_factory=lambda: {role: {} for role in ROLES}
    )
    digests: dict[str, str] = field(default_factory=dict)  # SHA-256 of Y by name
    predictions: dict[str, str] = field(default_factory=dict)  # claimed by labels, by name
    groups: dict[str, str] = field(default_factory=dict)  # by name
    items: list[dict[str, str]] = field(default_factory=list)


def archive_files(file: BinaryIO, limits: ArchiveLimits) -> Iterator[UploadedFile | Entry]:
    """The images of an archive: `x/NAME`, `y/NAME`, `labels/NAME`, inside one folder or none.

    In `y/GROUP/NAME` and so on the folder is the group; the pair is then named GROUP.NAME. Images
    in no such folder are taken for Y, as of an archive that has none of them.

    Entries that are none of these are passed on as they are; the caller names them.
    """
    for entry in read_archive(file, limits):
        role = entry.parts[-2] if len(entry.parts) in {2, 3} else None
        group = None
        if role not in ROLES and len(entry.parts) in {3, 4}:
            role, group = entry.parts[-3:-1]
        path = PurePosixPath(entry.parts[-1])
        if role in ROLES and path.suffix.lower() in IMAGE_SUFFIXES:
            name = path.stem if group is None else f"{group}.{path.stem}"
            yield UploadedFile(role, name, entry.data, group)
        elif len(entry.parts) <= 2 and path.suffix.lower() in IMAGE_SUFFIXES:
            yield UploadedFile("y", path.stem, entry.data, loose=entry.parts)
        else:
            yield entry


async def spool_pairs(
    files: Iterable[UploadedFile | Entry], spool: Spool, job: str
) -> UploadedPairs:
    """Store every image under `ROLE/NAME` and look at its header; problems are collected."""
    found = UploadedPairs()
    loose: dict[str, tuple[str, ...]] = {}
    iterator = iter(files)
    while (file := await asyncio.to_thread(next, iterator, None)) is not None:
        if isinstance(file, Entry):
            _other_entry(found, file)
            continue
        role, name, data, group, path = file
        if reason := _wrong_name(name):
            found.items.append({"name": name[:80], "reason": reason})
            continue
        if name in found.sizes[role]:
            found.items.append({"name": name, "reason": f"{role}/ has two files of this name"})
            continue
        try:
            found.sizes[role][name] = await asyncio.to_thread(image_size, data, PAIR_LIMITS)
        except BadInput as error:
            found.items.append({"name": name, "reason": f"{role}: {error.detail.rstrip('.')}"})
            continue
        if group is not None:
            found.groups[name] = group
        if role == "y":
            found.digests[name] = hashlib.sha256(data).hexdigest()
        if path is not None:
            loose[name] = path
        await spool.put(job, f"{role}/{name}", data)
    _judge_loose(found, loose)
    return found


def _judge_loose(found: UploadedPairs, loose: Mapping[str, tuple[str, ...]]) -> None:
    """Loose images are Y only where nothing says otherwise: no x/, y/ or labels/, one folder."""
    placed = found.sizes["x"] or found.sizes["labels"] or found.sizes["y"].keys() - loose.keys()
    if not placed and len({path[:-1] for path in loose.values()}) <= 1:
        return
    for name, path in loose.items():
        del found.sizes["y"][name], found.digests[name]
        found.items.append({"name": "/".join(path), "reason": _NO_ROLE})


def check_uploaded(
    found: UploadedPairs, pipeline: Pipeline, known: Sequence[tuple[str, str]] = ()
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The pairs that can be used, as job requests keep them, and an item for every other one.

    Args:
        found: the spooled images.
        pipeline: its scale and window decide what fits.
        known: (name, digest of Y) of pairs that exist already, when a calibration is extended.
    """
    xs, ys, labels = (found.sizes[role] for role in ROLES)
    items = list(found.items)
    bad = {item["name"] for item in items}

    def refuse(name: str, reason: str) -> None:
        if name not in bad:
            bad.add(name)
            items.append({"name": name, "reason": reason})

    names = {name for name, _ in known}
    for name in [*xs, *labels, *ys, *found.groups]:
        reason = (
            "y/ has no image of this name"
            if name not in ys
            else "x/ has no image of this name"
            if xs and name not in xs
            else "the calibration has a pair of this name already"
            if name in names
            else _wrong_size(ys[name], xs.get(name), labels.get(name), pipeline)
        )
        if reason:
            refuse(name, reason)
    for item in duplicates([*known, *((n, d) for n, d in found.digests.items() if n not in bad)]):
        refuse(item["name"], item["reason"])
    usable = [
        {
            "name": name,
            "x": name in xs,
            "label": name in labels,
            "prediction": found.predictions.get(name),
            "group": found.groups.get(name),
        }
        for name in sorted(ys)
        if name not in bad
    ]
    return usable, items


def _wrong_name(name: str) -> str | None:
    if not is_text(name):
        return "the name has control characters"
    if len(quote(name, safe="")) > MAX_NAME_BYTES:
        return "the name is too long"
    return None


def _wrong_size(
    y: tuple[int, int],
    x: tuple[int, int] | None,
    label: tuple[int, int] | None,
    pipeline: Pipeline,
) -> str | None:
    k = pipeline.scale
    size = (y[0] - y[0] % k, y[1] - y[1] % k) if x is None else (x[0] * k, x[1] * k)
    if x is not None and y != size:
        return f"y is {y[0]}×{y[1]}, but {k}× the size of x is {size[0]}×{size[1]}"
    if min(size) < max(pipeline.indecision.window, k):
        return f"y is {y[0]}×{y[1]}, smaller than the window of {pipeline.indecision.window} pixels"
    if label is not None and label != size:
        return f"label is {label[0]}×{label[1]}, the prediction will be {size[0]}×{size[1]}"
    return None


def _other_entry(found: UploadedPairs, entry: Entry) -> None:
    """A file that is no image of a pair: the digests of predictions, or a mistake."""
    if entry.parts[-2:] == ("labels", PREDICTIONS):
        found.predictions = claimed_predictions(entry.data)
        return
    found.items.append({"name": "/".join(entry.parts), "reason": _NO_ROLE})
