"""The state of an application: all services, and what requests need besides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Request

from trustscale_server.bootstrap.assembly import Services
from trustscale_server.http.auth import Keyring
from trustscale_server.http.clients import ClientLimits, LimitedUnit
from trustscale_server.http.health_checks import HealthChecks
from trustscale_server.http.idempotency import IdempotencyKeys
from trustscale_server.monitoring.scoring import MAX_TRUTH_BYTES
from trustscale_server.platform.fair import Room, current_client
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.serving.context import ServiceContext


class Timings(NamedTuple):
    """Intervals and timeouts of a gateway that no setting changes, in seconds."""

    sweep_s: float = 60.0
    orphans_s: float = 6 * 3600.0  # between two searches for uploads without a job: listing costs
    # For the tasks of a stopping gateway, which another one would repeat, and for uploads that
    # still arrive.
    drain_s: float = 5.0
    answer_s: float = 5.0  # for a component to say whether it is ready
    probe_s: float = 10.0  # between two health checks of an upscaler


TIMINGS: Final = Timings()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The services, and what requests need besides."""

    services: Services
    worker: asyncio.Task[None] | None  # runs jobs in this process
    metrics: Metrics
    timings: Timings
    client_keys: Keyring
    admin_keys: Keyring
    limits: ClientLimits
    idempotency: IdempotencyKeys
    health_checks: HealthChecks
    bodies: Room
    # Set when the server begins to stop, so that endless streams end.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    operator: str | None = None  # the admin of an application that only its own process can reach

    @property
    def context(self) -> ServiceContext:
        """What every request for a picture uses."""
        return self.services.service.context

    async def charge(self, unit: LimitedUnit, amount: int = 1) -> None:
        """Count what the current client asks for. Raises RateLimited, StoreUnavailable."""
        await self.limits.take(current_client.get(), unit, amount)


def room_for_bodies(max_upload_bytes: int) -> Room:
    """Return room for sixteen uploads of the largest size, whose bytes are on the disk."""
    return Room(16 * max(max_upload_bytes, MAX_TRUTH_BYTES), "bytes for uploads that arrive")


def state_of(request: Request) -> State:
    """Return the state of the application that got a request."""
    state: State = request.state.trustscale
    return state


StateDep = Annotated[State, Depends(state_of)]
