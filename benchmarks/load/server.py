"""The server under load, in its own process, and what it uses."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from tests.servers import ProcessGroup, free_port

REAL = ("-m", "trustscale_server", "serve", "--port")
FAKE = ("-m", "benchmarks.load.fake")

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Server(NamedTuple):
    """A server that answers."""

    url: str
    pid: int
    log: Path

    def cpu_s(self) -> float:
        """Seconds of a core that it and its decoders have used so far."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/children")
        processes = [self.pid, *(pid for thread in threads for pid in thread.read_text().split())]
        ticks = 0
        for pid in processes:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # with those that have ended
        return ticks / _TICKS

    def rss(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE


@contextmanager
def serving(
    folder: Path, command: tuple[str, ...], *, sleep_s: float = 0, **settings: object
) -> Iterator[Server]:
    """A server on a data folder, with these settings; `sleep_s` is for the fake one."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    if found := [name for name in os.environ if name.startswith("TRUSTSCALE_")]:
        raise SystemExit(f"unset first: {', '.join(found)}")
    env = {
        "LOAD_SLEEP_S": str(sleep_s),
        "TRUSTSCALE_DATA_DIR": str(folder / "data"),
        "TRUSTSCALE_LOG_LEVEL": "info",
        **{f"TRUSTSCALE_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with ProcessGroup([sys.executable, *command, str(port)], log=log, env=env) as group:
        group.wait_for(f"{url}/readyz", "the server")
        yield Server(url, group.process.pid, log)


class Memory:
    """Samples the memory of a server beside the load."""

    def __init__(self, server: Server, every_s: float = 0.5) -> None:
        self._server, self._every_s = server, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seconds: list[float] = []
        self.bytes: list[int] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self.seconds.append(time.monotonic())
            self.bytes.append(self._server.rss())

    @property
    def most_mb(self) -> float:
        return max(self.bytes) / 1e6

    def slope_mb_per_h(self, skip: float) -> float:
        """Least-squares slope in 10⁶ bytes per hour, without the first share of the samples."""
        first = int(skip * len(self.bytes))
        return float(np.polyfit(self.seconds[first:], self.bytes[first:], 1)[0]) * 3600 / 1e6

    def means_mb(self, parts: int) -> list[float]:
        """The mean of each of so many equal parts of the time."""
        return [float(np.mean(part)) / 1e6 for part in np.array_split(self.bytes, parts)]
