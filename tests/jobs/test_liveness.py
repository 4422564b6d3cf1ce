"""Redis vanishes without a reset; the event loop stands still."""

import errno
import os
import signal
import sys
import time

import pytest
from redis.asyncio import Redis

from harness.servers import ProcessGroup, ran
from harness.waiting import PATIENCE_S
from trustscale_server.jobs.liveness import report_lost_connections

PARTITIONED = """
import asyncio, errno, gc, os, sys
from pathlib import Path
from redis.asyncio.client import PubSub
from tests.jobs.conftest import Place
from harness.waiting import until

def subscribers():
    found = [one for one in gc.get_objects() if type(one) is PubSub and one.connection]
    return {one.connection._writer.transport for one in found if one.connection.is_connected}

async def run():
    place = Place(sys.argv[1], sys.argv[1], Path(sys.argv[2]))
    async with place.working(place.stores()):
        await until(lambda: len(subscribers()) == 3)
        lost = subscribers()
        for transport in lost:  # as the kernel tells it, after minutes without an answer
            transport._fatal_error(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        await until(lambda: len(subscribers() - lost) == 3)
        print("has subscribed again", flush=True)

asyncio.run(run())
"""


@pytest.mark.servers
def test_given_up_by_the_kernel(redis_url, tmp_path):
    """A worker whose connections to Redis end by ETIMEDOUT subscribes anew, and its loop runs."""
    ended = ran(sys.executable, "-c", PARTITIONED, redis_url, tmp_path, timeout=PATIENCE_S)
    assert "has subscribed again" in ended.stdout, ended.stderr[-2000:]


@pytest.mark.servers
async def test_the_next_command_has_a_new_connection(redis_url, monkeypatch):
    """What was written to a lost one would be an unexpected error in some releases of Python."""
    report_lost_connections()
    async with Redis.from_url(redis_url) as client:
        await client.ping()
        (connection,) = client.connection_pool._available_connections
        lost = connection._writer.transport
        lost._fatal_error(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

        def write(transport, lines):
            assert transport is not lost
            transport.write(b"".join(lines))

        monkeypatch.setattr(type(lost), "writelines", write)
        assert await client.ping()


FROZEN = """
import asyncio
from trustscale_server.jobs.liveness import ended_when_frozen

async def run():
    async with ended_when_frozen(1.0):
        print("begins", flush=True)
        {work}
        print("has ended", flush=True)

asyncio.run(run())
"""


def test_frozen_process_ends():
    """A coroutine that never yields ends its process within the limit, and is named."""
    script = FROZEN.format(work="while True: pass")
    ended = ran(sys.executable, "-c", script, timeout=PATIENCE_S)
    assert ended.returncode == os.EX_SOFTWARE
    assert "in run" in ended.stderr
    assert "has ended" not in ended.stdout


LOADING = """
import asyncio, time
from trustscale_server.jobs.queue import run_until_signalled

class Queue:
    lease_s = 0.5

    async def open(self):
        time.sleep(2.0)

    async def run(self, handlers, **options):
        print("has begun", flush=True)

asyncio.run(run_until_signalled(Queue(), {}))
"""


def test_loading_process_lives():
    """On a slow disk its libraries take longer than the limit; it has no lease to lose yet."""
    ended = ran(sys.executable, "-c", LOADING, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout) == (0, "has begun\n"), ended.stderr[-2000:]


def test_suspended_process_lives(tmp_path):
    """One that was stopped for longer than the limit goes on; so does one that only waits."""
    log = tmp_path / "log"
    script = FROZEN.format(work="await asyncio.sleep(3.0)")
    with ProcessGroup([sys.executable, "-c", script], log=log) as process:
        process.wait_until(lambda: "begins" in log.read_text(), "It")
        process.send(signal.SIGSTOP)
        time.sleep(2.0)
        process.send(signal.SIGCONT)
        assert process.process.wait(PATIENCE_S) == 0
    assert "has ended" in log.read_text()
