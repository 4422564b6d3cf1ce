"""Several workers as one upscaler, against our own worker service with a fake engine."""

import asyncio
from contextlib import ExitStack

import httpx
import numpy as np
import pytest

from harness.faults import FaultServer, reset
from harness.pictures import adapter, config, patient
from harness.waiting import cancelled, until
from tests.live import serving
from tests.workers.fakes import SleepingEngine, textured
from trustscale_server.platform.errors import UpscalerRejected, UpscalerUnavailable
from trustscale_server.platform.problems import problem_of
from trustscale_server.upscalers.failures import Misconfigured
from trustscale_server.upscalers.remote.upstream import Upstream
from trustscale_server.upscalers.remote.worker import WorkerUpscaler
from trustscale_worker.service import create_worker_app
from trustscale_worker.settings import WorkerSettings


@pytest.fixture
def start():
    with ExitStack() as stack:

        def start(*engines, **settings):
            made = WorkerSettings(**settings)
            return [
                "http://" + stack.enter_context(serving(create_worker_app(engine, made)))
                for engine in engines
            ]

        yield start


@pytest.fixture
def worker(opened):
    told = {"kind": "worker"}
    return lambda urls, make=adapter, **settings: opened(make, urls=urls, **{**told, **settings})


class TestOneWorker:
    async def test_everything_is_learned(self, worker, start):
        """Scale, fingerprint and limits come from the worker; before, they are not known."""
        up = worker(start(SleepingEngine(scale=3), max_samples=5, max_pixels=1000))
        with pytest.raises(UpscalerUnavailable):
            _ = up.fingerprint
        await up.probe()
        assert (up.scale, up.fingerprint) == (3, "sha256:sleeper")
        found = up.capabilities
        assert (found.samples_per_call, found.max_samples, found.max_input_pixels) == (5, 7, 1000)

    async def test_too_large(self, worker, start, source):
        up = worker(start(SleepingEngine(), max_pixels=1000))
        with pytest.raises(UpscalerRejected, match="takes at most 1,000") as refused:
            await up.generate(source, [1])
        assert problem_of(refused.value)["limit"] == "max_input_pixels"

    async def test_each_call_has_its_connection(self, worker, source):
        """A name that stands for several workers leads every call to the next one."""
        app, ports = create_worker_app(SleepingEngine(), WorkerSettings()), []

        async def listening(scope, receive, send):
            if scope["type"] == "http":
                ports.append(scope["client"][1])
            await app(scope, receive, send)

        with serving(listening) as place:
            up = worker([f"http://{place}"])
            for seed in range(3):
                await up.generate(source, [seed])
        assert len({*ports}) == len(ports) > 2

    async def test_cancelling_reaches_the_engine(self, worker, start, source):
        engine = SleepingEngine(shut=True)
        up = worker(start(engine))
        task = asyncio.create_task(up.generate(source, [1]))
        await cancelled(task, lambda: engine.calls)
        assert await asyncio.to_thread(engine.cancelled.wait, 60)
        engine.open.set()
        assert len(await up.generate(source, [2])) == 1


class TestSeveralWorkers:
    async def test_least_outstanding_work(self, worker, start, source):
        busy, idle = SleepingEngine(shut=True), SleepingEngine()
        up = worker(start(busy, idle))
        await up.probe()
        assert up.capabilities.machines == 2
        waiting = asyncio.create_task(up.generate(source, [1]))
        await until(lambda: busy.calls)
        for seed in (2, 3):
            await up.generate(source, [seed])
        assert (busy.calls, idle.calls) == ([[1]], [[1], [1]])
        busy.open.set()
        await waiting

    async def test_a_worker_that_dies(self, start, source):
        engine = SleepingEngine()
        urls = start(engine)
        async with FaultServer([reset]) as dying:
            urls.append(dying.url)
            told = config(kind="worker", urls=urls)
            up = WorkerUpscaler(told, [Upstream(told, url, {}, patient()) for url in urls], 600)
            await up.probe()  # one worker is enough to start with
            got = await asyncio.gather(*(up.generate(source, [seed]) for seed in (1, 2)))
            assert len(dying.asked) == 2  # metadata, then its call
            assert np.array_equal(got, [[textured(source.rgb, seed, 2)] for seed in (1, 2)])
            # It rests then: nothing is sent to it for a while.
            await asyncio.gather(*(up.generate(source, [seed]) for seed in (5, 6)))
            assert len(dying.asked) == 2
            await up.close()

    async def test_different_models(self, worker, start):
        up = worker(start(SleepingEngine(scale=2), SleepingEngine(scale=3)))
        with pytest.raises(Misconfigured, match="different models"):
            await up.probe()

    async def test_a_changed_model_is_noticed(self, worker, start, source):
        engine = SleepingEngine()
        up = worker(start(engine))
        await up.probe()
        engine.fingerprint = "sha256:other"
        with pytest.raises(Misconfigured, match="another model"):
            await up.generate(source, [1])


@pytest.mark.parametrize(
    "parameters",
    [
        None, {}, {"fingerprint": "f"}, {"scale": 2}, {"fingerprint": "f", "scale": 0},
        {"fingerprint": "f", "scale": 2, "max_samples": 0},
    ],
)  # fmt: skip
async def test_foreign_servers(parameters):
    def handler(request):
        return httpx.Response(200, json={"name": "m", "models": ["m"], "parameters": parameters})

    up = adapter(handler, kind="worker", urls=["http://127.0.0.1"])
    with pytest.raises(UpscalerUnavailable, match='kind = "oip"'):
        await up.probe()
