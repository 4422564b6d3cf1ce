"""Every test of this package runs on every implementation of the stores."""

import asyncio
from functools import partial

import pytest

from trustscale_server.stores.opened import Stores, open_stores

IMPLEMENTATIONS = ["sqlite", pytest.param("redis", marks=pytest.mark.servers)]


@pytest.fixture(params=IMPLEMENTATIONS)
def store_url(request, tmp_path):
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/store.sqlite3"


@pytest.fixture
async def opened(tmp_path):
    """Opens stores, by default SQLite in `tmp_path`; closes them all."""
    found: list[Stores] = []

    def open_one(url="sqlite:///", folder=tmp_path, **settings):
        limits = {"result_ttl_s": 60.0, "max_result_bytes": 10_000_000, **settings}
        found.append(open_stores(url, folder, **limits))
        return found[-1]

    yield open_one
    for stores in found:
        await stores.close()


@pytest.fixture
def opener(opened, store_url, tmp_path):
    """Opens the same stores again and again, as several processes do."""
    return partial(opened, store_url, tmp_path / "data")


@pytest.fixture
def stores(opener):
    return opener()


@pytest.fixture
async def doors(opener):
    """The stores as three processes see them, each with ten connections, so that calls race.

    While connections are made, Redis gets one call after the other.
    """
    found = [opener() for _ in range(3)]
    await asyncio.gather(*(stores.jobs.unfinished() for stores in found for _ in range(10)))
    return found
