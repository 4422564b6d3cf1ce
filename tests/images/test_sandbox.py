"""Whatever a file does to its decoder, it ends soon, and nobody else waits for it."""

import asyncio
import importlib.util
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from tests.factories import encoded, photo
from tests.images import hostile, work
from tests.waiting import PATIENCE_S, block_until, cancelled, until
from trustscale_server.concurrency import usable_cores
from trustscale_server.errors import BadImage, DecodeLimit, ImageTooLarge, Overloaded
from trustscale_server.images.decode import Limits, decode
from trustscale_server.images.sandbox import (
    DecoderFailed,
    _decoders,
    decoding,
    in_decoder,
    waiting_at_most,
)

LIMITS = Limits()


@pytest.mark.parametrize("kind", hostile.ENDLESS)
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


class TestAnswers:
    def test_are_the_same(self):
        """What comes back is what the function says in this process, arrays included."""
        for form in ("PNG", "JPEG"):
            data = encoded(photo(1, 40, 56), form)
            here, there = decode(data, LIMITS), in_decoder(decode, data, LIMITS)
            np.testing.assert_array_equal(here.rgb, there.rgb)
            assert (here.format, here.compression) == (there.format, there.compression)

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

    def test_say_nothing_else(self):
        """A decoder that its file has taken over cannot make this process run anything."""
        with pytest.raises(BadImage, match=r"sent 'posix\.system'"):
            in_decoder(work.fallen, b"")

    def test_each_file_has_a_process(self):
        assert len({in_decoder(work.process, b"") for _ in range(3)} | {os.getpid()}) == 4


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
        with pytest.raises(BadImage, match="what none says"):
            in_decoder(work.babbling, b"")
        assert in_decoder(work.process, b"")


class TestPlaces:
    async def test_whoever_leaves_ends_it(self, tmp_path):
        begun = tmp_path / "begun"
        leaving = asyncio.create_task(decoding(work.asleep, b"", 1e6, begun))
        await cancelled(leaving, begun.is_file)
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
                block_until(lambda: _decoders.memory._held)
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
        assert in_decoder(work.nice, b"") == mine[0]

    def test_large_ones_take_turns(self, tmp_path):
        with ThreadPoolExecutor(3) as threads:
            many = [threads.submit(in_decoder, work.alone, b"", 2**40, tmp_path) for _ in range(3)]
            assert all(one.result() for one in many)


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
