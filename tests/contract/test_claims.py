"""The promises of ClaimStore."""

from __future__ import annotations

import asyncio

from app.stores.base import Stores
from tests.waiting import PATIENCE_S


async def test_the_first_holds_it(doors: list[Stores]):
    """Of many callers, in several processes, one value is kept and told to all."""
    assert await doors[0].claims.get("a") is None
    kept = await asyncio.gather(
        *(doors[i % 3].claims.claim("a", b"%d" % i, seconds=60) for i in range(12))
    )
    assert {await doors[i].claims.get("a") for i in range(3)} == set(kept)
    assert len(set(kept)) == 1
    assert await doors[0].claims.claim("b", b"other", seconds=60) == b"other"


async def test_only_its_holder_replaces_it(stores: Stores):
    """A value is replaced, or taken away, by who knows the present one."""
    claims = stores.claims
    await claims.claim("a", b"mine", seconds=60)
    for new in (b"theirs", None):
        await claims.replace("a", b"guessed", new, seconds=60)
        assert await claims.claim("a", b"late", seconds=60) == b"mine"
    await claims.replace("a", b"mine", b"done", seconds=60)
    assert await claims.claim("a", b"late", seconds=60) == b"done"
    await claims.replace("a", b"done", None, seconds=60)
    assert await claims.claim("a", b"late", seconds=60) == b"late"


async def test_it_ends(stores: Stores):
    """After its time a name is free; a renewal counts from its own moment."""
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
