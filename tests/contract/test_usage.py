"""What clients use is added up over processes, once."""

import asyncio

import pytest

from harness.waiting import cancelled, until
from tests.clock import MONTH, Calendar
from tests.upscalers.resilient import SOURCE, Inner, guarded
from trustscale_server.platform.errors import TimedOut
from trustscale_server.stores import usage
from trustscale_server.stores.documents import Key, Put, StoreUnavailable
from trustscale_server.stores.job_status import Job
from trustscale_server.stores.usage import CallsMade, made_for, used_by
from trustscale_server.upscalers.failures import Busy


@pytest.fixture(autouse=True)
def this_month(monkeypatch):
    monkeypatch.setattr(usage, "datetime", Calendar)


async def test_sums(doors):
    """Processes that count at the same time lose nothing, and keep purposes apart."""
    for stores in doors:
        with used_by("anna", "upscale"):
            stores.usage.answered("m", 2_000_000, 1.5)
            stores.usage.called("m", 0.25)
        with used_by("anna", "calibrate"):
            stores.usage.called("m", 0.5)
    await asyncio.gather(*(stores.usage.settle() for stores in doors))
    paid, used = await doors[0].usage.report(MONTH)
    assert (paid.purpose, paid.calls, paid.price, paid.pictures) == ("calibrate", 3, 1.5, 0)
    assert (used.calls, used.price, used.pictures, used.megapixels) == (3, 0.75, 3, 6)
    assert used.seconds == 4.5
    assert await doors[0].usage.report("2001-01") == []
    assert [use.price for use in await doors[0].usage.report(f"{MONTH}-17")] == [1.5, 0.75]


async def test_days_are_kept_for_a_month(stores):
    """Each day has sums of its own; those that are more than a month old go."""
    old, recent = "2026-04-10", "2026-05-01"
    for day in (old, recent):
        use = Put(b'{"calls": 1}')
        key = Key(f"usage:{day}", '["anna", "upscale", "m"]')
        await stores.usage._documents.change([], lambda _, key=key, use=use: (None, {key: use}))
    stores.usage.called("m", 1.0)
    await stores.usage.settle()
    assert await stores.usage.report(old) == []
    assert [use.calls for use in await stores.usage.report(recent)] == [1]


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
    (use,) = await stores.usage.report(MONTH)
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
    (use,) = await stores.usage.report(MONTH)
    assert (use.key, use.upscaler, use.calls, use.price) == ("anna", "inner", 2, 0.5)


async def test_what_became_of_the_calls_of_a_job(doors):
    """It is added up over processes, by need and by reason; it goes with the job."""
    job = Job(id="job-c", kind="calibration", created_at=await doors[0].jobs.now(), request={})
    await doors[0].jobs.create(job)
    for stores in doors:
        failing = guarded(Inner([Busy("busy"), TimedOut("late")]), usage=stores.usage)
        with made_for("job-c", "pairs"):
            await failing.generate(SOURCE, [1])
        with made_for("job-c", "canaries"):
            await failing.generate(SOURCE, [1])
            waiting = guarded(Inner(seconds=3600), usage=stores.usage)
            asked = asyncio.create_task(waiting.generate(SOURCE, [1]))
        await until(lambda waiting=waiting: waiting.inner.calls)
        (so_far,) = await stores.usage.calls_of("job-c")
        assert so_far.unanswered == 1
        await cancelled(asked, lambda: True)
        await failing.generate(SOURCE, [1])  # of no job
        await stores.usage.settle()
    made, none = await doors[0].usage.calls_of("job-c", "job-d")
    ends = {"busy": 3, "timeout": 3, "cancelled": 3}
    assert made == CallsMade(begun=15, pairs=3, canaries=3, failed=ends)
    assert (made.unanswered, none) == (0, None)
    await doors[1].job_retention.forget("job-c")
    assert await doors[0].usage.calls_of("job-c") == [None]


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_call_in_flight(doors, monkeypatch, is_away):
    """What costs money is stored before it is asked for, and asked for although it cannot be."""
    if is_away:

        async def failing(*_, **__):
            raise StoreUnavailable("away")

        monkeypatch.setattr(doors[0].usage._documents, "change", failing)
    inner = Inner(seconds=3600)
    upscaler = guarded(inner, usage=doors[0].usage, price_per_call=0.25)
    asked = asyncio.create_task(upscaler.generate(SOURCE, [1]))
    await until(lambda: inner.calls)
    uses = await doors[1].usage.report(MONTH)
    assert [(use.calls, use.price) for use in uses] == ([] if is_away else [(1, 0.25)])
    await cancelled(asked, lambda: True)
