"""Repeated requests: a key belongs to one caller and one body."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, NamedTuple

import structlog
from fastapi import Header, Request, Response

from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.platform.tasks import beside
from trustscale_server.stores.claims import ClaimStore
from trustscale_server.stores.documents import StoreUnavailable

log = structlog.get_logger(__name__)


_HEADER: Final = "Idempotency-Key"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=_HEADER,
        min_length=1,
        max_length=255,
        description="A text of your choice, new for each request. A repetition with the "
        "same key and body "
        "is answered with what the first one made, and costs nothing.",
    ),
]


class StoredResponse(NamedTuple):
    """The id of a result, job or calibration that a request created, and the answer."""

    id: str
    answer: Response


KEY_KEPT_S: Final = 86400.0
"""How long an `Idempotency-Key` is kept, with the result that was made under it."""


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """Recognises repeated requests.

    claims: shared by all gateways. lease_s: when the claim of a dead gateway expires. poll_s: the
    interval of polling a request in flight. ignored: keys are not looked at, as in a command's own
    process, whose requests nobody repeats.
    """

    claims: ClaimStore
    lease_s: float = 15.0
    poll_s: float = 0.2
    ignored: bool = False

    async def once(
        self,
        request: Request,
        caller: str,
        make: Callable[[], Awaitable[StoredResponse]],
        recall: Callable[[str], Awaitable[Response]],
        body: bytes | None = None,
    ) -> Response:
        """Return the answer of `make`; under a known key, `recall` of the id that was made.

        Args:
            request: its form has been read.
            caller: whose key it is; an equal key of another caller is another key.
            make: does the work.
            recall: answers again, or raises NotFound: then `make` is called again.
            body: what has been read of the request; None: its form.

        Raises:
            BadRequest: the key was sent with another body.
        """
        key = request.headers.get(_HEADER)
        if key is None or self.ignored:
            return (await make()).answer
        name = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()
        claim = {"digest": await _digest(request, body), "by": secrets.token_hex(8)}
        mine = json.dumps(claim).encode()
        while (claimed := await self.claims.claim(name, mine, seconds=self.lease_s)) != mine:
            earlier = json.loads(claimed)
            if earlier["digest"] != claim["digest"]:
                raise BadRequest(
                    f"This {_HEADER} was sent with another request before; each needs its own."
                )
            if "made" not in earlier:
                await self._until_changed(name, claimed)
                continue
            with suppress(NotFound):
                return await recall(earlier["made"])
            await self.claims.replace(name, claimed, None, seconds=0)
        try:
            async with beside(self._renew(name, mine)):
                response = await make()
        except BaseException:
            await self._settle(name, mine, None)
            raise
        await self._settle(name, mine, json.dumps({**claim, "made": response.id}).encode())
        return response.answer

    async def _until_changed(self, name: str, claimed: bytes) -> None:
        while await self.claims.get(name) == claimed:  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(self.poll_s)

    async def _settle(self, name: str, mine: bytes, outcome: bytes | None) -> None:
        """End a claim; the answer is sent even if the store is unavailable."""
        try:
            await self.claims.replace(name, mine, outcome, seconds=KEY_KEPT_S)
        except StoreUnavailable as error:
            log.warning("idempotency_key_not_stored", detail=error.detail)

    async def _renew(self, name: str, mine: bytes) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            with suppress(StoreUnavailable):
                await self.claims.replace(name, mine, mine, seconds=self.lease_s)


async def _digest(request: Request, body: bytes | None) -> str:
    """A digest of the request that ignores how a form was split into parts."""
    contents: list[str | bytes | BinaryIO] = [request.method, request.url.path, request.url.query]
    if body is not None:
        contents.append(body)
    else:
        for name, value in (await request.form()).multi_items():
            contents.append(name)
            contents += [value] if isinstance(value, str) else [value.filename or "", value.file]
    return await asyncio.to_thread(_hashed, contents)


def _hashed(contents: Sequence[str | bytes | BinaryIO]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for item in contents:
        content = item.encode() if isinstance(item, str) else item
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        digest.update(hashlib.file_digest(file, "blake2b").digest())  # type: ignore[arg-type]
        file.seek(0)
    return digest.hexdigest()
