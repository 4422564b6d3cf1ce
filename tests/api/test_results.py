"""Stored results, what is removed by itself, and uploads past the gateway."""

import io
import os
import re
import struct
import time
import zlib
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from obstore.exceptions import GenericError
from PIL import Image

from harness.admin import Admin, truth_files
from harness.factories import changed
from harness.fakes import FakeUpscaler
from harness.gateway import (
    AS_ADMIN,
    IMAGE,
    aside,
    check_problem,
    ended,
    gateway,
    post,
    running,
    text_chunks,
)
from harness.waiting import block_until, until
from tests.live import serving
from trustscale import Trustscale
from trustscale_server.http.app import Timings
from trustscale_server.stores.blobs import Blobs, open_blobs
from trustscale_server.stores.documents import StoreUnavailable


def pixels_in(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.size, image.tobytes()


class TestShared:
    def test_a_shared_result_outlives_the_others_under_its_name(self, start):
        """Its page has a title and a preview, as text; of others a link says nothing."""
        client = start(result_ttl_s=60, pages=True)
        answer = post(client).json()
        path = f"/v1/results/{answer['id']}"

        def ends():
            return parsedate_to_datetime(client.get(path).headers["sunset"]).timestamp()

        before = ends()
        assert "og:" not in client.get(f"/r/{answer['id']}").text
        shared = client.put(f"{path}/share", json={"name": 'a "<b>" name'}).json()
        assert shared["path"] == f"/r/{answer['id']}"
        assert ends() - before > 29 * 86400
        assert datetime.fromisoformat(shared["expires"]).timestamp() == pytest.approx(ends(), abs=2)
        assert client.get(path).json()["shared_as"] == 'a "<b>" name'
        page = client.get(f"/r/{answer['id']}").text
        assert '<meta property="og:title" content="a &quot;&lt;b&gt;&quot; name">' in page
        [preview] = re.findall(r'og:image" content="http://[^/]+([^"]+)"', page)
        with Image.open(io.BytesIO(client.get(preview).content)) as card:
            assert card.format == "JPEG"
        check_problem(client.put("/v1/results/res-none/share", json={"name": "a"}), "not-found")
        check_problem(client.put(f"{path}/share", json={"name": ""}), "bad-request")

    def test_no_preview_where_a_key_is_needed(self, start):
        client = start(pages=True, client_keys=["key-of-a-client"])
        key = {"Authorization": "Bearer key-of-a-client"}
        answer = post(client, headers=key).json()
        path = f"/v1/results/{answer['id']}/share"
        check_problem(client.put(path, json={"name": "a"}), "unauthorized")
        assert client.put(path, json={"name": "a"}, headers=key).status_code == 200
        page = client.get(f"/r/{answer['id']}").text
        assert 'og:title" content="a"' in page
        assert "og:image" not in page


class TestAgain:
    @pytest.mark.parametrize("alpha", ["0.05", "0.12", "3"])
    def test_another_alpha_needs_no_generation(self, client, upscaler, answer, alpha):
        fresh, calls = post(client, alpha=alpha, seed=3).json(), len(upscaler.calls)
        for part in ("mask", "overlay"):
            changed = client.get(answer["links"][part], params={"alpha": alpha})
            assert changed.headers["content-type"] == "image/png"
            again = client.get(fresh["links"][part])
            # Their marks differ: of an α that is chosen afterwards nothing is promised.
            assert pixels_in(again.content) == pixels_in(changed.content)
            assert text_chunks(changed.content)["trustscale:alpha"] == repr(float(alpha))
        assert len(upscaler.calls) == calls

    def test_a_new_active_calibration_leaves_old_results_alone(self, start, calibration):
        client = start()
        answer = post(client, alpha=0.1).json()
        before = client.get(f"{answer['links']['mask']}?alpha=0.09").content
        newer = changed(calibration, name="newer")
        client = start(calibrations=(newer,), embedded_job_worker=False)
        assert post(client).json()["calibration"] == newer.id != calibration.id
        assert client.get(f"{answer['links']['mask']}?alpha=0.09").content == before


class TestProblems:
    def test_an_alpha_that_is_none(self, client, answer):
        for alpha in ("-1", "abc", "nan", "inf", "-inf", "1e999"):
            for part in ("mask", "overlay"):
                refused = client.get(answer["links"][part], params={"alpha": alpha})
                assert "alpha" in check_problem(refused, "bad-alpha")["detail"]

    def test_unknown_results(self, client, answer):
        """Nor is served what is kept for ourselves."""
        again = client.get(answer["links"]["self"], params={"detail": "full"}).json()
        assert "input.digest" not in {**again, **answer}
        assert client.get(f"{answer['links']['self']}/input.digest").status_code == 404
        for path in ("", "/image.png", "/mask.png", "/trust.png", "/overlay.png"):
            check_problem(client.get(f"/v1/results/res-unknown{path}"), "not-found")
        for result in ("..", "%2e%2e", "a%2Fb", "res-%00", "x" * 500):
            assert client.get(f"/v1/results/{result}/image.png").status_code in {404, 422}

    def test_elsewhere_and_later(self, start, monkeypatch):
        """Another process on the same folder serves it too; after `result_ttl_s` nobody does."""
        client = start(result_ttl_s=3600)
        links = post(client).json()["links"]
        again = start(embedded_job_worker=False)
        paths = (*links.values(), f"{links['mask']}?alpha=0.2")
        assert {again.get(path).status_code for path in paths} == {200}
        later = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: later)
        for path in paths:
            check_problem(client.get(path), "not-found")


