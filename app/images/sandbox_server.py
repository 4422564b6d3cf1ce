"""The process that decodes hostile files: its answers, its confinement, its work.

**Answers** are JSON, with the bytes of arrays beside it. A decoder may be in the hands of whoever
made its file, so nothing in an answer is executed: it names our own records, and arrays of three
kinds whose sizes are compared with the bytes there are.

**Confinement** takes from a process all system calls but those that decoding a file needs. What
remains: memory, time, threads, signals to itself, the names and sizes of files, and reading
and writing what is open. So whoever runs code in a decoder can open no file and no socket, start no
program, and touch no other process. Linux on x86-64 and on ARM of 64 bits; elsewhere this does
nothing.

**The process** loads all decoders and forks one per file. `sandbox.py` starts it. The kernel limits
each decoder: memory by RLIMIT_AS (not on macOS), CPU time by a timer. A socket connects a decoder
with its caller: closing it kills the decoder, whose exit status is its last message. So no caller
waits for a hang, and no file's memory remains.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import io
import json
import math
import os
import pickle
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageCms

from trustscale_server import errors
from trustscale_server.errors import BadInput, DecodeLimit
from trustscale_server.images.decode import Limits, decode, installed_formats, on_admit
from trustscale_server.images.raster import warm_up

# --- What a decoder answers: JSON, with the bytes of arrays beside it.

_DTYPES: Final = ("uint8", "uint16", "float32")
_MOST_AXES: Final = 3
_ALIGNED: Final = 8
_OURS: Final = f"{errors.__name__.partition('.')[0]}."


def packed(answer: object) -> tuple[bytes, list[bytes | memoryview]]:
    """Return the JSON of an answer and the byte strings beside it, to be written in order.

    An answer is made of numbers, texts, bytes, lists, tuples, mappings, arrays of bool, uint8,
    uint16 and float32, frozen data classes, named tuples, and errors of the caller.

    Raises:
        TypeError: it has something else.
    """
    beside = _Beside()
    return json.dumps(_plain(answer, beside)).encode(), beside.pieces


def unpacked(head: bytes, beside: memoryview) -> Any:
    """Return the answer of `packed`; its arrays are views of those bytes.

    Raises:
        Exception: of any kind, if that is none.
    """
    return _built(json.loads(head), beside)


class _Beside:
    """Pieces of bytes, each of which begins at a multiple of `_ALIGNED`."""

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = []
        self._end = 0

    def add(self, piece: bytes | memoryview) -> int:
        gap = -self._end % _ALIGNED
        start = self._end + gap
        self.pieces += [bytes(gap), piece]
        self._end = start + len(piece)
        return start


def _plain(value: Any, beside: _Beside) -> Any:
    kind = type(value)
    if value is None or kind in {bool, int, float, str}:
        return value
    if kind is list:
        return [_plain(item, beside) for item in value]
    if kind is tuple:
        return {"tuple": _plain([*value], beside)}
    if isinstance(value, Mapping):
        return {"mapping": _plain([*value.items()], beside)}
    return _object(value, beside)


def _object(value: Any, beside: _Beside) -> dict[str, Any]:
    kind = type(value)
    if kind is bytes:
        return {"bytes": [beside.add(value), len(value)]}
    if isinstance(value, np.ndarray):
        return _array(value, beside)
    if isinstance(value, BadInput):
        return {"error": _plain([kind.__name__, value.detail, value.members], beside)}
    if not _is_record(kind):
        raise TypeError(f"a decoder cannot answer with {kind.__module__}.{kind.__name__}")
    members = value if isinstance(value, tuple) else [getattr(value, f.name) for f in fields(value)]
    return {"record": [kind.__module__, kind.__name__, _plain([*members], beside)]}


def _array(values: NDArray[Any], beside: _Beside) -> dict[str, Any]:
    if values.dtype == bool:
        return {"truths": _array(values.view(np.uint8), beside)}
    if values.dtype.name not in _DTYPES or not values.dtype.isnative:
        raise TypeError(f"a decoder cannot answer with an array of {values.dtype}")
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    return {"array": [values.dtype.name, list(values.shape), beside.add(raw)]}


def _is_record(kind: object) -> bool:
    """Whether this is a class of ours that holds data and does nothing else."""
    if not isinstance(kind, type) or not kind.__module__.startswith(_OURS):
        return False
    if is_dataclass(kind):
        return bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _built(value: Any, beside: memoryview) -> Any:
    if isinstance(value, list):
        return [_built(item, beside) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind in _RAW:
        return _RAW[kind](beside, *inner)
    return _MADE[kind](_built(inner, beside))


def _record(named: list[Any]) -> Any:
    module, name, members = named
    record_class = getattr(sys.modules[module], name)
    if not _is_record(record_class):
        raise TypeError(name)
    return record_class(*members)


def _error(named: list[Any]) -> BadInput:
    name, detail, members = named
    kind = getattr(errors, name)
    if not issubclass(kind, BadInput):
        raise TypeError(name)
    error: BadInput = kind(str(detail), **members)
    return error


def _values(beside: memoryview, dtype: str, shape: list[int], start: int) -> NDArray[Any]:
    if dtype not in _DTYPES or len(shape) > _MOST_AXES or any(side < 0 for side in shape):
        raise ValueError(dtype)
    kind = np.dtype(dtype)
    raw = _piece(beside, start, math.prod(shape) * kind.itemsize)
    return np.frombuffer(raw, kind).reshape(shape) if raw else np.empty(shape, kind)


def _piece(beside: memoryview, start: int, length: int) -> memoryview:
    if start < 0 or length < 0 or start % _ALIGNED or start + length > len(beside):
        raise ValueError(start)
    return beside[start : start + length]


def _bytes(beside: memoryview, start: int, length: int) -> bytes:
    return bytes(_piece(beside, start, length))


_RAW: Final[dict[str, Callable[..., Any]]] = {"array": _values, "bytes": _bytes}
_MADE: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": tuple,
    "mapping": dict,
    "truths": lambda numbers: numbers != 0,
    "error": _error,
    "record": _record,
}


# --- Takes from a process all system calls but those that decoding a file needs.

_SET_DUMPABLE, _SET_SECCOMP, _NO_NEW_PRIVILEGES, _FILTER = 4, 22, 38, 2  # of prctl

_LOAD, _EQUAL, _HAS_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06  # of classic BPF
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in `struct seccomp_data`
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000

_THREAD: Final = 0x10000
"""CLONE_THREAD."""

# By name: the numbers on x86-64 and on 64-bit ARM; None: there is no such call.
_CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "writev": (20, 66),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "getpriority": (140, 141),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_PRLIMIT, _KILL, _TGKILL, _CLONE = (302, 261), (62, 129), (234, 131), (56, 220)
_CLONE3: Final = 435  # its flags are in memory: refused as unknown, so that libraries use clone


class _Machine(NamedTuple):
    """The number by which the kernel calls an architecture, and the column of the tables above."""

    architecture: int
    column: int


_MACHINES: Final = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


def hide_memory() -> None:
    """Stop other processes of the same user from reading or writing our memory (Linux)."""
    if sys.platform == "linux":
        _prctl(_SET_DUMPABLE, 0)


def confine() -> None:
    """Allow only the system calls above, for the rest of this process's life.

    Raises OSError: the kernel has no filters.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return
    program = _program(machine)
    code = ctypes.create_string_buffer(program)
    given = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    _prctl(_NO_NEW_PRIVILEGES, 1)
    _prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(given))


