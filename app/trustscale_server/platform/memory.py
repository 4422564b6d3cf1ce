"""How much memory this process may use, by its control groups and the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from trustscale_server.platform.control_groups import CGROUPS, OWN_GROUP, own_groups


def memory_limit(cgroups: Path = CGROUPS, own_group: Path = OWN_GROUP) -> int | None:
    """Return the memory limit in bytes (the smallest of cgroups and machine), or None."""
    limits = [machine] if (machine := _machine_memory()) else []
    for group in own_groups("memory", cgroups, own_group):
        for file in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max" is no limit
                limits.append(int((group / file).read_text()))
    return min(limits, default=None)


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
