"""The calls to one upscaler, counted against its limit of an hour."""

from __future__ import annotations

from typing import Final

from trustscale_server.stores.calls import CallStore
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.failures import QuotaSpent

_HOUR_S: Final = 3600.0


class CallAccount:
    """Counts the calls to an upscaler.

    `calls` counts over all processes; without it `max_calls_per_hour` does nothing.
    """

    def __init__(self, config: RemoteConfig, calls: CallStore | None = None) -> None:
        self._name = config.name
        self._limit = config.max_calls_per_hour
        self._calls = calls
        self.price = config.price_per_call or 0.0

    async def spent(self) -> tuple[int, int] | None:
        """Return the calls of all processes in the last hour and their limit, or None.

        Raises StoreUnavailable.
        """
        if self._calls is None or self._limit is None:
            return None
        return await self._calls.count(self._name, seconds=_HOUR_S), self._limit

    async def begin(self) -> None:
        """Count a call before it is made.

        Raises QuotaSpent, or StoreUnavailable.
        """
        if self._calls is not None and self._limit is not None:
            seconds = await self._calls.take(self._name, self._limit, seconds=_HOUR_S)
            if seconds > 0:
                raise QuotaSpent(
                    f"{self._name!r} has made its max_calls_per_hour of {self._limit} calls.",
                    retry_after=seconds,
                )
