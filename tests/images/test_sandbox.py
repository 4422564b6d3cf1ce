"""Whatever a file does to its decoder, it ends soon, and nobody else waits for it."""

import asyncio
import contextvars
import ctypes
import errno
import importlib.util
import itertools
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from threading import Barrier, Event

import msgspec
import numpy as np
import pytest
import rasterio
from PIL import Image, ImageCms
from rasterio.io import MemoryFile

from harness import hostile
from harness.factories import encoded, photo
from harness.waiting import PATIENCE_S, block_until, cancelled, until
from tests.images import work
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.decoding.raster import read_picture, read_values
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox import client
from trustscale_server.images.sandbox.client import (
    DecoderFailed,
    _decoders,
    decoding,
    in_decoder,
    waiting_at_most,
)
from trustscale_server.images.sandbox.messages import (
    LENGTH,
    Admit,
    Answered,
    Refused,
    receive_frame,
)
from trustscale_server.platform.cores import usable_cores
from trustscale_server.platform.errors import BadImage, DecodeLimit, ImageTooLarge, Overloaded
from trustscale_server.platform.fair import current_client

LIMITS = Limits()


# Ended by the same limit as others, after as many seconds.
ALIKE = {"TIFF, tiles of a pixel", "PNG, profiles", "BMP, idle runs from the top", "JPEG, remarks"}


@pytest.mark.parametrize("kind", sorted(hostile.ENDLESS.keys() - ALIKE))
@pytest.mark.slow
def test_hostile_files(kind):
    """Each is given up, and said to take more than its pixels justify."""
    with pytest.raises(DecodeLimit, match=r"justify|more than 32 times"):
        in_decoder(decode, hostile.ENDLESS[kind](), LIMITS)


def test_more_behind_the_picture():
    """What is behind the only picture of a GIF file is hardly looked at."""
    image = in_decoder(decode, hostile.gif_with_more(31 * 2**20), LIMITS)
    assert image.rgb.shape == (192, 256, 3)


@pytest.mark.skipif(importlib.util.find_spec("pillow_jxl") is None, reason="no extra formats")
def test_jpeg_xl():
    with pytest.raises((ImageTooLarge, BadImage, DecodeLimit)):
        in_decoder(decode, hostile.jpeg_xl_bomb(), LIMITS)


EXTRAS = [
    form
    for form, name in {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}.items()
    if importlib.util.find_spec(name)
]
OTHER = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
DATED = Image.Exif()
DATED[0x0132] = "2020:01:01 00:00:00"


def assert_same(there, here):
    """Equal values of every field of equal types."""
    assert type(there) is type(here)
    if isinstance(here, np.ndarray):
        assert there.dtype == here.dtype
        np.testing.assert_array_equal(there, here)
    elif is_dataclass(here):
        for one in fields(here):
            assert_same(getattr(there, one.name), getattr(here, one.name))
    elif isinstance(here, Mapping):
        assert_same(list(there.items()), list(here.items()))
    elif isinstance(here, (list, tuple)):
        for first, second in zip(there, here, strict=True):
            assert_same(first, second)
    else:
        assert there == here


def framed(message):
    return LENGTH.pack(len(message)) + message


def said(message, *more):
    return b"".join(framed(msgspec.msgpack.encode(one)) for one in (message, *more)), b""


def answered(rgb=("uint8", [1, 1, 3], 0), *, beside=bytes(8), **fields):
    """A picture as the answer, whose array begins in the bytes before it."""
    head = msgspec.msgpack.encode({"rgb": rgb, "format": "PNG", **fields})
    return said(Answered(len(beside)))[0], beside + head


