"""The cores of this process: those it may run on, and what a quota leaves of them."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from trustscale_server.platform.control_groups import CGROUPS, OWN_GROUP, own_groups


def cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def usable_cores() -> int:
    """Return how many cores this process can keep busy: those it may run on, or fewer by a quota.

    A part of a core counts as one. More threads would use up the quota early in each period of a
    tenth of a second, and all of them would then stand still until the next.
    """
    quota = core_quota()
    return cores() if quota is None else max(1, min(cores(), math.ceil(quota)))


def core_quota(cgroups: Path = CGROUPS, own_group: Path = OWN_GROUP) -> float | None:
    """Return how many cores' time the control groups leave; None: there is no quota."""
    quotas = []
    for group in own_groups("cpu", cgroups, own_group):
        with suppress(OSError, ValueError):  # "max": there is no quota
            time, period = (group / "cpu.max").read_text().split()
            quotas.append(int(time) / int(period))
        with suppress(OSError, ValueError):
            time = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
            quotas += [int(time) / int(period)] if int(time) > 0 else []
    return min(quotas, default=None)
