"""The process of decoders beside this one, and who may use it now."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trustscale_server.images.sandbox import server
from trustscale_server.images.sandbox.confinement import hide_memory
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.fair import WeightedSemaphore
from trustscale_server.platform.memory import memory_limit


def _environment() -> dict[str, str]:
    """Return the environment of the process: without secrets, and with what imports our modules."""
    harmless = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{name: value for name, value in os.environ.items() if name in harmless},
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
        # A forking process must have one thread; and each thread would reserve address space.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


class Decoders:
    """The process of decoders of this process, and the queue for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._running: Counter[str] = Counter()
        # Large pictures are decoded in a quarter of the memory.
        most = max(512 * 2**20, (memory_limit() or 0) // 4)
        self.places = WeightedSemaphore(2 * usable_cores())
        self.memory = WeightedSemaphore(most, most // 2)

    def start(self) -> None:
        with self._lock:
            self._started()

    def send(self, nice: int, *numbers: int) -> None:
        """Send descriptors: a socket, the file, and one for the answer's arrays."""
        with self._lock:  # so that nobody ends the process that another has just started
            try:
                socket.send_fds(self._started(), [bytes([nice])], numbers)
            except OSError:  # it was killed: start another
                self._end()
                socket.send_fds(self._started(), [bytes([nice])], numbers)

    def end(self) -> None:
        with self._lock:
            self._end()

    def _started(self) -> socket.socket:
        if self._control is None or self._owner != os.getpid():
            hide_memory()  # from decoders, which are processes of the same user
            control, theirs = socket.socketpair()
            with theirs:
                try:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", server.__name__, str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        env=_environment(),
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,  # Ctrl-C is meant for the service
                    )
                except BaseException:
                    control.close()
                    raise
            self._control, self._owner = control, os.getpid()
        return self._control

    def _end(self) -> None:
        if self._control is None or self._process is None or self._owner != os.getpid():
            return
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._control = self._process = None

    @contextmanager
    def nice(self, client: str) -> Iterator[int]:
        """The priority of one more slow file of a client, for as long as it is read.

        With steps of 5 all files of a client get less than twice the time of its first.
        """
        with self._lock:
            running = self._running[client]
            self._running[client] += 1
        try:
            yield min(19, 4 + 5 * running)  # 19 is the lowest
        finally:
            with self._lock:
                self._running[client] -= 1
                self._running = +self._running

    def wake(self) -> None:
        """Have waiting calls check whether they are stopped."""
        self.places.wake()
        self.memory.wake()
