"""Bounded work, and limits for each client."""

import asyncio
import re
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from app.api.clients import open_limits
from app.calibration import file
from app.errors import RateLimited
from app.jobs.queue import JobQueue
from app.settings import load_settings
from app.stores.base import Job, StoreUnavailable
from app.stores.uploads import uploads_for
from tests.api.admin import BASE, Admin, truth_files
from tests.api.gateway import ADMIN_KEY, AS_ADMIN, check_problem, client_of, post
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler
from tests.images import hostile
from tests.waiting import until

ASYNC = {"Prefer": "respond-async"}


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

    async def test_frees_a_place_for_decoding(self, serve):
        """Uploads that are decoded are bounded; one whose client leaves makes room at once."""
        async with serve(max_in_flight=1, max_waiting=1) as served, AsyncExitStack() as stack:
            decoding = served.state.service.decoding
            for _ in range(decoding.running - 1):
                await stack.enter_async_context(decoding.slot())
            leaving = served.hanging(files={"image": hostile.tiff_of_small_tiles(1024, 1024)})
            await until(lambda: decoding.in_flight == decoding.running)
            check_problem(await served.post(), "overloaded")
            assert await leaving.hang_up() == 499
            assert (await served.post()).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "kind"),
        [
            ("POST", "/v1/upscale", "multipart/form-data; boundary=x"),
            ("POST", f"{BASE}/import", file.MEDIA_TYPE),
            ("PUT", f"{BASE}/job-x/pairs/000/label.png", "image/png"),
        ],
    )
    async def test_while_it_sends(self, serve, method, path, kind):
        """A client that hangs up within its upload made no mistake, nor did we."""
        async with serve() as served:

            async def cut_off(scope, receive, send):
                parts = [
                    {"type": "http.request", "body": b"--x\r\n", "more_body": True},
                    {"type": "http.disconnect"},
                ]

                async def hear():
                    return parts.pop(0)

                await served.app(scope, hear, send)

            headers = {**AS_ADMIN, "Content-Type": kind}
            async with client_of(cut_off) as client:
                response = await client.request(method, path, headers=headers)
            assert response.status_code == 499
            problems = (await served.client.get("/metrics")).text
            assert not re.search(r"^trustscale_problems_total.* [1-9]", problems, re.MULTILINE)


async def test_is_bounded(serve):
    """Masks and overlays for other α have places of their own; uploads never wait for them."""
    async with serve(max_in_flight=1, max_waiting=1) as served:
        client, links = served.client, (await served.post()).json()["links"]
        drawing = served.state.service.drawing
        async with drawing.slot():
            address = f"{links['overlay']}?alpha=0.3"
            leaving = [served.hanging("GET", address) for _ in range(drawing.most_waiting)]
            await until(lambda: drawing.waiting == drawing.most_waiting)
            for part in ("overlay", "mask"):
                answer = await client.get(f"{links[part]}?alpha=0.2")
                check_problem(answer, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get(links["mask"])).status_code == 200  # nothing is drawn
            assert (await served.post()).status_code == 200
            assert {await waiting.hang_up() for waiting in leaving} == {499}
            assert drawing.waiting == 0
        assert (await client.get(address)).status_code == 200


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
    """429 `overloaded` that says which limit, and when to come back."""
    problem = check_problem(response, "overloaded", 429)
    assert problem["limit"] == f"client_{unit}_per_minute"
    assert 1 <= int(response.headers["retry-after"]) <= 60


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
        """Nor does a job for which the queue has no room, which is told to come back."""
        client = start(
            client_requests_per_minute=2,
            client_pixels_per_minute=2 * PIXELS,
            max_input_pixels=PIXELS,
            max_queued_jobs=1,
            run_jobs=False,
        )
        answers = [post(client, headers=ASYNC) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 503, 503, 503]
        assert answers[-1].headers["retry-after"] == "60"
        assert post(client).status_code == 200


class TestPixels:
    def test_by_size(self, start):
        """Large images use it up sooner; what is refused takes nothing from smaller ones."""
        client = start(client_pixels_per_minute=3 * PIXELS, max_input_pixels=3 * PIXELS)
        assert post(client).status_code == 200
        large = encoded(photo(1, 48, 36))  # exactly the whole minute
        check_limited(post(client, large), "pixels")
        assert post(client, large[:100]).status_code == 422
        assert [post(client).status_code for _ in range(3)] == [200, 200, 429]

    def test_smaller_than_one_image(self, monkeypatch):
        """Such a limit would refuse an allowed image for ever: the start is refused."""
        monkeypatch.setenv("TRUSTSCALE_CLIENT_PIXELS_PER_MINUTE", "1000")
        assert load_settings().limits.max_pixels == 1000
        monkeypatch.setenv("TRUSTSCALE_MAX_INPUT_PIXELS", "1001")
        with pytest.raises(Exception, match="smaller than max_input_pixels"):
            load_settings()


class TestCounters:
    @pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
    def store(self, request):
        if request.param == "redis":
            return str(request.getfixturevalue("redis_url"))
        return "sqlite:///"

    async def test_minute(self, store, monkeypatch):
        now = [time.time()]
        if store.startswith("sqlite"):
            monkeypatch.setattr(time, "time", lambda: now[0])
        async with open_limits(store, requests=2, pixels=None) as limits:
            await limits.take("a", "requests")
            await limits.take("a", "requests")
            with pytest.raises(RateLimited) as caught:
                await limits.take("a", "requests")
            if store.startswith("sqlite"):
                assert caught.value.retry_after == pytest.approx(60)
            assert 1 < caught.value.retry_after <= 60
            await limits.take("b", "requests")
            await limits.take("a", "pixels", 10**12)
            if store.startswith("sqlite"):
                now[0] += caught.value.retry_after + 0.1
                await limits.take("a", "requests")

    async def test_at_once(self, store):
        async with open_limits(store, requests=5, pixels=None) as limits:
            outcomes = await asyncio.gather(
                *(limits.take("a", "requests") for _ in range(20)), return_exceptions=True
            )
        assert outcomes.count(None) <= 5
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {RateLimited}

    @pytest.mark.servers
    async def test_shared(self, redis_url):
        limits = [open_limits(redis_url, requests=1, pixels=None) for _ in "ab"]
        async with limits[0] as first, limits[1] as second:
            await first.take("a", "requests")
            with pytest.raises(RateLimited):
                await second.take("a", "requests")

    async def test_redis_away(self):
        url = "redis://:secret@127.0.0.1:1/0"
        async with open_limits(url, requests=1, pixels=None) as limits:
            with pytest.raises(StoreUnavailable) as caught:
                await limits.take("a", "requests")
        assert "secret" not in caught.value.detail
