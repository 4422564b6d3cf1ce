"""The monitor: what it shares and forgives, and whom it ranks a request among."""

import asyncio
import itertools
import time

import pytest

from harness.factories import calibration_of, changed
from harness.fakes import FakeUpscaler
from harness.waiting import until
from trustscale_server.monitoring.monitor import Monitor
from trustscale_server.monitoring.state import Observation, reference
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.monitor_states import Update

_DIGESTS = itertools.count()


@pytest.fixture(scope="module")
def calibration():
    return asyncio.run(calibration_of(FakeUpscaler(), 8, side=16))


def note(monitor, calibration, count=1, *, z=-8.0):
    for _ in range(count):
        seen = Observation(
            time.time(), "/", reference(calibration.everything), z, 0.5, next(_DIGESTS)
        )
        monitor.note(calibration.id, seen)


class Failing:
    def __init__(self, stores, *, mended=False):
        self.store = stores.monitor
        self.mended = mended
        self.calls = 0
        self.load = self.store.load

    async def change(self, calibration, decide, **options):
        self.calls += 1
        if not self.mended:
            raise StoreUnavailable("The disk is full.")
        return await self.store.change(calibration, decide, **options)


class TestSharing:
    async def test_processes_fold_into_one_state(self, stores, calibration):
        monitors = [Monitor(stores.monitor) for _ in range(4)]

        async def work(monitor):
            for _ in range(5):
                note(monitor, calibration, 3)
                await monitor.settle()
                await asyncio.sleep(0)  # what is known of the state is old after the others' turn

        await asyncio.gather(*map(work, monitors))
        for monitor in monitors:
            state = await monitor.known(calibration.id)
            assert (state.seen, state.counted) == (60, 60)

    async def test_a_damaged_state_begins_anew(self, stores, calibration):
        damage = Update(b"damage")
        await stores.monitor.change(calibration.id, lambda _: (None, damage))
        monitor = Monitor(stores.monitor)
        assert (await monitor.known(calibration.id)).seen == 0
        note(monitor, calibration)
        await monitor.settle()
        assert (await monitor.known(calibration.id)).seen == 1


class TestBeside:
    async def test_a_store_that_comes_back(self, stores, calibration):
        failing, metrics = Failing(stores), Metrics()
        monitor = Monitor(failing, metrics, rest_after_failure_s=0.01, drain_s=60.0)
        async with monitor.running():
            note(monitor, calibration, 3)
            await until(lambda: failing.calls >= 3)
            failing.mended = True
            note(monitor, calibration)
        assert (await monitor.known(calibration.id)).counted == 4
        assert "trustscale_monitor_dropped_total 0.0" in metrics.text().decode()

    async def test_what_cannot_be_kept_is_counted(self, stores, calibration):
        """And so is a fault of its own."""
        metrics = Metrics()
        monitor = Monitor(Failing(stores), metrics, max_waiting=4, drain_s=60.0)
        async with monitor.running():
            note(monitor, calibration, 6)
        assert "trustscale_monitor_dropped_total 6.0" in metrics.text().decode()
        metrics = Metrics()
        monitor = Monitor(stores.monitor, metrics, rest_s=0.0, drain_s=60.0)
        async with monitor.running():
            note(monitor, calibration, z=float("nan"))
            await until(lambda: b"trustscale_monitor_dropped_total 1.0" in metrics.text())
            note(monitor, calibration)
        assert (await monitor.known(calibration.id)).counted == 1


def test_requests_are_ranked_among_one_image_of_each_scene(calibration):
    """Crops of one scene are alike: a request of a new scene is not exchangeable with all."""
    pairs = calibration.document["pairs"]
    scenes = [{**pair, "scene": str(k % 3)} for k, pair in enumerate(pairs)]
    z = {pair["mean_log_sigma"] for pair in pairs}
    assert len(reference(calibration.everything)) == len(pairs) == 8
    assert len(found := reference(changed(calibration, pairs=scenes).everything)) == 3
    assert all(min(abs(one - other) for other in z) < 1e-5 for one in found)
