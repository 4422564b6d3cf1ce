"""What decoders are made to do in tests; loads little, since each of them loads it anew."""

import os
import socket
import time
from contextlib import suppress

from trustscale_server.errors import BadInput
from trustscale_server.images.decode import admit

PAUSE_S = 0.01


def process(data):
    return os.getpid()


def parent(data):
    """The process that all decoders come from."""
    return os.getppid()


def endless(data):
    while True:
        pass


def asleep(data, seconds, begun):
    begun.with_suffix(".new").write_text(str(os.getpid()))
    begun.with_suffix(".new").rename(begun)
    time.sleep(seconds)


def until_there(data, path):
    while not path.exists():
        time.sleep(PAUSE_S)
    return True


def admitted_until(data, pixels, path):
    """Wait for the path with so many pixels admitted."""
    admit(pixels)
    return until_there(data, path)


def nice(data):
    """The priority that it runs at once it is slow."""
    while not (found := os.getpriority(os.PRIO_PROCESS, 0)):
        time.sleep(PAUSE_S)
    return found


def alone(data, pixels, folder):
    """Whether nobody else is here, once so many pixels are admitted."""
    admit(pixels)
    (folder / "here").mkdir()
    time.sleep(PAUSE_S)
    (folder / "here").rmdir()
    return True


def hungry(data, pixels, size):
    """Take so much memory for so many pixels."""
    admit(pixels)
    return len(bytearray(size))


class Unsayable(BadInput):
    """A refusal that takes more memory to send than is left."""

    def __reduce__(self):
        raise MemoryError


def exhausted(data):
    """Have no memory to say why the file is refused."""
    raise Unsayable("")


def dying(data, number):
    """End as libraries do that break, or whose allocation fails."""
    os.kill(os.getpid(), number)


class Panic(BaseException):
    """As PyO3 raises it where Rust code panics: no `Exception`."""


def panicking(data):
    raise Panic


def silent(data):
    """Close everything, as code of a file might."""
    os.closerange(0, 1024)
    time.sleep(1)


def babbling(data):
    """Say what no decoder says."""
    for number in range(3, 64):
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as own:
            own.sendall(b"?" + bytes(8))
    time.sleep(5)


def faulty(data):
    raise KeyError("what was asked for")


class Fallen:
    """What a decoder says that its file has taken over."""

    def __reduce__(self):
        return os.system, ("false",)


def fallen(data):
    return Fallen()
