"""The real program with the embedded upscaler, as a new user would try it, and as crashes do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api.gateway import pixels
from tests.factories import encoded, photo, truths
from tests.images import hostile
from tests.servers import ProcessGroup, free_port

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "app"]


def environment(folder, **settings):
    """The environment of the program: nothing of ours but a data folder, and no compiler."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRUSTSCALE_")}
    ours = {"TRUSTSCALE_DATA_DIR": str(folder)}
    return {**kept, **ours, **settings}


@contextmanager
def serving(folder, **settings):
    """A server on this data folder and a client of it."""
    port = free_port()
    command = [*PROGRAM, "serve", "--port", str(port)]
    log = folder.parent / "server.log"
    with (
        ProcessGroup(command, log=log, env=environment(folder, **settings)) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        server.wait_for(f"{client.base_url}/readyz", "the gateway")
        yield server, client


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with a small calibration, made by the program itself."""
    root = tmp_path_factory.mktemp("server")
    truths(root / "photos", 20, side=64)
    subprocess.run(
        [*PROGRAM, "calibrate", str(root / "photos"), "--samples", "2", "--activate", "--force"],
        env=environment(root / "data"),
        check=True,
        capture_output=True,
        timeout=300,
    )
    return root / "data"


@pytest.fixture(scope="module")
def folder(data):
    """The data folder of `client`: two servers cannot share one."""
    return Path(shutil.copytree(data, data.parent / "running" / "data"))


@pytest.fixture(scope="module")
def client(folder):
    """A client of one server for the tests that leave it running."""
    with serving(folder) as (_, client):
        yield client


def hang_up(client, image):
    """Upload an image and wait for its answer hardly longer than its generation begins.

    On a machine that sleeps in between the answer may come before anybody stops to wait.
    """
    with suppress(httpx.ReadTimeout):
        client.post("/v1/upscale", files={"image": image}, timeout=httpx.Timeout(120, read=0.3))


def upload(client, image, **fields):
    return client.post(
        "/v1/upscale",
        files={"image": ("photo.png", image)},
        data={name: str(value) for name, value in fields.items()},
    )


def rotated():
    """A JPEG that was taken sideways."""
    image = Image.fromarray(photo(1, 16, 24))
    exif = image.getexif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", exif=exif)


ACCEPTED = {
    "png": (encoded(photo(1, 16, 24)), (24, 16)),
    "jpeg with rotation": (rotated(), (16, 24)),
    "one pixel": (encoded(photo(1, 1, 1)), (1, 1)),
    "strip": (encoded(photo(1, 10, 2000)), (2000, 10)),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepted(client, kind):
    """Every kind of photograph is upscaled four times, the right way up, with its mask."""
    image, (width, height) = ACCEPTED[kind]
    response = upload(client, image, seed=1)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["width"], answer["height"]) == (4 * width, 4 * height)
    for part, channels in {"image": (3,), "mask": (), "trust": (), "overlay": (3,)}.items():
        file = client.get(answer["links"][part]).content
        assert pixels(file).shape == (4 * height, 4 * width, *channels)


def test_the_upscaled_image_resembles_the_photograph(client):
    """It is an upscaling: reduced again, it is nearly what was sent."""
    image = photo(1, 32, 48)
    large = pixels(client.get(upload(client, encoded(image)).json()["links"]["image"]).content)
    again = np.asarray(Image.fromarray(large).resize((48, 32), Image.Resampling.BOX), float)
    assert np.abs(again - image).mean() < 5


def test_a_body_that_is_too_long(client):
    """A length over the limit is refused before the body is sent, as a problem."""
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(
            b"POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "application/problem+json" in answer


def test_a_client_that_hangs_up(client, folder):
    """The server goes on, and its log holds no traceback."""
    hang_up(client, encoded(photo(2, 256, 256)))
    assert upload(client, ACCEPTED["png"][0]).status_code == 200
    assert "Traceback" not in (folder.parent / "server.log").read_text()


def test_killed_in_the_middle(data):
    """SIGKILL loses nothing: stored results are served, the accepted job finishes."""
    with serving(data) as (server, client):
        stored = upload(client, ACCEPTED["png"][0], seed=3).json()
        before = client.get(stored["links"]["image"]).content
        accepted = client.post(
            "/v1/upscale",
            files={"image": encoded(photo(4, 256, 256))},
            headers={"Prefer": "respond-async"},
        )
        location = accepted.headers["location"]
        assert accepted.status_code == 202
        hang_up(client, encoded(photo(5, 256, 256)))
        server.kill()
    with serving(data) as (_, client):
        assert client.get(stored["links"]["self"]).json() == stored
        assert client.get(stored["links"]["image"]).content == before
        events = client.get(f"{location}/events", timeout=300).text
        assert '"succeeded"' in events.strip().splitlines()[-1]
        job = client.get(location).json()
        assert client.get(job["result"]).json()["width"] == 1024
        assert upload(client, ACCEPTED["png"][0], seed=3).status_code == 200


def test_asked_to_end(data):
    """SIGTERM lets the request in progress finish, then the program ends.

    And behind no proxy nobody gets another address, and with it fresh limits, by a header.
    """
    with (
        serving(data, TRUSTSCALE_CLIENT_REQUESTS_PER_MINUTE="2") as (server, client),
        ThreadPoolExecutor(1) as pool,
    ):
        assert upload(client, ACCEPTED["png"][0]).status_code == 200
        answer = pool.submit(upload, client, encoded(photo(6, 256, 256)))
        while not answer.done():  # it is before a machine that sleeps sees it in flight
            if 'trustscale_slots{state="in_flight"} 1.0' in client.get("/metrics").text:
                break
            time.sleep(0.01)
        client.headers["X-Forwarded-For"] = "192.0.2.1"
        assert upload(client, ACCEPTED["png"][0]).status_code == 429
        assert server.stop(120) in {0, -signal.SIGTERM}
        assert answer.result().status_code == 200


@pytest.mark.parametrize(
    "file",
    [hostile.jpeg_of_scans(470, 1024), hostile.png_of_chunks(119_000)],
    ids=["scans that are let through", "chunks"],
)
def test_asked_to_end_while_hostile_files_come(data, file):
    """Whatever was uploaded, SIGTERM ends the program within its drain time."""
    drain = 60
    with (
        serving(data, TRUSTSCALE_REQUEST_TIMEOUT_S=str(drain)) as (server, client),
        ThreadPoolExecutor(4) as pool,
    ):
        answers = [pool.submit(ended, client, file) for _ in range(4)]
        while not any(answer.done() for answer in answers):
            if "trustscale_requests_in_flight 5.0" in client.get("/metrics").text:
                break
        began = time.monotonic()
        assert server.stop(2 * drain) in {0, -signal.SIGTERM}
        assert time.monotonic() - began < drain
        assert all(answer.result() for answer in answers)


def ended(client, file):
    """Upload, and see an end: an answer, or a connection that is closed."""
    try:
        return upload(client, file).status_code < 500
    except httpx.TransportError:
        return True


def test_asked_to_end_while_somebody_watches(data):
    """SIGTERM ends open streams of events at once; the jobs go back and are done by the next."""
    with serving(data) as (server, client):
        locations = [
            client.post(
                "/v1/upscale",
                files={"image": encoded(photo(seed, 200, 200))},
                headers={"Prefer": "respond-async"},
            ).headers["location"]
            for seed in range(4)
        ]
        with client.stream("GET", f"{locations[-1]}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("event: job")
            assert server.stop(60) in {0, -signal.SIGTERM}  # the requests' own time is ten minutes
            assert not any("succeeded" in line for line in lines)  # and it ends in good order
    assert "Traceback" not in (data.parent / "server.log").read_text()
    with serving(data) as (_, client):
        for location in locations:
            events = client.get(f"{location}/events", timeout=300).text
            assert '"succeeded"' in events.strip().splitlines()[-1]