@pytest.mark.servers
class TestObjectStore:
    def test_links(self, start, s3_url):
        client = start(blobs=s3_url)
        links = post(client, alpha=0.1).json()["links"]
        for part in ("image", "mask", "trust"):
            told = client.get(links[part], follow_redirects=False)
            assert (told.status_code, told.headers["cache-control"]) == (307, "no-store")
            found = httpx.get(told.headers["location"], trust_env=False)
            page = client.get(links[part], headers={"Sec-Fetch-Site": "same-origin"})
            assert (page.status_code, page.content) == (200, found.content)
            assert found.headers["content-type"] == page.headers["content-type"] == "image/png"
        assert client.get(links["overlay"], follow_redirects=False).status_code == 200
        plain = start(blobs=s3_url, presigned_links=False, embedded_job_worker=False)
        assert plain.get(links["image"], follow_redirects=False).status_code == 200

    def test_it_is_away(self, start, s3_url, monkeypatch):
        upscaler = FakeUpscaler()
        client = start(upscaler, blobs=s3_url)
        store = client.app_state["trustscale"].services.stores.blobs

        async def away(*_, **__):
            raise GenericError("Generic S3 error: token=secret")

        monkeypatch.setattr("obstore.put_async", away)
        told = check_problem(post(client), "store-unavailable")
        assert upscaler.calls == []  # samples may cost money
        assert told["detail"] == (
            "The blob store cannot be used now: an error without a known cause (GenericError)."
        )
        with pytest.raises(StoreUnavailable):
            aside(store.probe())


OFTEN = Timings(sweep_s=0.05, orphans_s=0.0)


def left(folder):
    return {path.name for path in (folder / "blobs").glob("job-*")}


def test_ended_jobs(start, tmp_path):
    """Once `job_ttl_s` is over, an ended job and its files are gone; its result stays."""
    admin = Admin(start(job_ttl_s=3600))
    response = admin.post_files(truth_files(2))
    made = admin.made(response)
    job = response.headers["location"]
    start(job_ttl_s=0.1, embedded_job_worker=False, timings=OFTEN)
    block_until(lambda: admin.client.get(job).status_code == 404)
    block_until(lambda: not left(tmp_path))
    assert admin.get(f"/{made['id']}")["n"] == 2
    check_problem(admin.send("GET", f"/{response.json()['id']}"), "not-found")


