"""What answered requests say about a calibration: a state, and its accumulation.

What the monitor knows under one calibration is a value, and bytes (≤ 24 kB), that all gateways
share. A request only appends to a queue in memory, which one task per process accumulates. Requests
are lost if the process dies, or while a store is away too long: independently of the images, so no
promise changes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import structlog
from numpy.typing import DTypeLike, NDArray

from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal.evidence import RUN, LabelEvidence, PictureEvidence
from trustscale_server.errors import TrustscaleError
from trustscale_server.serving.service import Encoded
from trustscale_server.stores.base import Label, MonitorStore, Update
from trustscale_server.telemetry.signals import Metrics

# --- What the monitor knows under one calibration, as a value and as bytes (≤ 24 kB).

Outcome = TypeVar("Outcome")

MOST_LABELLED = 1000
"""Remembered images: the truth about each counts once."""


def reference_of(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the z of calibration pictures for `PictureEvidence.after`: float32, sorted.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("z contains values that are not finite")
    return np.sort(values.astype(np.float32))


class BadState(TrustscaleError):
    """The stored state is damaged, or of another release."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the monitor gets of one answered request.

    at: seconds since 1970.
    subset: names its group and class.
    reference: z of the calibration pictures of this subset, float32, sorted.
    mean_log_sigma: z.
    digest: of the input, below 2^64; equal inputs count once in a run.
    out_of_distribution: whether the answer warned of its typicality.
    """

    at: float
    subset: str
    reference: NDArray[np.float32]
    mean_log_sigma: float
    trusted_fraction: float
    digest: int
    out_of_distribution: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MonitorState:
    """Everything about the requests and labels under one calibration.

    since, updated: seconds since 1970; 0 before the first request.
    seen: answered requests; counted: of these, without repeated inputs.
    trusted_sum, out_of_distribution: over the counted ones.
    inputs: digests of the inputs of this run, uint64, sorted.
    labelled: digests of the last `MOST_LABELLED` images whose truth was counted, uint64.
    """

    since: float = 0.0
    updated: float = 0.0
    seen: int = 0
    counted: int = 0
    trusted_sum: float = 0.0
    out_of_distribution: int = 0
    pictures: PictureEvidence = field(default_factory=PictureEvidence)
    inputs: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    inputs_alarm_since: float | None = None
    labels: LabelEvidence = field(default_factory=LabelEvidence)
    labels_alarm_since: float | None = None
    labelled: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))


class StateChange(NamedTuple, Generic[Outcome]):
    """A new state, the answer of the change, and the label that is stored with it."""

    state: MonitorState
    outcome: Outcome
    label: Label | None = None


def fold(state: MonitorState, seen: Observation, uniform: float) -> MonitorState:
    """Return the state after one more request.

    Whether a request counts depends on its input's digest, never on z: leaving some out changes no
    promise. An alarm lasts until a whole run has passed without.
    """
    state = replace(
        state,
        since=state.since or seen.at,
        updated=max(state.updated, seen.at),
        seen=state.seen + 1,
    )
    if state.pictures.n >= RUN:
        since = state.inputs_alarm_since if state.pictures.alarms else None
        state = replace(
            state,
            pictures=PictureEvidence(),
            inputs=np.empty(0, np.uint64),
            inputs_alarm_since=since,
        )
    place = int(state.inputs.searchsorted(np.uint64(seen.digest)))
    if place < len(state.inputs) and int(state.inputs[place]) == seen.digest:
        return state
    after = state.pictures.after(seen.subset, seen.reference, seen.mean_log_sigma, uniform)
    since = state.inputs_alarm_since
    return replace(
        state,
        counted=state.counted + 1,
        trusted_sum=state.trusted_sum + seen.trusted_fraction,
        out_of_distribution=state.out_of_distribution + seen.out_of_distribution,
        pictures=after,
        inputs=np.insert(state.inputs, place, np.uint64(seen.digest)),
        inputs_alarm_since=seen.at if after.alarms and since is None else since,
    )


def fold_label(
    state: MonitorState,
    loss: float,
    alpha: float,
    bound: float,
    *,
    digest: int,
    slack: float,
    at: float,
) -> MonitorState:
    """Return the state after one more label; see `LabelEvidence.after`.

    `digest` is that of the image, of which only the first label counts.
    """
    after = state.labels.after(loss, alpha, bound, slack=slack)
    return replace(
        state,
        since=state.since or at,
        labels=after,
        labelled=np.append(state.labelled, np.uint64(digest))[-MOST_LABELLED:],
        labels_alarm_since=(state.labels_alarm_since or at) if after.alarms else None,
    )


def dump_state(state: MonitorState) -> bytes:
    """Return the bytes of a state."""
    document = asdict(state)
    seen = document["pictures"]["seen"]
    document["pictures"]["seen"] = {subset: _text(z, "<f4") for subset, z in seen.items()}
    document |= {name: _text(document[name], "<u8") for name in ("inputs", "labelled")}
    return json.dumps(document).encode()


def load_state(data: bytes) -> MonitorState:
    """Read a state of `dump_state`; BadState if it is damaged or of another release."""
    try:
        document: dict[str, Any] = json.loads(data)
        pictures, labels = document.pop("pictures"), document.pop("labels")
        seen = {subset: _array(z, "<f4", np.float32) for subset, z in pictures.pop("seen").items()}
        shares, log_e = tuple(pictures.pop("shares")), tuple(labels.pop("log_e"))
        return MonitorState(
            pictures=PictureEvidence(seen=seen, shares=shares, **pictures),
            labels=LabelEvidence(log_e=log_e, **labels),
            inputs=_array(document.pop("inputs"), "<u8", np.uint64),
            labelled=_array(document.pop("labelled"), "<u8", np.uint64),
            **document,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadState("The state of the monitor is damaged.") from error


def time_of(seconds: float) -> datetime:
    """Return a time of the monitor, in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _text(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _array(text: str, kind: str, native: DTypeLike) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), kind).astype(native)


