"""Calibrations on the command line: their inputs, their uploads, their making.

A calibration is of one upscaler and costs calls. Where the class of an upload chooses, those calls
are worth their price only for classes that the upscaler will answer.

Inputs may be made so that they look like a folder of uploads.

The application makes calibrations from files in place. It gets a list of paths (`listed`) instead
of an archive. A job's id follows from its pairs and settings, and its records are kept until it
succeeds, so repeating the command continues where the last one stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from trustscale_server.calibration.admin import CalibrationAdmin, Plan
from trustscale_server.calibration.config import CalibrationConfig, CalibrationRequest
from trustscale_server.calibration.intake import Files
from trustscale_server.calibration.layout import IMAGE_SUFFIXES, NamedFile, PairFiles
from trustscale_server.calibration.pairs import PairUpload, load_pair
from trustscale_server.errors import BadInput, BadPairs, BadRequest, ConfigError, NotFound
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import USUAL, Component, Degradation, Mixture
from trustscale_server.images.description import (
    UPLOAD,
    InputFeatures,
    class_in_words,
    class_of_way,
    classify,
    look_at,
    ways_of,
)
from trustscale_server.images.sandbox import in_decoder
from trustscale_server.sampling.pipeline import Pipeline
from trustscale_server.sigma.estimators import IndecisionSettings
from trustscale_server.stores.base import Blobs, JobState, JobStatus, Stores, open_stores
from trustscale_server.stores.blobs import held
from trustscale_server.upscalers.base import routed

# --- Which upscalers `auto` answers the inputs of a calibration with.

_MOST_READ: Final = 40  # inputs of a folder whose classes are looked at
_NEARLY_ALL: Final = 0.9
_FEW: Final = 3  # kinds that are named


class AnsweredUploads(NamedTuple):
    """What one upscaler answers.

    made_by: how X is made for it; None: as the calibration's settings say, or X is given.
    kinds: the ways or classes of the uploads that it answers.
    """

    upscaler: str
    kinds: Sequence[str]
    made_by: Degradation | Mixture | None = None


def answered_uploads(
    table: Mapping[str, str], config: CalibrationConfig, pairs: Sequence[PairFiles], scale: int
) -> list[AnsweredUploads]:
    """Return the upscalers that answer the inputs of a calibration, by the table of `auto`.

    Of a mixture each gets the ways that make its classes. Inputs that are given, or made in a way
    that is not among the usual ones, are looked at; nearly all of them must be for one upscaler.

    Raises:
        ConfigError: they are not, so somebody must choose.
    """
    made_by = None if any(pair.x for pair in pairs) else config.input_made_by(scale)
    if not isinstance(made_by, Mixture):
        return [_answering(table, _classes(config, made_by, pairs, scale))]
    ways = defaultdict[str, dict[str, Mixture]](dict)
    for way, mixture in made_by.variants().items():
        usual = class_of_way(way)
        classes = Counter({usual: 1}) if usual else _classes(config, mixture, pairs, scale)
        ways[_answering(table, classes).upscaler][way] = mixture
    return [
        AnsweredUploads(
            upscaler,
            [*by_way],
            Mixture(
                mixture=tuple(
                    component for mixture in by_way.values() for component in mixture.mixture
                ),
                shares={way: made_by.share(way) for way in by_way},
            ),
        )
        for upscaler, by_way in ways.items()
    ]


def in_words(answering: Sequence[AnsweredUploads]) -> str:
    """Return which upscalers answer, for the person who waits for their calibrations."""
    if len(answering) == 1:
        return f"auto answers such uploads with {answering[0].upscaler}"
    named = [f"{share.upscaler} ({_listed(share.kinds)})" for share in answering]
    return f"auto answers such uploads with {' and '.join(named)}, each for its own"


def _listed(kinds: Sequence[str]) -> str:
    return ", ".join(kinds) if len(kinds) <= _FEW else f"{len(kinds)} kinds of upload"


def _answering(table: Mapping[str, str], classes: Counter[str]) -> AnsweredUploads:
    """The upscaler of nearly all inputs. Raises ConfigError: there is none."""
    counts = Counter[str]()
    for name, count in classes.items():
        counts[routed(table, name)] += count
    if not counts:  # nothing could be read; taking in the pairs will tell why
        return AnsweredUploads(routed(table, ""), [])
    (first, most), *_ = counts.most_common()
    if most < _NEARLY_ALL * counts.total():
        named = " and ".join(f"{count} with {name}" for name, count in counts.most_common())
        raise ConfigError(
            f"Of {counts.total()} inputs auto answers {named}: name the one that is meant with "
            "--upscaler, or run the command once for each."
        )
    return AnsweredUploads(first, [name for name in classes if routed(table, name) == first])


def _classes(
    config: CalibrationConfig,
    made_by: Degradation | Mixture | None,
    pairs: Sequence[PairFiles],
    scale: int,
) -> Counter[str]:
    """The classes of some inputs; pairs that cannot be used are left out."""
    pipeline = Pipeline(
        fingerprint="",
        scale=scale,
        samples=1,
        indecision=IndecisionSettings("departure"),
        stretch=config.stretch,
    )
    classes = Counter[str]()
    for pair in pairs[:: -(-len(pairs) // _MOST_READ) or 1]:
        try:
            y, x = Path(pair.y).read_bytes(), Path(pair.x).read_bytes() if pair.x else None
            upload = PairUpload(pair.name, y, x)
            loaded = load_pair(upload, pipeline, degradation=made_by, seed=config.seed)
        except (BadInput, OSError):
            continue
        classes[classify(UPLOAD, loaded.facts)] += 1
    return classes


# --- What a folder of uploads looks like, and inputs that are made to look the same.

_MOST_FILES: Final = 2000  # of a folder that are looked at
_SHARE: Final = 0.01  # of the uploads, below which a class is not worth its calls


class UploadFacts(NamedTuple):
    """One upload: its size (width, height) and facts."""

    size: tuple[int, int]
    facts: InputFeatures

    @property
    def input_class(self) -> str:
        """The class of the upload."""
        return classify(UPLOAD, self.facts)


class InputProfile(NamedTuple):
    """The uploads of a folder, and an item for each file that is no usable image."""

    uploads: Sequence[UploadFacts]
    unread: Sequence[dict[str, str]]

    @property
    def classes(self) -> Counter[str]:
        """How many uploads are of each class."""
        return Counter(upload.input_class for upload in self.uploads)

    def mixture(self) -> Mixture:
        """Return the usual ways of making uploads of the classes that occur, as frequent as these.

        JPEG files have the qualities that occur. BadPairs: no upload can be made.
        """
        known = [
            upload.facts.compression.quality
            for upload in self.uploads
            if upload.facts.compression.codec == "jpeg"
        ]
        qualities = [quality for quality in known if quality is not None]
        usual, components, shares = USUAL.variants(), list[Component](), dict[str, int]()
        for name, count in self.classes.items():
            for way in ways_of(name) if count >= _SHARE * len(self.uploads) else []:
                components += [_at(component, qualities) for component in usual[way].mixture]
                shares[way] = max(1, round(100 * count / len(self.uploads)))
        if not components:
            raise BadPairs("No upload is of a kind that can be made from a photograph.", items=[])
        return Mixture(mixture=tuple(components), shares=shares)

    def report(self) -> list[str]:
        """Describe classes and sizes, and what is not covered, in lines."""
        total = len(self.uploads)
        widths, heights = zip(*(upload.size for upload in self.uploads), strict=True)
        smallest, largest = f"{min(widths)}×{min(heights)}", f"{max(widths)}×{max(heights)}"
        size = (
            f"{total} uploads of {smallest} to {largest} pixels; where photographs are smaller "
            "than what these become, the promise is about a window of their size"
        )
        lines = [size]
        ways = self.mixture().variants()
        for name, count in self.classes.most_common():
            covered = "" if set(ways_of(name)) & ways.keys() else "; not covered"
            lines.append(f"  {count / total:4.0%}  {name}: {class_in_words(name)}{covered}")
        never = [way for way in USUAL.variants() if way not in ways]
        if never:
            lines.append(f"  not covered, since no upload is so: {', '.join(never)}")
        return lines


def _at(component: Component, qualities: Sequence[int]) -> Component:
    """The component with JPEG files of these qualities alone, if it can have one."""
    if component.jpeg is None or not isinstance(component.jpeg, tuple):
        return component
    fitting = [
        quality for quality in qualities if component.jpeg[0] <= quality <= component.jpeg[1]
    ]
    return (
        component.model_copy(update={"jpeg": (min(fitting), max(fitting))})
        if fitting
        else component
    )


def look_like(folder: Path) -> InputProfile:
    """Look at the images of a folder and its subfolders.

    Raises:
        BadPairs: it is no folder, or holds no image that can be read.
    """
    if not folder.is_dir():
        raise BadPairs(f"{folder} is not a folder.", items=[])
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    uploads: list[UploadFacts] = []
    unread: list[dict[str, str]] = []
    for path in paths[:: -(-len(paths) // _MOST_FILES) or 1]:
        try:
            image = in_decoder(decode, path.read_bytes(), PAIR_LIMITS)
        except (BadInput, OSError) as error:
            unread.append({"name": path.name, "reason": str(error)})
            continue
        height, width, _ = image.rgb.shape
        uploads.append(UploadFacts((width, height), look_at(image.rgb, image.compression)))
    if not uploads:
        raise BadPairs(f"{folder} holds no PNG, JPEG or WebP image that can be read.", items=unread)
    return InputProfile(uploads, unread)


# --- How the command line's application makes calibrations: from files in place.

DATABASE: Final = "calibrate.sqlite3"
"""In the data folder: jobs of the command line, apart from a server's."""

