"""Bounded work: what is too much is told so, and work that nobody waits for ends."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from app.calibration import file
from app.jobs.queue import JobQueue
from app.stores.base import Job, StoreUnavailable
from app.stores.uploads import uploads_for
from tests.api.admin import BASE, Admin, truth_files
from tests.api.gateway import AS_ADMIN, check_problem, client_of, post
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler
from tests.images import hostile
from tests.waiting import until

ASYNC = {"Prefer": "respond-async"}


async def test_jobs_wait_however_many_there_are(serve):
    """Asynchronous requests are accepted beyond the waiting places and all finish."""
    async with serve(max_in_flight=1, max_waiting=0) as served:
        accepted = [await served.post(headers=ASYNC) for _ in range(3)]
        assert {response.status_code for response in accepted} == {202}
        for response in accepted:
            assert '"succeeded"' in await served.events(response.headers["location"])


class TestDisconnect:
    async def test_ends_the_generation(self, serve):
        """A client that hangs up cancels its samples and frees its slot."""
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


class TestDrawing:
    async def test_is_bounded(self, serve):
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

    def test_is_counted(self, start):
        """What is drawn for a request takes from the client's share; stored files do not."""
        client = start(client_requests_per_minute=3)
        links = post(client).json()["links"]
        paths = [links["overlay"], f"{links['mask']}?alpha=0.3", f"{links['overlay']}?alpha=0.3"]
        assert [client.get(path).status_code for path in paths] == [200, 200, 429]
        assert {client.get(links[part]).status_code for part in ("image", "mask", "trust")} == {200}


class TestBodies:
    def test_the_limit_of_the_file(self, start):
        """A file over `max_upload_bytes` is refused with both numbers."""
        image = encoded(photo(0, 100, 100))
        problem = check_problem(post(start(max_upload_bytes=5000), image), "image-too-large")
        assert problem["limit"] == "max_bytes"
        assert (problem["maximum"], problem["actual"]) == (5000, len(image))

    @pytest.mark.parametrize(("length", "most"), [({"Content-Length": "10000000"}, 0), ({}, 200)])
    async def test_are_read_up_to_the_limit(self, serve, length, most):
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

    def test_long_fields_and_many_fields(self, client):
        """A form is bounded in every direction."""
        for response in (
            post(client, alpha="1" * 10_000),
            post(client, **{f"field{k}": k for k in range(100)}),
        ):
            check_problem(response, "bad-request")


class TestUploadsWithoutAJob:
    def test_they_are_removed(self, start, tmp_path, monkeypatch):
        """Files of a job that could not be stored do not stay."""
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
