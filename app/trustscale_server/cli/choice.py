"""Which of the configured upscalers a command means."""

from __future__ import annotations

from typing import Any

from trustscale import AsyncTrustscale
from trustscale_server.platform.errors import ConfigError
from trustscale_server.upscalers.base import AUTO


async def meant_upscalers(service: AsyncTrustscale, name: str | None) -> list[dict[str, Any]]:
    """Return the row of an upscaler; for None and `auto` the rows of all that answer by default.

    Raises:
        ConfigError: there is none of this name.
    """
    rows = await service.upscalers(brief=True)
    if name in {None, AUTO}:
        return [row for row in rows if row["default"]]
    meant = [row for row in rows if row["name"] == name]
    if not meant:
        names = ", ".join(row["name"] for row in rows)
        raise ConfigError(f"There is no upscaler {name!r}; there is {names}.")
    return meant