LIST: Final = "files.json"


def listed(members: Mapping[str, Path]) -> dict[str, bytes]:
    """Make the table of paths that is sent in place of the files."""
    places = {name: str(path.absolute()) for name, path in members.items()}
    return {LIST: json.dumps(places).encode()}


def files_at(places: Mapping[str, str]) -> Iterator[NamedFile]:
    """Yield the files of a table made by `listed`."""
    for name, place in places.items():
        yield NamedFile(name, Path(place).read_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAdmin(CalibrationAdmin):
    """Makes calibrations of files in their place, on `private_stores`.

    data_dir: of the locks.
    stack: closes what jobs hold.
    on_checked: called with (files checked, all files).
    """

    data_dir: Path
    stack: AsyncExitStack
    on_checked: Callable[[int, int], None] = lambda *_: None

    async def create(
        self, config: CalibrationConfig, files: Files, *, webhook: str | None = None, **more: Any
    ) -> JobStatus:
        """Create a calibration of `listed` files, or resume an earlier run of it.

        Raises:
            ConfigError: another process is making this calibration.
        """
        places = await asyncio.to_thread(_places, files)
        checked = await self._asked(config, partial(files_at, places), **self._checks, **more)
        jobs, blobs = self.stores.jobs, cast("InPlace", self.stores.blobs)
        job_id = run_id(checked.request)
        lock = self.data_dir / f"{job_id}.lock"
        self.stack.enter_context(held(lock, "Another process is making this calibration."))
        self.stack.push_async_callback(self._leave, job_id)
        measured = len(await jobs.recorded(job_id))
        job = await self._job(checked, job_id, measured=measured, webhook=webhook)
        blobs.place(job.id, checked.pairs, places)
        await jobs.renew(job)
        return await self.queue.submit(job)

    async def plan(self, config: CalibrationConfig, files: Files, **more: Any) -> Plan:
        """Return what `create` would take; pairs that an earlier run measured cost nothing."""
        places = await asyncio.to_thread(_places, files)
        checked = await self._asked(config, partial(files_at, places), **self._checks, **more)
        measured = len(await self.stores.jobs.recorded(run_id(checked.request)))
        return await self._planned(checked, measured)

    @property
    def _checks(self) -> dict[str, Any]:
        return {"labels_are_claimed": False, "on_progress": self.on_checked}

    async def _leave(self, job: str) -> None:
        if (await self.stores.jobs.get(job)).state is JobState.SUCCEEDED:
            await self.stores.jobs.forget(job)
            await self.stores.blobs.delete(job)
            (self.data_dir / f"{job}.lock").unlink(missing_ok=True)


def private_stores(stores: Stores, data_dir: Path, stack: AsyncExitStack) -> Stores:
    """Return the stores with separate jobs, whose files are read in place."""
    own = open_stores(f"sqlite:///{DATABASE}", data_dir, result_ttl_s=1.0, max_result_bytes=1)
    stack.push_async_callback(own.close)
    return replace(stores, jobs=own.jobs, blobs=InPlace(stores.blobs))


def _places(files: Files) -> Mapping[str, str]:
    for file in files():
        if file.path == LIST:
            places: dict[str, str] = json.loads(file.read())
            return places
    raise BadRequest(f"An application of the command line is sent {LIST}.")


def run_id(request: CalibrationRequest) -> str:
    """Return the id of the job of a request, so that a run can be resumed."""
    return f"calibrate-{request.key}"


class InPlace(Blobs):
    """Blobs that read the files of pairs in place."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(blobs.store, blobs.root)
        self._files: dict[str, dict[str, Path]] = {}

    def place(self, job: str, pairs: Sequence[PairFiles], places: Mapping[str, str]) -> None:
        """Register where the files of the pairs of a job are."""
        self._files[job] = {
            f"{role}/{pair.name}": Path(places[path])
            for pair in pairs
            for role, path in pair.by_role.items()
        }

    async def get(self, job: str, name: str, *, most: int | None = None) -> bytes:
        """Read a file, as `Blobs.get`."""
        path = self._files.get(job, {}).get(name)
        if path is None:
            return await super().get(job, name, most=most)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}.") from error

    async def names(self, job: str) -> list[str]:
        """List the files, as `Blobs.names`."""
        return sorted({*self._files.get(job, ()), *await super().names(job)})
