"""Trying an upscaler."""

from __future__ import annotations

import numpy as np
import pytest

from app.errors import UpscalerUnavailable
from app.upscalers.base import Capabilities
from app.upscalers.probe import pattern, probe
from app.upscalers.remote.errors import BadCredentials
from tests.fakes import FakeUpscaler


class Odd(FakeUpscaler):
    """Samples by a function of (seed, number of the call)."""

    def __init__(self, seed_of, **settings):
        super().__init__(**settings)
        self.seed_of = seed_of

    async def generate(self, source, seeds, turn=None):
        self.calls.append(list(seeds))
        return [self.sample(source.rgb, self.seed_of(seed, len(self.calls))) for seed in seeds]


class TestProbe:
    async def test_good(self):
        """A seeded upscaler: everything is reported, three generations are paid for."""
        up = FakeUpscaler(capabilities=Capabilities(samples_per_call=3))
        report = await probe(up, samples=8)
        assert report.reachable
        assert report.usable
        assert report.honours_seeds
        assert (report.scale, report.fingerprint, report.calls_per_request) == (2, "fake:1", 3)
        assert report.latency_s is not None
        assert report.alignment.problem is None
        assert report.warnings == []
        assert len(up.calls) == 3

    @pytest.mark.parametrize(
        ("seed_of", "seeds", "words"),
        [
            (lambda seed, call: 1, True, ["one sample"]),
            (lambda seed, call: call, True, ["cannot be reproduced"]),
            (lambda seed, call: call % 2, False, ["a cache"]),
            (lambda seed, call: call, False, []),
        ],
    )
    async def test_seeds(self, seed_of, seeds, words):
        """Ignored seeds, unrepeatable samples and caches are told apart."""
        report = await probe(Odd(seed_of, capabilities=Capabilities(seeds=seeds)))
        assert report.usable
        assert len(report.warnings) == len(words)
        assert all(map(str.__contains__, report.warnings, words))

    async def test_misaligned(self):
        """A shifted sample is warned about with its measure."""

        class Shifted(FakeUpscaler):
            def sample(self, rgb, seed):
                return np.roll(super().sample(rgb, seed), 8, axis=1)

        report = await probe(Shifted())
        assert "shifted by +8" in report.warnings[0]
        assert not report.usable
        assert report.obstacle == "its samples do not lie on the input's pixels"

    async def test_unreachable(self):
        """An upscaler that is not there is a report, not an exception."""
        up = FakeUpscaler()
        up.failure = BadCredentials("wrong key")
        report = await probe(up)
        assert (report.reachable, report.usable) == (False, False)
        assert (report.error, report.error_kind) == ("wrong key", "credentials")

    async def test_generation_fails(self):
        """Reachable is not the same as able to generate."""

        def failing(seed, call):
            raise UpscalerUnavailable("no GPU")

        report = await probe(Odd(failing))
        assert (report.reachable, report.generates, report.error) == (True, False, "no GPU")

    async def test_lossy_and_few(self):
        """Lossy formats and too few distinct samples are warned about."""
        up = FakeUpscaler(capabilities=Capabilities(lossless=False, max_samples=4))
        warnings = " ".join((await probe(up)).warnings)
        assert "lossy" in warnings
        assert "only 4 distinct samples" in warnings


def test_pattern_is_the_same_everywhere():
    """The synthetic picture is deterministic and textured."""
    assert np.array_equal(pattern(), pattern())
    assert pattern().std() > 40
