"""A few run, some wait in order, the rest is told when to come back."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustscale_server.platform.errors import ImageTooLarge, Overloaded
from trustscale_server.platform.fair import AdmissionController, Room, current_client


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


class Work:
    def __init__(self, slots):
        self.slots = slots
        self.begun = []
        self.doors = {}
        self.tasks = {}

    async def start(self, name, **options):
        self.doors[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, **options))
        await settled()
        return self.tasks[name]

    async def _hold(self, name, **options):
        async with self.slots.slot(**options):
            self.begun.append(name)
            await self.doors[name].wait()

    async def let_go(self, name):
        self.doors[name].set()
        await self.tasks[name]
        await settled()

    async def end(self):
        for door in self.doors.values():
            door.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@pytest.fixture
async def work():
    work = Work(AdmissionController(2, 2))
    yield work
    await work.end()
    assert (work.slots.in_flight, work.slots.waiting) == (0, 0)


async def test_slots_and_waiting_places(work):
    """Two run, two wait, and the fifth is refused at once; patient ones wait however many do."""
    for name in "abcd":
        await work.start(name)
    assert work.begun == ["a", "b"]
    assert (work.slots.in_flight, work.slots.waiting) == (2, 2)
    with pytest.raises(Overloaded, match="2 slots and 2 waiting places") as caught:
        async with work.slots.slot():
            pytest.fail("no slot was free")
    assert caught.value.retry_after >= 1
    await work.start("job", unbounded_wait=True)
    assert work.slots.waiting == 3
    await work.let_go("b")
    assert work.begun == ["a", "b", "c"]
    await work.let_go("a")
    await work.start("e")
    assert work.slots.waiting == 2
    for name in "cd":
        await work.let_go(name)
    assert work.begun == ["a", "b", "c", "d", "job", "e"]


class TestJobs:
    @pytest.fixture
    async def work(self):
        work = Work(AdmissionController(3, 2, max_in_flight_bytes=10, reserved=1))
        yield work
        await work.end()

    async def test_leave_a_slot(self, work):
        """Two jobs run; a third one waits, and whoever comes later passes it."""
        for name in ("job1", "job2", "job3"):
            await work.start(name, unbounded_wait=True)
        for _ in range(100):
            await work.start("small")
            await work.let_go("small")
        await work.start("a")
        await work.start("b")
        assert work.slots.waiting == 2
        await work.let_go("job1")
        assert set(work.begun) == {"job1", "job2", "small", "a", "job3"}
        await work.let_go("a")
        assert work.begun[-1] == "b"

    async def test_are_not_starved(self, work):
        """A job that waits for memory lets others past for a while, then nobody."""
        await work.start("a", cost=5)
        await work.start("job", cost=8, unbounded_wait=True)
        for passed in range(100):
            await work.start(f"small{passed}", cost=2)
            if f"small{passed}" not in work.begun:
                break
            await work.let_go(f"small{passed}")
        assert 10 < passed < 100
        await work.let_go("a")
        assert work.begun[-2:] == ["job", f"small{passed}"]


class TestOwn:
    """Slots of an upscaler whose requests wait for other machines."""

    @pytest.fixture
    async def work(self):
        work = Work(AdmissionController(1, 4, 10, reserved=1, own={"pool": 3}))
        yield work
        await work.end()
        assert (work.slots.in_flight, work.slots.bytes_in_flight) == (0, 0)

    async def test_neither_waits_for_the_other(self, work):
        """Whoever waits for one kind lets those of the other pass."""
        for name in ("here1", "here2"):
            await work.start(name, upscaler="embedded")
        for name in ("pool1", "pool2", "pool3", "pool4"):
            await work.start(name, upscaler="pool")
        assert work.begun == ["here1", "pool1", "pool2", "pool3"]
        assert (work.slots.capacity, work.slots.in_flight, work.slots.waiting) == (4, 4, 2)
        assert (work.slots.slots_held("embedded"), work.slots.slots_held("pool")) == (1, 3)
        await work.let_go("here1")
        await work.let_go("pool2")
        assert work.begun[4:] == ["here2", "pool4"]

    async def test_memory_is_one(self, work):
        """A large request waits for the bytes of all, and is not overtaken by any."""
        await work.start("pool1", upscaler="pool", cost=6)
        await work.start("large", cost=8)
        await work.start("pool2", upscaler="pool", cost=1)
        assert work.begun == ["pool1"]
        await work.let_go("pool1")
        assert work.begun == ["pool1", "large", "pool2"]

    async def test_jobs_leave_a_slot_of_each(self, work):
        for name in ("job1", "job2", "job3"):
            await work.start(name, upscaler="pool", unbounded_wait=True)
        await work.start("pool1", upscaler="pool")
        await work.start("job4", unbounded_wait=True)
        assert work.begun == ["job1", "job2", "pool1", "job4"]

    async def test_what_is_full_is_named(self, work):
        for number in range(8):
            await work.start(f"pool{number}", upscaler="pool")
        with pytest.raises(Overloaded, match="All 3 slots of pool and 4 waiting places"):
            work.slots.raise_if_full(0, {"pool"})
        work.slots.raise_if_full(0, {"pool", "embedded"})
        await work.start("here1")
        with pytest.raises(Overloaded):
            work.slots.raise_if_full(0, {"pool", "embedded"})


class TestMemory:
    @pytest.fixture
    async def work(self):
        work = Work(AdmissionController(4, 2, max_in_flight_bytes=10))
        yield work
        await work.end()
        assert (work.slots.in_flight, work.slots.bytes_in_flight) == (0, 0)

    async def test_a_large_one_is_not_overtaken(self, work):
        """It waits while those with a slot leave too little, although slots are free."""
        await work.start("a", cost=2)
        await work.start("large", cost=10)
        await work.start("small", cost=1)
        assert work.begun == ["a"]
        await work.let_go("a")
        assert work.begun == ["a", "large"]
        await work.let_go("large")
        assert work.begun == ["a", "large", "small"]
        await work.start("larger", cost=10)
        await work.start("last", cost=1)
        work.tasks["larger"].cancel()  # those behind it move up at once
        await settled()
        assert work.begun == ["a", "large", "small", "last"]


async def test_expected_times_follow_what_runs():
    """What has run for long already is expected to go on so, before anything has ended."""
    slots, loop = AdmissionController(1, 0, seconds=1), asyncio.get_running_loop()
    now = loop.time()
    async with slots.slot():
        loop.time = lambda: now + 90
        try:
            with pytest.raises(Overloaded) as caught:
                slots.raise_if_full()
        finally:
            del loop.time
    assert caught.value.retry_after == pytest.approx(90, abs=1)


class TestClients:
    """One client's requests, a0, a1 and so on, beside those of others."""

    @pytest.fixture
    async def work(self):
        work = Work(AdmissionController(4, 4, max_in_flight_bytes=100))
        yield work
        await work.end()
        assert (work.slots.in_flight, work.slots.bytes_in_flight) == (0, 0)

    async def start(self, work, name, **options):
        current_client.set(name[0])
        return await work.start(name, **options)

    async def test_share_slots(self, work):
        """While two wait, slots go to the one with fewer, until both have half."""
        for name in ("a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1"):
            await self.start(work, name)
        for name in ("a0", "a1", "a2"):
            await work.let_go(name)
        assert work.begun == ["a0", "a1", "a2", "a3", "b0", "b1", "a4"]

    async def test_nobody_waits_for_one_that_has_all_slots(self, work):
        """Another client gets one slot more, in turn; its jobs do not."""
        for name in ("a0", "a1", "a2", "a3", "a4"):
            await self.start(work, name)
        await self.start(work, "b-job", unbounded_wait=True)
        for name in ("b0", "b1", "c0"):
            await self.start(work, name)
        assert work.begun == ["a0", "a1", "a2", "a3", "b0"]
        await work.let_go("b0")
        assert work.begun[5:] == ["b1"]

    async def test_of_one_slot_there_is_one(self):
        work = Work(AdmissionController(1, 4))
        for name in ("a0", "b0"):
            await self.start(work, name)
        assert work.begun == ["a0"]
        await work.end()

    async def test_share_memory(self, work):
        """Bytes count like slots: whoever holds few slots of many bytes waits for others."""
        await self.start(work, "a0", cost=60)
        await self.start(work, "b0", cost=30)
        await self.start(work, "a1", cost=30)
        await self.start(work, "b1", cost=30)
        await work.let_go("a0")
        assert work.begun == ["a0", "b0", "a1", "b1"]
        await work.let_go("b1")
        await self.start(work, "c0", cost=90)
        await self.start(work, "a2", cost=1)  # must not pass the one with nothing
        for name in ("b0", "a1"):
            await work.let_go(name)
        assert work.begun[4:] == ["c0", "a2"]

    async def test_share_waiting_places(self, work):
        """Of full places whoever comes gets one of the client that has most, the newest."""
        for number in range(8):
            await self.start(work, f"a{number}")
        await self.start(work, "b0")  # has a slot
        for name, put_out in {"b1": "a7", "b2": "a6"}.items():
            await self.start(work, name)
            with pytest.raises(Overloaded, match="waiting places are taken"):
                await work.tasks[put_out]
            assert work.slots.waiting == 4
        for name in ("b3", "a8"):  # both have half
            with pytest.raises(Overloaded):
                await (await self.start(work, name))
        await self.start(work, "c0")
        with pytest.raises(Overloaded):
            await work.tasks["a5"]
        current_client.set("d")
        work.slots.raise_if_full()
        current_client.set("a")
        with pytest.raises(Overloaded):
            work.slots.raise_if_full()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 3)), max_size=25))
