"""Alarms in words, and the health of remote upscalers."""

from __future__ import annotations

import pytest

from app.errors import UpscalerUnavailable
from app.monitor.alarms import canary_alarms, health_alarms, mismatch_alarms
from app.upscalers.base import Source
from app.upscalers.resilience import HealthFacts
from tests.factories import photo
from tests.fakes import FakeUpscaler
from tests.upscalers.resilient import guarded


@pytest.fixture
def source() -> Source:
    return Source(photo())


class TestHealth:
    async def test_spending(self, source):
        """Calls of the last hour are counted against the limit; at the limit it is an alarm."""
        upscaler = guarded(FakeUpscaler(), max_calls_per_hour=2)
        for calls in range(2):
            health = HealthFacts.of(upscaler)
            assert health == HealthFacts(
                breaker_open=False,
                failures_in_a_row=0,
                calls_last_hour=calls,
                max_calls_per_hour=2,
            )
            assert health_alarms("fake", health) == []
            await upscaler.generate(source, [calls])
        (alarm,) = health_alarms("fake", HealthFacts.of(upscaler))
        assert (alarm.kind, alarm.severity) == ("spend", "ticket")
        assert "of 2 calls" in alarm.message

    async def test_a_breaker(self, source):
        """Failures in a row open the breaker, which is an alarm."""
        fake = FakeUpscaler()
        fake.failure = UpscalerUnavailable("away.")
        limit = 8
        upscaler = guarded(
            fake, attempts=1, breaker_failures=limit, breaker_rest_s=60, breaker_blip_s=0
        )
        for _ in range(limit):
            with pytest.raises(UpscalerUnavailable):
                await upscaler.generate(source, [1])
        health = HealthFacts.of(upscaler)
        assert health is not None
        assert (health.breaker_open, health.failures_in_a_row) == (True, limit)
        assert (health.calls_last_hour, health.max_calls_per_hour) == (None, None)
        (alarm,) = health_alarms("fake", health)
        assert (alarm.kind, alarm.severity) == ("breaker", "page")
        await upscaler.close()

    def test_local_upscalers_have_none(self):
        """Nobody is called, nothing is spent."""
        assert HealthFacts.of(FakeUpscaler()) is None
        assert health_alarms("fake", None) == []


class TestWords:
    def test_canaries(self):
        """Only a canary alarm is one; watching, or being unable to, is none."""
        assert canary_alarms("x", None) == []
        assert canary_alarms("x", {"policy": "warn", "detail": "no canaries"}) == []
        assert canary_alarms("x", {"policy": "warn", "alarm": False}) == []
        (alarm,) = canary_alarms("x", {"policy": "warn", "alarm": True})
        assert "seems to have changed" in alarm.message

    def test_a_mismatch_names_the_fields(self):
        """All fields that differ are named."""
        fields = [{"field": "scale"}, {"field": "fingerprint"}]
        (alarm,) = mismatch_alarms("x", fields)
        assert "scale, fingerprint" in alarm.message
        assert mismatch_alarms("x", []) == []
