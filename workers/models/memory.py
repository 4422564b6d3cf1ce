"""Memory of the machine, for engines that run on its CPU."""

import os

from workers.models.engine import DeviceMemory

__all__ = ["host_memory"]


def host_memory() -> DeviceMemory:
    """Used and total memory of the whole machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    return DeviceMemory("cpu", total - page * os.sysconf("SC_AVPHYS_PAGES"), total)
