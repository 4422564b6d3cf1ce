"""What decoders are made to do in tests; loads little, since each of them loads it anew."""

import os
import time
from pathlib import Path

from app.errors import BadInput
from app.images.allowance import admit

PAUSE_S = 0.01


def process(data: bytes) -> int:
    return os.getpid()


def parent(data: bytes) -> int:
    """The process that all decoders come from."""
    return os.getppid()


def endless(data: bytes) -> None:
    while True:
        pass


def asleep(data: bytes, seconds: float, begun: Path) -> None:
    begun.with_suffix(".new").write_text(str(os.getpid()))
    begun.with_suffix(".new").rename(begun)
    time.sleep(seconds)


def until_there(data: bytes, path: Path) -> bool:
    while not path.exists():
        time.sleep(PAUSE_S)
    return True


def alone(data: bytes, pixels: int, folder: Path) -> bool:
    """Whether nobody else is here, once so many pixels are admitted."""
    admit(pixels)
    (folder / "here").mkdir()
    time.sleep(PAUSE_S)
    (folder / "here").rmdir()
    return True


def hungry(data: bytes, pixels: int, size: int) -> int:
    """Take so much memory for so many pixels."""
    admit(pixels)
    return len(bytearray(size))


class Unsayable(BadInput):
    """A refusal that takes more memory to send than is left."""

    def __reduce__(self):
        raise MemoryError


def exhausted(data: bytes) -> None:
    """Have no memory to say why the file is refused."""
    raise Unsayable("")


def dying(data: bytes, number: int) -> None:
    """End as libraries do that break, or whose allocation fails."""
    os.kill(os.getpid(), number)


def faulty(data: bytes) -> None:
    raise KeyError("what was asked for")


class Fallen:
    """What a decoder says that its file has taken over."""

    def __reduce__(self):
        return os.system, ("false",)


def fallen(data: bytes) -> Fallen:
    return Fallen()
