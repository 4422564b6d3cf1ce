"""`--server`: over a real connection to a gateway, and to what is none."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.api.gateway import ADMIN_KEY
from tests.factories import truths
from tests.live import serving
from tests.waiting import block_until

ROOT = Path(__file__).parents[2]


def test_key(at, server, monkeypatch):
    """The key comes from the variable that is named; without it nothing is sent."""
    assert at("calibrations", "list").code == 0
    monkeypatch.setenv("TRUSTSCALE_KEY", "wrong")
    at("calibrations", "list").check_error(1, "key is not valid")
    monkeypatch.setenv("MY_KEY", ADMIN_KEY)
    assert at("calibrations", "list", "--key-env", "MY_KEY").code == 0
    monkeypatch.setenv("MY_KEY", "client-key")
    at("calibrations", "list", "--key-env", "MY_KEY").check_error(1, "admin")
    monkeypatch.delenv("TRUSTSCALE_KEY")
    outcome = at("calibrations", "list")
    outcome.check_error(2, "TRUSTSCALE_KEY", server.url)


def test_a_wrong_key_during_an_upload(at, place, monkeypatch):
    """The server refuses before it reads the upload; this is told, not a broken pipe."""
    monkeypatch.setenv("TRUSTSCALE_KEY", "wrong")
    (truths(place / "photos", 1) / "large.png").write_bytes(bytes(30_000_000))
    at("calibrate", "photos").check_error(1, "key is not valid")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_there(run, server, host):
    """One line that names the server, and says what the system says."""
    refused = f"[Errno {errno.ECONNREFUSED}]"
    with socket.socket() as taken:  # by somebody who does not listen
        taken.bind(("127.0.0.1", 0))
        url = f"http://{host}:{taken.getsockname()[1]}"
        outcome = run("calibrations", "list", "--server", url)
    outcome.check_error(1, f"Cannot reach {url}: {refused}")


def test_an_answer_that_cannot_be_read(run, server):
    """What is none of ours may answer anything: one line."""

    async def garbled(scope, receive, send):
        head = {"type": "http.response.start", "status": 200}
        if scope["type"] == "http":
            await send({**head, "headers": [(b"content-encoding", b"gzip")]})
            await send({"type": "http.response.body", "body": b"no gzip"})

    with serving(garbled) as address:
        run("calibrations", "list", "--server", f"http://{address}").check_error(1, address)


@pytest.mark.parametrize(
    ("url", "key"),
    [("http://[::1", "k"), ("http://a\x00b", "k"), ("localhost:80", "k"), (None, "schlüssel")],
)
def test_what_cannot_be_sent(run, server, monkeypatch, url, key):
    """A URL that cannot be read, or a key that no header can carry, is wrong, and not repeated."""
    monkeypatch.setenv("TRUSTSCALE_KEY", key)
    outcome = run("calibrations", "list", "--server", url or server.url)
    outcome.check_error(2, "--server" if url else "TRUSTSCALE_KEY")
    assert "schlüssel" not in outcome.err


@pytest.mark.slow
def test_interrupted(server, place):
    """Ctrl-C leaves the job running and says how to find it."""
    server.upscaler.seconds = 3600
    server.asked.clear()
    truths(place / "photos", 8)
    # Programs that are started in the background ignore Ctrl-C, and so do their own.
    code = (
        "import signal\n"
        "from app.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "calibrate", "photos", "--server", server.url]
    with subprocess.Popen(
        [*command, "--samples", "4"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert "is queued" in process.stderr.readline()
        while not any(path.startswith("/v1/jobs/") for path in server.asked):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "The job goes on" in told
    job = next(word for word in told.split() if word.startswith("job-"))
    client = server.client
    block_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "running")
    client.delete(f"/v1/jobs/{job}")
    assert '"cancelled"' in client.get(f"/v1/jobs/{job}/events").text
