"""The process that decodes hostile files (answers: `answers.py`, confinement: `confinement.py`).

The process loads all decoders and forks one per file. `client.py` starts it. The kernel limits
each decoder: memory by RLIMIT_AS (not on macOS), CPU time by a timer. A socket connects a decoder
with its caller: closing it kills the decoder, whose exit status is its last message. So no caller
waits for a hang, and no file's memory remains.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import msgpack
from PIL import AvifImagePlugin, Image, ImageCms

from trustscale_server.images.decode import decode
from trustscale_server.images.header import installed_formats
from trustscale_server.images.limits import Limits, on_admit
from trustscale_server.images.raster import warm_up
from trustscale_server.images.sandbox.answers import (
    Admit,
    Answered,
    Ended,
    Failed,
    Message,
    NoProcess,
    Refused,
    packed,
)
from trustscale_server.images.sandbox.confinement import confine
from trustscale_server.platform.errors import BadInput, DecodeLimit

LENGTH: Final = struct.Struct("<Q")
"""Stands before each message on the socket."""

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
                message, descriptors, _, _ = socket.recv_fds(control, 1, 3)
                if not message:
                    for decoder in running.values():
                        os.kill(decoder.pid, signal.SIGKILL)
                    return
                begun = _begun(control, running, message[0], *descriptors)
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
            _send(connection, NoProcess())
        connection.close()
        pid = -1
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for inherited in (control, *(decoder.connection for decoder in running.values())):
            inherited.close()
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
            _send(ended.connection, Ended(code))
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
        _send(
            connection, _outcome(out, partial(function, os.pread(file, size, 0), *args, **kwargs))
        )
        code = 0
    except MemoryError:  # a message takes memory, too
        code = NO_MEMORY
    finally:
        os._exit(code)


def _outcome(out: int, function: Callable[[], object]) -> Message:
    """Call a function, and write its result to the shared file, or return how it failed."""
    try:
        answer = function()
    except BadInput as error:
        return _refused(error)
    except MemoryError:
        return _refused(too_large())
    except Exception:  # noqa: BLE001 - the other side raises it
        return Failed(traceback.format_exc())
    finally:
        _unlimit_memory()
    return _shared(answer, out)


def _refused(error: BadInput) -> Refused:
    return Refused(type(error).__name__, error.detail, dict(error.members))


def _shared(answer: object, out: int) -> Answered:
    pieces, start = packed(answer)
    with open(out, "wb", buffering=0, closefd=False) as shared:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[shared.write(left) :]
    return Answered(start)


def _send(connection: socket.socket, message: Message) -> None:
    head = msgpack.encode(message)
    connection.sendall(LENGTH.pack(len(head)) + head)


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
        _send(self._connection, Admit(pixels))
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
