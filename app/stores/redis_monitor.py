"""What the monitor knows, on Redis.

Keys, all under `trustscale:monitor:<calibration>`::

    (nothing more)    hash     version, state
    :points           list     the history, the oldest first
    :labels           hash     result -> digest, a blank, record
    :labelled         list     results with a label, the oldest first

A `save` that runs twice because the network lost its answer is refused the second time; the caller
reads again, and recognises by the digests of inputs and truths what is counted already.
"""

from __future__ import annotations

from typing import Final

from app.stores.base import MOST_POINTS, Label, Snapshot, Update
from app.stores.redis_client import PREFIX, Client, redis_errors


class RedisMonitor:
    """`MonitorStore` on Redis."""

    # KEYS: state, points, labels, labelled. ARGV: expected, state, most points, result or "",
    # its label, point, …  Answers 1 if it was saved.
    _SAVE: Final = """
    local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
    if version ~= tonumber(ARGV[1]) then return 0 end
    if ARGV[4] ~= '' then
        if redis.call('HSETNX', KEYS[3], ARGV[4], ARGV[5]) == 0 then return 0 end
        redis.call('RPUSH', KEYS[4], ARGV[4])
    end
    redis.call('HSET', KEYS[1], 'version', version + 1, 'state', ARGV[2])
    for i = 6, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
    redis.call('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)
    return 1
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._save = client.register_script(self._SAVE)

    async def load(self, calibration: str) -> Snapshot | None:
        async with redis_errors():
            version, state = await self._client.hmget(_keys(calibration)[0], "version", "state")
        return None if state is None else Snapshot(int(version), bytes(state))

    async def save(self, calibration: str, update: Update, *, expected: int) -> bool:
        state, points, label = update
        result, value = ("", b"") if label is None else (label.result, _packed(label))
        async with redis_errors():
            saved = await self._save(
                keys=_keys(calibration),
                args=[expected, state, MOST_POINTS, result, value, *points],
            )
        return bool(saved)

    async def points(self, calibration: str) -> list[bytes]:
        async with redis_errors():
            found = await self._client.lrange(_keys(calibration)[1], 0, -1)
        return [bytes(point) for point in found]

    async def label(self, calibration: str, result: str) -> Label | None:
        async with redis_errors():
            value = await self._client.hget(_keys(calibration)[2], result)
        return None if value is None else _unpacked(result, value)

    async def labels(self, calibration: str, *, limit: int) -> list[Label]:
        if limit < 1:
            return []
        _, _, labels, labelled = _keys(calibration)
        async with redis_errors():
            results = [r.decode() for r in await self._client.lrange(labelled, -limit, -1)]
            values = await self._client.hmget(labels, results) if results else []
        return [_unpacked(r, value) for r, value in zip(results, values, strict=True) if value]

    async def forget(self, calibration: str) -> None:
        async with redis_errors():
            await self._client.unlink(*_keys(calibration))


def _keys(calibration: str) -> tuple[str, str, str, str]:
    key = f"{PREFIX}monitor:{calibration}"
    return key, f"{key}:points", f"{key}:labels", f"{key}:labelled"


def _packed(label: Label) -> bytes:
    return label.digest.encode() + b" " + label.record


def _unpacked(result: str, value: bytes) -> Label:
    digest, _, record = value.partition(b" ")
    return Label(result, digest.decode(), record)
