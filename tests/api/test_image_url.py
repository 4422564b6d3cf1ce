"""`image_url` in place of an upload."""

from __future__ import annotations

import functools
import http.server
import threading

import pytest

from tests.api.gateway import IMAGE, check_problem, ended, post


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path):
    """Where the picture is."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(IMAGE)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.png"
        server.shutdown()


def ask(client, headers=None, **fields):
    return client.post("/v1/upscale", data=fields, headers=headers or {})


def test_the_same_answer(start, url):
    """At once and as a job: that of the same file as an upload."""
    client = start(image_hosts="127.0.0.1", image_private=True)
    sent = post(client, seed=3).json()
    fetched = ask(client, image_url=url, seed="3").json()
    accepted = ask(client, {"Prefer": "respond-async"}, image_url=url, seed="3")
    job = ended(client, accepted.headers["location"])
    later = client.get(job["result"]).json()
    images = [client.get(answer["links"]["image"]).content for answer in (sent, fetched, later)]
    assert images[0] == images[1] == images[2]


def test_refusals(start, client, url):
    """Hosts that are not allowed, files that are not there, both, and none."""
    check_problem(ask(client, image_url=url), "bad-request")
    allowed = start(image_hosts="127.0.0.1", image_private=True)
    check_problem(ask(allowed, image_url=url.replace("127.0.0.1", "localhost")), "bad-request")
    assert "404" in check_problem(ask(allowed, image_url=f"{url}x"), "bad-request")["detail"]
    check_problem(post(allowed, image_url=url), "bad-request")


def test_too_large(start, url):
    """It may have as many bytes as an upload."""
    small = start(image_hosts="127.0.0.1", image_private=True, max_upload_bytes=100)
    assert check_problem(ask(small, image_url=url), "image-too-large")["maximum"] == 100
