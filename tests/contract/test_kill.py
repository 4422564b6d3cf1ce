"""Processes that are killed, answers that are lost, stores that do not answer, full disks."""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import pytest
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from harness.documents import head, job
from harness.servers import RedisServer
from harness.waiting import PATIENCE_S
from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.claims import ClaimStore
from trustscale_server.stores.documents import Key, Put, StoreUnavailable
from trustscale_server.stores.job_status import JobState
from trustscale_server.stores.opened import Stores
from trustscale_server.stores.redis import redis_client
from trustscale_server.stores.redis_documents import RedisDocuments
from trustscale_server.stores.redis_errors import redis_errors
from trustscale_server.stores.spool import IN_MEMORY, spooled
from trustscale_server.stores.sqlite import SqliteDocuments

LIVES = 4
KINDS = {"calibration", "active", "result", "job", "finished"}

Promises = dict[str, list[str]]


def live_and_die(url, data_dir, life):
    """Run the writer for a random moment, its first life until it has promised everything once."""
    command = [sys.executable, "-m", "tests.contract.crash_writer", url, str(data_dir), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        lines = [writer.stdout.readline()]
        while life == 0 and {line.split()[0] for line in lines} < KINDS:
            lines.append(writer.stdout.readline())
        time.sleep(random.Random(life).uniform(0.01, 0.3))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines(keepends=True)
    promises = [line.split() for line in lines if line.endswith("\n")]
    return [(kind, name) for kind, name in promises]


async def check_calibrations(stores, promised):
    heads = {found.id for found in await stores.calibrations.heads()}
    assert heads >= set(promised["calibration"])
    for name in heads:
        assert await stores.calibrations.get(name) == name.encode() * 5000
    if promised["active"]:
        # The last promised one, or the one that was on its way when the process died.
        under_way = heads - set(promised["active"])
        active = (await stores.calibrations.active())["span"].calibration
        assert active in {promised["active"][-1], *under_way}


async def check_results(stores, promised, life):
    for name in promised["result"]:
        assert await stores.results.document(name) == name.encode()
    mine = [name for name in promised["result"] if name.startswith(f"{life}-")]
    under_way = f"{life}-{len(mine)}"
    for name in (*mine, under_way):
        try:
            assert await stores.results.document(name) == name.encode()
        except NotFound:
            assert name == under_way
            continue
        for k in range(3):
            assert await stores.results.blob(name, f"{k}.png") == name.encode() * 20000


async def check_jobs(stores, promised):
    for name in promised["job"]:
        assert (await stores.jobs.load(name)).request == job().request
    for name in promised["finished"]:
        done = await stores.jobs.get(name)
        assert (done.state, done.result) == (JobState.SUCCEEDED, name)


@pytest.mark.slow
async def test_nothing_half_and_nothing_lost(store_url, tmp_path, opener):
    """After each kill every promise holds, and what was not promised is whole or absent."""
    promised: Promises = defaultdict(list)
    for life in range(LIVES):
        for kind, name in live_and_die(store_url, tmp_path / "data", life):
            promised[kind].append(name)
        stores = opener(result_ttl_s=600, max_result_bytes=10**9)
        await check_calibrations(stores, promised)
        await check_results(stores, promised, life)
        await check_jobs(stores, promised)
        await stores.close()
    assert all(promised[kind] for kind in KINDS)


async def test_a_frozen_redis():
    """A server that takes connections and never answers is waited for once, not four times."""
    connections = 0

    async def freeze(reader, writer):
        nonlocal connections
        connections += 1
        with suppress(ConnectionError):
            while await reader.read(1024):
                pass
        writer.close()

    async with await asyncio.start_server(freeze, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = redis_client(f"redis://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailable, match="in time"):
            async with redis_errors(0.2):
                await RedisDocuments(client).names("x")
        assert connections <= 1  # 0 if this process stalled while it connected
        await client.aclose()


async def test_a_cancellation_is_never_swallowed(stores):
    """Wherever it comes while the store is written; its task would run on, and be waited for."""
    documents = stores.claims._documents
    for turns in range(200):
        writing = asyncio.create_task(
            documents.change([Key("x", "y")], lambda _: (None, {Key("x", "y"): Put(b"z")}))
        )
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        if not writing.done():
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing


async def test_a_lock_that_stays(tmp_path):
    """Writes behind a foreign lock fail together, none is done later; then writing works again."""
    database = SqliteDocuments(tmp_path / "x.sqlite3", patience_s=0.3)
    claims = ClaimStore(database)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = await asyncio.gather(
            *(claims.claim(f"{k}", b"mine", seconds=60) for k in range(200)), return_exceptions=True
        )
        # One after the other they would take a minute.
        assert loop.time() - began < 30
        assert {type(error) for error in ended} == {StoreUnavailable}
        assert await claims.get("0") is None  # reading goes on
        other.execute("ROLLBACK")
    assert await claims.claim("after", b"mine", seconds=60) == b"mine"
    assert [await claims.get(name) for name in ("0", "199", "after")] == [None, None, b"mine"]
    await database.close()


@contextmanager
def full_disk():
    """No file of this process can grow or be overwritten."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def half_written(folder):
    found = [*folder.rglob(".tmp-*"), *folder.rglob("*#*")]
    return [path for path in found if path.is_file()]


def _grown(file):
    file.write(bytes(2 * IN_MEMORY))


WRITES: dict[str, Callable[[Stores], Awaitable[object]]] = {
    "calibration": lambda s: s.calibrations.put(head("a"), bytes(50_000)),
    "job": lambda s: s.jobs.create(job("new")),
    "start": lambda s: s.jobs.start("job", "", "ann"),
    "result": lambda s: s.results.put("r", b"{}", {"image.png": bytes(50_000)}),
    "upload": lambda s: s.blobs.put("job", "x/1.png", bytes(50_000)),
    "label": lambda s: s.blobs.create("job", "x/1.png", bytes(50_000)),
    "check": lambda s: s.probe(),
    "answer": lambda _: asyncio.to_thread(spooled, _grown),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_full_disk(tmp_path, opened, write):
    stores = opened()
    await stores.jobs.create(job())
    with full_disk(), pytest.raises(StoreUnavailable):
        await write(stores)
    assert await stores.calibrations.heads() == []
    assert [await stores.jobs.load(j.id) for j in await stores.jobs.unfinished()] == [job()]
    with pytest.raises(NotFound):
        await stores.results.document("r")
    assert await stores.blobs.names("job") == []
    assert half_written(tmp_path) == []
    await write(stores)
    await stores.probe()


@pytest.mark.servers
async def test_a_rewrite_that_fails(opened):
    with RedisServer() as server:
        stores = opened(server.url)
        async with aioredis.Redis.from_url(server.url) as client:
            assert await stores.weakness() is None
            files, away = server.folder / "appendonlydir", server.folder / "away"
            files.rename(away)
            files.touch()
            with suppress(RedisError):
                await client.bgrewriteaof()
            await _settled(stores, persists=False)
            files.unlink()
            away.rename(files)
            await client.bgrewriteaof()
            await _settled(stores, persists=True)


async def _settled(stores, *, persists):
    async with asyncio.timeout(PATIENCE_S):
        while (await stores.weakness() is None) is not persists:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


async def test_what_the_killed_leave(tmp_path, opened):
    """What was half written goes after an hour: at a start, or when all blobs are listed."""

    def leave(folder, prefix):
        for name, age_s in ((f"{prefix}1", 4000), (f"{prefix}2", 0)):
            left = tmp_path / folder / name
            left.parent.mkdir(exist_ok=True)
            left.touch()
            os.utime(left, (time.time() - age_s,) * 2)

    leave(".", ".tmp-")
    stores = opened()
    assert {path.name for path in half_written(tmp_path)} == {".tmp-2"}
    await stores.blobs.put("job", "image#1", b"1")
    leave("blobs/job", "image#")
    assert await stores.blobs.untouched(timedelta(minutes=-1)) == ["job"]
    assert {path.name for path in (tmp_path / "blobs/job").iterdir()} == {"image%231", "image#2"}
    assert await stores.blobs.names("job") == ["image#1"]


async def test_what_others_leave_among_the_blobs(tmp_path, opened):
    strangers = [tmp_path / "blobs" / name for name in (".DS_Store", "lost+found/inner")]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
    stores = opened(max_result_bytes=2500)
    for name in "abc":
        await stores.results.put(name, b"{}", {"image.png": bytes(1000)})
    assert [await stores.results.has(name) for name in "abc"] == [False, True, True]
    assert "job-x" not in await stores.blobs.untouched(timedelta(minutes=-1))
    assert all(path.exists() for path in strangers)


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
    "claim": (lambda s: s.claims.claim("a", b"mine", seconds=60), b"mine"),
    "create": (_queued, ["job", "other"]),
    "start": (_acting, {"ann"}),
    "record": (lambda s: s.jobs.record("job", "pair", b"1"), True),
    "finish": (lambda s: s.jobs.finish("job", JobState.SUCCEEDED, result="r"), True),
    "cancel": (lambda s: _field(s.jobs.request_cancel("job"), "state"), JobState.CANCELLED),
}


async def _field(call, name):
    return getattr(await call, name)


@pytest.mark.servers
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
