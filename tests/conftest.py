"""Fixtures that many test packages share: real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings

from tests.missing import not_here
from tests.servers import RedisServer, ServerMissing


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the session; tests that kill or freeze a server start their own."""
    try:
        server = RedisServer()
    except ServerMissing as missing:
        not_here(missing)
    with server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL, with password, of a Redis that is empty."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


# Machines that run tests are noisy: a slow example is no failure.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
