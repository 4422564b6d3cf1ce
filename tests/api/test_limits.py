"""Bounded work: limits for each client, many and slow clients, large images."""

import asyncio
import errno
import gc
import re
import tempfile
import threading
import time
import weakref
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from harness.admin import BASE, Admin, truth_files
from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import (
    ADMIN_KEY,
    AS_ADMIN,
    PATIENT,
    check_problem,
    client_of,
    ended,
    form,
    post,
)
from harness.waiting import until
from trustscale_server.calibration import file as record
from trustscale_server.http.clients import open_limits
from trustscale_server.jobs.queue import JobQueue
from trustscale_server.platform.errors import RateLimited
from trustscale_server.platform.fair import current_client
from trustscale_server.serving import upload
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.job_status import Job
from trustscale_server.stores.uploads import uploads_for

ASYNC = {"Prefer": "respond-async"}


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


class TestDisconnect:
    async def test_ends_the_generation(self, serve):
        upscaler = FakeUpscaler(seconds=60)
        async with serve(upscaler, max_in_flight=1) as served:
            leaving = served.hanging()
            await until(lambda: upscaler.calls)
            assert await leaving.hang_up() == 499
            assert upscaler.cancelled == len(upscaler.calls) > 0
            upscaler.seconds = 0
            assert (await served.post()).status_code == 200

    async def test_leaves_no_picture(self, serve, monkeypatch, request):
        """Nor an open file: nothing that clients had sent waits for a collection of garbage."""
        gc.disable()
        request.addfinalizer(gc.enable)
        upscaler, pictures = FakeUpscaler(seconds=60), []
        really = upscaler.generate

        async def generate(source, *args):
            pictures.append(weakref.ref(source.rgb))
            return await really(source, *args)

        monkeypatch.setattr(upscaler, "generate", generate)
        async with serve(upscaler) as served:
            await served.client.get("/readyz")  # opens what stays open
            before = descriptors()
            for count in range(1, 6):
                leaving = served.hanging()
                await until(lambda count=count: len(pictures) == count * SAMPLES)
                assert await leaving.hang_up() == 499
            # A thread that has told its result may hold it for some microseconds more.
            await until(lambda: all(picture() is None for picture in pictures))
            assert descriptors() <= before

    async def test_decoding_ends_when_the_service_stops(self, serve, slow_uploads):
        brief = PATIENT._replace(drain_s=0.1)
        async with serve(max_in_flight=1, max_waiting=1, timings=brief) as served:
            uploads = await slow_uploads(served)
            served.state.stopping.set()
            assert {await one.answered for one in uploads} == {503}

    async def test_what_arrived_before_is_answered(self, serve, monkeypatch):
        """A proxy sends no upload twice, so one that is being decoded then has its time."""
        really, begun, go = upload.decoding, asyncio.Event(), asyncio.Event()

        async def decoding(*args, **kwargs):
            begun.set()
            await go.wait()
            return await really(*args, **kwargs)

        monkeypatch.setattr(upload, "decoding", decoding)
        async with serve() as served:
            sent = asyncio.create_task(served.post())
            await begun.wait()
            served.state.stopping.set()
            await asyncio.sleep(0.05)
            go.set()
            assert (await sent).status_code == 200

    async def test_while_it_sends(self, serve):
        """A client that hangs up within its upload made no mistake, nor did we."""
        async with serve() as served:

            async def cut_off(scope, receive, send):
                begun = {"type": "http.request", "body": b"--x\r\n", "more_body": True}
                parts = iter([begun, {"type": "http.disconnect"}])

                async def hear():
                    return next(parts)

                await served.app(scope, hear, send)

            async with client_of(cut_off) as client:
                for method, path, kind in (
                    ("POST", "/v1/upscale", "multipart/form-data; boundary=x"),
                    ("POST", f"{BASE}/import", record.MEDIA_TYPE),
                    ("PUT", f"{BASE}/job-x/pairs/000/label.png", "image/png"),
                ):
                    headers = {**AS_ADMIN, "Content-Type": kind}
                    response = await client.request(method, path, headers=headers)
                    assert response.status_code == 499
            told = (await served.client.get("/metrics")).text
            assert not re.search(r"^trustscale_error_responses_total.* [1-9]", told, re.MULTILINE)


