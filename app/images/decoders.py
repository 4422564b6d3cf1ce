"""Foreign files are read in processes that can be limited and killed: `decoding(decode, file, …)`.

Any function of a file runs so; what it returns or refuses comes back. A file that takes more than
its pixels justify (`allowance.py`) is refused with `DecodeLimit`.

Files begin in their order, a few at a time. One that takes longer than a moment leaves its place to
the next, and is slowed down: so nobody waits long behind a file that is hostile, or only large.
Those of many pixels take turns by the memory that they need.

Each process of the service has one process of decoders (`decoder.py`), which begins with the first
file, or with `start`, and ends with it.
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
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import is_dataclass
from itertools import accumulate
from typing import Any, BinaryIO, Concatenate, Final, ParamSpec, Self, TypeAlias, TypeVar

import numpy as np

from app.errors import BadImage, BadInput, Overloaded, shortened
from app.images import allowance
from app.images.decoder import ADMIT, DONE, FAILED, LENGTH, NO_MEMORY, REFUSED
from app.system import memory_limit, plain_environment, usable_cores

Given = ParamSpec("Given")
Result = TypeVar("Result")

File: TypeAlias = bytes | BinaryIO
"""The content of a file, or one that is open and lies on the disk."""

_MOMENT_S: Final = 0.25
_PLACES_PER_CORE: Final = 2
_PATIENCE: Final = 30
"""So many times longer than of a core that is its own may decoding take on a busy machine."""

_SMALL: Final = 64 * 2**20
_LEAST_MEMORY: Final = 512 * 2**20
_SHARE: Final = 4
"""Of the memory that the process may use, the part that large pictures are decoded in."""

_MOST_THREADS: Final = 64

# What forks has no other threads; and each would set a part of the address space aside.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class DecoderFailed(RuntimeError):
    """A fault of ours in a decoder; the text is its traceback."""


class _Stopped(Exception):
    """Nobody waits for the file any more."""


def in_decoder(
    function: Callable[Concatenate[bytes, Given], Result],
    file: File,
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> Result:
    """What the function says of the content of a file, in a decoder; blocks this thread.

    Args:
        function: at the top of a module.
        file: its content is the first argument of the function.
        args: the others.
        kwargs: the others.

    Raises:
        DecodeLimit: it takes too long or too much memory.
        BadInput: what the function raises.
        Overloaded: the system gives no process for it.
    """
    with ExitStack() as stack:
        found: Result = _Call().run(_opened(file, stack), (function, args, kwargs))
        return found


async def decoding(
    function: Callable[Concatenate[bytes, Given], Result],
    file: File,
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> Result:
    """The same for a coroutine; when that is cancelled, the decoder is killed at once."""
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
            await asyncio.wait([task])  # a moment: until then the thread holds the file
            with suppress(Exception):
                task.result()
            raise


def size_of(file: File) -> int:
    """Bytes of a file."""
    return len(file) if isinstance(file, bytes) else os.fstat(file.fileno()).st_size


def start() -> None:
    """Begin the process of the decoders, without waiting for it."""
    _decoders.started()


def _opened(file: File, stack: ExitStack) -> int:
    """The file by its number."""
    if not isinstance(file, bytes):
        return file.fileno()  # what is still in memory goes to the disk
    shared = _shared(stack)
    with open(shared, "wb", buffering=0, closefd=False) as out:
        view = memoryview(file)
        while view:
            view = view[out.write(view) :]
    return shared


def _shared(stack: ExitStack) -> int:
    """A file in memory, where the system has such files, that another process may be given."""
    if not hasattr(os, "memfd_create"):
        return stack.enter_context(tempfile.TemporaryFile(buffering=0)).fileno()
    number = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, number)
    return number


class _Decoders:
    """The process of the decoders of this process, and who may use it when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self.places = threading.Semaphore(_PLACES_PER_CORE * usable_cores())
        self._memory = threading.Condition()
        self._most = max(_LEAST_MEMORY, (memory_limit() or 0) // _SHARE)
        self._taken = 0

    def started(self) -> socket.socket:
        """The socket that takes files; the process begins if there is none."""
        with self._lock:
            if self._control is None or self._owner != os.getpid():
                self._control, theirs = socket.socketpair()
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "app.images.decoder", str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        env={**plain_environment(), **_ONE_THREAD},
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,  # who presses Ctrl-C means the service
                    )
                self._owner = os.getpid()
            return self._control

    def send(self, *numbers: int) -> None:
        """Have these files read: a socket, the file, and one for the answer's arrays."""
        try:
            socket.send_fds(self.started(), [b"."], numbers)
        except OSError:  # it was killed: the next one is another
            self.end()
            socket.send_fds(self.started(), [b"."], numbers)

    def end(self) -> None:
        """End the process, and whatever it does."""
        with self._lock:
            if self._control is None or self._process is None or self._owner != os.getpid():
                return
            self._control.close()
            self._process.kill()
            self._process.wait()
            self._control = self._process = None

    @contextmanager
    def memory(self, cost: int, stopped: threading.Event) -> Iterator[None]:
        """Hold so many bytes after waiting for them; who needs few never waits.

        Raises:
            _Stopped: while it waited.
        """
        if cost <= _SMALL:
            yield
            return
        with self._memory:
            self._memory.wait_for(
                lambda: stopped.is_set() or not self._taken or self._taken + cost <= self._most
            )
            if stopped.is_set():
                raise _Stopped
            self._taken += cost
        try:
            yield
        finally:
            with self._memory:
                self._taken -= cost
                self._memory.notify_all()

    def wake(self) -> None:
        """Let those that wait see whether they are stopped."""
        with self._memory:
            self._memory.notify_all()


