"""The calibrations a gateway serves from, and which of several active ones answers an upload.

Calibrations are immutable, so parsed ones are kept in memory. Which ones are active is read from
the store on every request, so every process sees an activation at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

import structlog
from pydantic import BaseModel

from trustscale_server.calibration import record
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal.fidelity import METRICS, FidelitySettings
from trustscale_server.errors import (
    BadCalibration,
    Conflict,
    NoCalibration,
    NotFound,
    UpscalerUnavailable,
)
from trustscale_server.images.description import RULES, InputFeatures
from trustscale_server.sampling.pipeline import TRUST_LAYER_VERSION, pipeline_differences
from trustscale_server.stores.base import MOST_ACTIVE, Activation, CalibrationStore
from trustscale_server.upscalers.base import Upscaler

EVERY: Final = "*"
"""The class of every upload, where a calibration has no classes."""


@dataclass(frozen=True, slots=True)
class CalibrationPriority:
    """The active calibrations of an upscaler, in order.

    The first that covers an upload's class, and the size of its output, answers; else the first of
    all, which says that nothing is known. A curve keeps its promise only for uploads like all of
    its pairs, so one that sorts uploads otherwise than those before it, or not at all, answers no
    class that they may answer.
    """

    calibrations: Sequence[Calibration]

    @property
    def first(self) -> Calibration:
        """The one that was activated last."""
        return self.calibrations[0]

    @property
    def stretches(self) -> list[str | None]:
        """The stretches of data, None for pictures, in order, each once."""
        return list(
            dict.fromkeys(calibration.pipeline.stretch for calibration in self.calibrations)
        )

    def choose(self, facts: InputFeatures, height: int, width: int) -> Calibration:
        """Return the calibration that answers an upload whose output has this size."""
        for place, calibration in enumerate(self.calibrations):
            if calibration.partitions.covers(facts) and calibration.answers_size(height, width):
                name = calibration.partitions.class_of(facts)
                if not self._is_taken(
                    place, covered_classes(calibration) if name is None else [name]
                ):
                    return calibration
        return self.first

    def answers(self) -> list[list[str]]:
        """Return the classes that each calibration answers, even if only for some sizes."""
        answered = []
        for place, calibration in enumerate(self.calibrations):
            names = covered_classes(calibration)
            if calibration.pipeline.input_rule is None and self._is_taken(place, names):
                names = []
            answered.append([name for name in names if not self._is_taken(place, [name])])
        return answered

    def of_words(self, *, reads: bool) -> CalibrationPriority:
        """Return only the calibrations for text, or only the others; all if there are none such."""
        chosen = [calibration for calibration in self.calibrations if calibration.reads == reads]
        is_same = len(chosen) in {0, len(self.calibrations)}
        return self if is_same else CalibrationPriority(chosen)

    def _is_taken(self, place: int, names: Sequence[str]) -> bool:
        """Whether one before it answers uploads of these classes, for the same data and sizes."""
        own = self.calibrations[place]
        rule, sizes = own.pipeline.input_rule, own.sizes
        for other in self.calibrations[:place]:
            if _differ(own, other):
                continue  # no request is for both
            if other.sizes is not None and (sizes is None or not sizes & other.sizes):
                continue
            same = rule is not None and other.pipeline.input_rule == rule
            for known in covered_classes(other):
                if known in names or not same:
                    return True
        return False


def _differ(first: Calibration, second: Calibration) -> bool:
    """Whether they are for other data, or one is for text and one is not."""
    return (first.pipeline.stretch, first.reads) != (second.pipeline.stretch, second.reads)


def covered_classes(calibration: Calibration) -> list[str]:
    """Return the classes that a calibration covers; without a rule `EVERY`."""
    has_rule = calibration.pipeline.input_rule is not None
    return [*calibration.partitions.classes] if has_rule else [EVERY]


log = structlog.get_logger(__name__)

_SHIPPED = resources.files(__package__) / "shipped"
_DATA = "-data"
_KEPT = 2 * MOST_ACTIVE  # parsed calibrations in memory; each takes a few megabytes


FAR_BELOW = 0.5  # of the present trusted area, below which a switch must be forced


class Change(BaseModel):
    """A figure before and after the switch; before is None if nothing was served."""

    before: float | None
    after: float


class Changes(BaseModel):
    """What users see of a switch, each over the pairs of its own calibration.

    trusted_area: mean share in [0, 1] of trusted pixels at `alpha`, the default α of the next.
    """

    alpha: float
    default_alpha: Change
    min_alpha: Change
    trusted_area: Change

    @classmethod
    def of(cls, after: Calibration, before: Calibration | None) -> Changes:
        """Compare both calibrations at the default α of the next one, so that areas compare."""
        alpha = after.manifest.default_alpha

        def area(calibration: Calibration) -> float:
            return calibration.report.mean_trusted_fraction(calibration.curve.threshold(alpha))

        return cls(
            alpha=alpha,
            default_alpha=Change(
                before=before.manifest.default_alpha if before else None, after=alpha
            ),
            min_alpha=Change(
                before=before.min_alpha if before else None, after=after.curve.min_alpha
            ),
            trusted_area=Change(before=area(before) if before else None, after=area(after)),
        )

    @property
    def is_worse(self) -> bool:
        """Whether it trusts nothing at its default α, or far less than the present one."""
        before = self.trusted_area.before or 0.0
        return self.min_alpha.after > self.alpha or self.trusted_area.after < FAR_BELOW * before

    def check(self, after: Calibration) -> None:
        """Raise Conflict, with the figures as `changes`, if it would serve worse."""
        if self.is_worse:
            short = after.shortfall(self.alpha)
            why = f" At its default {short}." if short else ""
            raise Conflict(
                f"{after.id} would serve worse: {self}.{why} It stays inactive unless forced.",
                changes=self.model_dump(),
            )

    def __str__(self) -> str:
        area, least = self.trusted_area, self.min_alpha
        if area.before is None or least.before is None:
            return (
                f"trusted area at α = {self.alpha:g} {area.after:.1%}, smallest α {least.after:.4g}"
            )
        return (
            f"trusted area at α = {self.alpha:g} {area.before:.1%} → {area.after:.1%}, "
            f"smallest α {least.before:.4g} → {least.after:.4g}"
        )


class Calibrations:
    """Reads, adds and activates calibrations."""

    def __init__(self, store: CalibrationStore) -> None:
        self.store = store
        self._parsed: OrderedDict[str, Calibration] = OrderedDict()
        self._orders: dict[str, tuple[Sequence[str], CalibrationPriority]] = {}

    async def get(self, calibration: str) -> Calibration:
        """Return the calibration of an id.

        Raises:
            NotFound: no such calibration.
            BadCalibration: the stored file is damaged.
        """
        if calibration not in self._parsed:
            blob = await self.store.get(calibration)
            self._keep(await asyncio.to_thread(record.load, blob))
        self._parsed.move_to_end(calibration)
        return self._parsed[calibration]

    def _keep(self, calibration: Calibration) -> None:
        self._parsed[calibration.id] = calibration
        while len(self._parsed) > _KEPT:
            self._parsed.popitem(last=False)

    async def stored(self, calibration: str) -> Calibration:
        """Return the stored calibration; raise NotFound once any process has deleted it."""
        await self.store.get(calibration)
        return await self.get(calibration)

    async def active_ids(self, upscaler: str) -> tuple[str, ...]:
        """Return the ids of an upscaler's active calibrations, in order of priority."""
        activation = (await self.store.active()).get(upscaler)
        return activation.calibrations if activation else ()

    async def active_id(self, upscaler: str) -> str | None:
        """Return the id of the active calibration that is asked first, or None."""
        return next(iter(await self.active_ids(upscaler)), None)

    async def order(self, upscaler: str) -> CalibrationPriority:
        """Return the active calibrations of an upscaler; later ones only if they can be read.

        Raises:
            NoCalibration: there is none, or the first cannot be read: damaged, or of an older
                release.
        """
        ids = await self.active_ids(upscaler)
        if not ids:
            raise NoCalibration(
                f"The upscaler {upscaler!r} has no active calibration, so no mask would have a "
                f"foundation. Calibrate it: trustscale calibrate FOLDER --upscaler {upscaler} "
                "--activate. Or ask for the picture alone: mask=none, --mask none.",
                upscaler=upscaler,
            )
        known, order = self._orders.get(upscaler, ((), None))
        if order is None or known != ids:
            readable = []
            for calibration_id in ids:
                try:
                    readable.append(await self.get(calibration_id))
                except (BadCalibration, NotFound) as error:
                    if not readable:
                        raise NoCalibration(
                            f"The active calibration {calibration_id} of {upscaler!r} cannot be "
                            f"read, so no mask would have a foundation. {error.detail}",
                            upscaler=upscaler,
                        ) from error
                    # It must not stop the others.
                    log.warning(
                        "calibration_unread", calibration=calibration_id, detail=error.detail
                    )
            order = CalibrationPriority(readable)
            self._orders[upscaler] = ids, order
        return order

    async def reads(self, upscaler: Upscaler) -> bool:
        """Return whether there is a calibration for text, and a reader."""
        if FidelitySettings(metric="text").missing is not None:
            return False
        heads = await self.store.heads(upscaler.name)
        return any(METRICS[head.metric].reads for head in heads) or _for_text(upscaler) is not None

    async def of_words(self, upscaler: Upscaler) -> CalibrationPriority | None:
        """Return those for text: active ones, else the newest stored, else the shipped one."""
        heads = [
            head for head in await self.store.heads(upscaler.name) if METRICS[head.metric].reads
        ]
        active = await self.active_ids(upscaler.name)
        newest = sorted(heads, key=lambda head: head.created_at, reverse=True)[:1]
        if chosen := [head for head in heads if head.id in active] or newest:
            return CalibrationPriority([await self.get(head.id) for head in chosen])
        if (entry := _for_text(upscaler)) is None:
            return None
        data = await asyncio.to_thread(entry.read_bytes)
        shipped = (await asyncio.to_thread(record.load, data)).for_upscaler(upscaler.name)
        await self.add(shipped, activate=False)
        return CalibrationPriority([shipped])

    async def active(self, upscaler: str) -> Calibration:
        """Return the active calibration that is asked first."""
        return (await self.order(upscaler)).first

    async def changes(self, calibration: Calibration, *, force: bool) -> Changes:
        """Return what serving from a calibration, stored or not, would change for users.

        Raises:
            Conflict: it would serve worse, and that is not forced.
        """
        present: Calibration | None = None
        active = await self.active_id(calibration.manifest.upscaler)
        if active is not None:
            # What cannot be read must not stop its successor.
            with suppress(BadCalibration, NotFound):
                first = await self.get(active)
                # Data, pictures and text have different calibrations.
                if not _differ(first, calibration):
                    present = first
        changes = await asyncio.to_thread(Changes.of, calibration, present)
        if not force and calibration.id != active:
            changes.check(calibration)
        return changes

    async def activate(
        self, calibration: Calibration, *, force: bool = False, only: bool = False
    ) -> tuple[Activation, Changes]:
        """Put a stored calibration before the active ones; with `only`, replace them.

        Raises:
            NotFound: it was deleted.
            Conflict: as `changes`, or too many would be active.
        """
        changes = await self.changes(calibration, force=force)
        return await self.switch(calibration, only=only), changes

    async def switch(
        self, calibration: Calibration, *, job: str | None = None, only: bool = False
    ) -> Activation:
        """Activate a calibration while its job runs, even if it would serve worse.

        Active ones that would answer nothing after it are deactivated.
        """
        without = None if only else await self._superseded(calibration)
        return await self.store.activate(calibration.id, job=job, without=without)

    async def _superseded(self, calibration: Calibration) -> list[str]:
        active = [*await self.active_ids(calibration.manifest.upscaler)]
        if not active:
            return []
        live = [calibration]
        for known in active:
            with suppress(BadCalibration, NotFound):  # else nothing is answered from it
                other = await self.get(known)
                is_same = other.pipeline.fingerprint == calibration.pipeline.fingerprint
                live += [other] if is_same and known != calibration.id else []
        answers = await asyncio.to_thread(CalibrationPriority(live).answers)
        answering = {other.id for other, classes in zip(live, answers, strict=True) if classes}
        return [known for known in active if known not in answering]

    async def add(
        self, calibration: Calibration, *, activate: bool, blob: bytes | None = None
    ) -> Activation | None:
        """Store a calibration, whose file is `blob` if given, and activate it if asked."""
        if blob is None:
            blob = await asyncio.to_thread(record.dump, calibration)
        await self.store.put(calibration.head, blob)
        self._keep(calibration)
        return await self.switch(calibration) if activate else None

    async def install_shipped(self, upscalers: Iterable[Upscaler]) -> None:
        """Give every upscaler without a calibration the shipped ones of its fingerprint.

        They also replace active ones if an older release shipped them all; in doubt these stay.
        """
        embedded = [upscaler for upscaler in upscalers if upscaler.kind == "embedded"]
        for entry in _shipped_files() if embedded else ():
            with entry.open("rb") as stream:
                name, fingerprint = record.identity(stream)
            for upscaler in embedded:
                if upscaler.fingerprint != fingerprint:
                    continue
                active = await self.active_ids(upscaler.name)
                if name in active or (active and not await self._are_outdated(active, upscaler)):
                    continue
                data = await asyncio.to_thread(entry.read_bytes)
                shipped = await asyncio.to_thread(record.load, data)
                if active:
                    if pipeline_differences(shipped.pipeline, upscaler):
                        continue  # it would serve no better
                    log.warning("calibration_replaced", upscaler=upscaler.name, calibrations=active)
                # The last one comes first, and what was activated meanwhile stays.
                for blob in (*_of_data(entry), data):
                    loaded = await asyncio.to_thread(record.load, blob)
                    renamed = loaded.for_upscaler(upscaler.name)
                    await self.add(
                        renamed, activate=False, blob=blob if renamed is loaded else None
                    )
                    await self.store.activate(renamed.id, without=active)

    async def _are_outdated(self, active: Sequence[str], upscaler: Upscaler) -> bool:
        """Whether surely older releases shipped them for this model, and this one serves none."""
        with suppress(BadCalibration, NotFound, LookupError, TypeError, ValueError):  # of any form
            names = {head.id: head.name for head in await self.store.heads(upscaler.name)}
            shipped = shipped_names()
            if any((names[known] or "").removesuffix(_DATA) not in shipped for known in active):
                return False
            files = [record.unchecked(await self.store.get(known)) for known in active]
            return all(_is_outdated(*facts, upscaler.fingerprint) for facts in files)
        return False