@pytest.fixture
def slow_uploads(monkeypatch):
    """Uploads that take long to decode: one more than there are places for."""
    really = upload.decoding

    async def decoding(function, file, *args, **kwargs):
        if file.read(4) == b"slow":
            await asyncio.sleep(600)
        return await really(function, file, *args, **kwargs)

    async def start(served):
        places = served.state.context.decoding
        uploads = [served.hanging(**form(b"slow")) for _ in range(places.max_amount + 1)]
        await until(lambda: sum(one.answered.done() for one in uploads) == 1)
        return sorted(uploads, key=lambda one: one.answered.done())

    monkeypatch.setattr(upload, "decoding", decoding)
    return start


ELSEWHERE = ("192.0.2.1", 50_000)


async def test_one_client_does_not_keep_others_out(serve, slow_uploads):
    """Whoever comes from elsewhere takes a place of the client with most, and is answered."""
    async with serve(max_in_flight=1, max_waiting=1) as served:
        *slow, refused = await slow_uploads(served)
        assert await refused.answered == 503
        check_problem(await served.post(), "overloaded")
        async with client_of(served.app, ELSEWHERE) as other:
            assert (await other.post("/v1/upscale", **form())).status_code == 200
        assert [await one.hang_up() for one in slow].count(503) == 1


async def test_what_is_fetched_slowly_holds_no_place(serve, monkeypatch):
    """However many dripping servers a client names, uploads are decoded."""
    began = []

    async def drips(*_):
        began.append(1)
        await asyncio.sleep(600)

    monkeypatch.setattr("trustscale_server.upscalers.outbound.fetch.ImageHosts.fetch", drips)
    async with serve(
        max_in_flight=1, max_waiting=1, image_url_allowed_hosts=["example.com"]
    ) as served:
        most = served.state.context.fetching.max_amount
        fields = {"image_url": (None, "https://example.com/a.png")}
        slow = [served.hanging(files=fields) for _ in range(most + 1)]
        await until(lambda: any(one.answered.done() for one in slow))
        assert len(began) == most
        assert (await served.post()).status_code == 200
        assert Counter([await one.hang_up() for one in slow]) == {499: most, 503: 1}


async def test_is_bounded(serve):
    """Masks and overlays for other α have places of their own; uploads never wait for them."""
    async with serve(max_in_flight=1, max_waiting=1) as served:
        client, links = served.client, (await served.post()).json()["links"]
        drawing = served.state.context.drawing
        async with drawing.slot():
            address = f"{links['overlay']}?alpha=0.3"
            leaving = [served.hanging("GET", address) for _ in range(drawing.max_waiting)]
            await until(lambda: drawing.waiting == drawing.max_waiting)
            for part in ("overlay", "mask"):
                answer = await client.get(f"{links[part]}?alpha=0.2")
                check_problem(answer, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get(links["mask"])).status_code == 200  # nothing is drawn
            assert (await served.post()).status_code == 200
            assert {await waiting.hang_up() for waiting in leaving} == {499}
            assert drawing.waiting == 0
        assert (await client.get(address)).status_code == 200


# The framework leaves the file of a form that does not end to whoever collects garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestUnfinishedBodies:
    """What arrives is on the disk: its bytes are bounded, and shared by clients."""

    @staticmethod
    async def half(client, kilobytes, go):
        async def body():
            yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            for _ in range(kilobytes):
                yield b"x" * 1000
            await go.wait()

        headers = {
            "Content-Type": "multipart/form-data; boundary=x",
            "Transfer-Encoding": "chunked",
        }
        return await client.post("/v1/upscale", content=body(), headers=headers)

    async def test_a_flood_gives_way(self, serve, monkeypatch):
        monkeypatch.setattr("trustscale_server.http.state.MAX_TRUTH_BYTES", 10_000)
        async with serve(max_upload_bytes=10_000) as served:
            go, room = asyncio.Event(), served.state.bodies
            flood = [
                asyncio.create_task(self.half(served.client, 9, go)) for _ in range(20)
            ]  # of 9 kB, where there is room for 160 kB
            await until(lambda: sum(one.done() for one in flood) == 3)
            assert 150_000 < room.taken <= 160_000
            for one in flood:
                if one.done():
                    check_problem(one.result(), "overloaded")
            async with client_of(served.app, ELSEWHERE) as other:
                answer = await other.post("/v1/upscale", **form(b"x" * 9000))
                check_problem(answer, "unsupported-media")  # all of it was read
            await until(lambda: sum(one.done() for one in flood) > 3)
            go.set()
            await asyncio.gather(*flood)
            assert room.taken == 0

    async def test_end_when_the_service_stops(self, serve):
        """Those that arrive have seconds; others are answered."""
        async with serve(timings=PATIENT._replace(drain_s=0.1)) as served:
            go = asyncio.Event()
            slow = asyncio.create_task(self.half(served.client, 1, go))
            await until(lambda: served.state.bodies.taken)
            served.state.stopping.set()
            check_problem(await slow, "overloaded")

    async def test_a_full_disk(self, serve, monkeypatch):
        """Neither a fault of the service nor one of the request, whichever write finds it full."""

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/secret-path")

        async with serve() as served:
            for method in ("write", "fileno"):
                with monkeypatch.context() as patch:
                    patch.setattr(f"tempfile.SpooledTemporaryFile.{method}", full)
                    problem = check_problem(await served.post(), "overloaded")
                assert "No space left" in problem["detail"]
                assert "/" not in problem["detail"]


