"""What stores hold stays bounded, and they say how much it is."""

from datetime import UTC, datetime
from math import inf

import pytest
from redis.asyncio import Redis

from trustscale_server.jobs.webhooks import delivery_of, event_of
from trustscale_server.platform.errors import NotFound
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import JOB_PREFIX, Job, JobAbout, JobState

WEBHOOK = "https://hooks.example/of/this/service"
KEYS_KEPT_S = 86400.0


def upscale(number):
    """A job as the API makes it, with the name of its key and a webhook."""
    about = JobAbout(
        webhook=WEBHOOK, key="shop", client="shop", upscaler="span-x4", width=2048, height=2048,
        estimate_s=4.0,
    )  # fmt: skip
    return Job(
        id=f"{JOB_PREFIX}{number:020}", kind="upscale", created_at=datetime.now(UTC), about=about,
        request=UpscaleRequest(upscaler="span-x4", key="shop", client="shop").model_dump(),
    )  # fmt: skip


async def ended(stores, number):
    """One job from its key to its webhook."""
    job = upscale(number)
    await stores.claims.claim(f"{number:064x}", b"{}" * 80, seconds=KEYS_KEPT_S)
    await stores.jobs.create(job)
    await stores.jobs.start(job.id, "", "worker")
    link = f"/v1/results/{job.id.replace('job-', 'res-')}"
    await stores.jobs.finish(job.id, JobState.SUCCEEDED, result=link)
    hook = delivery_of(await stores.jobs.get(job.id), JobState.SUCCEEDED)
    await stores.jobs.create(hook)
    await stores.jobs.start(hook.id, "", "worker")
    await stores.jobs.finish(hook.id, JobState.SUCCEEDED, result=f"/v1/jobs/{job.id}")
    return job.id, hook.id


class TestEndedJobs:
    async def test_small_records(self, stores):
        """Of an ended job its end remains, for its client, its webhook and a late cancellation."""
        job, hook = await ended(stores, 1)
        whole = await stores.jobs.get(job)
        with pytest.raises(NotFound):
            await stores.jobs.request(job)
        assert await stores.job_retention.archive(older_s=60) == []
        assert set(await stores.job_retention.archive(older_s=-60)) == {job, hook}
        small = await stores.jobs.get(job)
        assert (small.state, small.result, small.finished_at) == (
            JobState.SUCCEEDED, whole.result, whole.finished_at,
        )  # fmt: skip
        assert small.about == JobAbout(key="shop", client="shop")
        assert event_of(small) == event_of(whole)
        assert await stores.jobs.request_cancel(job) == small
        assert await stores.jobs.start(job, "", "worker") is None
        with pytest.raises(NotFound):
            await stores.jobs.get(hook)
        assert await stores.job_retention.archive(older_s=-60) == []
        assert await stores.job_retention.expire(older_s=60) == []
        assert await stores.job_retention.expire(older_s=-60) == [job]
        with pytest.raises(NotFound):
            await stores.jobs.get(job)

    async def test_what_stays_whole(self, stores):
        """Calibrations that ended, and jobs that have not, keep their requests."""
        made = Job(id="c", kind="calibration", created_at=datetime.now(UTC), request={"a": 1})
        waits = upscale(2)
        await stores.jobs.create(made)
        await stores.jobs.create(waits)
        await stores.jobs.finish("c", JobState.SUCCEEDED)
        assert await stores.job_retention.archive(older_s=-60) == []
        assert (await stores.jobs.load("c")).request == made.request
        assert await stores.jobs.load(waits.id) == waits

    @pytest.mark.servers
    async def test_a_week(self, redis_url, opened):
        """A week of jobs with keys and webhooks takes less memory than sizing.md says."""
        stores, most = opened(redis_url), 200
        await ended(stores, 0)
        async with Redis.from_url(redis_url) as client:

            async def memory():
                return (await client.info("memory"))["used_memory_dataset"]

            before = await memory()
            for number in range(1, most + 1):
                await ended(stores, number)
            first_day = (await memory() - before) / most
            await stores.job_retention.archive(older_s=-60)
            await client.delete("trustscale:documents:claims", "trustscale:order:claims")
            later = (await memory() - before) / most
        assert 0 < later < 900
        assert later < first_day < 2500


class TestRoom:
    async def test_database(self, stores):
        """The database says what it uses and may use; what is stored is in it."""
        before = await stores.space()
        for number in range(50):
            await ended(stores, number)
        after = await stores.space()
        assert 0 < before.used < after.used < after.limit

    async def test_results(self, stores):
        """Results say how much they are, and their limit."""
        assert await stores.results.space() == (0, 10_000_000)
        await stores.results.put("r", b"{}", {"image": b"abc"})
        assert await stores.results.space() == (5, 10_000_000)

    @pytest.mark.servers
    async def test_redis_is_full_while_there_is_room(self, redis_url, opened):
        """With less than a twentieth left new work is refused, and what runs is still stored."""
        stores = opened(redis_url)
        running = upscale(1)
        await stores.jobs.create(running)
        async with Redis.from_url(redis_url) as client:
            assert (await stores.space()).limit == inf
            await client.setrange("filling", 120 * 2**20, b"x")
            used = (await client.info("memory"))["used_memory"]
            try:
                await client.config_set("maxmemory", int(used / 0.9))
                await stores.probe()
                await client.config_set("maxmemory", int(used / 0.96))
                with pytest.raises(StoreUnavailable, match="memory is full"):
                    await stores.probe()
                await stores.jobs.start(running.id, "", "worker")
                assert await stores.jobs.finish(running.id, JobState.SUCCEEDED)
                await stores.results.put("r", b"x" * 2**20, {})
            finally:
                await client.config_set("maxmemory", 0)
                await client.delete("filling")


class TestWaiting:
    async def test_states(self, stores):
        """Queued and running jobs are counted by kind, and one that ended or awaits labels not."""
        jobs = [upscale(number) for number in range(4)]
        for one in jobs:
            await stores.jobs.create(one)
        await stores.jobs.start(jobs[0].id, "", "w")
        await stores.jobs.start(jobs[3].id, "", "w")
        await stores.jobs.finish(jobs[3].id, JobState.FAILED)
        found = await stores.jobs.waiting("upscale")
        assert (found.queued, found.running, found.oldest) == (2, 1, jobs[1].created_at)
        await stores.jobs.end(jobs[0].id, "")
        found = await stores.jobs.waiting("upscale")
        assert (found.queued, found.running, found.oldest) == (3, 0, jobs[0].created_at)
        assert await stores.jobs.waiting("webhook") == (0, 0, None)

    async def test_many_are_not_read(self, stores, monkeypatch):
        """However many webhooks wait, one of them is read."""
        for number in range(30):
            job = upscale(number).model_copy(update={"kind": "webhook"})
            await stores.jobs.create(job)
        read, documents = [], stores.jobs._documents
        original = documents.read

        async def counted(*keys):
            read.extend(keys)
            return await original(*keys)

        monkeypatch.setattr(documents, "read", counted)
        found = await stores.jobs.waiting("webhook")
        assert (found.queued, len(read)) == (30, 1)
