"""From files that are arranged to pairs (`find.py`) to pairs that can be measured.

Each file of a pair is decoded and, for a job elsewhere, stored under its role and its pair's name.
So all errors are reported before anything is generated.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, TypeAlias, TypedDict

from trustscale_server.calibrating.fit import is_fitted_on
from trustscale_server.calibrating.intake.arrange import Arranged
from trustscale_server.calibrating.intake.layout import PREDICTIONS, NamedFile
from trustscale_server.calibrating.intake.near_duplicates import near_duplicates, perceptual_hash
from trustscale_server.calibrating.pair_files import Size, array_size, decoded, wrong_pair_sizes
from trustscale_server.calibrating.pair_source import PairSource, Role
from trustscale_server.calibrating.unusable import FITTED_ON, SAME_PIXELS
from trustscale_server.calibration.duplicates import duplicates
from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import BadInput, BadPairs
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.upscalers import supplied
from trustscale_server.upscalers.base import image_digest

NamedFiles: TypeAlias = Callable[[], Iterable[NamedFile]]
"""The same files at each call."""

_Keep: TypeAlias = Callable[[str, bytes], Awaitable[None]]
"""Stores a file under ROLE/NAME."""


class ExaminedFile(NamedTuple):
    """An image file: its size and digest; of a truth also its pixels' digest, and its look."""

    size: Size
    sha256: str
    pixels_sha256: str = ""
    perceptual_hash: int = 0


@dataclass(frozen=True, slots=True)
class Intake:
    """The pairs that can be used, and an item (name, reason) for every other one.

    alike: of each set of truths that look like parts of one scene, their names.
    pixels: of an input X, on average.
    """

    usable: list[PairSource] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    alike: Sequence[Sequence[str]] = ()
    pixels: float = 0.0


class IntakeOptions(TypedDict, total=False):
    """Options of `take_in` that its callers pass on."""

    keep: _Keep
    labels_are_claimed: bool
    on_progress: Callable[[int, int], None]