_decoders = _Decoders()
_threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="decoding")
atexit.register(_decoders.end)


class _Call:
    """One file on its way through a decoder."""

    def __init__(self) -> None:
        self._here: socket.socket | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Kill the decoder, from another thread."""
        self._stopped.set()
        _decoders.wake()
        if (here := self._here) is not None:
            with suppress(OSError):
                here.shutdown(socket.SHUT_RDWR)

    def run(self, file: int, asked: object) -> Any:
        """What the function that is asked for says of the file with this number."""
        request = pickle.dumps(asked)
        with _Place() as place:
            for _ in range(2):
                try:
                    return self._answer(file, request, place)
                except ConnectionError:  # stopped, or the process of all decoders was killed
                    if self._stopped.is_set():
                        raise _Stopped from None
            raise Overloaded("No process could be had that reads the file.")

    def _answer(self, file: int, request: bytes, place: _Place) -> Any:
        with ExitStack() as stack:
            out = _shared(stack)
            here, theirs = socket.socketpair()
            self._here = stack.enter_context(here)
            with theirs:
                if self._stopped.is_set():
                    raise _Stopped
                _decoders.send(theirs.fileno(), file, out)
            here.sendall(LENGTH.pack(len(request)) + request)
            seconds = allowance.SECONDS
            while True:
                kind, body = self._told(here, place, seconds)
                if kind == ADMIT:
                    (pixels,) = LENGTH.unpack(body)
                    cost = pixels * allowance.BYTES_PER_PIXEL
                    stack.enter_context(_decoders.memory(cost, self._stopped))
                    seconds += pixels * allowance.SECONDS_PER_PIXEL
                    here.sendall(b".")
                elif kind == DONE:
                    return _loaded(body, out)
                elif kind == REFUSED:
                    raise _loaded(body, out)
                elif kind == FAILED:
                    raise DecoderFailed(_loaded(body, out))
                else:
                    raise _end(struct.unpack("b", body)[0], seconds)

    def _told(self, here: socket.socket, place: _Place, seconds: float) -> tuple[bytes, bytes]:
        """The next thing that the decoder says."""
        try:
            here.settimeout(_MOMENT_S)
            kind = here.recv(1)
        except TimeoutError:
            place.leave()
            here.settimeout(_PATIENCE * seconds)
            try:
                kind = here.recv(1)
            except TimeoutError:
                raise allowance.too_long(seconds) from None
        if not kind:
            raise ConnectionResetError
        (length,) = LENGTH.unpack(_exactly(here, LENGTH.size))
        return kind, _exactly(here, length)


class _Place:
    """One of the few places at the beginning, held inside a `with` or until it is left."""

    def __enter__(self) -> Self:
        _decoders.places.acquire()
        self._is_held = True
        return self

    def leave(self) -> None:
        """Give the place to the next."""
        if self._is_held:
            self._is_held = False
            _decoders.places.release()

    def __exit__(self, *_: object) -> None:
        self.leave()


def _exactly(here: socket.socket, length: int) -> bytes:
    read = bytearray()
    while len(read) < length:
        more = here.recv(length - len(read))
        if not more:
            raise ConnectionResetError
        read += more
    return bytes(read)


def _end(code: int, seconds: float) -> Exception:
    """Why a decoder has ended before it said anything."""
    if -code in {signal.SIGPROF, signal.SIGXCPU}:
        return allowance.too_long(seconds)
    if code == NO_MEMORY or -code in {
        signal.SIGKILL,
        signal.SIGABRT,
    }:  # by the system, or by libraries without memory
        return allowance.too_large()
    if code < 0:
        return BadImage(f"The image cannot be decoded: it broke its decoder (signal {-code}).")
    return DecoderFailed(f"A decoder ended with {code} and said nothing.")


def _loaded(body: bytes, out: int) -> Any:
    """What a decoder says; its arrays are the shared memory itself.

    Raises:
        BadImage: it says what no decoder of ours does.
    """
    (count,) = LENGTH.unpack_from(body)
    start = LENGTH.size * (1 + count)
    lengths = [LENGTH.unpack_from(body, LENGTH.size * (1 + k))[0] for k in range(count)]
    buffers = []
    if total := sum(lengths):
        if hasattr(fcntl, "F_ADD_SEALS"):  # whoever made it shorter would end this process
            fcntl.fcntl(out, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        view = memoryview(mmap.mmap(out, total))
        for end, length in zip(accumulate(lengths), lengths, strict=True):
            buffers.append(view[end - length : end])
    try:
        return _Unpickler(io.BytesIO(body[start:]), buffers=buffers).load()
    except pickle.UnpicklingError as error:
        raise BadImage(f"The image cannot be decoded: {error}.") from error


class _Unpickler(pickle.Unpickler):
    """Makes what decoders answer with and nothing else: a decoder may have fallen to its file."""

    def find_class(self, module: str, name: str) -> Any:
        found: Any = getattr(sys.modules.get(module), name, None)
        if (
            module.startswith("app.")
            and isinstance(found, type)
            and (is_dataclass(found) or issubclass(found, (tuple, BadInput)))
        ):
            return found
        if found in {np.dtype, _ARRAY}:
            return found
        raise pickle.UnpicklingError(f"its decoder sent {shortened(f'{module}.{name}')}")


_ARRAY: Final = np.empty(0).__reduce_ex__(5)[0]
"""Makes an array of a buffer."""