def _program(machine: _Machine) -> bytes:
    """Instructions of classic BPF that look at the number of a call, and of some at an argument."""

    def checked(
        call: tuple[int, int], place: int, test: int, value: int
    ) -> list[tuple[int, int, int, int]]:
        """Allow the call if the lower half of an argument passes the test."""
        return [
            (_EQUAL, 0, 4, call[machine.column]),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * place),
            (test, 0, 1, value),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE | errno.EPERM),
        ]

    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _REFUSE | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for numbers in _CALLS.values():
        if (number := numbers[machine.column]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    lines += checked(_PRLIMIT, 0, _EQUAL, 0)
    lines += checked(_KILL, 0, _EQUAL, os.getpid())
    lines += checked(_TGKILL, 0, _EQUAL, os.getpid())
    lines += checked(_CLONE, 0, _HAS_BITS, _THREAD)
    lines += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    lines += [(_RETURN, 0, 0, _REFUSE | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _prctl(*values: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).prctl
    if call(*map(ctypes.c_ulong, (*values, *[0] * (5 - len(values))))):
        raise OSError(ctypes.get_errno(), "prctl")


# --- The process that reads untrusted files: it loads all decoders and forks one per file.

LENGTH: Final = struct.Struct("<Q")
ADMIT: Final = b"A"
DONE: Final = b"D"
REFUSED: Final = b"R"
FAILED: Final = b"F"
ENDED: Final = b"E"
NONE: Final = b"N"
"""Messages on the socket begin with one of these; `ADMIT` waits for one byte of answer, and `NONE`
says that the system gives no process."""

NO_MEMORY: Final = 3
"""Exit status of a decoder without memory for a message."""

# What decoding a file may cost (`python -m benchmarks.decoders`): seconds of one core and bytes for
# metadata, profiles and structure, and more for each admitted pixel, several times what the slowest
# and more than what the largest honest form takes. Twice the size of the file comes on top.
SECONDS: Final = 2.0
SECONDS_PER_PIXEL: Final = 0.5e-6
BYTES: Final = 96 * 2**20
BYTES_PER_PIXEL: Final = 24
_WAY_OUT: Final = "Save it again with an ordinary program."

_SLOW_S: Final = 0.25


def too_long(seconds: float) -> DecodeLimit:
    """Return the refusal of a file that takes more than so many seconds."""
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


class _Running(NamedTuple):
    pid: int
    connection: socket.socket
    nice: int
    slow_at: float


def main() -> None:
    """Serve the socket whose number is the last argument, until it is closed."""
    control = socket.socket(fileno=int(sys.argv[-1]))
    _load()
    _serve(control)


def _load() -> None:
    """Load what every decoder needs; forks have one thread only."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    for name, module in installed_formats().items():
        if name == "HEIF":
            module.options.DECODE_THREADS = 1
        else:
            module.JpegXLImagePlugin.DECODE_THREADS = 0
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form in ("PNG", "JPEG", "WEBP", "TIFF", "GIF"):  # modules that Pillow imports when needed
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, form, icc_profile=profile)
        decode(file.getvalue(), Limits())
    warm_up()
    # What functions import where they need it: a decoder can open no file.
    for library in ("numpy.ma", "tifffile", "c2pa"):
        with suppress(ImportError):
            import_module(library)
    gc.collect()
    gc.freeze()


def _serve(control: socket.socket) -> None:
    """Fork a decoder for each socket received, and report its end."""
    running: dict[int, _Running] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        for ready, _ in poll.poll(_SLOW_S * 1e3 if running else None):
            if ready == woken:
                os.read(woken, 4096)
            elif ready == control.fileno():
                message, given, _, _ = socket.recv_fds(control, 1, 3)
                if not message:
                    for decoder in running.values():
                        os.kill(decoder.pid, signal.SIGKILL)
                    return
                begun = _begun(control, running, message[0], *given)
                if begun is not None:
                    running[begun.connection.fileno()] = begun
                    poll.register(begun.connection, 0)  # a hang-up is always reported
            else:  # the caller has left
                os.kill(running[ready].pid, signal.SIGKILL)
                poll.unregister(ready)
        _report_ends(running, poll)
        _slow_down(running)


def _begun(
    control: socket.socket, running: dict[int, _Running], nice: int, number: int, *files: int
) -> _Running | None:
    """A decoder for files; None if the system gives no process, which its socket reports."""
    connection = socket.socket(fileno=number)
    try:
        pid = os.fork()
    except OSError:
        with suppress(OSError):
            connection.sendall(NONE + LENGTH.pack(0))
        connection.close()
        pid = -1
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for other in (control, *(decoder.connection for decoder in running.values())):
            other.close()
        _decoder(connection, *files)
    for file in files:
        os.close(file)
    return None if pid < 0 else _Running(pid, connection, nice, time.monotonic() + _SLOW_S)


def _report_ends(running: dict[int, _Running], poll: select.poll) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        place, ended = next((n, decoder) for n, decoder in running.items() if decoder.pid == pid)
        with suppress(KeyError):
            poll.unregister(place)
        code = os.waitstatus_to_exitcode(status)
        with suppress(OSError):
            ended.connection.sendall(ENDED + LENGTH.pack(1) + struct.pack("b", max(code, -128)))
        ended.connection.close()
        del running[place]


def _slow_down(running: dict[int, _Running]) -> None:
    """Have slow decoders yield the cores to quick ones and to the service."""
    now = time.monotonic()
    for place, decoder in running.items():
        if decoder.slow_at <= now:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, decoder.pid, decoder.nice)
            running[place] = decoder._replace(slow_at=float("inf"))


def _decoder(connection: socket.socket, file: int, out: int) -> None:
    """Read one file and end the process."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_WRONLY)  # libraries print what files say
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        function, args, kwargs = pickle.loads(_message(connection))  # noqa: S301 - from our side
        size = os.fstat(file).st_size
        _limit(size)
        on_admit(_Admission(connection, size).ask)
        with suppress(OSError):  # a kernel without filters
            confine()
        try:
            kind, answer = DONE, function(os.pread(file, size, 0), *args, **kwargs)
        except BadInput as refusal:
            kind, answer = REFUSED, refusal
        except MemoryError:
            kind, answer = REFUSED, too_large()
        except Exception:  # noqa: BLE001 - the other side raises it
            kind, answer = FAILED, traceback.format_exc()
        _send(connection, kind, answer, out)
        code = 0
    except MemoryError:  # a message takes memory, too
        code = NO_MEMORY
    finally:
        os._exit(code)


def _send(connection: socket.socket, kind: bytes, answer: object, out: int) -> None:
    """Arrays go through the shared file, everything else through the socket."""
    _unlimit_memory()
    head, pieces = packed(answer)
    with open(out, "wb", buffering=0, closefd=False) as shared:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[shared.write(left) :]
    connection.sendall(kind + LENGTH.pack(len(head)) + head)


def _message(connection: socket.socket) -> bytes:
    (length,) = LENGTH.unpack(connection.recv(LENGTH.size, socket.MSG_WAITALL))
    return connection.recv(length, socket.MSG_WAITALL)


class _Admission:
    """Asks the caller for the pixels of a file of `size` bytes, and raises the limits for them."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection = connection
        self._size = size
        self._admitted = 0

    def ask(self, pixels: int) -> None:
        """Wait until so many are admitted, unless they are already."""
        if pixels <= self._admitted:
            return
        self._connection.sendall(ADMIT + LENGTH.pack(LENGTH.size) + LENGTH.pack(pixels))
        self._connection.recv(1)
        self._admitted = pixels
        _limit_memory(self._size, pixels)
        left, _ = signal.getitimer(signal.ITIMER_PROF)
        signal.setitimer(signal.ITIMER_PROF, left + pixels * SECONDS_PER_PIXEL)


def _limit(size: int) -> None:
    """Set the limits for a file of so many bytes before its pixels are admitted."""
    with suppress(OSError):  # out of memory, the system kills this before the service
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the picture
    _limit_memory(size, 0)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process


def _limit_memory(size: int, pixels: int) -> None:
    most = BYTES + 2 * size + BYTES_PER_PIXEL * pixels
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + most, resource.RLIM_INFINITY))


@cache
def _address_space() -> int:
    """Bytes that the process used before it read the file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _unlimit_memory() -> None:
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
