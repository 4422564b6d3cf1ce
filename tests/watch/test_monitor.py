"""The monitor beside the requests: shared by processes, and never in anybody's way."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from app.calibration.record import Calibration
from app.serving.prepare import digest_of
from app.stores.base import Label, Snapshot, Stores, StoreUnavailable, Update
from app.telemetry.metrics import Metrics
from app.watch.monitor import Monitor, client_digest, reference_of
from app.watch.requests import MonitorState, Observation, fold_label
from app.watch.versioned import Change
from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler
from tests.waiting import until

_DIGESTS = itertools.count()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return asyncio.run(calibration_of(FakeUpscaler(), 8, side=16))


def note(
    monitor: Monitor,
    calibration: Calibration,
    count: int = 1,
    *,
    z: float = -8.0,
    client: str | None = None,
) -> None:
    for _ in range(count):
        monitor.note(calibration, Observation(time.time(), z, 0.5, 0.5, next(_DIGESTS)), client)


def patient(*parts: Any, **options: Any) -> Monitor:
    """A monitor whose last round may take as long as the machine does."""
    return Monitor(*parts, drain_s=60.0, **options)


class Failing:
    """A store that cannot be used until it is mended."""

    def __init__(self, stores: Stores, *, mended: bool = False) -> None:
        self.store = stores.monitor
        self.mended = mended
        self.calls = self.loads = 0

    async def load(self, calibration: str) -> Snapshot | None:
        self.loads += 1
        return await self.store.load(calibration)

    async def save(self, calibration: str, update: Update, *, expected: int) -> bool:
        self.calls += 1
        if not self.mended:
            raise StoreUnavailable("The disk is full.")
        return await self.store.save(calibration, update, expected=expected)


class TestSharing:
    async def test_processes_fold_into_one_state(self, stores, calibration):
        """Monitors that fold at the same time lose no request and count none twice."""
        monitors = [Monitor(stores.monitor) for _ in range(4)]

        async def work(monitor: Monitor) -> None:
            for _ in range(5):
                note(monitor, calibration, 3)
                await monitor.settle()
                await asyncio.sleep(0)  # what is known of the state is old after the others' turn

        await asyncio.gather(*map(work, monitors))
        for monitor in monitors:
            state = await monitor.known(calibration.id)
            assert (state.seen, state.counted) == (60, 60)
        assert len(await monitors[0].points(calibration.id)) == 60

    async def test_a_damaged_state_begins_anew(self, stores, calibration):
        """It is logged and replaced; requests go on."""
        await stores.monitor.save(calibration.id, Update(b"damage", [b"damage"]), expected=0)
        monitor = Monitor(stores.monitor)
        assert (await monitor.known(calibration.id)).seen == 0
        assert await monitor.points(calibration.id) == []
        note(monitor, calibration)
        await monitor.settle()
        assert (await monitor.known(calibration.id)).seen == 1

    async def test_labels_count_once(self, stores, calibration):
        """A label is stored with the state that counts it; a second one changes nothing."""
        monitor = Monitor(stores.monitor)
        label = Label("res-1", "ab", b"record")

        def count(state: MonitorState):
            after = fold_label(state, 0.1, 0.1, 1.9576, digest=1, slack=0.0, at=1.0)
            return Change(after, "told", label)

        assert await monitor.change(calibration.id, count) == "told"
        assert await monitor.change(calibration.id, count) is None
        assert (await monitor.known(calibration.id)).feedback.n == 1
        assert await stores.monitor.labels(calibration.id, limit=9) == [label]

    async def test_endless_strife_ends(self, stores, calibration):
        """When every save is refused, trying comes to an end with an error that says so."""

        class Refusing(Failing):
            async def save(self, *given: Any, **rest: Any) -> bool:
                return False

        monitor = Monitor(Refusing(stores))
        with pytest.raises(StoreUnavailable, match="too often"):
            await monitor.change(calibration.id, lambda state: Change(state, None))
        note(monitor, calibration)
        with pytest.raises(StoreUnavailable, match="too often"):
            await monitor.settle()


class TestBeside:
    async def test_it_folds_by_itself(self, stores, calibration):
        """Beside a running gateway requests are folded soon, and the last ones at its end."""
        store = Failing(stores, mended=True)
        monitor = patient(store)
        async with monitor.running():
            note(monitor, calibration)
            await until(lambda: store.calls)
            note(monitor, calibration)
        assert (await monitor.known(calibration.id)).seen == 2

    async def test_a_round_ends_before_it_does(self, stores, calibration):
        """What was saved in the moment of the end is not folded again."""
        saved, told = asyncio.Event(), asyncio.Event()

        class Slow(Failing):
            async def save(self, *given: Any, **rest: Any) -> bool:
                done = await super().save(*given, **rest)
                saved.set()
                await told.wait()
                return done

        monitor = patient(Slow(stores, mended=True))
        async with monitor.running():
            note(monitor, calibration)
            await saved.wait()
            asyncio.get_running_loop().call_later(0, told.set)
        assert (await monitor.known(calibration.id)).seen == 1

    async def test_a_store_that_comes_back(self, stores, calibration):
        """While the store is away requests wait in memory, and none is lost."""
        failing, metrics = Failing(stores), Metrics()
        monitor = patient(failing, metrics, rest_after_failure_s=0.01)
        async with monitor.running():
            note(monitor, calibration, 3)
            await until(lambda: failing.calls >= 3)
            failing.mended = True
        assert (await monitor.known(calibration.id)).counted == 3
        assert "trustscale_monitor_lost_total 0.0" in metrics.text().decode()

    async def test_what_cannot_be_kept_is_counted(self, stores, calibration):
        """A full queue and a store that stays away lose requests, and say how many."""
        metrics = Metrics()
        monitor = patient(Failing(stores), metrics, most_waiting=4)
        async with monitor.running():
            note(monitor, calibration, 6)
        assert "trustscale_monitor_lost_total 6.0" in metrics.text().decode()

    async def test_a_fault_of_its_own(self, stores, calibration):
        """What the monitor cannot digest is dropped and counted; the next request is folded."""
        metrics = Metrics()
        monitor = patient(stores.monitor, metrics, rest_s=0.0)
        async with monitor.running():
            note(monitor, calibration, z=float("nan"))
            await until(lambda: b"trustscale_monitor_lost_total 1.0" in metrics.text())
            note(monitor, calibration)
        assert (await monitor.known(calibration.id)).counted == 1

    async def test_the_whole_costs_little(self, stores, calibration):
        """Telling of a request asks nothing of the store.

        What has gathered under a calibration is folded together: one write, and no read after the
        first.
        """
        store = Failing(stores, mended=True)
        monitor = Monitor(store)
        both = (calibration, calibration.for_upscaler("other"))
        for rounds in range(1, 4):
            for one in both * 10:
                note(monitor, one)
            assert store.calls == 2 * (rounds - 1)
            await monitor.settle()
            assert (store.loads, store.calls) == (2, 2 * rounds)
        assert [(await monitor.known(one.id)).counted for one in both] == [30, 30]


class TestClients:
    async def test_one_in_an_interval(self, stores, calibration):
        """Of each client one request per interval counts; without a name, all do."""
        now = [0.0]
        monitor = Monitor(stores.monitor, client_interval_s=60, clock=lambda: now[0])
        # The second and the fifth come too early.
        for at, client in [(0, "a"), (59, "a"), (59, "b"), (60, "a"), (61, "a"), (61, None)]:
            now[0] = at
            note(monitor, calibration, client=client)
        await monitor.settle()
        state = await monitor.known(calibration.id)
        assert (state.counted, state.subsampled) == (4, 2)

    def test_names_are_not_kept(self):
        """What is kept of a client is neither its key's id nor its address."""
        assert client_digest("address:203.0.113.9") == client_digest("address:203.0.113.9")
        assert client_digest("key:a") != client_digest("key:b")
        assert "203.0.113.9" not in client_digest("address:203.0.113.9")

    def test_inputs_are_numbers(self):
        """Equal bytes have equal digests below 2^64."""
        assert digest_of(b"x") == digest_of(b"x") != digest_of(b"y")
        assert 0 <= digest_of(b"") < 2**64


def test_requests_are_ranked_among_one_image_of_each_scene(calibration):
    """Crops of one scene are alike, so that a request of a new scene is not exchangeable with all.

    With six crops each of 40 scenes the evidence raised a false alarm in 15 of 100 epochs.
    """
    pairs = calibration.document["pairs"]
    scenes = [{**pair, "scene": str(k % 3)} for k, pair in enumerate(pairs)]
    z = {pair["mean_log_sigma"] for pair in pairs}
    assert len(reference_of(calibration)) == len(pairs) == 8
    assert len(found := reference_of(changed(calibration, pairs=scenes))) == 3
    assert all(min(abs(one - other) for other in z) < 1e-5 for one in found)
