"""The promises of MonitorStore."""

from __future__ import annotations

import asyncio

from app.stores.base import MOST_POINTS, Label, Snapshot, Stores, Update
from tests.contract.conftest import Opener

BYTES = bytes(range(256))


def label(result: str = "res-1", record: bytes = BYTES) -> Label:
    return Label(result, "0123abcd", record)


class TestState:
    async def test_it_survives(self, opener: Opener):
        """A state comes back byte for byte, in another process too, with a growing version."""
        first, second = opener().monitor, opener().monitor
        assert await first.load("cal-a") is None
        assert await first.save("cal-a", Update(BYTES), expected=0)
        assert await second.load("cal-a") == Snapshot(1, BYTES)
        assert await second.save("cal-a", Update(b""), expected=1)
        assert await first.load("cal-a") == Snapshot(2, b"")

    async def test_the_second_writer_is_refused(self, stores: Stores):
        """A save under an old version changes nothing: neither state nor history nor labels."""
        monitor = stores.monitor
        await monitor.save("cal-a", Update(b"one"), expected=0)
        for stale in (0, 2, 7):
            assert not await monitor.save("cal-a", Update(b"two", [b"p"], label()), expected=stale)
        assert await monitor.load("cal-a") == Snapshot(1, b"one")
        assert await monitor.points("cal-a") == []
        assert await monitor.label("cal-a", "res-1") is None

    async def test_racing_writers_lose_nothing(self, opener: Opener):
        """Four processes that count to ten each, reading again when refused, count to forty."""

        async def count(stores: Stores) -> None:
            for _ in range(10):
                while True:
                    found = await stores.monitor.load("cal-a") or Snapshot(0, b"0")
                    after = str(int(found.state) + 1).encode()
                    update = Update(after, [after])
                    if await stores.monitor.save("cal-a", update, expected=found.version):
                        break

        await asyncio.gather(*(count(opener()) for _ in range(4)))
        monitor = opener().monitor
        assert await monitor.load("cal-a") == Snapshot(40, b"40")
        assert await monitor.points("cal-a") == [str(i + 1).encode() for i in range(40)]

    async def test_calibrations_are_apart(self, stores: Stores):
        """What is saved and forgotten of one calibration says nothing of another."""
        monitor = stores.monitor
        for name in ("cal-a", "cal-b"):
            await monitor.save(name, Update(name.encode(), [b"p"], label()), expected=0)
        await monitor.forget("cal-a")
        await monitor.forget("cal-never")
        assert await monitor.load("cal-a") is None
        assert await monitor.points("cal-a") == []
        assert await monitor.label("cal-a", "res-1") is None
        assert await monitor.labels("cal-a", limit=9) == []
        assert await monitor.load("cal-b") == Snapshot(1, b"cal-b")
        assert await monitor.points("cal-b") == [b"p"]
        assert await monitor.labels("cal-b", limit=9) == [label()]
        assert await monitor.save("cal-a", Update(b"afresh"), expected=0)


class TestHistory:
    async def test_the_oldest_points_go(self, stores: Stores):
        """The last points are kept, in order, and no more than promised."""
        first = [str(i).encode() for i in range(MOST_POINTS)]
        await stores.monitor.save("cal-a", Update(b"", first), expected=0)
        assert await stores.monitor.points("cal-a") == first
        await stores.monitor.save("cal-a", Update(b"", [b"x", b"y", BYTES]), expected=1)
        assert await stores.monitor.points("cal-a") == [*first[3:], b"x", b"y", BYTES]


class TestLabels:
    async def test_one_label_for_a_result(self, stores: Stores):
        """A second label of a result is refused together with the state that counts it."""
        monitor = stores.monitor
        assert await monitor.save("cal-a", Update(b"1", label=label()), expected=0)
        assert await monitor.label("cal-a", "res-1") == label()
        again = Update(b"2", label=label(record=b"other"))
        assert not await monitor.save("cal-a", again, expected=1)
        assert await monitor.label("cal-a", "res-1") == label()
        assert await monitor.load("cal-a") == Snapshot(1, b"1")

    async def test_the_last_ones_in_order(self, stores: Stores):
        """The last labels come with their records, the oldest of them first."""
        for i in range(5):
            update = Update(b"", label=label(f"res-{9 - i}", str(i).encode()))
            await stores.monitor.save("cal-a", update, expected=i)
        found = await stores.monitor.labels("cal-a", limit=3)
        assert [(one.result, one.record) for one in found] == [
            ("res-7", b"2"),
            ("res-6", b"3"),
            ("res-5", b"4"),
        ]
        assert await stores.monitor.labels("cal-a", limit=0) == []
