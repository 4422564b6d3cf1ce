"""The promises of CallStore."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.stores.base import CallStore, Stores
from tests.waiting import PATIENCE_S


@pytest.fixture
def calls(doors: list[Stores]) -> Sequence[CallStore]:
    """The store as three processes see it."""
    return [stores.calls for stores in doors]


async def test_they_share_a_limit(calls):
    """However many ask at once, and wherever, so many start, and the others are told when."""
    waits = await asyncio.gather(*(calls[i % 3].take("a", 5, seconds=600) for i in range(20)))
    assert sorted(waits)[:5] == [0] * 5
    assert all(500 < wait <= 600 for wait in sorted(waits)[5:])
    assert await calls[1].count("a", seconds=600) == 5
    assert await calls[0].take("b", 1, seconds=600) == 0
    assert await calls[2].count("c", seconds=600) == 0


async def test_a_lower_limit(calls):
    """Waits until fewer than that are left."""
    for _ in range(3):
        assert await calls[0].take("a", 3, seconds=600) == 0
    first, last = [await calls[1].take("a", most, seconds=600) for most in (3, 1)]
    assert 0 < first <= last


async def test_they_end(calls):
    """What has started long enough ago does not count."""
    assert await calls[0].take("a", 1, seconds=0.05) == 0
    async with asyncio.timeout(PATIENCE_S):
        while (wait := await calls[1].take("a", 1, seconds=0.05)) > 0:  # noqa: ASYNC110 - no event
            await asyncio.sleep(wait)
    assert await calls[0].count("a", seconds=600) == 1
