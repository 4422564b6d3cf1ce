"""What clients use is added up over processes, once."""

import asyncio
from datetime import UTC, datetime

import pytest

from tests.upscalers.resilient import SOURCE, Inner, guarded
from trustscale_server.stores.base import StoreUnavailable
from trustscale_server.stores.documents import Key, Put
from trustscale_server.stores.repositories import used_by
from trustscale_server.upscalers.remote.http import Busy


def month():
    return f"{datetime.now(UTC):%Y-%m}"


async def test_sums(doors):
    """Processes that count at the same time lose nothing, and keep purposes apart."""
    for stores in doors:
        with used_by("anna", "upscale"):
            stores.usage.answered("m", 2_000_000, 1.5)
            stores.usage.called("m", 0.25)
        with used_by("anna", "calibrate"):
            stores.usage.called("m", 0.5)
    await asyncio.gather(*(stores.usage.settle() for stores in doors))
    paid, used = await doors[0].usage.report(month())
    assert (paid.purpose, paid.calls, paid.price, paid.pictures) == ("calibrate", 3, 1.5, 0)
    assert (used.calls, used.price, used.pictures, used.megapixels) == (3, 0.75, 3, 6)
    assert used.seconds == 4.5
    assert await doors[0].usage.report("2001-01") == []


@pytest.mark.parametrize("is_made", [False, True])
async def test_the_store_fails(stores, monkeypatch, is_made):
    """What was not stored is stored later; what was, although the answer got lost, once."""
    documents = stores.usage._documents
    change = documents.change

    async def failing(*args, **kwargs):
        if is_made:
            await change(*args, **kwargs)
        raise StoreUnavailable("away")

    stores.usage.called("m", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(documents, "change", failing)
        with pytest.raises(StoreUnavailable):
            await stores.usage.settle()
    stores.usage.called("m", 1.0)
    (use,) = await stores.usage.report(month())
    assert (use.key, use.calls) == (None, 2)


async def test_a_cancellation_is_never_swallowed(stores):
    """Wherever it comes while the store is written; its task would run on, and be waited for."""
    documents = stores.usage._documents
    for turns in range(200):
        writing = asyncio.create_task(
            documents.change([Key("x", "y")], lambda _: (None, {Key("x", "y"): Put(b"z")}))
        )
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        if not writing.done():
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing


async def test_calls_of_an_upscaler(stores):
    """Each call counts for whom it is made, a failed one too; the rest is stored at the end."""
    upscaler = guarded(Inner([Busy("busy")]), usage=stores.usage, price_per_call=0.25)
    async with stores.usage.running():
        with used_by("anna", "upscale"):
            await upscaler.generate(SOURCE, [1])
    (use,) = await stores.usage.report(month())
    assert (use.key, use.upscaler, use.calls, use.price) == ("anna", "inner", 2, 0.5)