@pytest.mark.parametrize(
    ("peer", "same", "other"),
    [
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::", "2001:db8:1:3::3"),
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("fe80::1%eth0", "fe80::2%eth0", "2001:db8::1"),
    ],
)
async def test_an_address(serve, one_minute, peer, same, other):
    """A /64 network of IPv6, which belongs to one, is one client; an IPv4 address is one."""
    async with serve(client_requests_per_minute=1) as served:
        statuses = []
        for host in (peer, same, other):
            async with client_of(served.app, (host, 1)) as client:
                statuses.append((await client.post("/v1/upscale", **form())).status_code)
    assert statuses == [200, 429, 200]


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_the_key_comes_first(serve, key):
    """Of a body without a key nothing is read, on no route."""
    async with serve(client_keys=["a"]) as served:

        async def unread():
            raise AssertionError("The body was read.")
            yield b""

        headers = {"Content-Type": "multipart/form-data; boundary=x"} | (
            {"X-API-Key": key} if key else {}
        )
        for path in ("/v1/upscale", "/v1/uploads", "/v1/results/res-a/truth", BASE):
            answer = await served.client.post(path, content=unread(), headers=headers)
            check_problem(answer, "unauthorized")


def test_a_folder_for_temporary_files_that_is_gone(start, monkeypatch, tmp_path):
    """503 names the setting, and does not tell the path."""
    client = start()
    assert post(client).status_code == 200
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    problem = check_problem(post(client, encoded(noise)), "store-unavailable")
    assert "TMPDIR" in problem["detail"]
    assert str(tmp_path) not in problem["detail"]


@pytest.mark.parametrize(("length", "most"), [({"Content-Length": "10000000"}, 0), ({}, 200)])
async def test_are_read_up_to_the_limit(serve, length, most):
    """A declared length decides alone, before anything is read; without one it is counted."""
    read = 0

    async def endless():
        nonlocal read
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while read < 10_000:
            read += 1
            yield b"x" * 1000

    async with serve(max_upload_bytes=5000) as served:
        headers = {"Content-Type": "multipart/form-data; boundary=x", **length}
        response = await served.client.post("/v1/upscale", content=endless(), headers=headers)
    check_problem(response, "image-too-large")
    assert "x-request-id" in response.headers
    assert read <= most


class TestUploadsWithoutAJob:
    def test_they_are_removed(self, start, tmp_path, monkeypatch):
        client = start()
        check_problem(Admin(client).post_files({"y/a.png": b"text"}), "bad-pairs")

        async def away(*_):
            raise StoreUnavailable("Away.")

        monkeypatch.setattr(JobQueue, "submit", away)
        assert post(client, headers=ASYNC).status_code >= 500
        assert Admin(client).post_files(truth_files(1)).status_code >= 500
        assert list((tmp_path / "blobs").glob("job-*")) == []

    async def test_they_stay_with_a_job(self, stores):
        """If only the answer of the store got lost, the job is there and needs its files."""
        job = Job(id="job-x", kind="upscale", created_at=datetime.now(UTC), request={})
        await stores.blobs.put(job.id, "image", b"1")
        await stores.jobs.create(job)
        with pytest.raises(StoreUnavailable):
            async with uploads_for(stores, job.id):
                raise StoreUnavailable("The answer got lost.")
        assert await stores.blobs.names(job.id) == ["image"]


PIXELS = 24 * 24


def check_limited(response, unit):
    problem = check_problem(response, "overloaded", 429)
    assert problem["limit"] == f"client_{unit}_per_minute"
    assert 1 <= int(response.headers["retry-after"]) <= 60