async def test_uploads(tmp_path, calibration):
    """The upload of an upscaling goes with the end of its job: done, stopped, or never begun."""
    upscaler = FakeUpscaler()
    app = gateway(tmp_path, upscaler, calibrations=[calibration], max_in_flight=1)

    async with running(app) as served:
        client = served.client

        async def begun():
            return (await served.post(headers={"Prefer": "respond-async"})).json()["id"]

        done = await begun()
        await until(lambda: not left(tmp_path))
        assert (await client.get(f"/v1/jobs/{done}")).json()["state"] == "succeeded"
        upscaler.seconds, calls = 600, len(upscaler.calls)
        stopped = await begun()
        await until(lambda: len(upscaler.calls) > calls)
        waiting = await begun()
        assert left(tmp_path) == {stopped, waiting}
        for job in (waiting, stopped):
            await client.delete(f"/v1/jobs/{job}")
        await until(lambda: not left(tmp_path))


def test_orphans(start, calibration, tmp_path):
    """Files of no job, result and calibration go after a day; younger ones may still get theirs."""
    day = 86400
    kept = {"job-arriving", "calibrate-1", f"canary-{calibration.id}", f"pictures-{calibration.id}"}
    kept |= {"check", "upload-young"}
    lost = {"job-lost", "canary-lost", "pictures-lost", "result-lost%3A0", "upload-old"}
    for name in kept | lost:
        age = day / 2 if name in {"job-arriving", "upload-young"} else 2 * day
        file = tmp_path / "blobs" / name / "image"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age,) * 2)
    start(timings=OFTEN)
    block_until(lambda: {path.name for path in (tmp_path / "blobs").iterdir()} == kept)


ASYNC = {"Prefer": "respond-async"}
KEYS = {"client_keys": ["a", "b"]}


def of(key):
    return {"X-API-Key": key}


def put(client, image=IMAGE, headers=None):
    """Send a picture past the gateway: its name."""
    told = client.post("/v1/uploads", headers=headers or {})
    assert told.status_code == 201, told.text
    place = told.json()
    sent = httpx.put(place["url"], content=image, headers=place["headers"], trust_env=False)
    assert sent.status_code == 200
    assert place["max_bytes"] == client.app_state["trustscale"].services.settings.max_upload_bytes
    return place["upload"]


def ask(client, upload, headers=None, **fields):
    return client.post("/v1/upscale", data={"upload": upload, **fields}, headers=headers or {})


def folders(url):
    store: Blobs = open_blobs(url, Path("/nowhere"))
    found = {path.partition("/")[0] for path, _ in aside(store._listed())}
    return {name for name in found if name.startswith(("upload-", "job-"))}


