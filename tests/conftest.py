"""Fixtures that many test packages share: stores and real servers; and the order of the tests."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import structlog
from hypothesis import settings

from harness.servers import RedisServer, S3Server
from tests.missing import needed
from trustscale_server.stores.opened import open_stores

# Programs that tests start find this checkout's code, whichever one is installed.
_ROOT = Path(__file__).parents[1]
_SOURCES = ("app", "workers", "evaluation", "client", ".")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [*(str(_ROOT / name) for name in _SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# A reading takes half a second, and what is taken for a face in small drawn pictures depends on the
# processor: `tests/api/test_left_out.py` has tests of their own.
os.environ |= {"TRUSTSCALE_FACES": "keep", "TRUSTSCALE_LETTERS": "keep"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Deal the tests to the processes: quick ones first, then modules with many slow ones.

    xdist gives each process a share of the list (a third, of three), and what it has not begun to
    whoever ends first.
    """
    hands = [[] for _ in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))]
    for marked in (False, True):
        modules = {}
        for item in items:
            if _is_slow(item) == marked:
                modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
        for module in sorted(modules.values(), key=len, reverse=True):
            min(hands, key=len).extend(module)
    share, rest = len(items) // len(hands), []
    for hand in hands:
        rest += hand[share:]
        del hand[share:]
    for hand in hands:
        missing = share - len(hand)
        hand.extend(rest[:missing])
        del rest[:missing]
    items[:] = [item for hand in hands for item in hand] + rest


def _is_slow(item):
    return any(item.get_closest_marker(name) for name in ("slow", "servers"))


@pytest.fixture(scope="session")
def redis_server():
    """One Redis for the session; tests that kill or freeze a server start their own."""
    with needed(), RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server():
    with needed(), S3Server() as server:
        yield server


@pytest.fixture
def s3_url(s3_server, monkeypatch):
    """The URL of an empty place there, which the environment gives access to."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{uuid4().hex}"


@pytest.fixture
async def stores(tmp_path):
    """Empty stores in a folder."""
    opened = open_stores("sqlite:///", tmp_path, result_ttl_s=600, max_result_bytes=10**9)
    yield opened
    await opened.close()


@pytest.fixture
def redis_url(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


# Machines that run tests are noisy: a slow example is no failure.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("default")

# Drawing tracebacks takes seconds.
structlog.configure(
    processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
)