@pytest.mark.usefixtures("one_minute")
class TestRequests:
    def test_open(self, start):
        """Without keys an address has its share, of which what is wrong takes nothing."""
        client = start(client_requests_per_minute=2)
        wrong = [{"upscaler": "none"}, {"alpha": "x"}, {"group": "none"}]
        assert [post(client, **fields).status_code for fields in wrong] == [404, 422, 422]
        links = post(client).json()["links"]
        assert post(client, headers=ASYNC).status_code == 202
        for headers in ({}, ASYNC):
            check_limited(post(client, headers=headers), "requests")
        truth = {"image": ("y.png", encoded(photo(1, 48, 48)))}
        check_limited(client.post(f"{links['self']}/truth", files=truth), "requests")
        assert {client.get(links["mask"]).status_code for _ in range(3)} == {200}

    def test_per_key(self, start):
        client = start(client_requests_per_minute=1, client_keys=["a", "b"])
        for _ in range(2):
            assert post(client, headers={"X-API-Key": "wrong"}).status_code == 401
        for key in ("a", "b", ADMIN_KEY):
            headers = {"X-API-Key": key}
            assert post(client, headers=headers).status_code == 200
            check_limited(post(client, headers=headers), "requests")

    def test_a_full_queue_takes_nothing(self, start):
        client = start(
            client_requests_per_minute=2,
            client_pixels_per_minute=2 * PIXELS,
            max_input_pixels=PIXELS,
            max_queued_jobs=1,
            embedded_job_worker=False,
        )
        answers = [post(client, headers=ASYNC) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 503, 503, 503]
        assert answers[-1].headers["retry-after"] == "60"
        assert post(client).status_code == 200


def test_a_client_leaves_places_for_jobs_of_others(start):
    """It may have as many jobs as places are left; so half alone, and somebody else finds one."""
    client = start(max_queued_jobs=6, embedded_job_worker=False)
    outcomes = {}
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"):
        client._transport.client = (address, 1)
        answers = [post(client, headers=ASYNC) for _ in range(4)]
        outcomes[address] = [answer.status_code for answer in answers].count(202)
        refused = check_problem(answers[-1], "overloaded")
        assert answers[-1].headers["retry-after"] == "60"
        assert ("yours" in refused["detail"]) == (sum(outcomes.values()) < 6)
    assert [*outcomes.values()] == [3, 2, 1, 0]


def test_pixels_by_size(start, one_minute):
    """Large images use it up sooner; what is refused takes nothing from smaller ones."""
    client = start(client_pixels_per_minute=3 * PIXELS, max_input_pixels=3 * PIXELS)
    assert post(client).status_code == 200
    large = encoded(photo(1, 48, 36))  # exactly the whole minute
    check_limited(post(client, large), "pixels")
    assert post(client, large[:100]).status_code == 422
    assert [post(client).status_code for _ in range(3)] == [200, 200, 429]


class TestCounters:
    async def test_minute(self, monkeypatch):
        now = [time.time()]
        monkeypatch.setattr(time, "time", lambda: now[0])
        async with open_limits(
            "sqlite:///", client_requests_per_minute=2, client_pixels_per_minute=None
        ) as limits:
            for _ in "ab":
                await limits.take("a", "requests")
            with pytest.raises(RateLimited) as caught:
                await limits.take("a", "requests")
            assert caught.value.retry_after == pytest.approx(60)
            await limits.take("b", "requests")
            await limits.take("a", "pixels", 10**12)
            now[0] += caught.value.retry_after + 0.1
            await limits.take("a", "requests")

    @pytest.mark.servers
    async def test_shared(self, redis_url):
        """Gateways that ask at once share what a client may have."""
        limits = [
            open_limits(redis_url, client_requests_per_minute=5, client_pixels_per_minute=None)
            for _ in "ab"
        ]
        async with limits[0] as first, limits[1] as second:
            asked = (door.take("a", "requests") for door in (first, second) * 10)
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert 0 < outcomes.count(None) <= 5
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {RateLimited}


CAPACITY, WAITING, CLIENTS = 4, 8, 64


async def test_sixteen_times_the_capacity(serve):
    """64 clients against 4 slots: no other error than 503 with Retry-After, and no queue grows."""
    upscaler, statuses = FakeUpscaler(gate=threading.Event()), Counter()
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
        await until(lambda: upscaler.in_flight == SAMPLES * CAPACITY)
        assert set(statuses) == {503}
        upscaler.gate.set()
        await asyncio.gather(*asking)
        assert statuses == {200: CAPACITY + WAITING, 503: CLIENTS - CAPACITY - WAITING}
        assert upscaler.most_in_flight == SAMPLES * CAPACITY
        calls, served_calls = len(upscaler.calls), CAPACITY + WAITING
        assert (await served.post()).status_code == 200
        # Nothing was generated for those that were refused.
        assert calls == served_calls * (len(upscaler.calls) - calls)


