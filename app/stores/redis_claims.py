"""Claims on Redis, one key per name. How Redis is used at all is told in `app/stores/redis.py`."""

from __future__ import annotations

from typing import Final

from app.stores.redis_client import PREFIX, Client, milliseconds, redis_errors


class RedisClaims:
    """`ClaimStore` on Redis."""

    # KEYS: claim. ARGV: value, ms to live.
    _CLAIM: Final = """
    local kept = redis.call('GET', KEYS[1])
    if kept then return kept end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return ARGV[1]
    """

    # KEYS: claim. ARGV: old, ms to live, new or nothing.
    _REPLACE: Final = """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
    if ARGV[3] then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
    else redis.call('DEL', KEYS[1]) end
    """

    def __init__(self, client: Client) -> None:
        self._claim = client.register_script(self._CLAIM)
        self._replace = client.register_script(self._REPLACE)

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        async with redis_errors():
            kept = await self._claim(keys=[_key(name)], args=[value, milliseconds(seconds)])
        return bytes(kept)

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        args = [old, milliseconds(seconds), *([] if new is None else [new])]
        async with redis_errors():
            await self._replace(keys=[_key(name)], args=args)


def _key(name: str) -> str:
    return f"{PREFIX}claim:{name}"
