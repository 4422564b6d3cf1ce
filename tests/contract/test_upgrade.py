"""What an earlier release has stored: it is read, and taken over where its layout changed."""

import asyncio
import base64
import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
import redis
from starlette.testclient import TestClient

from harness.gateway import AS_ADMIN, form, gateway, post
from tests.contract.stored import FOR_EVER, ONCE
from trustscale_server.platform.errors import ConfigError
from trustscale_server.stores import redis as redis_store
from trustscale_server.stores import sqlite
from trustscale_server.stores.documents import StoreUnavailable

ARCHIVES = sorted((Path(__file__).parents[1] / "data" / "stored").glob("*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def told(request, tmp_path):
    """What clients of that release had been told; its files are in `tmp_path`."""
    with tarfile.open(request.param) as tar:
        tar.extractall(tmp_path, filter="data")
    return json.loads((tmp_path / "told.json").read_text())


@pytest.fixture
def filled(redis_url, tmp_path):
    """A Redis with the keys of that release."""
    with redis.Redis.from_url(redis_url) as client:
        for command in json.loads((tmp_path / "redis.json").read_text()):
            client.execute_command(*map(base64.b64decode, command))
    return redis_url


def read_again(told, folder, **settings):
    """A gateway of this release answers as the one before did, and works on."""
    app = gateway(folder, **FOR_EVER, **settings)
    with TestClient(app) as client:
        answer = told["answer"]
        found = client.get(answer["links"]["self"], params={"detail": "full"}).json()
        assert found == answer
        image = client.get(answer["links"]["image"]).content
        assert hashlib.sha256(image).hexdigest() == told["image"]
        # The request of that release, to the letter: later ones may ask for more of the document.
        again = client.post("/v1/upscale", **form(), headers=ONCE)
        assert again.json()["id"] == answer["id"]
        job = client.get(f"/v1/jobs/{told['job']['id']}").json()
        assert job["state"] == "succeeded"
        assert client.get(job["result"]).status_code == 200
        listed = client.get("/v1/admin/calibrations", headers=AS_ADMIN).json()
        assert told["calibration"] in [one["id"] for one in listed]
        exported = client.get(
            f"/v1/admin/calibrations/{told['calibration']}/export", headers=AS_ADMIN
        )
        assert hashlib.sha256(exported.content).hexdigest() == told["exported"]
        truth = {"image": ("t.png", image)}
        assert client.post(f"{answer['links']['self']}/truth", files=truth).status_code == 200
        plain = post(client, mask="none").json()
        assert client.get(plain["links"]["image"]).status_code == 200


def test_sqlite(told, tmp_path):
    read_again(told, tmp_path / "data")


@pytest.mark.servers
def test_redis(told, filled, tmp_path):
    read_again(told, tmp_path / "data", store=filled, queue=filled, embedded_job_worker=True)


def test_a_migration(told, tmp_path, monkeypatch, opened):
    """A schema becomes the next one within one transaction, at the start, or stays as it is."""
    path = tmp_path / "data" / "trustscale.sqlite3"

    def stored():
        with closing(sqlite3.connect(path)) as connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(document)")]
            return connection.execute("PRAGMA user_version").fetchone()[0], "note" in columns

    old, _ = stored()
    monkeypatch.setattr(sqlite, "SCHEMA_VERSION", old + 1)
    added = "ALTER TABLE document ADD COLUMN note TEXT"
    for broken in (f"{added}; UPDATE absent SET x = 1", ""):
        monkeypatch.setattr(sqlite, "MIGRATIONS", {old: broken} if broken else {})
        with pytest.raises(ConfigError, match=r"no such table|another release"):
            opened(folder=tmp_path / "data")
        assert stored() == (old, False)
    monkeypatch.setattr(sqlite, "MIGRATIONS", {old: added})
    opened(folder=tmp_path / "data")
    assert stored() == (old + 1, True)
    assert told["job"]["id"]


@pytest.mark.servers
async def test_a_migration_of_redis(told, filled, opened, tmp_path, monkeypatch):
    """The first look of a newer process takes the data over, once; then they change as ever."""
    before = redis_store.SCHEMA_VERSION - 1
    step = "redis.call('INCR', prefix .. 'steps')"
    monkeypatch.setattr(redis_store, "MIGRATIONS", {})
    with redis.Redis.from_url(filled) as client:
        client.set("trustscale:schema", before)
        stores = [opened(filled, tmp_path / "data") for _ in range(3)]
        with pytest.raises(ConfigError, match="another release"):
            await stores[0].probe()
        monkeypatch.setattr(redis_store, "MIGRATIONS", {before: step})
        await asyncio.gather(*(one.probe() for one in stores))
        assert client.get("trustscale:schema") == str(before + 1).encode()
        assert client.get("trustscale:steps") == b"1"
    await stores[1].claims.claim("after", b"mine", seconds=60)
    assert await stores[2].claims.get("after") == b"mine"
    assert (await stores[0].jobs.get(told["job"]["id"])).result


@pytest.mark.servers
async def test_an_older_process_changes_nothing(redis_url, opened):
    """Once a newer release has taken the data over, what still runs cannot write the old layout."""
    stores = opened(redis_url)
    await stores.probe()
    await stores.claims.claim("before", b"mine", seconds=60)
    with redis.Redis.from_url(redis_url) as client:
        client.set("trustscale:schema", 99)
    with pytest.raises(StoreUnavailable, match="another release"):
        await stores.claims.claim("after", b"mine", seconds=60)
    assert await stores.claims.get("before") == b"mine"
    assert await stores.claims.get("after") is None
