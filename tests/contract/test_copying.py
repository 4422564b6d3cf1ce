"""A service moves from SQLite to Redis by one command, also by one that was killed on the way."""

import json
import os
import sys
from unittest import mock

import pytest
from starlette.testclient import TestClient

from harness.gateway import ended, gateway, post
from harness.servers import ran
from tests.contract.test_upgrade import read_again, told
from trustscale_server.platform.errors import ConfigError, Conflict
from trustscale_server.stores import copying
from trustscale_server.stores.blobs import open_blobs
from trustscale_server.stores.copying import copy_stores
from trustscale_server.stores.documents import Key, Put, StoreUnavailable
from trustscale_server.stores.files import held
from trustscale_server.stores.redis import check_redis, redis_client
from trustscale_server.stores.redis_documents import RedisDocuments
from trustscale_server.stores.sqlite import SqliteDocuments

pytestmark = pytest.mark.servers
__all__ = ["told"]  # the data of a gateway with SQLite, and what its clients had been told


@pytest.fixture
async def ends(redis_url, tmp_path):
    """A source with 250 documents and 3 files, and an empty target."""
    source, blobs = SqliteDocuments(tmp_path / "a.sqlite3"), open_blobs(None, tmp_path / "a")
    changes = {Key(f"f{k % 3}", str(k)): Put(bytes([k]) * k, k / 7) for k in range(250)}
    await source.change([], lambda _: (None, changes))
    for name in "xyz":
        await blobs.put("folder", name, name.encode())
    client = redis_client(redis_url)
    yield source, blobs, client, open_blobs(None, tmp_path / "b")
    await source.close()
    await client.aclose()


def run(url, data, *words):
    """The command, on a data folder."""
    environment = {**os.environ, "TRUSTSCALE_DATA_DIR": str(data), "TARGET": url}
    command = (sys.executable, "-m", "trustscale_server", "stores", "copy", "${TARGET}", *words)
    return ran(*command, env=environment, cwd=data)


def test_a_service_moves(told, redis_url, tmp_path):
    """A gateway on Redis answers as the one on SQLite did: results, jobs, keys, calibrations."""
    blobs = f"file://{tmp_path}/moved"
    done = run(redis_url, tmp_path / "data", "--blobs", blobs, "--json")
    assert done.returncode == 0, done.stderr
    copied = json.loads(done.stdout)
    assert copied["documents"] == copied["written"] > 0
    assert copied["files"] == copied["sent"] > 0
    elsewhere = {"store": redis_url, "queue": redis_url, "blobs": blobs}
    read_again(told, tmp_path / "new", embedded_job_worker=True, **elsewhere)
    again = run(redis_url, tmp_path / "data", "--blobs", blobs)
    assert again.returncode == 1
    assert "data of its own" in again.stderr


async def test_an_interrupted_copy_goes_on(ends):
    """Meanwhile no service starts on that Redis; the second run writes what is missing."""
    source, _, client, _ = ends
    target = RedisDocuments(client)
    calls = 0

    async def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreUnavailable("away")
        return await whole(*arguments)

    whole = copying._write
    with mock.patch.object(copying, "_write", failing), pytest.raises(StoreUnavailable):
        await copy_stores(*ends)
    with pytest.raises(ConfigError, match="stores copy"):
        await check_redis(client)
    done = await copy_stores(*ends)
    assert (done.documents, done.written, done.files, done.sent) == (250, 150, 3, 0)
    await check_redis(client)
    for folder in ("f0", "f1", "f2"):
        names = await source.names(folder)
        assert await target.names(folder) == names
        pairs = [Key(folder, name) for name in names]
        old, new = await source.read(*pairs), await target.read(*pairs)
        assert [one.value for one in old] == [one.value for one in new]


async def test_numbers_go_on(ends):
    """A version is never seen twice, however often a document was changed before the move."""
    source, _, client, _ = ends
    key = Key("f0", "counted")
    for k in range(30):
        await source.change([], lambda _, k=k: (None, {key: Put(b"%d" % k)}))
    (old,) = await source.read(key)
    await copy_stores(*ends)
    target = RedisDocuments(client)
    await target.change([], lambda _: (None, {key: Put(b"after")}))
    (new,) = await target.read(key)
    assert (new.value, new.version > old.version) == (b"after", True)


async def test_what_is_written_meanwhile_is_noticed(ends, tmp_path):
    """A service that was not stopped makes the copy fail, and the next one complete."""
    source, _, client, _ = ends
    whole = copying._write

    async def disturbed(*arguments):
        other = SqliteDocuments(tmp_path / "a.sqlite3")
        await other.change([], lambda _: (None, {Key("f0", "late"): Put(b"late")}))
        await other.close()
        return await whole(*arguments)

    with mock.patch.object(copying, "_write", disturbed), pytest.raises(Conflict, match="stop"):
        await copy_stores(*ends)
    assert (await copy_stores(*ends)).documents == len(await source.names("f0")) + 166
    (late,) = await RedisDocuments(client).read(Key("f0", "late"))
    assert late.value == b"late"


async def test_other_data_are_not_touched(ends):
    """A Redis with data of its own is refused before anything is written."""
    *_, client, _ = ends
    await RedisDocuments(client).change([], lambda _: (None, {Key("own", "a"): Put(b"1")}))
    with pytest.raises(Conflict, match="data of its own"):
        await copy_stores(*ends)
    await check_redis(client)


def test_a_service_that_runs(redis_url, tmp_path):
    """Its lock is respected, and a missing database named."""
    assert "There is no database" in run(redis_url, tmp_path).stderr
    (tmp_path / "trustscale.sqlite3").touch()
    with held(tmp_path / "gateway.lock", ""):
        done = run(redis_url, tmp_path)
    assert done.returncode == 2
    assert "stop it first" in done.stderr


def test_a_waiting_job_runs_there(redis_url, tmp_path):
    """What was queued on SQLite, with its upload, is answered by a service on Redis."""
    blobs = f"file://{tmp_path}/moved"
    with TestClient(gateway(tmp_path / "data", embedded_job_worker=False)) as client:
        asked = post(client, headers={"Prefer": "respond-async"}, mask="none")
        job = asked.headers["location"]
    done = run(redis_url, tmp_path / "data", "--blobs", blobs)
    assert done.returncode == 0, done.stderr
    elsewhere = {"store": redis_url, "queue": redis_url, "blobs": blobs}
    app = gateway(tmp_path / "new", embedded_job_worker=True, **elsewhere)
    with TestClient(app) as client:
        assert ended(client, job)["state"] == "succeeded"
