"""Calibrations with canaries, and models that a provider may change."""

import numpy as np

from harness.factories import photo
from harness.fakes import FakeUpscaler, Sink
from tests.numbers import numbers_of
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.pair_source import PairSource
from trustscale_server.calibrating.pairs import load_pair
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.canary_store import CanaryStore, CanaryTaker
from trustscale_server.images.encoding.png import to_png
from trustscale_server.monitoring.canaries import CanaryWatch
from trustscale_server.platform.errors import NotFound
from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.sampling.measure import measure
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.upscalers.base import Capabilities, Source

REMOTE = {"name": "fake", "kind": "cog", "url": "http://127.0.0.1:1", "scale": 2}
STOCHASTIC = Capabilities(seeds=False, concurrency=4)


class Moody(FakeUpscaler):
    """Takes no seeds: every answer is a fresh draw. `strength` is the model."""

    def __init__(self, seed=0, **options):
        super().__init__(capabilities=STOCHASTIC, **{"strength": 3.0, **options})
        self.random = np.random.default_rng(seed)

    def sample(self, rgb, seed):
        return super().sample(rgb, int(self.random.integers(2**60)))


class MemoryStores:
    """`Blobs` and `CanaryStates` without a disk."""

    def __init__(self):
        self.files, self.states = {}, {}
        self.failure = None
        self.is_full = False
        self.looks = 0

    async def put(self, job, name, data):
        self.files[job, name] = data

    async def get(self, job, name):
        if (job, name) not in self.files:
            raise NotFound(f"There is no file {name!r}.")
        return self.files[job, name]

    async def has(self, job, name):
        return (job, name) in self.files

    async def names(self, job):
        return sorted(name for owner, name in self.files if owner == job)

    async def delete(self, job):
        self.files = {key: data for key, data in self.files.items() if key[0] != job}

    async def load(self, key):
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return self.states.get(key)

    async def change(self, key, decide):
        if self.is_full:
            raise StoreUnavailable("The disk is full.")
        answer, state = decide(self.states.get(key))
        if state is not None:
            self.states[key] = state
        return answer

    async def forget(self, key):
        self.states.pop(key, None)


async def calibrate(upscaler, store, *, samples=4, count=8, side=48, watched=True, seed=0):
    """A calibration and its canaries, made pair by pair as a job does."""
    pipeline = CalibrationConfig(samples=samples).pipeline(upscaler)
    pairs = []
    for k in range(count):
        truth = to_png(photo(100 * seed + k, side, side))
        pair = load_pair(PairSource(f"p{k}"), {"y": truth}, pipeline, degradation=None, seed=seed)
        taker = CanaryTaker(store.blobs, "run", pair.name) if watched else None
        sink = Sink(on_sample=taker.see) if taker else Sink()
        measurement = await measure(upscaler, Source(pair.x), pipeline, pair.seed, sink=sink)
        if taker is not None:
            await taker.keep(upscaler, pair.x, measurement.seeds)
        pairs.append(reduce_pair(pair, measurement, pipeline))
    calibration = Calibration.from_pairs(pairs, upscaler="fake", pipeline=pipeline)
    given = {"fingerprint": pipeline.fingerprint, "samples": samples}
    await store.publish("run", calibration.id, **given, parent=None)
    await store.blobs.delete("run")
    return calibration


class Scene:
    """An active calibration with canaries in a blobs, and gateways that watch its model."""

    def __init__(self, upscaler, store, calibration):
        self.upscaler = upscaler
        self.store, self.memory = store, store.states
        self.calibration = calibration
        self.metrics = Metrics()
        self.gateway = self.watch()

    @classmethod
    async def of(cls, upscaler=None, **options):
        """Of a model that was calibrated with these options; the usual one answers exactly."""
        upscaler, memory = upscaler or FakeUpscaler(), MemoryStores()
        store = CanaryStore(memory, memory)
        return cls(upscaler, store, (await calibrate(upscaler, store, **options)).id)

    async def active_id(self, upscaler):
        return self.calibration

    def watch(self, upscaler=None, *, policy="warn", interval_s=1e6, **options):
        """Another gateway, perhaps one that reaches another model."""
        return CanaryWatch(
            {"fake": upscaler or self.upscaler},
            {"fake": policy},
            self,
            self.store,
            self.metrics,
            interval_s=interval_s,
            request_timeout_s=30,
            **options,
        )

    async def round(self):
        return await self.gateway.round("fake")

    async def warnings(self):
        return await self.gateway.warnings("fake", self.calibration)

    async def state(self):
        return await self.store.load(self.calibration)

    def set(self, state, **changes):
        data = state.model_copy(update=changes).model_dump_json().encode()
        self.memory.states[self.calibration] = data

    def number(self, name, *labels):
        return numbers_of(self.metrics)[f"trustscale_canary_{name}", *labels]
