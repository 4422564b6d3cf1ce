"""States that several processes change, by compare-and-swap with backoff."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from app.stores.base import Label, MonitorStore, StoreUnavailable, Update

State = TypeVar("State")
Outcome_co = TypeVar("Outcome_co", covariant=True)

# Each retry means that another process saved first; together they last some five seconds.
_TRIES: Final = 12
_FIRST_S: Final = 0.005
_LONGEST_S: Final = 1.0


class Versioned(NamedTuple, Generic[State]):
    """A state and its version in the store; version 0: nothing is stored."""

    version: int
    state: State


class Change(NamedTuple, Generic[State, Outcome_co]):
    """What a piece of work makes of a state: its answer, and what is stored with the new state."""

    state: State
    outcome: Outcome_co
    label: Label | None = None
    points: Sequence[bytes] = ()


async def swap(
    store: MonitorStore,
    key: str,
    *,
    load: Callable[[], Awaitable[Versioned[State]]],
    work: Callable[[State], Change[State, Outcome_co] | None],
    dump: Callable[[State], bytes],
    known: Versioned[State] | None = None,
) -> tuple[Versioned[State], Outcome_co | None]:
    """Change a state by `work`, which runs again on the newer one if another process was faster.

    Args:
        store: where the state is.
        key: of it.
        load: reads it.
        work: what changes it; None where there is nothing to change.
        dump: writes it.
        known: what the state is, if no other process has changed it.

    Returns:
        The state, and the outcome; None if nothing was changed, or the label was there already.

    Raises:
        StoreUnavailable: it cannot be stored.
    """
    for tries in range(_TRIES):
        if tries:
            most = min(_LONGEST_S, _FIRST_S * 2**tries)
            await asyncio.sleep(random.uniform(0, most))  # noqa: S311 - jitter
        before = known or await load()
        known = None
        change = work(before.state)
        if change is None:
            return before, None
        if change.label is not None and await store.label(key, change.label.result):
            return before, None
        update = Update(dump(change.state), change.points, change.label)
        if await store.save(key, update, expected=before.version):
            return Versioned(before.version + 1, change.state), change.outcome
    raise StoreUnavailable("The state of the monitor changes too often; try again.")
