"""What `open_stores` refuses, in one line and without secrets."""

import os
import socket
import sqlite3
from contextlib import closing, suppress

import pytest
from redis.asyncio import Redis

from harness.documents import head, job
from harness.servers import RedisServer
from trustscale_server.platform.errors import ConfigError, NotFound
from trustscale_server.stores.documents import Document, Key, StoreUnavailable
from trustscale_server.stores.sqlite import SCHEMA_VERSION


class TestUrl:
    @pytest.mark.parametrize(
        "url",
        [
            *("", "sqlite", "postgres://u:secret@h/db", "sqlite://file.db", "sqlite:///a?b=secret"),
            *("redis://:secret@host:port/0", "redis://:secret/x@host/0", "redis://h/0?secret=1"),
            "redis://host:99999999/secret",
        ],
    )
    def test_wrong(self, opened, url):
        self.refusal(opened, url=url)

    @pytest.mark.parametrize(
        "url",
        [
            *("blobs", "./blobs", "/blobs", "file://shared/blobs", "file:blobs", "file://"),
            *("file:///a?b=secret", "http://host/blobs", "https://host/blobs", "file://[/x"),
            *("nothing://user:secret@host/x", "s3://", "s3://id:secret@bucket", "memory://x"),
            "s3://bucket?key=secret",
        ],
    )
    def test_wrong_blobs(self, opened, url):
        """So is what would silently be another folder, or no place to write to."""
        assert "blobs" in self.refusal(opened, blobs_url=url)

    def refusal(self, opened, **settings):
        with pytest.raises(ConfigError) as caught:
            opened(**settings)
        assert "\n" not in caught.value.detail
        assert "secret" not in caught.value.detail
        return caught.value.detail


@pytest.mark.parametrize("url", ["sqlite:///", "redis://127.0.0.1:1"])
async def test_the_folder_is_private(tmp_path, opened, url):
    """What a start makes is for its owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        stores = opened(url, tmp_path / "data")
        with suppress(StoreUnavailable):
            await stores.probe()
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "data").glob("*.sqlite3*"):
        assert file.stat().st_mode & 0o777 == 0o600, file


class TestDatabase:
    @pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
    def test_another_schema(self, tmp_path, opened, version):
        path = tmp_path / "trustscale.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={version}")
            connection.execute("CREATE TABLE other (x)")
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=rf"another release \(schema {version}, "):
            opened()
        assert path.read_bytes() == before

    def test_another_file(self, tmp_path, opened):
        path = tmp_path / "trustscale.sqlite3"
        path.write_bytes(b"holiday photographs\n" * 1000)
        with pytest.raises(ConfigError, match="not a database"):
            opened()
        assert path.read_bytes().startswith(b"holiday")

    @pytest.mark.parametrize("page", range(1, 12, 2))
    async def test_damaged(self, tmp_path, opened, page):
        """A database with two overwritten pages is refused at the start, with a way out."""
        stores = opened()
        for i in range(20):
            await stores.calibrations.put(head(f"c{i}"), bytes(5000))
        await stores.close()
        path = tmp_path / "trustscale.sqlite3"
        damaged = bytearray(path.read_bytes())
        damaged[page * 4096 : (page + 2) * 4096] = b"\xa5" * 8192
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"damaged|malformed"):
            opened()

    async def test_one_snapshot(self, tmp_path, opened, monkeypatch):
        """A read of more keys than fit into a query sees no change that comes in between."""
        stores = opened()
        names = [str(k) for k in range(2500)]
        await stores.jobs.create(job())
        for name in names[:1] + names[-1:]:
            await stores.jobs.record("job", name, b"old")
        begun = []

        def change_meanwhile(*values):
            if not begun:
                begun.append(True)
                path = tmp_path / "trustscale.sqlite3"
                with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                    connection.execute("UPDATE document SET value = X'6E6577'")
            return Document(*values)

        monkeypatch.setattr("trustscale_server.stores.sqlite.Document", change_meanwhile)
        found = await stores.jobs._documents.read(*(Key("job-records:job", name) for name in names))
        assert begun
        assert {one.value for one in found if one.version} == {b"old"}


@pytest.fixture
async def redis_client(redis_url):
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.servers
class TestRedis:
    @pytest.mark.parametrize("reason", ["no connection", "password"])
    async def test_unreachable(self, redis_server, opened, reason):
        with socket.socket() as taken:  # so nothing listens there meanwhile
            taken.bind(("127.0.0.1", 0))
            away = taken.getsockname()[1]
            port = away if reason == "no connection" else redis_server.port
            stores = opened(f"redis://:secret@127.0.0.1:{port}/0")
            with pytest.raises(StoreUnavailable, match=reason) as caught:
                await stores.probe()
        assert "secret" not in caught.value.detail

    async def test_other_blobs(self, redis_url, tmp_path, opened):
        shared = f"file://{tmp_path}/shared"
        for folder in ("a", "b"):
            await opened(redis_url, tmp_path / folder, blobs_url=shared).probe()
        with pytest.raises(ConfigError, match="set TRUSTSCALE_BLOBS to a folder that all share"):
            await opened(redis_url, tmp_path / "c").probe()

    async def test_eviction(self, redis_client, redis_url, opened):
        stores = opened(redis_url)
        await redis_client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(ConfigError, match="noeviction"):
            await stores.probe()
        await redis_client.config_set("maxmemory-policy", "noeviction")
        await stores.probe()

    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [("appendonly", "no", "append-only"), ("maxmemory-policy", "volatile-lru", "evict")],
    )
    async def test_weakness(self, redis_client, redis_url, opened, setting, value, words):
        """What does not persist, or evicts what expires, is used, with a warning."""
        stores = opened(redis_url)
        before = await redis_client.config_get(setting)
        assert await stores.weakness() is None
        await redis_client.config_set(setting, value)
        try:
            await stores.probe()
            assert words in await stores.weakness()
        finally:
            await redis_client.config_set(*before.popitem())

    async def test_full_memory(self, redis_client, redis_url, opened):
        stores = opened(redis_url)
        used = (await redis_client.info("memory"))["used_memory"]
        try:
            for most in (used + 2**20, 1):  # the first takes small documents, and no large ones
                await redis_client.config_set("maxmemory", most)
                for check in (stores.probe, stores.results.probe):
                    with pytest.raises(StoreUnavailable, match="memory is full"):
                        await check()
            with pytest.raises(StoreUnavailable, match="memory is full"):
                await stores.results.put("r", b"{}", {"a": b"1"})
        finally:
            await redis_client.config_set("maxmemory", 0)
        with pytest.raises(NotFound):
            await stores.results.document("r")
        await stores.results.probe()

    async def test_restart_keeps_everything(self, tmp_path, opened):
        with RedisServer(fsync="always") as server:
            stores = opened(server.url, tmp_path)
            await stores.calibrations.put(head("a"), b"blob")
            await stores.calibrations.activate("a")
            server.kill()
            with pytest.raises(StoreUnavailable):
                await stores.calibrations.active()
            server.start()
            assert (await stores.calibrations.active())["span"].calibration == "a"
            assert await stores.calibrations.get("a") == b"blob"
