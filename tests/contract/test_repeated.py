"""Calls to Redis whose answer the network loses, and which the client makes again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from app.errors import NotFound
from app.stores.base import JobState, Stores
from tests.contract.conftest import head, job

pytestmark = pytest.mark.servers


class Losing:
    """The way to a Redis; it loses the answer to the next change, and the connection with it."""

    def __init__(self, port):
        self._redis = port
        self.is_armed = False
        self.lost = 0
        self.connections: list[asyncio.Task[None]] = []

    def connect(self, reader, writer):
        self.connections.append(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader, writer):
        answers, requests = await asyncio.open_connection("127.0.0.1", self._redis)
        is_lost = False

        async def ask():
            nonlocal is_lost
            while data := await reader.read(65536):
                if self.is_armed and b"EVALSHA" in data:
                    self.is_armed, is_lost = False, True
                requests.write(data)

        async def answer():
            nonlocal is_lost
            while data := await answers.read(65536):
                if is_lost and data.startswith(b"-NOSCRIPT"):  # it has not, and is sent the script
                    self.is_armed, is_lost = True, False
                if is_lost:  # Redis has done it
                    self.lost += 1
                    writer.transport.abort()
                    return
                writer.write(data)

        ways = {asyncio.create_task(ask()), asyncio.create_task(answer())}
        _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (requests, writer):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()


@pytest.fixture
async def losing(redis_url, redis_server):
    """The way, and the URL of Redis at its beginning."""
    way = Losing(redis_server.port)
    async with await asyncio.start_server(way.connect, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield way, redis_url.replace(f":{redis_server.port}", f":{port}")
        await asyncio.gather(*way.connections)


async def _deleted(stores):
    await stores.calibrations.delete("a")
    with pytest.raises(NotFound):  # another call is told that there is none
        await stores.calibrations.delete("a")
    return [found.id for found in await stores.calibrations.heads()]


async def _put(stores):
    await stores.calibrations.put(head("b"), b"blob")
    return await stores.calibrations.get("b")


async def _noted(stores):
    await stores.audit.append("calibration.delete", "key 1", {})
    return len(await stores.audit.entries(limit=9))


async def _acting(stores):
    await stores.jobs.start("job", "pair", "ann")
    return {one.owner for one in await stores.jobs.attempts("job", "pair")}


async def _queued(stores):
    await stores.jobs.create(job("other"))
    return [found.id for found in await stores.jobs.unfinished()]


CALLS: dict[str, tuple[Callable[[Stores], Awaitable[object]], object]] = {
    "put": (_put, b"blob"),
    "activate": (lambda s: _field(s.calibrations.activate("a"), "previous"), None),
    "delete": (_deleted, []),
    "audit": (_noted, 1),
    "claim": (lambda s: s.claims.claim("a", b"mine", seconds=60), b"mine"),
    "create": (_queued, ["job", "other"]),
    "start": (_acting, {"ann"}),
    "record": (lambda s: s.jobs.record("job", "pair", b"1"), True),
    "finish": (lambda s: s.jobs.finish("job", JobState.SUCCEEDED, result="r"), True),
    "cancel": (lambda s: _field(s.jobs.request_cancel("job"), "state"), JobState.CANCELLED),
}


async def _field(call, name):
    return getattr(await call, name)


@pytest.mark.parametrize(("call", "outcome"), CALLS.values(), ids=CALLS)
async def test_lost_answers(losing, opened, call, outcome):
    """A call that was done, and is made again, has the outcome that it would have had once."""
    way, url = losing
    stores = opened(url)
    await stores.calibrations.put(head("a"), b"")
    await stores.jobs.create(job())
    way.is_armed = True
    assert await call(stores) == outcome
    assert way.lost == 1
