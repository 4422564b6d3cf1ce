"""The monitor: what it shares and forgives, the alarms, and where the truth is looked for."""

import asyncio
import itertools
import time
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from tests.factories import calibration_of, changed
from tests.fakes import FakeUpscaler
from tests.waiting import until
from trustscale_server.calibration.guarantee import Sizes
from trustscale_server.monitoring.monitor import Monitor, reference
from trustscale_server.monitoring.state import Observation
from trustscale_server.monitoring.truth import Window, window_of
from trustscale_server.stores.base import StoreUnavailable, Update
from trustscale_server.telemetry.signals import Metrics

_DIGESTS = itertools.count()


@pytest.fixture(scope="module")
def calibration():
    return asyncio.run(calibration_of(FakeUpscaler(), 8, side=16))


def note(monitor, calibration, count=1, *, z=-8.0):
    for _ in range(count):
        seen = Observation(time.time(), "/", reference(calibration), z, 0.5, next(_DIGESTS))
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
        metrics = Metrics()
        monitor = Monitor(Failing(stores), metrics, most_waiting=4, drain_s=60.0)
        async with monitor.running():
            note(monitor, calibration, 6)
        assert "trustscale_monitor_dropped_total 6.0" in metrics.text().decode()

    async def test_a_fault_of_its_own(self, stores, calibration):
        metrics = Metrics()
        monitor = Monitor(stores.monitor, metrics, rest_s=0.0, drain_s=60.0)
        async with monitor.running():
            note(monitor, calibration, z=float("nan"))
            await until(lambda: b"trustscale_monitor_dropped_total 1.0" in metrics.text())
            note(monitor, calibration)
        assert (await monitor.known(calibration.id)).counted == 1

    async def test_the_whole_costs_little(self, stores, calibration):
        """Telling of a request asks nothing of the store."""
        store = Failing(stores, mended=True)
        monitor = Monitor(store)
        both = (calibration, calibration.for_upscaler("other"))
        for rounds in range(1, 4):
            for one in both * 10:
                note(monitor, one)
            assert store.calls == 2 * (rounds - 1)
            await monitor.settle()
            assert store.calls == 2 * rounds
        assert [(await monitor.known(one.id)).counted for one in both] == [30, 30]


def test_requests_are_ranked_among_one_image_of_each_scene(calibration):
    """Crops of one scene are alike: a request of a new scene is not exchangeable with all."""
    pairs = calibration.document["pairs"]
    scenes = [{**pair, "scene": str(k % 3)} for k, pair in enumerate(pairs)]
    z = {pair["mean_log_sigma"] for pair in pairs}
    assert len(reference(calibration)) == len(pairs) == 8
    assert len(found := reference(changed(calibration, pairs=scenes))) == 3
    assert all(min(abs(one - other) for other in z) < 1e-5 for one in found)


def window(name, sizes, *, applicability="per_window"):
    """The window of a result of 500×300 pixels; k/2 scenes are of the k-th size (width, height)."""
    result = SimpleNamespace(
        id=name, width=500, height=300, guarantee=SimpleNamespace(applicability=applicability)
    )
    scenes = {size: Fraction(count, 2) for count, size in enumerate(sizes, start=1)}
    return window_of(SimpleNamespace(sizes=Sizes(scenes)), result)


class TestWindow:
    def test_it_lies_anywhere(self):
        """By the id alone, evenly over the output; within the calibrated sizes all is judged."""
        found = [window(f"res-{k}", [(48, 40)]) for k in range(400)]
        places = np.array([(one.x, one.y) for one in found])
        room = np.array([452, 260])
        assert places.min() >= 0
        assert (places <= room).all()
        # Means within five standard errors of the middle.
        assert (abs(places.mean(axis=0) - room / 2) < 5 * room / np.sqrt(12 * 400)).all()
        assert window("res-a", [(48, 48)]) == window("res-a", [(48, 48)]) is not None
        assert window("res-a", [(48, 48)], applicability="exact") is None

    def test_it_has_the_size_of_a_scene(self):
        found = [window(f"res-{k}", [(48, 48), (500, 300), (600, 20)]) for k in range(400)]
        sizes = Counter((one.width, one.height) for one in found)
        assert sizes.keys() == {(48, 48), (500, 300)}
        assert abs(sizes[48, 48] - 400 / 3) < 5 * np.sqrt(400 * 2 / 9)
        assert window("res-a", [(500, 300)]) == Window(x=0, y=0, width=500, height=300)
