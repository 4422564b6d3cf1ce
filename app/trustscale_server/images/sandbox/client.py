"""Reads untrusted files in limited processes that can be killed: `decoding(decode, file, …)`.

Any function of a file can run so. A file that takes more than its pixels justify is refused with
`DecodeLimit`. Files start a few at a time, in turns by client (`platform/fair`); a slow one
gives its place to the next and runs at low priority. Large files take turns by the memory that they
need, and hold no place while they wait. Each process of the service has one process of
decoders (`server.py`).
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import io
import mmap
import os
import pickle
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, BinaryIO, Concatenate, Final, ParamSpec, Self, TypeAlias, TypeVar

from trustscale_server.images.sandbox.answers import unpacked
from trustscale_server.images.sandbox.costs import BYTES_PER_PIXEL, max_seconds, too_large, too_long
from trustscale_server.images.sandbox.messages import (
    NO_MEMORY,
    Admit,
    Answered,
    Ended,
    Failed,
    Message,
    NoProcess,
    Refused,
    message_in,
    receive_frame,
    refusal,
    send_frame,
)
from trustscale_server.images.sandbox.process import Decoders
from trustscale_server.platform.abandoned import NoLongerWaiting
from trustscale_server.platform.errors import BadImage, Overloaded
from trustscale_server.platform.fair import current_client

P = ParamSpec("P")
T = TypeVar("T")

ImageFile: TypeAlias = bytes | BinaryIO
"""The content of a file, or an open file on the disk."""

_MOMENT_S: Final = 0.25
_PATIENCE: Final = 30
"""Wall time over CPU time, on a busy machine."""

_max_wait_s: ContextVar[float | None] = ContextVar("max_wait_s", default=None)

_NO_ANSWER: Final = "its decoder said what none says"


class DecoderFailed(RuntimeError):
    """A bug in a decoder; the text is its traceback."""


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Refuse files inside the body that wait longer than this for memory, with Overloaded."""
    token = _max_wait_s.set(seconds)
    try:
        yield
    finally:
        _max_wait_s.reset(token)


