"""`image_url`: an upload that the service fetches from hosts that the operator allows.

Clients choose the address, so the rules are those of webhooks: a listed host, public addresses, a
connection to the checked address, no redirects (`upscalers/outbound/guard.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO

import httpx

from trustscale_server.platform.errors import BadRequest, ImageTooLarge, UpscalerError
from trustscale_server.stores.spool import spooled_parts
from trustscale_server.upscalers.outbound.guard import FetchPolicy, NetworkAccess, foreign_answer


@dataclass(frozen=True, slots=True)
class ImageHosts:
    """Which hosts pictures may be fetched from, and how.

    image_url_allowed_hosts: with their subdomains; empty: nothing may be fetched.
    allow_private: private addresses, and http.
    """

    image_url_allowed_hosts: tuple[str, ...] = ()
    allow_private: bool = False
    network: NetworkAccess = field(default_factory=NetworkAccess)

    def raise_if_refused(self) -> None:
        """Raise BadRequest if nothing may be fetched."""
        if not self.image_url_allowed_hosts:
            raise BadRequest(
                "This service fetches no pictures: its image_url_allowed_hosts are empty."
            )

    async def fetch(self, url: str, max_bytes: int) -> IO[bytes]:
        """Return the file behind a URL.

        Raises:
            BadRequest: the URL is not allowed, or does not answer with a file.
            ImageTooLarge: the file has more bytes.
            StoreUnavailable: the disk is full.
        """
        policy = FetchPolicy(None, self.image_url_allowed_hosts, self.allow_private, "image_url")
        try:
            async with foreign_answer("GET", url, policy, self.network, limit_s=30) as answer:
                return await spooled_parts(_chunks(answer, max_bytes))
        except UpscalerError as error:
            raise BadRequest(error.detail) from error


async def _chunks(answer: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """The file; no more than the limit is read."""
    if answer.status_code != httpx.codes.OK:
        raise BadRequest(f"image_url answered {answer.status_code}; redirects are not followed.")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise BadRequest("image_url answered with a compressed body, which was not asked for.")
    read = 0
    async for chunk in answer.aiter_bytes():
        read += len(chunk)
        if read > max_bytes:
            raise ImageTooLarge(
                f"The file behind image_url is larger than {max_bytes:,} bytes.",
                limit="max_bytes",
                maximum=max_bytes,
            )
        yield chunk
