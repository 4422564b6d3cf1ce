"""The state of an application: all services, and what requests need besides."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final, NamedTuple, Self

from fastapi import Depends, Request

from trustscale_server.bootstrap.assembly import Services
from trustscale_server.http.auth import Keyring
from trustscale_server.http.clients import ClientLimits, LimitedUnit
from trustscale_server.http.idempotency import IdempotencyKeys
from trustscale_server.monitoring.scoring import MAX_TRUTH_BYTES
from trustscale_server.platform.errors import (
    UpscalerUnavailable,
)
from trustscale_server.platform.fair import Room, current_client
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.upscalers.base import Upscaler


class Timings(NamedTuple):
    """Intervals and timeouts of a gateway that no setting changes, in seconds."""

    sweep_s: float = 60.0
    orphans_s: float = 6 * 3600.0  # of uploads without a job: object stores charge for listing
    # For tasks of a stopping gateway, which are repeated otherwise, and for uploads that arrive.
    drain_s: float = 5.0
    answer_s: float = 5.0  # of a component whose readiness is asked
    probe_s: float = 10.0  # between two health checks of an upscaler


TIMINGS: Final = Timings()


class Probes:
    """Checks each upscaler at most once per `rest_s` seconds, because a check may cost money."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._asked: dict[str, tuple[float, asyncio.Task[None]]] = {}

    async def probe(self, upscaler: Upscaler) -> None:
        """Check an upscaler, unless it answered a moment ago.

        Raises:
            UpscalerUnavailable: it did not; or its circuit breaker is open, and it is not checked.
        """
        if getattr(upscaler, "breaker_open", False):
            raise UpscalerUnavailable(
                f"{upscaler.name!r} has failed many times in a row; it is called again as soon as "
                "it is back."
            )
        now = asyncio.get_running_loop().time()
        at, answer = self._asked.get(upscaler.name, (-math.inf, None))
        if answer is None or (answer.done() and now - at >= self._rest_s):
            answer = asyncio.create_task(upscaler.probe())
            # Retrieves the error of a check that is no longer awaited.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked[upscaler.name] = now, answer
        await asyncio.shield(answer)

    async def aclose(self) -> None:
        """Cancel the checks in progress."""
        answers = [answer for _, answer in self._asked.values()]
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Services):
    """Everything `create_app` has wired together."""

    worker: asyncio.Task[None] | None  # runs jobs in this process
    metrics: Metrics
    timings: Timings
    client_keys: Keyring
    admin_keys: Keyring
    limits: ClientLimits
    idempotency: IdempotencyKeys
    probes: Probes
    bodies: Room
    stopping: asyncio.Event  # set when the server stops: what is endless ends
    operator: str | None = None  # the admin of an application that only its own process can reach

    @classmethod
    async def from_services(
        cls,
        services: Services,
        stack: AsyncExitStack,
        metrics: Metrics,
        timings: Timings,
        **members: Any,
    ) -> Self:
        """Make the state from the service's parts, and open what requests need besides."""
        held = {field.name: getattr(services, field.name) for field in fields(services)}
        common = {
            "probes": await stack.enter_async_context(aclosing(Probes(timings.probe_s))),
            "idempotency": IdempotencyKeys(services.stores.claims),
            "stopping": asyncio.Event(),
            # As many uploads of the largest size may arrive at once: their bytes are on the disk.
            "bodies": Room(
                16 * max(services.settings.max_upload_bytes, MAX_TRUTH_BYTES),
                "bytes for uploads that arrive",
            ),
        }
        return cls(**{**held, **common, "metrics": metrics, "timings": timings, **members})

    async def charge(self, unit: LimitedUnit, amount: int = 1) -> None:
        """Count what the current client asks for. Raises RateLimited, StoreUnavailable."""
        await self.limits.take(current_client.get(), unit, amount)


def state_of(request: Request) -> State:
    """Return the state of the application that got a request."""
    state: State = request.state.trustscale
    return state


StateDep = Annotated[State, Depends(state_of)]