def _is_outdated(version: Any, manifest: Any, fingerprint: str) -> bool:
    pipeline, provenance = manifest["pipeline"], manifest["provenance"]
    return (
        # What was derived from a shipped one, or extends it, has its name, too.
        (provenance["parent"], provenance["created_by"]) == (None, "local")
        # Of another precision it is that of other processes.
        and pipeline["fingerprint"] == fingerprint
        and (
            version < record.VERSION
            or pipeline["trust_layer"] < TRUST_LAYER_VERSION
            or pipeline["input_rule"] not in RULES
        )
    )


def shipped_names() -> list[str]:
    """Return the calibrations that come with the program, such as `span-x4-f32`."""
    return sorted(entry.name.removesuffix(record.SUFFIX) for entry in _shipped_files())


def shipped_calibration(name: str = "span-x4-f32") -> Calibration:
    """Load one of `shipped_names()`."""
    return record.load((_SHIPPED / f"{name}{record.SUFFIX}").read_bytes())


def _for_text(upscaler: Upscaler) -> Traversable | None:
    """The shipped calibration for text of an upscaler."""
    with suppress(UpscalerUnavailable):
        for entry in _shipped_files(words=True):
            with entry.open("rb") as stream:
                if record.identity(stream)[1] == upscaler.fingerprint:
                    return entry
    return None


def _of_data(entry: Traversable) -> list[bytes]:
    """The shipped calibration of the same model for data of 16 bits, if there is one."""
    beside = _SHIPPED / "data" / entry.name
    return [beside.read_bytes()] if beside.is_file() else []


def _shipped_files(*, words: bool = False) -> list[Traversable]:
    """Those of colours, or for text."""
    entries = [entry for entry in _SHIPPED.iterdir() if entry.name.endswith(record.SUFFIX)]
    return [entry for entry in entries if entry.name.endswith(f"-text{record.SUFFIX}") == words]
