"""Reads untrusted files in limited processes that can be killed: `decoding(decode, file, …)`.

Any function of a file can run so. A file that takes more than its pixels justify is refused with
`DecodeLimit`. Files start a few at a time, in turns by client (`app/concurrency.py`); a slow one
gives its place to the next and runs at low priority. Large files take turns by the memory that they
need, and hold no place while they wait. Each process of the service has one process of
decoders (`sandbox_server.py`).
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import io
import math
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, BinaryIO, Concatenate, Final, ParamSpec, Self, TypeAlias, TypeVar

from trustscale_server.concurrency import (
    NoLongerWaiting,
    WeightedSemaphore,
    current_client,
    memory_limit,
    plain_environment,
    usable_cores,
)
from trustscale_server.errors import BadImage, BadInput, Overloaded
from trustscale_server.images import sandbox_server
from trustscale_server.images.sandbox_server import (
    ADMIT,
    DONE,
    ENDED,
    FAILED,
    LENGTH,
    NO_MEMORY,
    NONE,
    REFUSED,
    hide_memory,
    unpacked,
)

Given = ParamSpec("Given")
Result = TypeVar("Result")

File: TypeAlias = bytes | BinaryIO
"""The content of a file, or an open file on the disk."""

_MOMENT_S: Final = 0.25
_PLACES_PER_CORE: Final = 2
_PATIENCE: Final = 30
"""Wall time over CPU time, on a busy machine."""

_SMALL: Final = 64 * 2**20
_LEAST_MEMORY: Final = 512 * 2**20
_SHARE: Final = 4
"""One over the share of memory in which large pictures are decoded."""

# A thread for each file that waits; requests are bounded before.
_MOST_THREADS: Final = 1024

_MOST_SAID: Final = 16 * 2**20
"""Bytes of an answer without its arrays."""

# Of a client's first slow file, and by how much each further one yields to other clients' first.
_NICE: Final = 4
_NICE_STEP: Final = 5
_NICEST: Final = 19

_longest_wait: ContextVar[float] = ContextVar("longest_wait", default=math.inf)

# A forking process must have one thread; and each thread would reserve address space.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class DecoderFailed(RuntimeError):
    """A bug in a decoder; the text is its traceback."""


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Refuse files inside the body that wait so long for memory, with Overloaded."""
    token = _longest_wait.set(seconds)
    try:
        yield
    finally:
        _longest_wait.reset(token)


def in_decoder(
    function: Callable[Concatenate[bytes, Given], Result],
    file: File,
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> Result:
    """Run `function(content of file, …)` in a decoder; blocks this thread.

    The function is at the top level of a module.

    Raises:
        DecodeLimit: it takes too long or too much memory.
        BadInput: raised by the function.
        Overloaded: the system gives no process for it.
    """
    with ExitStack() as stack:
        result: Result = _Call().run(_opened(file, stack), (function, args, kwargs))
        return result


async def decoding(
    function: Callable[Concatenate[bytes, Given], Result],
    file: File,
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> Result:
    """Run `in_decoder` as a coroutine; cancelling it kills the decoder at once."""
    call = _Call()
    with ExitStack() as stack:
        opened = await asyncio.to_thread(_opened, file, stack)
        task = asyncio.get_running_loop().run_in_executor(
            _threads, call.run, opened, (function, args, kwargs)
        )
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            call.stop()
            await asyncio.wait([task])  # until then the thread holds the file
            with suppress(Exception):
                task.result()
            raise


def start_decoders() -> None:
    """Start the decoders' process without waiting for it."""
    _decoders.start()


def _opened(file: File, stack: ExitStack) -> int:
    if not isinstance(file, bytes):
        with suppress(io.UnsupportedOperation):  # it is in memory, as what was fetched may be
            return file.fileno()  # flushes to the disk
        file.seek(0)
        file = file.read()
    shared = _shared(stack)
    with open(shared, "wb", buffering=0, closefd=False) as out:
        view = memoryview(file)
        while view:
            view = view[out.write(view) :]
    return shared


def _shared(stack: ExitStack) -> int:
    """A file that another process can share, in memory where the system has such files."""
    if not hasattr(os, "memfd_create"):
        return stack.enter_context(tempfile.TemporaryFile(buffering=0)).fileno()
    number = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, number)
    return number


class _Decoders:
    """The process of decoders of this process, and the queue for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._running: Counter[str] = Counter()
        most = max(_LEAST_MEMORY, (memory_limit() or 0) // _SHARE)
        self.places = WeightedSemaphore(_PLACES_PER_CORE * usable_cores())
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
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", sandbox_server.__name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**plain_environment(), **_ONE_THREAD},
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is meant for the service
                )
            self._owner = os.getpid()
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

        With these steps all files of a client get less than twice the time of its first.
        """
        with self._lock:
            others = self._running[client]
            self._running[client] += 1
        try:
            yield min(_NICEST, _NICE + _NICE_STEP * others)
        finally:
            with self._lock:
                self._running[client] -= 1
                self._running = +self._running

    def wake(self) -> None:
        """Have waiting calls check whether they are stopped."""
        self.places.wake()
        self.memory.wake()


_decoders = _Decoders()
_threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="decoding")
atexit.register(_decoders.end)