FORGED = {
    "nothing known": (framed(msgspec.msgpack.encode({"type": "Other"})), b""),
    "no end": (LENGTH.pack(2**62), b""),
    "no message": (framed(b"\xff"), b""),
    "twice admitted": said(Admit(1), Admit(1)),
    "an answer before its bytes": (said(Answered(-1))[0], bytes(8)),
    "an answer behind its bytes": (said(Answered(99))[0], bytes(8)),
    "no answer": (said(Answered(0))[0], b"\xc1"),
    "deep": (said(Answered(0))[0], b"\x91" * 10**6),
    "another type": (said(Answered(0))[0], msgspec.msgpack.encode("no picture")),
    "a field of another type": answered(raster={"page": "first"}),
    "an array of objects": answered(("object", [1], 0)),
    "an array of times": answered(("datetime64[s]", [1], 0)),
    "an array of another type": answered(("float32", [1, 1, 1], 0)),
    "an array of more": answered(("uint8", [9], 0)),
    "an array of far more": answered(("uint8", [2**62, 2**62], 0)),
    "an array of less than nothing": answered(("uint8", [-1, -8], 0)),
    "an array before its bytes": answered(("uint8", [8], -8)),
    "an array between": answered(("uint16", [1], 1)),
    "an array of axes": answered(("uint8", [1] * 99, 0)),
    "an error of ours": said(Refused("ConfigError", "no", {})),
    "an error of others": said(Refused("annotations", "no", {})),
    "an error with more": said(Refused("BadImage", "no", {"detail": "twice"})),
}


ATTEMPTS = {
    "a file": (open, "/etc/passwd"), "a file to write": (open, "/dev/null", "r+"),
    "a new file": (os.open, "/tmp/new", os.O_RDONLY | os.O_CREAT),
    "an empty file": (os.open, "/dev/null", os.O_RDONLY | os.O_TRUNC),
    "the memory of a process": (open, f"/proc/{os.getpid()}/mem", "wb"),
    "removing": (os.unlink, "/nothing"), "a program": (os.execv, "/bin/true", ["true"]),
    "a process": (work.forking,), "a socket": (work.connecting,),
    "a signal": (os.kill, os.getpid(), 0), "a limit": (work.limiting, os.getpid()),
    "a priority": (os.setpriority, os.PRIO_PROCESS, os.getpid(), 19),
}  # fmt: skip


class TestConfinement:
    @pytest.mark.parametrize("attempt", ATTEMPTS)
    @pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="no filter")
    def test_leaves_no_way_out(self, attempt):
        """Code in a decoder changes nothing, starts nothing, and touches no other process."""
        assert in_decoder(work.trying, b"", *ATTEMPTS[attempt]) in {errno.EPERM, errno.ENOSYS}

    def test_leaves_threads(self):
        """Libraries may use them."""
        assert in_decoder(work.trying, b"", work.threading_) is None

    def test_memory_of_the_service_is_its_own(self):
        in_decoder(work.process, b"")
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE


