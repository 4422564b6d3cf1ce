"""Whether upscalers can be reached, asked no more often than their health changes."""

from __future__ import annotations

import asyncio
import math

from trustscale_server.platform.errors import UpscalerUnavailable
from trustscale_server.upscalers.base import Upscaler


class HealthChecks:
    """Checks each upscaler at most once per `rest_s` seconds, because a check may cost money."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._asked: dict[str, tuple[float, asyncio.Task[None]]] = {}

    async def check(self, upscaler: Upscaler) -> None:
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
