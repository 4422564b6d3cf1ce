"""How much memory this process may use, by its control groups and the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def memory_limit(cgroups: Path = _CGROUPS, own_group: Path = _OWN_GROUP) -> int | None:
    """Return the memory limit in bytes (the smallest of cgroups and machine), or None."""
    limits = [machine] if (machine := _machine_memory()) else []
    for file in _limit_files(cgroups, own_group):
        with suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text()))
    return min(limits, default=None)


def _limit_files(cgroups: Path, own_group: Path) -> list[Path]:
    """Files of limits of the own group and those above it, for both versions of control groups."""
    files = []
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            if number != "0" and "memory" not in controllers.split(","):
                continue
            root = cgroups if number == "0" else cgroups / "memory"
            group = root / path.strip("/")
            # Inside a container the own group is the root, whatever its path outside.
            within = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
            files += [folder / name for folder in within]
    return files


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
