"""Uploads that go to the object store past the gateway, and what asks for them afterwards."""

import struct
import zlib
from pathlib import Path

import httpx
import pytest

from app.stores.blobs import BlobStore, open_blobs
from tests.api.gateway import AS_ADMIN, IMAGE, aside, check_problem, ended, gateway, post
from tests.fakes import FakeUpscaler
from tests.live import serving
from trustscale import Trustscale

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
    assert place["max_bytes"] == client.app_state["trustscale"].settings.max_upload_bytes
    return place["upload"]


def ask(client, upload, headers=None, **fields):
    return client.post("/v1/upscale", data={"upload": upload, **fields}, headers=headers or {})


def folders(url):
    """The folders of uploads and jobs that are there."""
    store: BlobStore = open_blobs(url, Path("/nowhere"))
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
        """Another key finds nothing by its name; nor does anybody before it is sent."""
        client = start(blobs=s3_url, **KEYS)
        check_problem(client.post("/v1/uploads"), "unauthorized")
        upload = put(client, headers=of("a"))
        for key in (of("b"), AS_ADMIN):
            check_problem(ask(client, upload, key), "not-found")
        empty = client.post("/v1/uploads", headers=of("a")).json()["upload"]
        check_problem(ask(client, empty, of("a")), "not-found")
        check_problem(ask(client, "../check", of("a")), "bad-request")
        check_problem(post(client, upload=upload, headers=of("a")), "bad-request")
        # What was refused has not used it up.
        check_problem(ask(client, upload, of("a"), alpha="-1"), "bad-alpha")
        assert ask(client, upload, of("a")).status_code == 200

    def test_the_same_again(self, start, s3_url):
        """Under a key of idempotency a link names one upload, which is upscaled once."""
        upscaler = FakeUpscaler()
        client = start(upscaler, blobs=s3_url, **KEYS)
        key = {**of("a"), "Idempotency-Key": "once"}
        first, calls = ask(client, upload := put(client, headers=key), key), len(upscaler.calls)
        assert put(client, headers=key) == upload
        again = ask(client, upload, key)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        assert put(client, headers={**key, **of("b")}) != upload
        assert len(upscaler.calls) == calls > 0

    def test_a_link_is_a_request(self, start, s3_url):
        """Of a client's share."""
        client = start(blobs=s3_url, client_requests_per_minute=2)
        assert ask(client, put(client)).status_code == 200
        check_problem(client.post("/v1/uploads"), "overloaded", 429)

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


def test_a_refused_link_is_a_request(start):
    """Of a client's share, or it could ask without end."""
    client = start(client_requests_per_minute=1)
    check_problem(client.post("/v1/uploads"), "no-direct-uploads")
    check_problem(client.post("/v1/uploads"), "overloaded", 429)


def padded(size):
    """The picture with a chunk of so many bytes that nobody reads."""
    chunk = b"prVt" + bytes(size)
    framed = struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return IMAGE[:33] + framed + IMAGE[33:]