# --- Accumulates answered requests to a state that all gateways share.

_AT_ONCE: Final = 200  # in one change, for which other writers of SQLite wait: some 15 ms

log = structlog.get_logger(__name__)


class _Waiting(NamedTuple):
    calibration: str
    seen: Observation


@dataclass(eq=False, repr=False)
class Monitor:
    """Compares requests and labels with the calibration they were served from.

    uniform: numbers in [0, 1) that break ties.
    most_waiting: the longest queue.
    rest_s: pause after each round, to join requests in one write.
    drain_s: time of a stopping process for its last round.
    """

    store: MonitorStore
    metrics: Metrics = field(default_factory=Metrics)
    _: KW_ONLY
    uniform: Callable[[], float] = random.random
    most_waiting: int = 10_000
    rest_s: float = 0.2
    rest_after_failure_s: float = 5.0
    drain_s: float = 2.0
    _waiting: deque[_Waiting] = field(default_factory=deque, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def note(self, calibration: str, seen: Observation) -> None:
        """Queue a request that this calibration answered; returns at once and raises nothing."""
        if len(self._waiting) >= self.most_waiting:
            self._lose(1, "the queue of the monitor is full")
            return
        self._waiting.append(_Waiting(calibration, seen))
        self._wake.set()

    def answered(self, answer: Encoded) -> None:
        """Queue an answered request, as an `Observer` of the service."""
        result, chosen = answer.result, answer.admitted.chosen
        if result is None or chosen.calibration is None:
            return  # without a mask nothing was promised
        group = chosen.calibration.partitions.of_group(result.group)
        name = result.input_class.name if result.input_class else None
        partition = group.partitions.of_class(name)
        seen = Observation(
            at=time.time(),
            subset=f"{result.group or ''}/{name if partition is not group else ''}",
            reference=reference(partition),
            mean_log_sigma=answer.mean_log_sigma,
            trusted_fraction=result.trusted_fraction,
            digest=answer.admitted.decoded.digest,
            out_of_distribution=result.out_of_distribution,
        )
        self.note(chosen.calibration.id, seen)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accumulate during the body, and the rest at its end if the store is available."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(self.drain_s):
                    async with self._lock:  # a round cut off would be folded twice
                        task.cancel()
                    await self.settle()
            except (TrustscaleError, TimeoutError) as error:
                self._lose(len(self._waiting), str(error) or "no time left")
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        """Accumulate everything that waits.

        Raises StoreUnavailable; the queue is kept then.
        """
        async with self._lock:
            while self._waiting:
                calibration = self._waiting[0].calibration
                of_calibration = (
                    waiting for waiting in self._waiting if waiting.calibration == calibration
                )
                batch = [*islice(of_calibration, _AT_ONCE)]
                await self._fold(calibration, [waiting.seen for waiting in batch])
                done = {id(waiting) for waiting in batch}
                self._waiting = deque(
                    waiting for waiting in self._waiting if id(waiting) not in done
                )

    async def known(self, calibration: str) -> MonitorState:
        """Return the present state of a calibration. Raises StoreUnavailable."""
        return _read(calibration, await self.store.load(calibration))

    async def change(
        self,
        calibration: str,
        work: Callable[[MonitorState], StateChange[Outcome]],
        *,
        labels: str | None = None,
    ) -> Outcome | None:
        """Change the state by `work`, which may run again; see `MonitorStore.change`."""

        def decide(stored: bytes | None) -> tuple[Outcome, Update]:
            state, outcome, label = work(_read(calibration, stored))
            return outcome, Update(dump_state(state), label)

        return await self.store.change(calibration, decide, labels=labels)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            rest = self.rest_s
            try:
                await self.settle()
            except TrustscaleError as error:
                log.warning("monitor_failed", detail=error.detail, waiting=len(self._waiting))
                rest = self.rest_after_failure_s
                self._wake.set()
            except Exception:
                # A bug of the monitor: its cause must not be tried for ever.
                log.exception("monitor_failed")
                self._lose(len(self._waiting), "a fault of the monitor")
                self._waiting.clear()
            await asyncio.sleep(rest)

    async def _fold(self, calibration: str, batch: Sequence[Observation]) -> None:
        def work(state: MonitorState) -> StateChange[None]:
            for seen in batch:
                state = fold(state, seen, self.uniform())
            return StateChange(state, None)

        await self.change(calibration, work)

    def _lose(self, requests: int, reason: str) -> None:
        if requests:
            log.warning("monitor_dropped", requests=requests, reason=reason)
            self.metrics.count("monitor_dropped", by=requests)


def _read(calibration: str, stored: bytes | None) -> MonitorState:
    """A stored state; a new one in place of none, or of a damaged one."""
    if stored is None:
        return MonitorState()
    try:
        return load_state(stored)
    except BadState:
        log.exception("monitor_state_damaged", calibration=calibration)
        return MonitorState()


def reference(calibration: Calibration) -> NDArray[np.float32]:
    """Return the z of one image of each scene of a part, for ranks (`app/conformal/evidence.py`).

    With more of a scene, requests of new scenes would not be exchangeable with them.
    """
    return reference_of(
        np.array([pair.mean_log_sigma for pair in calibration.report.one_of_each], np.float64)
    )
