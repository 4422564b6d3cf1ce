"""`Idempotency-Key`: a repeated request gets the answer of the first one.

A key belongs to one caller and one body. During the first request its gateway renews a claim on the
key in the shared store, and repetitions poll it. If that gateway dies, the claim expires, and the
next request counts as the first. A failure frees the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, NamedTuple

from fastapi import Header, Request
from fastapi.responses import Response

from app.errors import BadRequest, NotFound
from app.stores.base import ClaimStore, StoreUnavailable
from app.system import beside

HEADER: Final = "Idempotency-Key"

log = logging.getLogger(__name__)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=255,
        description="Of your choice, new for each request. A repetition with the same key and body "
        "is answered with what the first one made, and costs nothing.",
    ),
]


class StoredResponse(NamedTuple):
    """The id of a result, job or calibration that a request created, and the answer."""

    id: str
    answer: Response


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """Recognises repeated requests.

    claims: shared by all gateways. kept_s: how long a key is kept. lease_s: when the claim of a
    dead gateway expires. look_s: the interval of polling a request in flight. ignored: whether keys
    mean nothing.
    """

    claims: ClaimStore
    kept_s: float
    lease_s: float = 15.0
    look_s: float = 0.2
    ignored: bool = False

    async def once(
        self,
        request: Request,
        caller: str,
        make: Callable[[], Awaitable[StoredResponse]],
        recall: Callable[[str], Awaitable[Response]],
        body: bytes | None = None,
    ) -> Response:
        """The answer of `make`; under a known key, `recall` of the id that was made.

        Args:
            request: its form has been read.
            caller: of the key.
            make: does the work.
            recall: answers again, or raises NotFound.
            body: None: the request's is a form.

        Raises:
            BadRequest: the key was sent with another body.
        """
        key = request.headers.get(HEADER)
        if key is None or self.ignored:
            return (await make()).answer
        name = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()
        claim = {"digest": await _digest(request, body), "by": secrets.token_hex(8)}
        mine = json.dumps(claim).encode()
        while (kept := await self.claims.claim(name, mine, seconds=self.lease_s)) != mine:
            first = json.loads(kept)
            if first["digest"] != claim["digest"]:
                raise BadRequest(f"This {HEADER} was sent with another request before.")
            if "made" not in first:
                await self._changed(name, kept)
                continue
            with suppress(NotFound):
                return await recall(first["made"])
            await self.claims.replace(name, kept, None, seconds=0)
        try:
            async with beside(self._renew(name, mine)):
                made = await make()
        except BaseException:
            await self._settle(name, mine, None)
            raise
        await self._settle(name, mine, json.dumps({**claim, "made": made.id}).encode())
        return made.answer

    async def _changed(self, name: str, kept: bytes) -> None:
        while await self.claims.get(name) == kept:  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(self.look_s)

    async def _settle(self, name: str, mine: bytes, end: bytes | None) -> None:
        """End a claim; what was made stays valid if the store is unavailable."""
        try:
            await self.claims.replace(name, mine, end, seconds=self.kept_s)
        except StoreUnavailable as error:
            log.warning("An idempotency key is not kept: %s", error.detail)

    async def _renew(self, name: str, mine: bytes) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            with suppress(StoreUnavailable):
                await self.claims.replace(name, mine, mine, seconds=self.lease_s)


async def _digest(request: Request, body: bytes | None) -> str:
    """A digest of the request that ignores how a form was split into parts."""
    parts: list[str | bytes | BinaryIO] = [request.method, request.url.path, request.url.query]
    if body is not None:
        parts.append(body)
    else:
        for name, value in (await request.form()).multi_items():
            parts.append(name)
            parts += [value] if isinstance(value, str) else [value.filename or "", value.file]
    return await asyncio.to_thread(_hashed, parts)


def _hashed(parts: Sequence[str | bytes | BinaryIO]) -> str:
    whole = hashlib.blake2b(digest_size=32)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        whole.update(hashlib.file_digest(file, "blake2b").digest())  # type: ignore[arg-type]
        file.seek(0)
    return whole.hexdigest()
