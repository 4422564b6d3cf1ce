"""Whether upscalers can be reached, with pauses between two checks of one upscaler."""

from __future__ import annotations

import asyncio
import math

from trustscale_server.platform.errors import UpscalerUnavailable
from trustscale_server.upscalers.base import Upscaler


class HealthChecks:
    """Checks each upscaler at most once per `pause_s` seconds, because a check may cost money."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._checks: dict[str, tuple[float, asyncio.Task[None]]] = {}

    async def check(self, upscaler: Upscaler) -> None:
        """Check an upscaler, or return the outcome of its last check if that is recent.

        Raises:
            UpscalerUnavailable: the check failed; or the circuit breaker is open, and none is made.
        """
        if getattr(upscaler, "breaker_open", False):
            raise UpscalerUnavailable(
                f"{upscaler.name!r} has failed many times in a row; it is called again as soon as "
                "it is back."
            )
        now = asyncio.get_running_loop().time()
        began_at, check = self._checks.get(upscaler.name, (-math.inf, None))
        if check is None or (check.done() and now - began_at >= self._pause_s):
            check = asyncio.create_task(upscaler.probe())
            # Retrieves the error of a check that nobody awaits any more, or asyncio would log it.
            check.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._checks[upscaler.name] = now, check
        await asyncio.shield(check)

    async def aclose(self) -> None:
        """Cancel the checks in progress."""
        checks = [check for _, check in self._checks.values()]
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
