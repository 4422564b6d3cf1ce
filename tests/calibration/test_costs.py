"""What a calibration costs is known before it begins."""

from __future__ import annotations

import pytest

from app.calibration.costs import Costs, Tariff
from app.sampling.throughput import Throughput
from tests.fakes import FakeUpscaler


@pytest.mark.parametrize(
    ("tariff", "pairs", "costs"),
    [
        (Tariff(), 250, {"calls": "500", "estimate_s": "250.0"}),
        (Tariff(price=0.5), 3, {"calls": "6", "estimate_s": "3.0", "price": "3"}),
        (Tariff(most_per_hour=100), 250, {"calls": "500", "estimate_s": "14400.0"}),
    ],
)
async def test_what_is_known(tariff, pairs, costs):
    """Two samples of a megapixel a pair at a second each, two pairs at once; a limit makes wait."""
    upscaler, throughput = FakeUpscaler(), Throughput()
    throughput.note(upscaler, 10**6, 1, 1.0)
    found = Costs(throughput, lambda _: tariff, at_once=2)
    assert await found.of(upscaler, pairs=pairs, samples=2, pixels=1e6) == costs


async def test_nothing_is_known():
    """An upscaler elsewhere that was never called: only the calls."""
    assert await Costs().of(FakeUpscaler(), pairs=3, samples=2, pixels=9) == {"calls": "6"}