def in_decoder(
    function: Callable[Concatenate[bytes, P], T],
    file: ImageFile,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run `function(content of file, …)` in a decoder; blocks this thread.

    The function is at the top level of a module.

    Raises:
        DecodeLimit: it takes too long or too much memory.
        BadInput: raised by the function.
        Overloaded: the system gives no process for it.
    """
    with ExitStack() as stack:
        result: T = _Call().run(_opened(file, stack), (function, args, kwargs))
        return result


async def decoding(
    function: Callable[Concatenate[bytes, P], T],
    file: ImageFile,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
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


def _opened(file: ImageFile, stack: ExitStack) -> int:
    """The number of a file on the disk, or of one in memory with the content."""
    if not isinstance(file, bytes):
        with suppress(io.UnsupportedOperation):  # it is in memory, as what was fetched may be
            return file.fileno()  # flushes to the disk
        file.seek(0)
        file = file.read()
    shared = _shared_file(stack)
    with open(shared, "wb", closefd=False) as out:
        out.write(file)
    return shared


def _shared_file(stack: ExitStack) -> int:
    """A file that another process can share, in memory where the system has such files."""
    if not hasattr(os, "memfd_create"):
        return stack.enter_context(tempfile.TemporaryFile(buffering=0)).fileno()
    number = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, number)
    return number


_decoders = Decoders()
# A thread for each file that waits; requests are bounded before.
_threads = ThreadPoolExecutor(1024, thread_name_prefix="decoding")
atexit.register(_decoders.end)


class _Call:
    """One function that reads one file in a decoder, for the client of the caller."""

    def __init__(self) -> None:
        self._client = current_client.get()
        self._max_wait_s = _max_wait_s.get()
        self._own: socket.socket | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the wait for a place or for memory, and the decoder, which sees the hang-up."""
        self._stopped.set()
        _decoders.wake()
        if (connection := self._own) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def run(self, file: int, call: tuple[Callable[..., object], object, object]) -> Any:
        request = pickle.dumps(call)
        for _ in range(2):
            try:
                with _Place(self._client, self._stopped.is_set) as place:
                    return self._answer(file, request, call[0], place)
            except ConnectionError:  # stopped, or all decoders were killed
                if self._stopped.is_set():
                    raise NoLongerWaiting from None
        raise _broken("it ended all decoders")

    def _answer(
        self, file: int, request: bytes, function: Callable[..., object], place: _Place
    ) -> Any:
        with ExitStack() as stack:
            out = _shared_file(stack)
            connection = self._connected(file, out, stack)
            send_frame(connection, request)
            pixels = 0
            while True:
                seconds = max_seconds(pixels)
                match self._message(connection, place, seconds):
                    case Admit(admitted) if not pixels:
                        pixels = admitted
                        self._admit(pixels * BYTES_PER_PIXEL, place, stack)
                        connection.sendall(b".")
                    case Answered(start):
                        with _refusing_nonsense():
                            return unpacked(_shut(out), start, function)
                    case Refused() as refused:
                        with _refusing_nonsense():
                            error = refusal(refused)
                        raise error
                    case Failed(trace):
                        raise DecoderFailed(trace)
                    case Ended(status):
                        raise _end(status, seconds)
                    case NoProcess():
                        raise Overloaded("No process could be started to read the file.")
                    case _:
                        raise _broken(_NO_ANSWER)

    def _connected(self, file: int, out: int, stack: ExitStack) -> socket.socket:
        """Have a decoder forked for the file and its answer, and return the socket to it."""
        connection, theirs = socket.socketpair()
        self._own = stack.enter_context(connection)
        nice = stack.enter_context(_decoders.nice(self._client))
        with theirs:
            if self._stopped.is_set():
                raise NoLongerWaiting
            _decoders.send(nice, theirs.fileno(), file, out)
        return connection

    def _admit(self, cost: int, place: _Place, stack: ExitStack) -> None:
        """Wait for memory without a place, and then for a place; few bytes never wait."""
        if cost <= 64 * 2**20:
            return
        place.leave()
        permit = _decoders.memory.held(self._client, cost, self._stopped.is_set, self._max_wait_s)
        stack.enter_context(permit)
        place.take()

    def _message(self, connection: socket.socket, place: _Place, seconds: float) -> Message:
        """Wait for a message; whoever waits for longer than a moment gives up the place."""
        connection.settimeout(_MOMENT_S)
        try:
            connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            place.yield_()
        try:
            # A traceback is the longest.
            frame = receive_frame(connection, max_bytes=2**20, seconds=_PATIENCE * seconds)
        except TimeoutError:
            raise too_long(seconds) from None
        except ValueError:
            raise _broken("its decoder said too much") from None
        with _refusing_nonsense():
            return message_in(frame)


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
        self._held.enter_context(_decoders.places.held(self._client, 1, self._stopped))

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


def _end(code: int, seconds: float) -> Exception:
    """Why a decoder ended without a message."""
    if -code in {signal.SIGPROF, signal.SIGXCPU}:
        return too_long(seconds)
    # Killed by the system, or by libraries without memory.
    if code == NO_MEMORY or -code in {signal.SIGKILL, signal.SIGABRT}:
        return too_large()
    cause = f"signal {-code}" if code < 0 else f"exit status {code}"
    return _broken(f"it broke its decoder ({cause})")


def _broken(cause: str) -> BadImage:
    return BadImage(f"The image cannot be decoded: {cause}.")


@contextmanager
def _refusing_nonsense() -> Iterator[None]:
    """Raise BadImage for what no decoder says: the file may have made anything of it."""
    try:
        yield
    except Exception as error:
        raise _broken(_NO_ANSWER) from error


def _shut(out: int) -> memoryview:
    """What a decoder has written, which it can no longer change. Raises OSError."""
    if not (size := os.fstat(out).st_size):
        return memoryview(b"")
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(out, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    return memoryview(mmap.mmap(out, size, access=mmap.ACCESS_COPY))
