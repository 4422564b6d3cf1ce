"""Data as this release stores it, for a later one to read.

`python -m tests.contract.stored FILE.tar.xz`, once per schema: a gateway's data folder with SQLite,
the same documents as keys of Redis, and what clients had been told.
"""

import asyncio
import base64
import hashlib
import json
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from unittest import mock

import redis
from redis.asyncio import Redis
from starlette.testclient import TestClient

from harness.factories import calibration_of, encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import AS_ADMIN, aside, ended, gateway, post
from harness.servers import RedisServer
from trustscale_server.http import idempotency
from trustscale_server.http.routes import upscale
from trustscale_server.stores.documents import Key, Put
from trustscale_server.stores.redis import check_redis
from trustscale_server.stores.redis_documents import RedisDocuments

# Nothing expires before the test reads it.
FOR_EVER = dict.fromkeys(("result_ttl_s", "job_ttl_s"), 1e9)
ONCE = {"Idempotency-Key": "once"}


def served(folder):
    """Use a gateway on a folder; what its clients and admins saw."""
    calibration = aside(calibration_of(FakeUpscaler()))
    app = gateway(folder, calibrations=[calibration], **FOR_EVER)
    with (
        mock.patch.object(idempotency, "KEY_KEPT_S", 1e9),
        mock.patch.object(upscale, "KEY_KEPT_S", 1e9),
        TestClient(app) as client,
    ):
        answer = post(client, headers=ONCE).json()
        job = post(client, headers={"Prefer": "respond-async"}).headers["location"]
        made = ended(client, job)
        activate = f"/v1/admin/calibrations/{calibration.id}/activate"
        client.post(activate, headers=AS_ADMIN, json={"force": True}).raise_for_status()
        truth = encoded(photo(2000, 48, 48))
        told = client.post(f"/v1/results/{answer['id']}/truth", files={"image": ("t.png", truth)})
        image = client.get(answer["links"]["image"]).content
        exported = client.get(
            f"/v1/admin/calibrations/{calibration.id}/export", headers=AS_ADMIN
        ).content
        return {
            "answer": answer,
            "job": made,
            "truth": told.status_code,
            "image": hashlib.sha256(image).hexdigest(),
            "calibration": calibration.id,
            "exported": hashlib.sha256(exported).hexdigest(),
        }


async def copied(url, rows):
    """Store documents in Redis."""
    client = Redis.from_url(url)
    await check_redis(client)
    documents = RedisDocuments(client)
    changes = {Key(folder, name): Put(value, order) for folder, name, order, value in rows}
    await documents.change([], lambda _: (None, changes))
    await client.aclose()


def dumped(url):
    """All keys of a Redis: `[command, key, arguments…]`, in base64."""
    commands = []
    with redis.Redis.from_url(url) as client:
        for key in sorted(client.keys()):
            kind = client.type(key)
            if kind == b"hash":
                parts = [part for pair in client.hgetall(key).items() for part in pair]
                commands.append((b"HSET", key, *parts))
            elif kind == b"zset":
                ranked = client.zrange(key, 0, -1, withscores=True)
                parts = [part for name, order in ranked for part in (str(order).encode(), name)]
                commands.append((b"ZADD", key, *parts))
            else:
                commands.append((b"SET", key, client.get(key)))
    return [[base64.b64encode(part).decode() for part in command] for command in commands]


def main(archive):
    with tempfile.TemporaryDirectory() as name, RedisServer() as server:
        folder = Path(name)
        told = served(folder / "data")
        path = folder / "data" / "trustscale.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            rows = connection.execute("SELECT folder, name, sort, value FROM document").fetchall()
            connection.execute("VACUUM")
        for left in ("gateway.lock", "throughput.json"):
            (folder / "data" / left).unlink(missing_ok=True)
        asyncio.run(copied(server.url, rows))
        (folder / "redis.json").write_text(json.dumps(dumped(server.url)))
        (folder / "told.json").write_text(json.dumps(told))
        with tarfile.open(archive, "w:xz") as tar:
            for part in ("data", "redis.json", "told.json"):
                tar.add(folder / part, part)
        shutil.rmtree(folder / "data")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
