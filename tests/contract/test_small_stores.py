"""The promises of CallStore, ClaimStore and CanaryStates."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from harness.documents import job
from harness.waiting import PATIENCE_S


@pytest.fixture
def calls(doors):
    return [stores.calls for stores in doors]


async def test_they_share_a_limit(calls):
    waits = await asyncio.gather(*(calls[i % 3].take("a", 5, seconds=600) for i in range(20)))
    assert sorted(waits)[:5] == [0] * 5
    assert all(500 < wait <= 600 for wait in sorted(waits)[5:])
    assert await calls[1].count("a", seconds=600) == 5
    assert await calls[0].take("b", 1, seconds=600) == 0
    assert await calls[2].count("c", seconds=600) == 0


async def test_they_end(calls):
    assert await calls[0].take("a", 1, seconds=0.05) == 0
    async with asyncio.timeout(PATIENCE_S):
        while (wait := await calls[1].take("a", 1, seconds=0.05)) > 0:  # noqa: ASYNC110 - no event
            await asyncio.sleep(wait)
    assert await calls[0].count("a", seconds=600) == 1


async def test_the_first_holds_it(doors):
    assert await doors[0].claims.get("a") is None
    kept = await asyncio.gather(
        *(doors[i % 3].claims.claim("a", b"%d" % i, seconds=60) for i in range(12))
    )
    assert {await doors[i].claims.get("a") for i in range(3)} == set(kept)
    assert len(set(kept)) == 1
    assert await doors[0].claims.claim("b", b"other", seconds=60) == b"other"


async def test_only_its_holder_replaces_it(stores):
    claims = stores.claims
    await claims.claim("a", b"mine", seconds=60)
    for new in (b"theirs", None):
        await claims.replace("a", b"guessed", new, seconds=60)
        assert await claims.claim("a", b"late", seconds=60) == b"mine"
    await claims.replace("a", b"mine", b"done", seconds=60)
    assert await claims.claim("a", b"late", seconds=60) == b"done"
    await claims.replace("a", b"done", None, seconds=60)
    assert await claims.claim("a", b"late", seconds=60) == b"late"


@pytest.mark.servers
async def test_another_claim_meanwhile(redis_url, opened, monkeypatch):
    """Who has read a claim that was removed, and made anew by another, does not change that one."""
    late, other = opened(redis_url), opened(redis_url)
    await late.claims.claim("a", b"first", seconds=60)
    documents = late.claims._documents
    read = documents._read

    async def read_early(keys):
        found = await read(keys)
        monkeypatch.undo()
        await other.claims.replace("a", b"first", None, seconds=60)
        await other.claims.claim("a", b"second", seconds=60)
        return found

    monkeypatch.setattr(documents, "_read", read_early)
    await late.claims.replace("a", b"first", b"done", seconds=60)
    assert await other.claims.get("a") == b"second"


@pytest.mark.servers
async def test_a_clock_that_is_ahead(redis_url, opened):
    """What several machines share expires by the clock of Redis, not by that of one of them."""
    mine = opened(redis_url, result_ttl_s=600)
    await mine.claims.claim("a", b"mine", seconds=600)
    await mine.results.put("r", b"{}", {"a": b"1"})
    await mine.jobs.create(job())
    await mine.jobs.request_cancel("job")
    assert await mine.calls.take("u", 1, seconds=600) == 0
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=2)):
        theirs = opened(redis_url, result_ttl_s=600)
        assert await theirs.claims.claim("a", b"theirs", seconds=600) == b"mine"
        assert await theirs.calls.take("u", 1, seconds=600) > 0
        assert await theirs.results.sweep() == 0
        assert await theirs.job_retention.expire(older_s=600) == []
    assert await mine.results.has("r")


async def test_it_ends(stores):
    claims = stores.claims
    await claims.claim("short", b"1", seconds=0.05)
    await claims.claim("read", b"1", seconds=0.05)
    await claims.claim("renewed", b"1", seconds=600)
    await claims.replace("renewed", b"1", b"1", seconds=0.05)
    await claims.claim("long", b"1", seconds=600)

    async with asyncio.timeout(PATIENCE_S):
        for name in ("short", "renewed"):
            while await claims.claim(name, b"2", seconds=600) != b"2":  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        while await claims.get("read"):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    assert await claims.claim("long", b"2", seconds=600) == b"1"


async def test_states_of_canaries(doors):
    """Changes of several processes lose nothing; what decides to save nothing changes nothing."""

    def one_more(before):
        count = int(before or b"0")
        return count, b"%d" % (count + 1)

    states = [stores.canary_states for stores in doors]
    await asyncio.gather(*(states[i % 3].change("cal-a", one_more) for i in range(12)))
    assert await states[0].load("cal-a") == b"12"
    assert await states[1].change("cal-a", lambda before: (before, None)) == b"12"
    assert await states[2].load("cal-b") is None
    await states[0].forget("cal-a")
    assert await states[1].load("cal-a") is None
