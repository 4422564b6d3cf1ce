"""Where `trustscale serve` listens: the port of the environment, and both versions of IP."""

import json
import socket
import sys

import httpx
import pytest

from harness.servers import ProcessGroup, free_port
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS


@pytest.fixture
def listening(tmp_path):
    """Starts a service; returns its log lines by event once it is ready."""
    groups = []

    def start(*words, **environ):
        log = tmp_path / "log"
        environ["TRUSTSCALE_DATA_DIR"] = str(tmp_path / "data")
        command = [sys.executable, "-m", "trustscale_server", "serve", *words]
        groups.append(group := ProcessGroup(command, log=log, env=environ))
        group.wait_until(lambda: '"serving"' in log.read_text(), "trustscale serve")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return {line.get("phase", line["event"]): line for line in lines}

    yield start
    for group in groups:
        group.kill()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_both_versions_and_the_port_of_the_environment(listening):
    """`--host ::` with PORT answers on both; IPv4 clients keep their address; phases are told."""
    port = free_port()
    found = listening("--host", "::", PORT=str(port))
    for host in ("127.0.0.1", "[::1]"):
        ready = httpx.get(f"http://{host}:{port}/readyz", trust_env=False)
        assert ready.status_code == 200
    assert found["serving"]["address"] == f"http://0.0.0.0:{port}/"
    assert found["serving"]["ready_s"] > 0
    assert found["admin_key"]["path"]
    assert found["gateway_started"]["upscalers"] == [*SHIPPED_MODELS]
    assert set(ready.json()["startup"]) == {
        "opening stores",
        "loading models",
        "reading calibrations",
    } & set(found)
