"""An upscaler that fails as told, and what keeps calling it."""

from dataclasses import fields

import numpy as np

from harness.fakes import FakeUpscaler
from tests.numbers import numbers_of
from trustscale_server.upscalers.base import Capabilities, Source
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.failures import Busy
from trustscale_server.upscalers.resilience.account import CallAccount
from trustscale_server.upscalers.resilience.breaker import BreakerPolicy
from trustscale_server.upscalers.resilience.retry import RetryPolicy
from trustscale_server.upscalers.resilience.upscaler import ResilientUpscaler

RETRIES = {field.name for field in fields(RetryPolicy)}
SOURCE = Source(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


class Inner(FakeUpscaler):
    """Raises `errors` one after the other, then succeeds; with `slots` it is busy beyond them."""

    def __init__(self, errors=(), seconds=0.0, concurrency=4, slots=None):
        capabilities = Capabilities(concurrency=concurrency)
        super().__init__("inner", capabilities=capabilities, seconds=seconds)
        self.errors = list(errors)
        self.slots = slots
        self.checks = 0

    async def generate(self, source, seeds, permit=None):
        if self.slots is not None and self.in_flight >= self.slots:
            raise Busy("busy")
        samples = await super().generate(source, seeds, permit)
        if self.errors:
            raise self.errors.pop(0)
        return samples

    async def probe(self):
        self.checks += 1
        await super().probe()


class Calls:
    """A `CallStore` that forgets none."""

    def __init__(self):
        self.started = 0

    async def take(self, upscaler, most, *, seconds):
        if self.started >= most:
            return seconds
        self.started += 1
        return 0

    async def count(self, upscaler, *, seconds):
        return self.started


def guarded(inner, metrics=None, calls=None, **options):
    """As the service builds it, with these settings and policies, and jitter of at most 20 ms."""
    of_breaker, of_retries, settings = {}, {"max_pause_s": 0.02}, {}
    for name, value in options.items():
        if name.startswith("breaker_"):
            of_breaker[name.removeprefix("breaker_")] = value
        elif name in RETRIES:
            of_retries[name] = value
        else:
            settings[name] = value
    concurrency = inner.capabilities.concurrency
    config = RemoteConfig(kind="fake", name=inner.name, concurrency=concurrency, **settings)
    policies = RetryPolicy(**of_retries), BreakerPolicy(**of_breaker)
    account = CallAccount(config, calls or Calls())
    return ResilientUpscaler(inner, config, metrics, *policies, account=account)


def counted(up, what):
    """How often each outcome of calls, or each reason of retries, was counted."""
    name = f"trustscale_upstream_{what}_total"
    return {key[1]: number for key, number in numbers_of(up.metrics).items() if key[0] == name}
