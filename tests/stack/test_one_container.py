"""The first lines of the README: one container without settings, for whoever starts it."""

import logging
import re
import secrets
import shlex
import time
from contextlib import suppress

import httpx
import pytest

from harness.blocks import ROOT, blocks_of
from harness.factories import encoded, photo
from harness.servers import free_port
from harness.waiting import block_until
from tests.missing import needed
from tests.stack.engine import Engine

pytestmark = pytest.mark.stack
log = logging.getLogger(__name__)

PAGES = (ROOT / "README.md", ROOT / "docs" / "deployment.md")


def runs():
    """Every `docker run` line of the pages, as words."""
    lines = [line for page in PAGES for block in blocks_of(page) for line in block.commands]
    found = [
        shlex.split(line.replace("\\\n", " ")) for line in lines if line.startswith("docker run ")
    ]
    assert len(found) >= len(PAGES)
    return found


@pytest.fixture
def start():
    """Starts a container by such words on another port; its address."""
    with needed():
        engine = Engine()
    names = []

    def started(words, inside=8000, **environ):
        names.append(f"trustscale-one-{secrets.token_hex(4)}")
        port = free_port()
        words = [re.sub(r"^8000:8000$", f"127.0.0.1:{port}:{inside}", word) for word in words]
        words = [re.sub(r"^trustscale:/", f"{names[-1]}:/", word) for word in words]
        given = [word for name, value in environ.items() for word in ("-e", f"{name}={value}")]
        flags = {"-d", "--detach", "--rm"}
        words = [word for word in words[2:] if word not in flags]
        engine.call("run", "--detach", "--name", names[-1], *given, *words)
        address = f"http://127.0.0.1:{port}"

        def is_ready():
            assert engine.inspect(names[-1])["State"]["Running"], engine.call("logs", names[-1])
            with suppress(httpx.TransportError):
                return httpx.get(f"{address}/readyz").status_code == 200

        block_until(is_ready)
        return address

    yield started
    for name in names:
        engine.call("rm", "--force", "--volumes", name)
        with suppress(AssertionError):  # only some lines name a volume
            engine.call("volume", "rm", name)


@pytest.mark.parametrize("words", runs(), ids=lambda words: words[-1] + str(len(words)))
@pytest.mark.parametrize("environ", [{}, {"PORT": "9090"}])
def test_a_mask(start, words, environ):
    """It answers with a promise, also on the port that a cloud names."""
    began = time.monotonic()
    address = start(words, int(environ.get("PORT", 8000)), **environ)
    ready_s = time.monotonic() - began
    files = {"image": encoded(photo(3, 64, 64))}
    answer = httpx.post(f"{address}/v1/upscale", files=files, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["calibration"]
    # Seen with `--log-cli-level=info`, since how long it takes depends on the machine.
    log.info("ready %.1f s, first mask %.1f s after the start", ready_s, time.monotonic() - began)
