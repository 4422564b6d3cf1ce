"""Documents on Redis.

A change is decided on what was read; a script stores it if the versions still match, else it is
decided anew. The append-only file holds a script's effects as one unit. If an answer is lost, the
client repeats the call and decides on the first run's result.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from math import inf
from typing import Final, TypeVar

from trustscale_server.stores.documents import (
    ABSENT,
    Decide,
    Document,
    Key,
    Space,
    StoreUnavailable,
)
from trustscale_server.stores.redis import KEY_PREFIX, SCHEMA_VERSION, WRITTEN, Client
from trustscale_server.stores.redis_errors import redis_errors

T = TypeVar("T")


class RedisDocuments:
    """`Documents` on Redis."""

    # ARGV: the number of expected versions; folder, name and version of each; folder, name, order
    # and value of each document to store, without an order to remove.
    _CHANGE: Final = """
    local prefix, at = KEYS[1], 2
    if (redis.call('GET', prefix .. 'schema') or 'SCHEMA') ~= 'SCHEMA' then return -1 end
    local function version_of(folder, name)
        local kept = redis.call('HGET', prefix .. 'documents:' .. folder, name)
        return kept and string.match(kept, '^%d+') or '0'
    end
    for _ = 1, ARGV[1] do
        if version_of(ARGV[at], ARGV[at + 1]) ~= ARGV[at + 2] then return 0 end
        at = at + 3
    end
    -- Never used again, or a removed document that came back would pass for the one that was read.
    local version = string.format('%.0f', redis.call('INCR', prefix .. 'changes'))
    while at <= #ARGV do
        local folder, name, order, value = unpack(ARGV, at, at + 3)
        local documents, orders = prefix .. 'documents:' .. folder, prefix .. 'order:' .. folder
        if order == '' then
            redis.call('HDEL', documents, name)
            redis.call('ZREM', orders, name)
        else
            redis.call('HSET', documents, name, version .. ' ' .. value)
            redis.call('ZADD', orders, order, name)
        end
        at = at + 4
    end
    return 1
    """.replace("SCHEMA", str(SCHEMA_VERSION))

    def __init__(self, client: Client) -> None:
        self._client = client
        self._change = client.register_script(self._CHANGE)
        # Redis' clock minus the monotonic one of this machine, and when they were compared.
        self._ahead_s, self._compared = 0.0, -inf

    async def read(self, *keys: Key) -> list[Document]:
        async with redis_errors():
            return await self._read(keys)

    async def names(
        self, folder: str, *, most: float = inf, limit: int | None = None, newest: bool = False
    ) -> list[str]:
        page = {} if limit is None else {"start": 0, "num": limit}
        async with redis_errors():
            if newest:
                names = await self._client.zrevrangebyscore(_order(folder), most, -inf, **page)
            else:
                names = await self._client.zrangebyscore(_order(folder), -inf, most, **page)
        return [name.decode() for name in names]

    async def change(
        self,
        keys: Sequence[Key],
        decide: Decide[T],
        *,
        durable: bool = True,  # noqa: ARG002 - the server alone decides
    ) -> T:
        pause_s = 0.001
        async with redis_errors():
            while True:
                documents = await self._read(keys)
                answer, changes = decide(documents)
                if not changes:
                    return answer
                args: list[str | bytes | float] = [len(keys)]
                for key, document in zip(keys, documents, strict=True):
                    args += (*key, document.version)
                for key, put in changes.items():
                    args += (*key, "", "") if put is None else (*key, put.order, put.value)
                done = await self._change(keys=[KEY_PREFIX], args=args)
                if done == 1:
                    return answer
                if done < 0:
                    raise StoreUnavailable("The data in Redis are those of another release now.")
                # Another process changed a document, so this one decides anew, after a pause.
                await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter
                pause_s = min(2 * pause_s, 0.5)

    async def drop(self, *folders: str) -> None:
        async with redis_errors():
            await self._client.unlink(*map(_documents, folders), *map(_order, folders))

    async def time(self) -> float:
        now = time.monotonic()
        if now - self._compared > 30:  # clocks of machines drift by milliseconds in that time
            async with redis_errors():
                seconds, micros = await self._client.time()
            self._ahead_s, self._compared = seconds + micros / 1e6 - now, now
        return time.monotonic() + self._ahead_s

    async def probe(self) -> None:
        async with redis_errors():
            await self._client.set(WRITTEN, b"")
        used, limit = await self.space()
        # Redis itself would refuse large documents while small ones still fit. A reserve of 5 %
        # refuses new work, while what runs can still be stored.
        if limit != inf and limit - used < max(4 * 2**20, 0.05 * limit):
            raise StoreUnavailable("Redis cannot be used now: its memory is full.")

    async def space(self) -> Space:
        async with redis_errors():
            memory = await self._client.info("memory")
        return Space(int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0)) or inf)

    async def _read(self, keys: Sequence[Key]) -> list[Document]:
        async with self._client.pipeline(transaction=len(keys) > 1) as pipe:
            for folder, name in keys:
                pipe.hget(_documents(folder), name)
            return [_document(content) for content in await pipe.execute()]


def _document(content: bytes | None) -> Document:
    if content is None:
        return ABSENT
    version, _, value = content.partition(b" ")
    return Document(int(version), value)


def _documents(folder: str) -> str:
    return f"{KEY_PREFIX}documents:{folder}"


def _order(folder: str) -> str:
    return f"{KEY_PREFIX}order:{folder}"
