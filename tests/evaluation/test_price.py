"""What so many generations cost, and which number is enough."""

from __future__ import annotations

import pytest

from app.evaluation.price import PricePoint, advice, priced


@pytest.mark.parametrize(
    ("areas", "words"),
    [
        ({1: 0.5, 2: 0.79, 4: 0.8}, "2 are enough"),
        ({1: 0.795, 2: 0.79, 4: 0.8}, "1 is enough"),
        ({1: 0.5, 2: 0.7, 4: 0.8}, "4 are enough"),
        ({4: 0.8}, None),
    ],
)
def test_advice(areas, words):
    """The smallest M within two hundredths of the best; one M alone says nothing."""
    points = [PricePoint(samples=m, alpha=0.1, trusted_area=area) for m, area in areas.items()]
    told = advice(priced(points, 4, None), 0.1)
    assert told is None if words is None else words in told


def test_calls_and_money():
    """Calls bring several samples where the upscaler can; without a price there is no money."""
    points = [PricePoint(samples=m, alpha=0.1, trusted_area=0.5) for m in (1, 4, 5)]
    assert [row["calls"] for row in priced(points, 4, None)] == [1, 1, 2]
    assert [row["money"] for row in priced(points, 1, 0.5)] == [0.5, 2.0, 2.5]
    assert priced(points, 1, None)[0]["money"] is None
