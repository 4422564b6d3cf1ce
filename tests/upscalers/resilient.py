"""An upscaler that fails as told, and what keeps calling it."""

from __future__ import annotations

import asyncio

import numpy as np

from app.errors import UpscalerUnavailable
from app.upscalers.base import Capabilities, Source
from app.upscalers.config import RemoteConfig
from app.upscalers.remote.errors import Busy
from app.upscalers.resilience import Pace, ResilientUpscaler

SOURCE = Source(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


class Inner:
    """Fails as told: `errors` one after the other, then success."""

    name = "inner"
    kind = "fake"
    scale = 2
    fingerprint = "f"

    def __init__(self, errors=(), seconds=0.0, concurrency=4):
        self.errors = list(errors)
        self.seconds = seconds
        self.capabilities = Capabilities(concurrency=concurrency)
        self.calls = []
        self.in_flight = self.most = self.checks = self.cancelled = 0
        self.dead = False
        self.slots = None

    async def generate(self, source, seeds, turn=None):
        self.calls.append(list(seeds))
        if self.slots is not None and self.in_flight >= self.slots:
            raise Busy("busy")
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            if self.dead:
                raise UpscalerUnavailable("dead")
            if self.errors:
                raise self.errors.pop(0)
            shape = (2 * source.height, 2 * source.width, 3)
            return [np.random.default_rng(s).integers(0, 256, shape, np.uint8) for s in seeds]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def check(self):
        self.checks += 1
        if self.dead:
            raise UpscalerUnavailable("dead")

    async def close(self): ...


class Numbers:
    def __init__(self):
        self.outcomes, self.retries, self.states = [], [], []

    def count(self, name, upscaler, what):
        (self.outcomes if name == "upstream_calls" else self.retries).append(what)

    def observe(self, name, seconds, upscaler): ...

    def set(self, name, is_open, upscaler):
        self.states.append(is_open)


def guarded(inner, metrics=None, *, pace=None, **limits):
    """As the service builds it, with these limits in its configuration."""
    config = RemoteConfig(kind="fake", name=inner.name, **limits)
    return ResilientUpscaler(inner, config, metrics, Pace(**(pace or {})))


def resilient(inner, **options):
    """With jitter of at most 20 ms."""
    pace = {key: options.pop(key) for key in list(options) if key.startswith("breaker_")}
    return guarded(inner, Numbers(), pace={"longest_jitter_s": 0.02, **pace}, **options)
