"""Jobs on Redis. How Redis is used at all is told in `app/stores/redis.py`.

Keys, all under `trustscale:`::

    job:<id>                hash     the status of a job, field by field, and a `revision`, which
                                     counts its changes, also of attempts and records
    job:<id>:request        string   its request (JSON)
    job:<id>:attempts       set      "<owner> <1 if alone> <task>" of everyone who is at a task
    job:<id>:records        hash     task -> what is recorded
    jobs:open               zset     jobs that are not final by creation
    jobs:open:<kind>        set      the same of a kind
    jobs:ended              zset     final jobs by their end

A change is decided on what was read, and stored by a script if the revision is still the one that
was read; else it is decided anew. So it is also safe to repeat a call whose answer the network
lost, even where the server runs it twice, and the first time long after it was sent.

Every change also publishes on the channel named like the job's hash; a lost message is made good
by reading again every second.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeAlias

from app.stores.job import Fields, Job, JobKind, JobStatus, no_job, status_of, stored
from app.stores.jobs import Answer, Attempt, Decide, Draft, JobStore
from app.stores.redis_client import PREFIX, Client, job_key, redis_errors

OPEN: Final = f"{PREFIX}jobs:open"
ENDED: Final = f"{PREFIX}jobs:ended"

WATCH_INTERVAL_S: Final = 1.0

_NAMES: Final = (*JobStatus.model_fields, "revision")

Command: TypeAlias = tuple[str | bytes | float, ...]


class RedisJobs(JobStore):
    """`JobStore` on Redis."""

    # Does commands if a job is as it was read. KEYS: job. ARGV: revision, and for each command the
    # number of its parts and these.
    _APPLY: Final = """
    if (redis.call('HGET', KEYS[1], 'revision') or '') ~= ARGV[1] then return 0 end
    redis.call('HINCRBY', KEYS[1], 'revision', 1)
    local at = 2
    while at <= #ARGV do
        redis.call(unpack(ARGV, at + 1, at + ARGV[at]))
        at = at + ARGV[at] + 1
    end
    return 1
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._apply = client.register_script(self._APPLY)

    async def count_pending(self, kind: JobKind) -> int:
        async with redis_errors():
            return int(await self._client.scard(f"{OPEN}:{kind}"))

    async def recorded(self, job: str) -> set[str]:
        async with redis_errors():
            return {task.decode() for task in await self._client.hkeys(_records(job))}

    async def expire(self, before: datetime) -> Sequence[str]:
        removed = []
        async with redis_errors():
            ended = await self._client.zrangebyscore(ENDED, "-inf", f"({before.timestamp()}")
        for job in (found.decode() for found in ended):
            keys = (job_key(job), _request(job), _attempts(job), _records(job))
            async with redis_errors(), self._client.pipeline(transaction=True) as pipe:
                pipe.unlink(*keys)
                pipe.zrem(ENDED, job)
                *_, is_ours = await pipe.execute()
            if is_ours:
                removed.append(job)
        return removed

    async def _insert(self, job: Job) -> None:
        async def insert(pipe: Client) -> None:
            if await pipe.exists(job_key(job.id)):
                return
            pipe.multi()
            pipe.hset(job_key(job.id), mapping={**_texts(job), "revision": 0})
            pipe.set(_request(job.id), json.dumps(job.request))
            pipe.zadd(OPEN, {job.id: job.created_at.timestamp()})
            pipe.sadd(f"{OPEN}:{job.kind}", job.id)

        async with redis_errors():
            await self._client.transaction(insert, job_key(job.id))

    async def _fields(self, job: str) -> Fields | None:
        async with redis_errors():
            return _named(await self._client.hmget(job_key(job), _NAMES))

    async def _open(self) -> Sequence[Fields]:
        async with redis_errors():
            ids = await self._client.zrange(OPEN, 0, -1)
            async with self._client.pipeline(transaction=False) as pipe:
                for job in ids:
                    pipe.hmget(job_key(job.decode()), _NAMES)
                found = map(_named, await pipe.execute())
        return [fields for fields in found if fields is not None]  # else removed in between

    async def _request(self, job: str) -> bytes | None:
        async with redis_errors():
            request: bytes | None = await self._client.get(_request(job))
        return request

    async def _attempts(self, job: str) -> set[Attempt]:
        async with redis_errors():
            return set(map(_attempt, await self._client.smembers(_attempts(job))))

    async def _values(self, job: str, tasks: Sequence[str]) -> Mapping[str, bytes]:
        async with redis_errors():
            values = await self._client.hmget(_records(job), tasks)
        found = zip(tasks, values, strict=True)
        return {task: bytes(value) for task, value in found if value is not None}

    async def _change(
        self, job: str, decide: Decide[Answer], task: str | None = None, **_: object
    ) -> Answer:
        async with redis_errors():
            while True:
                async with self._client.pipeline(transaction=True) as pipe:
                    pipe.hmget(job_key(job), _NAMES)
                    pipe.smembers(_attempts(job))
                    pipe.hexists(_records(job), task or "")
                    found, members, has_record = await pipe.execute()
                fields = _named(found)
                if fields is None:
                    raise no_job(job)
                before, attempts = status_of(fields), frozenset(map(_attempt, members))
                draft = Draft(before, attempts, bool(task is not None and has_record))
                answer = decide(draft)
                commands = _on_status(draft.status, before)
                commands += _on_attempts(job, draft.attempts, attempts)
                if draft.value is not None:
                    commands.append(("HSETNX", _records(job), task or "", draft.value))
                parts = (part for command in commands for part in (len(command), *command))
                read = fields.get("revision", "")
                if not commands or await self._apply([job_key(job)], [read, *parts]):
                    return answer

    @asynccontextmanager
    async def _news(self, job: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        async with self._client.pubsub() as channel:
            async with redis_errors():
                await channel.subscribe(job_key(job))

            async def wait() -> None:
                async with redis_errors():
                    await channel.get_message(
                        ignore_subscribe_messages=True, timeout=WATCH_INTERVAL_S
                    )

            yield wait


def _request(job: str) -> str:
    return f"{job_key(job)}:request"


def _attempts(job: str) -> str:
    return f"{job_key(job)}:attempts"


def _records(job: str) -> str:
    return f"{job_key(job)}:records"


def _attempt(kept: bytes) -> Attempt:
    owner, alone, task = kept.decode().split(" ", 2)
    return Attempt(owner, task, alone == "1")


def _kept(attempt: Attempt) -> str:
    return f"{attempt.owner} {attempt.alone:d} {attempt.task}"


def _on_status(status: JobStatus, before: JobStatus) -> list[Command]:
    """The commands that store a status; none if it is what it was."""
    if status == before:
        return []
    pairs = (part for field in _texts(status).items() for part in field)
    commands: list[Command] = [
        ("HSET", job_key(status.id), *pairs),
        ("PUBLISH", job_key(status.id), ""),
    ]
    if status.finished_at is not None and before.finished_at is None:
        commands += [
            ("ZREM", OPEN, status.id),
            ("SREM", f"{OPEN}:{status.kind}", status.id),
            ("ZADD", ENDED, status.finished_at.timestamp(), status.id),
        ]
    return commands


def _on_attempts(
    job: str, attempts: frozenset[Attempt], before: frozenset[Attempt]
) -> list[Command]:
    """The commands that store who is at which task."""
    gone, new = before - attempts, attempts - before
    return [
        *([("SREM", _attempts(job), *map(_kept, gone))] if gone else []),
        *([("SADD", _attempts(job), *map(_kept, new))] if new else []),
    ]


def _texts(status: JobStatus) -> dict[str, str | int]:
    """The fields of a status; Redis has no None."""
    return {name: "" if value is None else value for name, value in stored(status).items()}


def _named(found: Sequence[bytes | None]) -> Fields | None:
    """The values of `_NAMES` by their names; None if there are none."""
    fields: dict[str, Any] = {
        name: value.decode() for name, value in zip(_NAMES, found, strict=True) if value
    }
    return fields if "id" in fields else None