class _Call:
    """One file in a decoder, for the client of the caller."""

    def __init__(self) -> None:
        self._client = current_client.get()
        self._longest_wait = _longest_wait.get()
        self._own: socket.socket | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        _decoders.wake()
        if (own := self._own) is not None:
            with suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)

    def run(self, file: int, call: object) -> Any:
        request = pickle.dumps(call)
        for _ in range(2):
            try:
                with _Place(self._client, self._stopped.is_set) as place:
                    return self._answer(file, request, place)
            except ConnectionError:  # stopped, or all decoders were killed
                if self._stopped.is_set():
                    raise NoLongerWaiting from None
        raise _broken("it ended all decoders")

    def _answer(self, file: int, request: bytes, place: _Place) -> Any:
        with ExitStack() as stack:
            out = _shared(stack)
            own, theirs = socket.socketpair()
            self._own = stack.enter_context(own)
            nice = stack.enter_context(_decoders.nice(self._client))
            with theirs:
                if self._stopped.is_set():
                    raise NoLongerWaiting
                _decoders.send(nice, theirs.fileno(), file, out)
            own.sendall(LENGTH.pack(len(request)) + request)
            pixels = 0
            while True:
                seconds = sandbox_server.SECONDS + pixels * sandbox_server.SECONDS_PER_PIXEL
                kind, body = self._message(own, place, seconds)
                if kind == ADMIT and not pixels:
                    (pixels,) = LENGTH.unpack(body)
                    self._admit(pixels * sandbox_server.BYTES_PER_PIXEL, place, stack)
                    own.sendall(b".")
                elif kind == DONE:
                    return _answered(body, out, object)
                elif kind == REFUSED:
                    raise _answered(body, out, BadInput)
                elif kind == FAILED:
                    raise DecoderFailed(_answered(body, out, str))
                elif kind == ENDED:
                    raise _end(body, seconds)
                elif kind == NONE:
                    raise Overloaded("No process could be started to read the file.")
                else:
                    raise _broken("its decoder said what none says")

    def _admit(self, cost: int, place: _Place, stack: ExitStack) -> None:
        """Wait for memory without a place, and then for a place; few bytes never wait."""
        if cost <= _SMALL:
            return
        place.leave()
        turn = _decoders.memory.turn(self._client, cost, self._stopped.is_set, self._longest_wait)
        stack.enter_context(turn)
        place.take()

    def _message(self, own: socket.socket, place: _Place, seconds: float) -> tuple[bytes, bytes]:
        try:
            own.settimeout(_MOMENT_S)
            kind = own.recv(1)
        except TimeoutError:
            place.yield_()
            own.settimeout(_PATIENCE * seconds)
            try:
                kind = own.recv(1)
            except TimeoutError:
                raise sandbox_server.too_long(seconds) from None
        if not kind:
            raise ConnectionResetError
        (length,) = LENGTH.unpack(_exactly(own, LENGTH.size))
        if length > _MOST_SAID:
            raise _broken("its decoder said too much")
        return kind, _exactly(own, length)


class _Place:
    """One of the few places where files are read; the client's time counts also without it."""

    def __init__(self, client: str, stopped: Callable[[], bool]) -> None:
        self._client = client
        self._stopped = stopped
        self._held = ExitStack()
        self._slow_since: float | None = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def take(self) -> None:
        self._held.enter_context(_decoders.places.turn(self._client, 1, self._stopped))

    def yield_(self) -> None:
        """Give the place to the next, and go on at low priority."""
        if self._slow_since is None:
            self._slow_since = time.monotonic()
        self._held.close()

    def leave(self) -> None:
        self._held.close()
        if self._slow_since is not None:
            _decoders.places.charge(self._client, time.monotonic() - self._slow_since)
            self._slow_since = None


def _exactly(own: socket.socket, length: int) -> bytes:
    read = bytearray()
    while len(read) < length:
        more = own.recv(length - len(read))
        if not more:
            raise ConnectionResetError
        read += more
    return bytes(read)


def _end(body: bytes, seconds: float) -> Exception:
    """Why a decoder ended without a message."""
    (code,) = struct.unpack("b", body)
    if -code in {signal.SIGPROF, signal.SIGXCPU}:
        return sandbox_server.too_long(seconds)
    # Killed by the system, or by libraries without memory.
    if code == NO_MEMORY or -code in {signal.SIGKILL, signal.SIGABRT}:
        return sandbox_server.too_large()
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    return _broken(f"it broke its decoder ({how})")


def _broken(how: str) -> BadImage:
    return BadImage(f"The image cannot be decoded: {how}.")


def _answered(body: bytes, out: int, kind: type[Result]) -> Result:
    """A decoder's answer of this type; its arrays are the shared memory itself. Raises BadImage."""
    try:
        answer = unpacked(body, _shut(out))
    except Exception as error:  # the decoder's file may have made anything of it
        raise _broken("its decoder said what none says") from error
    if not isinstance(answer, kind):
        raise _broken("its decoder said what none says")
    return answer


def _shut(out: int) -> memoryview:
    """What a decoder has written, which it can no longer change. Raises OSError."""
    if not (size := os.fstat(out).st_size):
        return memoryview(b"")
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(out, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    return memoryview(mmap.mmap(out, size, access=mmap.ACCESS_COPY))
