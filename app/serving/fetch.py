"""`image_url`: an upload that the service fetches from hosts that the operator allows.

The address comes from a client, and this process runs inside somebody's network, so the rules are
those of webhooks: a listed host, public addresses, a connection to the checked address, and no
redirects (`app/upscalers/remote/guard.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import httpx

from app.errors import BadRequest, ImageTooLarge, TrustscaleError
from app.upscalers.remote.guard import FetchPolicy, target
from app.upscalers.remote.http import Network

# It holds a place among the uploads that are decoded.
_LONGEST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ImageHosts:
    """What the operator allows.

    hosts: from which pictures may be fetched, with their subdomains; empty: none.
    allow_private: whether they may have private addresses, and use http.
    """

    hosts: tuple[str, ...] = ()
    allow_private: bool = False
    network: Network = field(default_factory=Network)

    def check(self) -> None:
        """Return if anything may be fetched. Raises BadRequest."""
        if not self.hosts:
            raise BadRequest("This service fetches no pictures: its image_hosts are empty.")

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """The file behind a URL.

        Raises:
            BadRequest: the URL is not allowed, or is answered by something else than a file.
            ImageTooLarge: it has more bytes.
        """
        policy = FetchPolicy(None, self.hosts, self.allow_private, "image_url")
        try:
            place = await target(url, policy, self.network.resolve)
            async with (
                asyncio.timeout(_LONGEST_S),
                httpx.AsyncClient(
                    follow_redirects=False, timeout=_LONGEST_S, transport=self.network.transport
                ) as client,
                client.stream(
                    "GET",
                    place.url,
                    headers={
                        "Host": place.origin.authority,
                        "User-Agent": "trustscale",
                        "Accept-Encoding": "identity",
                    },
                    extensions={"sni_hostname": place.origin.host},
                ) as response,
            ):
                return await _body(response, max_bytes)
        except (BadRequest, ImageTooLarge):
            raise
        except TrustscaleError as error:
            raise BadRequest(error.detail) from error
        except TimeoutError as error:
            raise BadRequest("image_url did not answer in time.") from error
        except httpx.HTTPError as error:
            raise BadRequest(f"image_url cannot be reached ({type(error).__name__}).") from error


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    """The file; no more of it is read than is allowed."""
    if response.status_code != httpx.codes.OK:
        raise BadRequest(f"image_url answered {response.status_code}; redirects are not followed.")
    body = bytearray()
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BadRequest("image_url answered with a compressed body, which was not asked for.")
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise ImageTooLarge(
                f"The file behind image_url is larger than {max_bytes:,} bytes.",
                limit="max_bytes",
                maximum=max_bytes,
            )
    return bytes(body)