async def test_a_pool_is_filled_beside_what_computes_here(serve):
    """Requests of remote models hold slots of their own: as many as calls may be in flight."""
    pool, here = (FakeUpscaler(name, gate=threading.Event()) for name in ("pool", "here"))
    entries = [
        {"name": "pool", "kind": "worker", "urls": ["http://a", "http://b"], "concurrency": 8},
        {"name": "here", "kind": "embedded"},
    ]
    async with serve(pool, here, upscalers=entries, max_in_flight=1, max_waiting=0) as served:
        slots = served.state.context.slots
        wanted = ["pool"] * 16 + ["here"]
        asking = [asyncio.create_task(served.post(mask="none", upscaler=name)) for name in wanted]
        await until(lambda: (slots.slots_held("pool"), slots.slots_held("here")) == (16, 1))
        await until(lambda: pool.in_flight >= 16 and here.in_flight)
        for name, slots_of in (("pool", "All 16 slots of pool"), ("here", "All 1 slots")):
            refused = await served.post(mask="none", upscaler=name)
            assert slots_of in check_problem(refused, "overloaded")["detail"]
        pool.gate.set()
        here.gate.set()
        assert {(await one).status_code for one in asking} == {200}


async def test_more_memory_than_there_is(serve):
    """An answer that could never be made is refused with its cost and a way out, also as a job."""
    large = encoded(photo(3, 100, 100))
    upscaler = FakeUpscaler()
    async with serve(upscaler, max_in_flight_bytes=200_000) as served:
        served.state.context.throughput.note(upscaler, 100 * 100, 4, 5.0)
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


SAMPLES = 4


@pytest.fixture
def upscaler():
    return FakeUpscaler()


@pytest.fixture
def client(start, upscaler):
    """A gateway whose upscaler takes a second for each line of the image, and may take 10 s."""
    client = start(upscaler, request_timeout_s=10)
    service = client.app_state["trustscale"].services.service
    service.context.throughput.note(upscaler, PIXELS, SAMPLES, 24)
    return client


def test_refused_with_ways_out(client, upscaler):
    """422 at once: the estimate, the deadline, and what would make it: a job, or fewer pixels.

    GET /v1/upscalers has the pace, once it is known; every answer is a measurement.
    """
    problem = check_problem(post(client), "too-slow")
    members = {name: problem[name] for name in ("estimate", "deadline", "prefer", "fit")}
    assert members == {"estimate": 24, "deadline": 10, "prefer": "respond-async", "fit": 13}
    assert "about 24 seconds" in problem["detail"]
    assert upscaler.calls == []
    [row] = client.get("/v1/upscalers").json()
    assert row["seconds_per_megapixel"] == pytest.approx(24e6 / PIXELS / SAMPLES)
    accepted = post(client, headers={"Prefer": problem["prefer"]})
    job = accepted.json()
    assert (accepted.status_code, job["estimate_s"]) == (202, 24)
    assert (job["width"], job["height"]) == (48, 48)
    assert ended(client, accepted.headers["location"])["state"] == "succeeded"
    assert post(client, fit=problem["fit"]).status_code == 200
    [row] = client.get("/v1/upscalers").json()
    assert 0 < row["seconds_per_megapixel"] < 24e6 / PIXELS / SAMPLES


def test_jobs_of_a_client_have_its_share(start, upscaler, monkeypatch):
    """A client's jobs and its direct requests are one client, whose name tells no address."""
    seen, sample = [], upscaler.sample
    look = lambda *of: seen.append(current_client.get()) or sample(*of)  # noqa: E731
    monkeypatch.setattr(upscaler, "sample", look)
    client = start(upscaler)
    for address in ("203.0.113.9", "2001:db8::1", "2001:db8::2"):
        client._transport.client = (address, 1)
        accepted = post(client, headers={"Prefer": "respond-async"})
        assert ended(client, accepted.headers["location"])["state"] == "succeeded"
        assert post(client).status_code == 200
    assert len(set(seen)) == 2
    assert not [name for name in seen if "." in name or ":" in name or not name]
