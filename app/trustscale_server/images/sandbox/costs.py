"""What reading a file may cost its decoder: seconds of one core and bytes of memory.

A file costs something for its metadata, profiles and structure, and more for each admitted pixel:
several times what the slowest honest form takes, and more than the largest
(script in `b2a1c3c1`). The kernel holds a decoder to it: CPU time by a timer, memory by
RLIMIT_AS (not on macOS).
"""

from __future__ import annotations

import resource
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from trustscale_server.platform.errors import DecodeLimit

SECONDS_PER_PIXEL: Final = 0.5e-6
BYTES_PER_PIXEL: Final = 24
_SECONDS: Final = 2.0
_BYTES: Final = 96 * 2**20
_WAY_OUT: Final = "Save it again with an ordinary program."


def max_seconds(pixels: int) -> float:
    """Return the CPU time that reading a file of this many admitted pixels may take, in seconds."""
    return _SECONDS + pixels * SECONDS_PER_PIXEL


def too_long(seconds: float) -> DecodeLimit:
    """Return the refusal of a file that takes more than `seconds`."""
    return DecodeLimit(
        f"Decoding the file takes more than {seconds:.1f} seconds of a core, which its pixels do "
        f"not justify. {_WAY_OUT}",
        limit="seconds",
        maximum=round(seconds, 2),
    )


def too_large() -> DecodeLimit:
    """Return the refusal of a file that takes more memory than allowed."""
    return DecodeLimit(
        f"Decoding the file takes more memory than its pixels justify. {_WAY_OUT}", limit="memory"
    )


def limit_process(size: int) -> None:
    """Limit this process for a file of `size` bytes, before any pixel is admitted."""
    with suppress(OSError):  # out of memory, the system kills this before the service
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the picture
    _limit_memory(size, 0)
    signal.setitimer(signal.ITIMER_PROF, max_seconds(0))  # its signal ends the process


def raise_limits(size: int, pixels: int) -> None:
    """Raise the limits of a file of `size` bytes to those for `pixels` admitted pixels."""
    _limit_memory(size, pixels)
    left, _ = signal.getitimer(signal.ITIMER_PROF)
    signal.setitimer(signal.ITIMER_PROF, left + pixels * SECONDS_PER_PIXEL)


def lift_memory_limit() -> None:
    """Allow this process any memory, for its answer."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _limit_memory(size: int, pixels: int) -> None:
    most = _BYTES + 2 * size + BYTES_PER_PIXEL * pixels
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + most, resource.RLIM_INFINITY))


@cache
def _address_space() -> int:
    """Bytes that the process used before it read the file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
