"""Upscalers that need no model: fast, seeded, and as wrong as a test wants them to be."""

import asyncio

import numpy as np

from trustscale_server.sampling.measure import MeasurementSink
from trustscale_server.upscalers.base import Capabilities


class FakeUpscaler:
    """Repeats pixels and adds seeded noise that grows with the local contrast of the input.

    Like a generative model it is most wrong, and most undecided, at edges. With a gate every call
    waits until the test opens it.
    """

    def __init__(
        self,
        name="fake",
        *,
        scale=2,
        fingerprint="fake:1",
        capabilities=None,
        strength=0.5,
        seconds=0.0,
        kind="embedded",
        gate=None,
    ):
        self.name = name
        self.kind = kind
        self.scale = scale
        self.fingerprint = fingerprint
        self.capabilities = capabilities or Capabilities(concurrency=4, align_colours=False)
        self.strength = strength
        self.seconds = seconds
        self.gate = gate
        self.calls: list[list[int]] = []
        self.cancelled = self.in_flight = self.most_in_flight = 0
        self.failure: Exception | None = None

    async def generate(self, source, seeds, permit=None):
        self.calls.append(list(seeds))
        if self.failure is not None:
            raise self.failure
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            # The test may run in another thread than the loop.
            while self.gate is not None and not self.gate.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        return [self.sample(source.rgb, seed) for seed in seeds]

    def sample(self, rgb, seed):
        large = rgb.repeat(self.scale, 0).repeat(self.scale, 1).astype(np.float32)
        contrast = np.abs(np.gradient(large, axis=0)) if large.shape[0] > 1 else 0 * large
        noise = np.random.default_rng(seed).normal(0, self.strength, large.shape)
        return np.clip(large + noise * (1 + contrast), 0, 255).astype(np.uint8)

    async def probe(self):
        if self.failure is not None:
            raise self.failure

    async def close(self): ...


class Unseeded(FakeUpscaler):
    """Answers no seed twice in the same way."""

    def sample(self, rgb, seed):
        return super().sample(rgb, seed + len(self.calls))


class Sink(MeasurementSink):
    """Calls functions: `Sink(on_sample=…)` takes samples, `Sink(on_sigma=…)` takes σ."""

    def __init__(self, **functions):
        self.takes_sigma = "on_sigma" in functions
        vars(self).update(functions)