async def test_never_more_than_the_limits(steps):
    """Whatever comes, gives up and ends: slots and bytes stay bounded and return to nothing."""
    slots, begun, ended = AdmissionController(3, 100, max_in_flight_bytes=10), [], asyncio.Event()
    tasks = {}

    async def hold(number, cost):
        current_client.set(str(number % 3))
        async with slots.slot(cost, unbounded_wait=number % 2 == 1):
            assert slots.in_flight <= 4  # one more while a client holds all three
            assert slots.bytes_in_flight <= 10
            begun.append(number)
            await ended.wait()

    for number, (cost, gives_up, pause) in enumerate(steps):
        tasks[number] = asyncio.create_task(hold(number, cost))
        for _ in range(pause):
            await asyncio.sleep(0)
        if gives_up:
            tasks[number // 2].cancel()
    ended.set()
    for _ in tasks:
        await settled()
    assert all(task.done() for task in tasks.values())  # what can never fit waits for nothing
    outcomes = await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert (slots.in_flight, slots.bytes_in_flight, slots.waiting) == (0, 0, 0)
    for number, (outcome, (cost, _, _)) in enumerate(zip(outcomes, steps, strict=True)):
        if outcome is None:
            assert number in begun
        elif not isinstance(outcome, asyncio.CancelledError):
            assert isinstance(outcome, ImageTooLarge)
            assert cost > 10


async def test_a_room_that_ends():
    """Who holds a place when the service stops is cancelled, and who comes later too."""
    room = Room(3, "places")

    async def hold():
        async with room.held():
            await asyncio.sleep(60)

    first = asyncio.create_task(hold())
    await settled()
    room.end(0.05)
    for work in (first, hold()):
        with pytest.raises(Overloaded, match="stopping"):
            await work
    assert room.taken == 0
