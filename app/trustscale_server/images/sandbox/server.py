"""The process that decodes hostile files.

The process loads all decoders and forks one per file. `client.py` starts it. The kernel limits what
each decoder costs (`costs.py`) and what it can do (`confinement.py`). A socket connects a decoder
with its caller (`messages.py`, `answers.py`): closing it kills the decoder, whose exit status is
its last message. So no caller waits for a hang, and no file's memory remains.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Final, NamedTuple

from PIL import AvifImagePlugin, Image, ImageCms

from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.decoding.gdal import warm_up
from trustscale_server.images.decoding.header import installed_formats
from trustscale_server.images.limits import Limits, on_admit
from trustscale_server.images.sandbox.answers import packed
from trustscale_server.images.sandbox.confinement import confine
from trustscale_server.images.sandbox.costs import (
    lift_memory_limit,
    limit_process,
    raise_limits,
    too_large,
)
from trustscale_server.images.sandbox.messages import (
    NO_MEMORY,
    Admit,
    Answered,
    Ended,
    Failed,
    Message,
    NoProcess,
    receive_frame,
    refused,
    send_message,
)
from trustscale_server.platform.errors import BadInput

_SLOW_S: Final = 0.25


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
            send_message(connection, NoProcess())
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
            send_message(ended.connection, Ended(code))
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
        function, args, kwargs = pickle.loads(receive_frame(connection))  # noqa: S301 - from our side
        size = os.fstat(file).st_size
        limit_process(size)
        on_admit(_Admission(connection, size).ask)
        with suppress(OSError):  # a kernel without filters
            confine()
        call = partial(function, os.pread(file, size, 0), *args, **kwargs)
        send_message(connection, _outcome(out, call))
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
        return refused(error)
    except MemoryError:
        return refused(too_large())
    except Exception:  # noqa: BLE001 - the other side raises it
        return Failed(traceback.format_exc())
    finally:
        lift_memory_limit()
    return _shared(answer, out)


def _shared(answer: object, out: int) -> Answered:
    pieces, start = packed(answer)
    with open(out, "wb", closefd=False) as shared:
        shared.writelines(pieces)
    return Answered(start)


class _Admission:
    """Asks the caller for the pixels of a file of `size` bytes, and raises the limits for them."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection = connection
        self._size = size
        self._admitted = 0

    def ask(self, pixels: int) -> None:
        """Wait until `pixels` are admitted, unless they are already."""
        if pixels <= self._admitted:
            return
        send_message(self._connection, Admit(pixels))
        self._connection.recv(1)
        self._admitted = pixels
        raise_limits(self._size, pixels)


if __name__ == "__main__":
    main()
