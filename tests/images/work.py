"""What decoders are made to do in tests; loads little, since each of them loads it anew."""

import os
import resource
import socket
import stat
import sys
import threading
import time
from contextlib import suppress

from trustscale_server.images.decoding.decode import Decoded
from trustscale_server.images.limits import admit_pixels
from trustscale_server.platform.errors import BadInput

PAUSE_S = 0.01


def process(data) -> int:
    return os.getpid()


def parent(data) -> int:
    """The process that all decoders come from."""
    return os.getppid()


def endless(data) -> None:
    while True:
        pass


class Opened:
    """A file that is opened for writing as the request is read: a decoder itself opens none."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (self._path, "w")


def asleep(data, seconds, begun) -> None:
    print(os.getpid(), file=begun, flush=True)
    time.sleep(seconds)


def until_there(data, path) -> bool:
    while not path.exists():
        time.sleep(PAUSE_S)
    return True


def admitted_until(data, pixels, path) -> bool:
    """Wait for the path with so many pixels admitted."""
    admit_pixels(pixels)
    return until_there(data, path)


def nice(data) -> int:
    """The priority that it runs at once it is slow."""
    while not (found := os.getpriority(os.PRIO_PROCESS, 0)):
        time.sleep(PAUSE_S)
    return found


def begun_and_ended(data, pixels) -> tuple[float, float]:
    """When it began and ended, once so many pixels were admitted."""
    admit_pixels(pixels)
    began = time.monotonic()
    time.sleep(PAUSE_S)
    return began, time.monotonic()


def hungry(data, pixels, size) -> int:
    """Take so much memory for so many pixels."""
    admit_pixels(pixels)
    return len(bytearray(size))


class Unsayable(BadInput):
    """A refusal that takes more memory to send than is left."""

    def __getattribute__(self, name):
        raise MemoryError


def exhausted(data) -> None:
    """Have no memory to say why the file is refused."""
    raise Unsayable("")


def dying(data, number) -> None:
    """End as libraries do that break, or whose allocation fails."""
    os.kill(os.getpid(), number)


class Panic(BaseException):
    """As PyO3 raises it where Rust code panics: no `Exception`."""


def panicking(data) -> None:
    raise Panic


def silent(data) -> None:
    """Close everything, as code of a file might."""
    os.closerange(0, 1024)
    time.sleep(1)


def saying(data, message, beside=b"") -> Decoded:
    """Say this, as a decoder whose file has taken it over."""
    # The message comes last: it ends the wait for the bytes beside it.
    for part, is_socket in ((beside, False), (message, True)):
        for number in range(3, 64):
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode) is is_socket:
                    os.write(number, part)
    time.sleep(10)


def trying(data, attempt, *args) -> int | None:
    """The error of an attempt to leave the decoder."""
    try:
        attempt(*args)
    except OSError as error:
        return error.errno
    return None


def opening(data, function, *args, **kwargs) -> list[str]:
    """What a function tries to open, though a library may hide that it failed."""
    found = []

    def hook(event, given):
        if event == "open" and isinstance(given[0], str):
            found.append(given[0])

    sys.addaudithook(hook)
    function(data, *args, **kwargs)
    return found


def forking():
    if os.fork() == 0:
        os._exit(0)


def connecting():
    socket.socket()


def threading_():
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    thread.join()


def limiting(process):
    resource.prlimit(process, resource.RLIMIT_CPU, (0, 0))


def faulty(data) -> None:
    raise KeyError("what was asked for")
