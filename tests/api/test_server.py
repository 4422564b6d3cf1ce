"""The real program as a new user would try it, with what it ships, and as crashes do."""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest

from harness.factories import encoded, photo
from harness.servers import ProcessGroup, free_port

pytestmark = pytest.mark.slow

SMALL = encoded(photo(1, 16, 24))
ASYNC = {"Prefer": "respond-async"}


@contextmanager
def serving(folder, **settings):
    """A server on this data folder, with nothing else of ours set, and a client of it."""
    port = free_port()
    command = [sys.executable, "-m", "trustscale_server", "serve", "--port", str(port)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRUSTSCALE_")}
    environment = {**kept, "TRUSTSCALE_DATA_DIR": str(folder), **settings}
    with (
        ProcessGroup(command, log=folder.parent / "server.log", env=environment) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        server.wait_for(f"{client.base_url}/readyz", "the gateway")
        yield server, client


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def hang_up(client, image):
    """Upload an image and wait for its answer hardly longer than its generation begins.

    On a machine that sleeps in between the answer may come before anybody stops to wait.
    """
    with suppress(httpx.ReadTimeout):
        client.post("/v1/upscale", files={"image": image}, timeout=httpx.Timeout(120, read=0.3))


def upload(client, image, **options):
    return client.post("/v1/upscale", files={"image": ("photo.png", image)}, **options)


def succeeded(client, job):
    events = client.get(f"{job}/events", timeout=300).text
    assert '"succeeded"' in events.strip().splitlines()[-1]
    return client.get(job).json()


def test_killed_and_asked_to_end(data):
    """SIGKILL loses nothing: stored results are served, the accepted job finishes.

    SIGTERM ends streams of events at once, the jobs go back and are done by the next; uploads are
    answered.
    """
    log = data.parent / "server.log"
    with serving(data) as (server, client):
        assert f'"address": "{client.base_url}' in log.read_text("utf-8")
        stored = upload(client, SMALL).json()
        before = client.get(stored["links"]["image"]).content
        accepted = upload(client, encoded(photo(4, 160, 160)), headers=ASYNC)
        assert accepted.status_code == 202
        hang_up(client, encoded(photo(5, 160, 160)))
        server.kill()
    with serving(data, TRUSTSCALE_MAX_IN_FLIGHT="1") as (server, client):
        assert client.get(stored["links"]["self"]).json() == stored
        assert client.get(stored["links"]["image"]).content == before
        job = succeeded(client, accepted.headers["location"])
        assert client.get(job["result"]).json()["width"] == 640
        assert upload(client, SMALL).status_code == 200
        # The second one waits for the first, which takes long.
        locations = [
            upload(client, encoded(photo(1, side, side)), headers=ASYNC).headers["location"]
            for side in (240, 32)
        ]
        with client.stream("GET", f"{locations[-1]}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("event: job")
            assert server.stop(60) in {0, -signal.SIGTERM}  # the requests' own time is ten minutes
            list(lines)  # raises if it does not end in good order
    limit = {"TRUSTSCALE_CLIENT_REQUESTS_PER_MINUTE": "2"}
    with serving(data, **limit) as (server, client), ThreadPoolExecutor(1) as pool:
        for location in locations:
            succeeded(client, location)
        assert upload(client, SMALL).status_code == 200
        answer = pool.submit(upload, client, encoded(photo(6, 200, 200)))
        while not answer.done():  # it is before a machine that sleeps sees it in flight
            if 'trustscale_slots{state="in_flight"} 1.0' in client.get("/metrics").text:
                break
            time.sleep(0.01)
        client.headers["X-Forwarded-For"] = "192.0.2.1"
        assert upload(client, SMALL).status_code == 429
        assert server.stop(120) in {0, -signal.SIGTERM}
        assert answer.result().status_code == 200
    assert "Traceback" not in log.read_text()