class TestAnswers:
    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", *EXTRAS])
    def test_are_the_same(self, form):
        """What comes back is what the function says in this process, arrays included."""
        options = {} if form in {"BMP", "GIF"} else {"icc_profile": OTHER, "exif": DATED.tobytes()}
        data = encoded(photo(1, 40, 56), form, **options)
        for asked in ({}, {"max_input_side": 20, "keep": "keep-gps"}):
            here = decode(data, LIMITS, **asked)
            assert_same(in_decoder(decode, data, LIMITS, **asked), here)
            assert in_decoder(work.opening, data, decode, LIMITS, **asked) == []
        assert bool(here.metadata.exif) == bool(options)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_are_the_same_of_data(self, dtype):
        """Of bands with a place on the ground and with gaps."""
        values = np.arange(20 * 30 * 3).reshape(3, 20, 30).astype(dtype)
        place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
        shape = {"width": 30, "height": 20, "count": 3, "dtype": dtype, "nodata": 7}
        with MemoryFile() as file:
            with file.open(driver="GTiff", compress="deflate", **place, **shape) as dataset:
                dataset.write(values)
            data = file.read()
        here = read_values(data, LIMITS, keep="keep-gps")
        assert here.metadata.geo
        assert_same(in_decoder(read_values, data, LIMITS, keep="keep-gps"), here)
        assert in_decoder(work.opening, data, read_values, LIMITS, keep="keep-gps") == []
        asked = {"stretch": "p1,p99", "with_alpha": True}
        assert in_decoder(work.opening, data, read_picture, LIMITS, **asked) == []

    async def test_files_on_the_disk(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(encoded(photo(1)))
        with path.open("rb") as file:
            await decoding(decode, file, LIMITS)
            assert (await decoding(decode, file, LIMITS)).format == "PNG"

    def test_refusals(self):
        with pytest.raises(ImageTooLarge) as caught:
            in_decoder(decode, encoded(photo(1, 40, 56)), Limits(max_pixels=100))
        assert caught.value.members["actual"] == 40 * 56
        with pytest.raises(DecoderFailed, match="KeyError: 'what was asked for'"):
            in_decoder(work.faulty, b"")

    @pytest.mark.parametrize("kind", FORGED)
    def test_say_nothing_else(self, kind):
        """A decoder that its file has taken over cannot have this process make anything."""
        message, beside = FORGED[kind]
        with pytest.raises(BadImage, match="decoder said"):
            in_decoder(work.saying, b"", message, beside)

    def test_say_it_whole(self, monkeypatch):
        """A decoder that stops in the middle of a message is not waited for longer than others."""
        monkeypatch.setattr(client, "_PATIENCE", 0.01)
        with pytest.raises(DecodeLimit, match="seconds of a core"):
            in_decoder(work.saying, b"", LENGTH.pack(9)[:4])

    def test_as_a_decoder_says_it(self):
        """The forged answers fail by what they change: without it there is a picture."""
        picture = in_decoder(work.saying, b"", *answered())
        np.testing.assert_array_equal(picture.rgb, np.zeros((1, 1, 3), np.uint8))

    def test_first_ones_at_once(self):
        """A process reads several answers of a type that it has not met yet."""
        subprocess.run([sys.executable, "-m", "tests.images.at_once"], check=True)

    def test_each_file_has_a_process(self):
        assert len({in_decoder(work.process, b"") for _ in range(3)} | {os.getpid()}) == 4

    def test_byte_by_byte(self):
        """Each byte comes soon after the one before, and the whole message never."""
        ours, theirs = socket.socketpair()
        stopped = Event()

        def trickle():
            theirs.sendall(LENGTH.pack(2**20))
            while not stopped.wait(0.01):
                theirs.sendall(b"x")

        with ours, theirs, ThreadPoolExecutor(1) as thread:
            sender = thread.submit(trickle)
            try:
                with pytest.raises(TimeoutError):
                    receive_frame(ours, max_bytes=2**20, seconds=0.1)
            finally:
                stopped.set()
            sender.result()


class TestLimits:
    def test_time_and_memory(self):
        """Who takes more than the pixels justify is ended, even with no memory left to say so."""
        with pytest.raises(DecodeLimit, match="seconds of a core") as caught:
            in_decoder(work.endless, b"")
        assert caught.value.members == {"limit": "seconds", "maximum": 2.0}
        assert in_decoder(work.hungry, b"", 2**24, 2**28) == 2**28
        with pytest.raises(DecodeLimit, match="memory"):
            in_decoder(work.hungry, b"", 2**20, 2**28)
        with pytest.raises(DecodeLimit, match="memory"):
            in_decoder(work.exhausted, b"")

    @pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL])
    def test_without_memory(self, number):
        """Libraries that end when there is none, and the system that ends them."""
        with pytest.raises(DecodeLimit, match="memory"):
            in_decoder(work.dying, b"", number)

    def test_broken(self):
        """An end without an answer is the file's fault, whatever ended it."""
        with pytest.raises(BadImage, match="broke its decoder"):
            in_decoder(work.dying, b"", signal.SIGSEGV)
        for fault in (work.panicking, work.silent):
            with pytest.raises(BadImage, match="broke its decoder"):
                in_decoder(fault, b"")
        assert in_decoder(work.process, b"")


