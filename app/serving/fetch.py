"""`image_url`: an upload that the service fetches from hosts that the operator allows.

Clients choose the address, so the rules are those of webhooks: a listed host, public addresses, a
connection to the checked address, no redirects (`app/upscalers/remote/guard.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import httpx

from app.errors import BadRequest, ImageTooLarge, TrustscaleError
from app.upscalers.remote.guard import FetchPolicy, target
from app.upscalers.remote.http import Network

# A fetch holds a place among the uploads that are decoded.
_LONGEST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ImageHosts:
    """What the operator allows.

    hosts: with their subdomains; empty: nothing may be fetched.
    allow_private: private addresses, and http.
    """

    hosts: tuple[str, ...] = ()
    allow_private: bool = False
    network: Network = field(default_factory=Network)

    def check(self) -> None:
        """Raise BadRequest if nothing may be fetched."""
        if not self.hosts:
            raise BadRequest("This service fetches no pictures: its image_hosts are empty.")

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """The file behind a URL.

        Raises:
            BadRequest: the URL is not allowed, or does not answer with a file.
            ImageTooLarge: the file has more bytes.
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
    """The file; no more than the limit is read."""
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