@pytest.mark.servers
class TestThere:
    def test_the_same_answer(self, start, s3_url):
        """At once and as a job: that of the same file in the form; then it is gone."""
        client = start(blobs=s3_url)
        sent = post(client, seed=3).json()
        asked = ask(client, upload := put(client), seed="3").json()
        job = ask(client, put(client), ASYNC, seed="3").headers["location"]
        later = client.get(ended(client, job)["result"]).json()
        images = [client.get(answer["links"]["trust"]).content for answer in (sent, asked, later)]
        assert images[0] == images[1] == images[2]
        assert "was used" in check_problem(ask(client, upload), "not-found")["detail"]
        assert folders(s3_url) <= {job.rpartition("/")[2]}

    @pytest.mark.parametrize("headers", [{}, ASYNC], ids=["at once", "as a job"])
    def test_its_size(self, start, s3_url, headers):
        """One that is larger than an upload may be is not read, and no job is made of it."""
        client = start(blobs=s3_url, max_upload_bytes=1000)
        problem = check_problem(ask(client, put(client, bytes(1001)), headers), "image-too-large")
        assert (problem["maximum"], problem["actual"]) == (1000, 1001)
        assert {name.partition("-")[0] for name in folders(s3_url)} == {"upload"}

    def test_whose_it_is(self, start, s3_url):
        """Another key finds nothing by its name; nor does anybody before it is sent.

        Under a key of idempotency a link names one upload, which is upscaled once.
        """
        upscaler = FakeUpscaler()
        client = start(upscaler, blobs=s3_url, **KEYS)
        check_problem(client.post("/v1/uploads"), "unauthorized")
        once = {**of("a"), "Idempotency-Key": "once"}
        upload = put(client, headers=once)
        assert put(client, headers=once) == upload != put(client, headers={**once, **of("b")})
        for key in (of("b"), AS_ADMIN):
            check_problem(ask(client, upload, key), "not-found")
        empty = client.post("/v1/uploads", headers=of("a")).json()["upload"]
        check_problem(ask(client, empty, of("a")), "not-found")
        check_problem(ask(client, "../check", of("a")), "bad-request")
        check_problem(post(client, upload=upload, headers=of("a")), "bad-request")
        # What was refused has not used it up.
        check_problem(ask(client, upload, of("a"), alpha="-1"), "bad-alpha")
        first, calls = ask(client, upload, once), len(upscaler.calls)
        again = ask(client, upload, once)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        assert len(upscaler.calls) == calls > 0

    def test_the_client(self, tmp_path, calibration, s3_url, monkeypatch):
        """It sends large pictures past the gateway, without its key, and small ones as ever."""
        large = padded(2**20)
        app = gateway(tmp_path, calibrations=[calibration], blobs=s3_url)
        with serving(app) as address, Trustscale(f"http://{address}", "key") as client:
            asked: list[httpx.Request] = []
            client._http.event_hooks["request"] = [asked.append]
            small, sent = client.upscale(IMAGE, seed=1), client.upscale(large, seed=1)
            job = client.submit(large, seed=1).wait()
        assert small.image.tobytes() == sent.image.tobytes() == job.image.tobytes()
        puts = [request for request in asked if request.method == "PUT"]
        assert [request.headers["content-length"] for request in puts] == [str(len(large))] * 2
        there = [request for request in asked if request.url.netloc.decode() != address]
        assert len([one for one in there if "/result-" in str(one.url)]) == 6
        assert not any("authorization" in one.headers for one in there)
        here = [request for request in asked if request.url.netloc.decode() == address]
        assert all(request.headers["authorization"] == "Bearer key" for request in here)
        assert max(int(request.headers.get("content-length", 0)) for request in here) < len(large)


@pytest.mark.parametrize(
    "blobs", ["folder", pytest.param("s3", marks=pytest.mark.servers)], ids=["folder", "kept off"]
)
def test_not_there(tmp_path, calibration, request, blobs):
    """Without an object store for clients the problem says so, and the client sends the file."""
    url = request.getfixturevalue("s3_url") if blobs == "s3" else None
    app = gateway(tmp_path, calibrations=[calibration], blobs=url, presigned_links=False)
    with serving(app) as address, Trustscale(f"http://{address}") as client:
        check_problem(httpx.post(f"http://{address}/v1/uploads"), "no-direct-uploads")
        asked: list[str] = []
        client._http.event_hooks["request"] = [lambda sent: asked.append(sent.url.path)]
        large = padded(2**20)
        assert client.upscale(large).image.size == client.upscale(large).image.size == (48, 48)
        assert asked == ["/v1/uploads", "/v1/upscale", "/v1/upscale"]


def padded(size):
    """The picture with a chunk of so many bytes that nobody reads."""
    chunk = b"prVt" + bytes(size)
    framed = struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return IMAGE[:33] + framed + IMAGE[33:]


def test_a_link_is_a_request(start, one_minute):
    """Of a client's share, or it could ask without end."""
    client = start(client_requests_per_minute=1)
    check_problem(client.post("/v1/uploads"), "no-direct-uploads")
    check_problem(client.post("/v1/uploads"), "overloaded", 429)
