"""The control groups of Linux that limit this process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUP: Final = Path("/proc/self/cgroup")


def own_groups(controller: str, cgroups: Path, own_group: Path) -> set[Path]:
    """Return the folders of the own group and of those above it, whose limits all hold.

    Args:
        controller: `cpu` or `memory`; the first version has a tree of groups for each.
        cgroups: where control groups are mounted.
        own_group: the file that names the own group of each tree; without it, the roots count.
    """
    # Inside a container the own group is a root, whatever its path outside.
    groups = {cgroups, cgroups / controller}
    with suppress(OSError):
        for line in own_group.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            is_second_version = number == "0"
            if is_second_version or controller in controllers.split(","):
                root = cgroups if is_second_version else cgroups / controller
                group = root / path.strip("/")
                groups |= {
                    folder for folder in (group, *group.parents) if folder.is_relative_to(root)
                }
    return groups
