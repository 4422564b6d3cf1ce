"""Many clients, slow clients and large images: what is held for them, and what takes too long."""

import asyncio
import threading
from collections import Counter

import pytest

from tests.api.gateway import check_problem, client_of, ended, form, post
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler
from tests.waiting import until

CAPACITY, WAITING, CLIENTS = 4, 8, 64
ASYNC = {"Prefer": "respond-async"}


class CountingUpscaler(FakeUpscaler):
    def __init__(self, **options):
        super().__init__(**options)
        self.now = Counter()
        self.most = 0

    async def generate(self, source, seeds, turn=None):
        self.now[id(source)] += 1
        self.most = max(self.most, len(self.now))
        try:
            return await super().generate(source, seeds, turn)
        finally:
            self.now[id(source)] -= 1
            self.now += Counter()  # forgets zeros


async def test_sixteen_times_the_capacity(serve):
    """64 clients against 4 slots: no other error than 503 with Retry-After, and no queue grows."""
    upscaler, statuses = CountingUpscaler(gate=threading.Event()), Counter()
    async with serve(upscaler, max_in_flight=CAPACITY, max_waiting=WAITING) as served:

        async def ask():
            answer = await served.post()
            if answer.status_code == 503:
                check_problem(answer, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
            statuses[answer.status_code] += 1

        asking = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
        # Nobody is served yet, and all for whom there is no place know it already.
        await until(lambda: statuses.total() == CLIENTS - CAPACITY - WAITING)
        assert set(statuses) == {503}
        upscaler.gate.set()
        await asyncio.gather(*asking)
        assert statuses == {200: CAPACITY + WAITING, 503: CLIENTS - CAPACITY - WAITING}
        assert upscaler.most == CAPACITY
        calls, served_calls = len(upscaler.calls), CAPACITY + WAITING
        assert (await served.post()).status_code == 200
        # Nothing was generated for those that were refused.
        assert calls == served_calls * (len(upscaler.calls) - calls)


async def test_more_memory_than_there_is(serve):
    """An answer that could never be made is refused with its cost and a way out, also as a job."""
    large = encoded(photo(3, 100, 100))
    upscaler = FakeUpscaler()
    async with serve(upscaler, max_in_flight_bytes=200_000) as served:
        served.state.service.throughput.note(upscaler, 100 * 100, 4, 5.0)
        for headers in ({}, ASYNC):
            answer = await served.post(large, headers=headers)
            problem = check_problem(answer, "image-too-large")
            assert (problem["limit"], problem["maximum"]) == ("max_in_flight_bytes", 200_000)
            assert problem["actual"] > 40_000 * 15
            assert problem["seconds"] == 5
        # The way out leads out.
        fit = int(problem["detail"].partition("fit=")[2].split()[0])
        answer = await served.post(large, fit=fit)
        assert (answer.status_code, answer.json()["width"]) == (200, 2 * fit)


async def test_a_client_that_sends_slowly(serve):
    async with serve(max_in_flight=1, max_waiting=0) as served:
        request = served.client.build_request("POST", "/v1/upscale", **form())
        body, begun, go = await request.aread(), asyncio.Event(), asyncio.Event()

        async def slowly():
            yield body[:50]
            begun.set()
            await go.wait()
            yield body[50:]

        sent = {"content": slowly(), "headers": request.headers}
        slow = asyncio.create_task(served.client.post("/v1/upscale", **sent))
        await begun.wait()
        for _ in range(3):
            assert (await served.post()).status_code == 200
        assert not slow.done()
        go.set()
        assert (await slow).status_code == 200


async def test_a_client_that_reads_slowly(serve):
    async with serve(max_in_flight=1, max_waiting=0) as served:
        sent, read = asyncio.Event(), asyncio.Event()

        async def unread(scope, receive, send):
            async def hold(message):
                sent.set()
                await read.wait()
                await send(message)

            await served.app(scope, receive, hold)

        async with client_of(unread) as reader:
            slow = asyncio.create_task(reader.post("/v1/upscale", **form()))
            await sent.wait()
            for _ in range(3):
                assert (await served.post()).status_code == 200
            assert not slow.done()
            read.set()
            assert (await slow).status_code == 200


async def test_few_files_in_memory(serve, monkeypatch):
    """Of uploads that have arrived only as many as there are slots are read and decoded at once."""
    now, most, two = 0, 0, asyncio.Event()

    async def read(upload, size=-1):
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 2:
            two.set()
        async with asyncio.timeout(60):
            await two.wait()
        for _ in range(50):  # room for a third one, were it let in
            await asyncio.sleep(0)
        now -= 1
        upload.file.seek(0)
        return upload.file.read(size)

    monkeypatch.setattr("starlette.datastructures.UploadFile.read", read)
    async with serve(max_in_flight=2, max_waiting=30) as served:
        answers = await asyncio.gather(
            *(served.post() for _ in range(10)), *(served.post(headers=ASYNC) for _ in range(4))
        )
        assert {answer.status_code for answer in answers} == {200, 202}
        assert most == 2
        for answer in answers:
            if answer.status_code == 202:
                await served.events(answer.headers["location"])


PIXELS, SAMPLES = 24 * 24, 4


@pytest.fixture
def upscaler():
    return FakeUpscaler()


@pytest.fixture
def client(start, upscaler):
    """A gateway whose upscaler takes a second for each line of the image, and may take 10 s."""
    client = start(upscaler, request_timeout_s=10)
    service = client.app_state["trustscale"].service
    service.throughput.note(upscaler, PIXELS, SAMPLES, 24)
    return client


def test_refused_with_ways_out(client, upscaler):
    """422 at once: the estimate, the deadline, and what would make it."""
    problem = check_problem(post(client), "too-slow")
    members = {name: problem[name] for name in ("estimate", "deadline", "prefer", "fit")}
    assert members == {"estimate": 24, "deadline": 10, "prefer": "respond-async", "fit": 13}
    assert "about 24 seconds" in problem["detail"]
    assert upscaler.calls == []
    assert post(client, fit=problem["fit"]).status_code == 200


def test_done_as_a_job(client):
    """Nobody waits for a job: it is accepted, and says what is expected of it."""
    accepted = post(client, headers={"Prefer": "respond-async"})
    job = accepted.json()
    assert (accepted.status_code, job["estimate_s"]) == (202, 24)
    assert (job["width"], job["height"]) == (48, 48)
    assert ended(client, accepted.headers["location"])["state"] == "succeeded"


def test_a_job_has_a_deadline_too(start, upscaler):
    """One that is longer than its deadline is refused as well; then only `fit` helps."""
    client = start(upscaler, job_timeout_s=10)
    client.app_state["trustscale"].service.throughput.note(upscaler, PIXELS, SAMPLES, 24)
    problem = check_problem(post(client, headers={"Prefer": "respond-async"}), "too-slow")
    assert (problem["fit"], "prefer" in problem) == (13, False)


def test_the_pace_is_told(client, upscaler):
    """GET /v1/upscalers has it, once it is known; every answer is a measurement."""
    [row] = client.get("/v1/upscalers").json()
    assert row["seconds_per_megapixel"] == pytest.approx(24e6 / PIXELS / SAMPLES)
    assert post(client, fit=10).status_code == 200
    [row] = client.get("/v1/upscalers").json()
    assert 0 < row["seconds_per_megapixel"] < 24e6 / PIXELS / SAMPLES