async def take_in(
    files: NamedFiles,
    arranged: Arranged,
    pipeline: MeasurementSpec,
    *,
    known: Sequence[PairInfo] = (),
    keep: _Keep | None = None,
    labels_are_claimed: bool = True,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Intake:
    """Decode and check the files of pairs.

    Args:
        files: the files that were arranged.
        arranged: by `find_pairs`.
        pipeline: that will measure the pairs.
        known: pairs of a calibration that is to be extended.
        keep: stores files that cannot be read in place later.
        labels_are_claimed: whether each label must name its prediction; if not, the semantic metric
            needs one with every pair.
        on_progress: called with (files checked, all files).

    Raises:
        BadPairs: there are labels, and the metric takes none.
    """
    owners = {
        path: (role, pair.name) for pair in arranged.pairs for role, path in pair.paths.items()
    }
    examined: dict[str, ExaminedFile | str] = {}
    iterator = (file for file in files() if file.path in owners)
    while batch := await asyncio.to_thread(_next, iterator, usable_cores()):
        is_data = pipeline.stretch is not None
        looks = await asyncio.gather(
            *(
                asyncio.to_thread(_look, data, owners[path][0], is_data=is_data)
                for path, data in batch
            )
        )
        for (path, data), file in zip(batch, looks, strict=True):
            examined[path] = file
            if keep is not None and isinstance(file, ExaminedFile) and isinstance(data, bytes):
                role, name = owners[path]
                await keep(f"{role}/{name}", data)
        on_progress(len(examined), len(owners))
    return await asyncio.to_thread(
        _checked, arranged, examined, pipeline, known, labels_are_claimed=labels_are_claimed
    )


def _next(files: Iterator[NamedFile], count: int) -> list[tuple[str, bytes | OSError]]:
    read: list[tuple[str, bytes | OSError]] = []
    for file in islice(files, count):
        try:
            read.append((file.path, file.read()))
        except OSError as error:
            read.append((file.path, error))
    return read


def _look(data: bytes | OSError, role: Role, *, is_data: bool) -> ExaminedFile | str:
    try:
        if isinstance(data, OSError):
            raise data
        is_data = is_data and role in {"x", "y"}
        rgb = decoded(data, role.removesuffix("s"), is_data=is_data).rgb
    except (BadInput, OSError) as error:
        return str(error).rstrip(".")
    sha256 = hashlib.sha256(data).hexdigest()
    if role != "y":
        return ExaminedFile(array_size(rgb), sha256)
    return ExaminedFile(array_size(rgb), sha256, image_digest(rgb), perceptual_hash(rgb))


def _checked(
    arranged: Arranged,
    examined: Mapping[str, ExaminedFile | str],
    pipeline: MeasurementSpec,
    known: Sequence[PairInfo],
    *,
    labels_are_claimed: bool,
) -> Intake:
    takes_labels = pipeline.fidelity.spec.needs_label
    if labels_are_claimed and not takes_labels:
        _raise_if_labelled(arranged.pairs)
    must_claim = labels_are_claimed or any(pair.prediction for pair in arranged.pairs)
    usable: dict[str, tuple[PairSource, ExaminedFile]] = {}
    items = [*arranged.items]
    used_names = {info.upload for info in known}
    for pair in arranged.pairs:
        files = _files_of(pair, examined, pipeline)
        if isinstance(files, str):
            reason = files
        elif pair.name in used_names:
            reason = "the calibration has a pair of this name already"
        elif takes_labels and "labels" not in pair.paths and not labels_are_claimed:
            reason = "has no label, which the semantic metric needs"
        elif takes_labels and "labels" in pair.paths and not pair.prediction and must_claim:
            reason = f"labels/{PREDICTIONS} does not name its prediction"
        else:
            digests = {role: files[role].sha256 for role in pair.paths}
            usable[pair.name] = replace(pair, sha256=digests), files["y"]
            continue
        items.append({"name": pair.name, "reason": reason})
    items += _left_out(usable, known, pipeline.indecision)
    looks = [(name, pair.scene, file.perceptual_hash) for name, (pair, file) in usable.items()]
    pixels = sum(math.prod(file.size) for _, file in usable.values()) / pipeline.scale**2
    return Intake(
        [pair for pair, _ in usable.values()],
        items,
        near_duplicates(looks),
        pixels / max(len(usable), 1),
    )


def _raise_if_labelled(pairs: Sequence[PairSource]) -> None:
    labelled = [pair.name for pair in pairs if "labels" in pair.paths]
    if labelled:
        raise BadPairs(
            "Labels belong to the semantic metric of people only.",
            items=[{"name": name, "reason": "has a label"} for name in labelled],
        )


def _left_out(
    usable: dict[str, tuple[PairSource, ExaminedFile]],
    known: Sequence[PairInfo],
    indecision: IndecisionSettings,
) -> list[dict[str, str]]:
    """Take out the pairs that repeat another one, or that σ was fitted on; name each."""
    items: list[dict[str, str]] = []

    def leave_out(repeated: Iterable[dict[str, str]]) -> None:
        for item in repeated:
            del usable[item["name"]]
            items.append(item)

    of_files = {info.upload: info.y_sha256 for info in known}
    of_files |= {name: file.sha256 for name, (_, file) in usable.items()}
    leave_out(duplicates(of_files.items()))
    of_pixels = {info.upload: info.pixels_sha256 for info in known}
    of_pixels |= {name: file.pixels_sha256 for name, (_, file) in usable.items()}
    leave_out(duplicates(of_pixels.items(), reason=SAME_PIXELS))
    leave_out(
        [
            {"name": name, "reason": FITTED_ON}
            for name, (_, file) in usable.items()
            if is_fitted_on(indecision, file.pixels_sha256)
        ]
    )
    return items


def _files_of(
    pair: PairSource, examined: Mapping[str, ExaminedFile | str], pipeline: MeasurementSpec
) -> dict[Role, ExaminedFile] | str:
    """The files of a pair by role, or why they make none."""
    files: dict[Role, ExaminedFile] = {}
    for role, path in sorted(pair.paths.items(), reverse=True):
        file = examined.get(path, f"{path} vanished")
        if isinstance(file, str):
            return file
        files[role] = file
    sizes = {role: file.size for role, file in files.items()}
    wrong = wrong_pair_sizes(sizes["y"], sizes.get("x"), sizes.get("labels"), pipeline)
    if "enlarged" in sizes:
        wrong = supplied.size_mismatch(sizes["x"], sizes["enlarged"], pipeline.scale) or wrong
    return wrong or files