class TestPlaces:
    async def test_whoever_leaves_ends_it(self, tmp_path):
        begun = tmp_path / "begun"
        begun.touch()
        leaving = asyncio.create_task(decoding(work.asleep, b"", 1e6, work.Opened(begun)))
        await cancelled(leaving, lambda: begun.read_text().endswith("\n"))
        pid = int(begun.read_text())
        await until(lambda: not Path(f"/proc/{pid}").exists())

    def test_quick_ones_do_not_wait(self, tmp_path):
        count = 3 * usable_cores()
        with ThreadPoolExecutor(count) as threads:
            wait = in_decoder, work.until_there, b"", tmp_path / "end"
            slow = [threads.submit(*wait) for _ in range(count)]
            try:
                assert in_decoder(work.process, b"")
                assert not any(one.done() for one in slow)
            finally:
                (tmp_path / "end").touch()
            assert all(one.result() for one in slow)

    def test_waiting_for_memory_takes_no_place(self, tmp_path):
        """Whoever waits for memory, as many as there are places and more, keeps nobody out."""
        with ThreadPoolExecutor(64) as threads:
            wait = in_decoder, work.admitted_until, b"", 2**40, tmp_path / "end"
            assert in_decoder(work.process, b"")
            large = [threads.submit(*wait) for _ in range(4 * usable_cores() + 2)]
            try:
                block_until(lambda: len(_decoders.memory._waiting) == len(large) - 1)
                assert threads.submit(in_decoder, work.process, b"").result(PATIENCE_S)
                assert not any(one.done() for one in large)
            finally:
                (tmp_path / "end").touch()
            assert all(one.result() for one in large)

    def test_waiting_for_memory_ends(self, tmp_path):
        """A client is told to come again; a file that few bytes suffice for does not wait."""
        end = tmp_path / "end"
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(in_decoder, work.admitted_until, b"", 2**40, end)
            try:
                block_until(lambda: _decoders.memory._holding)
                with waiting_at_most(0.01):
                    with pytest.raises(Overloaded, match="waiting to be decoded"):
                        in_decoder(work.hungry, b"", 2**40, 1)
                    assert in_decoder(work.hungry, b"", 2**20, 1)
            finally:
                end.touch()
            assert first.result()

    def test_further_files_of_a_client_yield_to_others(self):
        """Their priorities fall so fast that all together get less than twice the first's time."""
        with ExitStack() as stack:
            mine = [stack.enter_context(_decoders.nice("a")) for _ in range(5)]
            assert mine == [4, 9, 14, 19, 19]
            assert stack.enter_context(_decoders.nice("b")) == mine[0]
        assert in_decoder(work.nice, b"") == max(mine[0], os.nice(0))  # none gets more than we have

    def test_the_time_of_a_refused_file_counts(self, monkeypatch):
        """Who has decoders work for seconds has had them, whatever comes of it."""
        charged = []
        monkeypatch.setattr(_decoders.places, "charge", lambda *use: charged.append(use))

        def refused():
            current_client.set("a")
            with pytest.raises(DecodeLimit):
                in_decoder(work.endless, b"")

        contextvars.copy_context().run(refused)
        [(client, seconds)] = charged
        assert client == "a"
        assert seconds > 1

    def test_large_ones_take_turns(self):
        with ThreadPoolExecutor(3) as threads:
            many = [threads.submit(in_decoder, work.begun_and_ended, b"", 2**40) for _ in range(3)]
            times = sorted(one.result() for one in many)
        assert all(ended < begins for (_, ended), (begins, _) in itertools.pairwise(times))


def test_the_process_is_replaced():
    """By one for all, however many find that it is gone."""
    count = 32
    together = Barrier(count)

    def found():
        together.wait()
        return in_decoder(work.parent, b"")

    with ThreadPoolExecutor(count) as threads:
        for _ in range(3):
            parent = in_decoder(work.parent, b"")
            os.kill(parent, signal.SIGKILL)
            parents = {one.result() for one in [threads.submit(found) for _ in range(count)]}
            assert len(parents) == 1
            assert parent not in parents


def test_the_system_gives_no_process(monkeypatch):
    """A start that failed is tried again for the next file."""

    def none_left(*_args, **_options):
        raise BlockingIOError(errno.EAGAIN, "no process is left")

    os.kill(in_decoder(work.parent, b""), signal.SIGKILL)
    with monkeypatch.context() as without:
        without.setattr(subprocess, "Popen", none_left)
        with pytest.raises(BlockingIOError):
            in_decoder(work.parent, b"")
    assert in_decoder(work.parent, b"") > 0
