"""Alarms in words, and the health of remote upscalers."""

from __future__ import annotations

import pytest

from app.errors import UpscalerUnavailable
from app.upscalers.base import Source
from app.upscalers.resilience import HealthFacts
from app.watch.report import canary_alarms, health_alarms, mismatch_alarms
from tests.factories import photo
from tests.fakes import FakeUpscaler
from tests.upscalers.resilient import guarded


async def alarms(upscaler) -> list[tuple[str, str, str]]:
    found = health_alarms("fake", await HealthFacts.of(upscaler))
    return [(alarm.kind, alarm.severity, alarm.message) for alarm in found]


async def test_spending():
    """Calls of the last hour are counted against the limit; at the limit it is an alarm."""
    upscaler = guarded(FakeUpscaler(), max_calls_per_hour=2)
    for calls in range(2):
        assert await alarms(upscaler) == []
        health = await HealthFacts.of(upscaler)
        assert (health.calls_last_hour, health.max_calls_per_hour) == (calls, 2)
        await upscaler.generate(Source(photo()), [calls])
    message = "'fake' has made its max_calls_per_hour of 2 calls."
    assert await alarms(upscaler) == [("spend", "ticket", message)]


async def test_a_breaker():
    """Failures in a row open the breaker, which is an alarm."""
    fake = FakeUpscaler()
    fake.failure = UpscalerUnavailable("away.")
    breaker = {"breaker_failures": 3, "breaker_rest_s": 60, "breaker_blip_s": 0}
    upscaler = guarded(fake, attempts=1, **breaker)
    for _ in range(3):
        assert await alarms(upscaler) == []
        with pytest.raises(UpscalerUnavailable):
            await upscaler.generate(Source(photo()), [1])
    message = "'fake' failed 3 times in a row: not called now."
    assert await alarms(upscaler) == [("breaker", "page", message)]
    await upscaler.close()


async def test_local_upscalers_have_no_health():
    """Nobody is called, nothing is spent."""
    assert await alarms(FakeUpscaler()) == []


def test_canaries():
    """Only a canary alarm is one; watching, or being unable to, is none."""
    for found in (None, {"detail": "no canaries"}, {"alarm": False}):
        assert canary_alarms("x", found) == []
    (alarm,) = canary_alarms("x", {"alarm": True})
    assert "seems to have changed" in alarm.message


def test_a_mismatch_names_the_fields():
    """All fields that differ are named."""
    (alarm,) = mismatch_alarms("x", [{"field": "scale"}, {"field": "fingerprint"}])
    assert "scale, fingerprint" in alarm.message
    assert mismatch_alarms("x", []) == []
