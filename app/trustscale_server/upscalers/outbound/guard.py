"""Addresses that others choose: which are allowed, and a call of one (`foreign_answer`).

A result URL comes from the upscaler, an untrusted party. So it must be https and its host listed;
every address that the host resolves to must be public, and the connection goes to the checked
address, so DNS rebinding cannot work. The upscaler's own address is the operator's choice and is
trusted, private or not.

Clients choose the receivers of their webhooks, and pictures to fetch.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from trustscale_server.platform.errors import ProtocolError, UpscalerUnavailable

_HOST = re.compile(r"[0-9a-f]*:[0-9a-f:.]*(%[a-z0-9]+)?|([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")

_Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) to IP addresses; raises OSError."""

_GIVEN = "The upscaler gave"
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "fec0::/10",  # site-local
        "192.88.99.0/24",  # relays of 6to4
        # From IANA's special-purpose registries; Python 3.11 lacks them.
        "64:ff9b:1::/48",
        "100:0:0:1::/64",
        "3fff::/20",
        "5f00::/16",
        # The host of every machine in Azure, and an unannounced network that others use as private.
        "168.63.129.16/32",
        "25.0.0.0/8",
    )
)


class ForeignHost(ProtocolError):
    """The result is on a `host` that is not allowed."""

    def __init__(self, detail: str, host: str) -> None:
        super().__init__(detail)
        self.host = host


def http_url(url: str) -> SplitResult:
    """Return the parts of an absolute http(s) URL, or raise ValueError with the mistake."""
    try:
        split = urlsplit(url)
        host, _ = split.hostname, split.port
    except ValueError as error:
        raise ValueError("a URL that cannot be read, or with an impossible port") from error
    if split.scheme not in {"http", "https"} or not host:
        raise ValueError("something that is no http(s) URL")
    if split.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL with credentials or odd characters")
    # A resolver, a proxy or a list of hosts might read it differently.
    if not _HOST.fullmatch(host):
        raise ValueError("a URL with an impossible host")
    return split


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Return the addresses that the operating system knows for a host."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in addresses]


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a token may be sent to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def from_url(cls, url: str, beginning: str = _GIVEN) -> Origin:
        """Return the origin of an absolute http(s) URL.

        Raises ProtocolError, which begins with `beginning`.
        """
        split = _split(url, beginning)
        assert split.hostname is not None  # noqa: S101 - checked by _split
        return cls(split.scheme, split.hostname.lower(), split.port or _PORTS[split.scheme])

    @property
    def authority(self) -> str:
        """Host and port as in a URL or a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What `target` allows: the upscaler's own origin, and listed hosts with their subdomains.

    fetched: what is fetched, for messages.
    """

    own: Origin | None
    allowed_hosts: tuple[str, ...] = ()
    allow_private: bool = False
    fetched: str = "result"


@dataclass(frozen=True, slots=True)
class Target:
    """A checked place to fetch from.

    url: to connect to; its host is the checked address unless the origin is the upscaler's own.
    origin: for the Host header and the TLS certificate.
    is_own: the upscaler's own origin, which alone gets the token.
    """

    url: str
    origin: Origin
    is_own: bool


async def target(url: str, policy: FetchPolicy, resolve: _Resolver) -> Target:
    """Check a result URL and pin it to an address.

    Raises:
        ProtocolError: not allowed.
        UpscalerUnavailable: the host cannot be resolved now.
    """
    origin = Origin.from_url(url, _GIVEN if policy.own else f"The {policy.fetched} is")
    split = _split(url)
    tail = (split.path or "/") + (f"?{split.query}" if split.query else "")
    if origin == policy.own:
        return Target(f"{origin.scheme}://{origin.authority}{tail}", origin, is_own=True)
    is_own_host = policy.own is not None and origin.host == policy.own.host
    if not is_own_host and not is_listed(origin.host, policy.allowed_hosts):
        raise ForeignHost(
            f"The {policy.fetched} is on {origin.host}, which is not among the allowed hosts.",
            origin.host,
        )
    if origin.scheme != "https" and not policy.allow_private:
        raise ProtocolError(f"The {policy.fetched} on {origin.host} is not offered over https.")
    address = await _address(origin, policy, resolve)
    pinned = Origin(origin.scheme, address, origin.port)
    return Target(f"{origin.scheme}://{pinned.authority}{tail}", origin, is_own=False)


def is_listed(host: str, hosts: Sequence[str]) -> bool:
    """Return whether a host or one of its parent domains is listed."""
    return any(host == listed.lower() or host.endswith(f".{listed.lower()}") for listed in hosts)


def own_url(url: str, base: str) -> str:
    """Return a URL of an answer as an absolute one on the upscaler's origin; it gets the token.

    Raises:
        ProtocolError: another origin.
    """
    own = Origin.from_url(base)
    try:
        absolute = urljoin(f"{own.scheme}://{own.authority}/", url)
    except ValueError as error:
        raise ProtocolError("The upscaler gave a URL that cannot be read.") from error
    if Origin.from_url(absolute) != own:
        raise ProtocolError(
            f"The upscaler points to {Origin.from_url(absolute).host} for its next step; the token "
            f"stays on {own.host}."
        )
    split = _split(absolute)
    return f"{own.scheme}://{own.authority}{split.path}" + (
        f"?{split.query}" if split.query else ""
    )


def is_public(address: str) -> bool:
    """Return whether an IP address is public; one that embeds an IPv4 address counts as it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    if any(ip in network for network in _NEVER):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def _address(origin: Origin, policy: FetchPolicy, resolve: _Resolver) -> str:
    place = f"The {policy.fetched} host {origin.host}"
    try:
        addresses = list(await resolve(origin.host, origin.port))
    except OSError as error:
        raise UpscalerUnavailable(f"{place} cannot be resolved.") from error
    if not addresses:
        raise UpscalerUnavailable(f"{place} has no address.")
    # A private address among public ones is no accident.
    if not policy.allow_private and not all(is_public(address) for address in addresses):
        raise ProtocolError(f"{place} has a private address; requests to those are not allowed.")
    return addresses[0]


def _split(url: str, beginning: str = _GIVEN) -> SplitResult:
    try:
        return http_url(url)
    except ValueError as error:
        raise ProtocolError(f"{beginning} {error}.") from error


@dataclass(frozen=True, slots=True)
class NetworkAccess:
    """What tests replace: the transport under httpx, the resolver, and the timeout of each step.

    `cancel_timeout_s` is for cancelling abandoned work at the server.
    """

    transport: httpx.AsyncBaseTransport | None = None
    resolve: _Resolver = field(default=system_resolver)
    connect_s: float = 3.0
    pool_s: float = 5.0
    write_s: float = 30.0
    cancel_timeout_s: float = 5.0


@cache
def certificate_authorities() -> ssl.SSLContext:
    """Return the certificate authorities.

    They are read once, which takes 20 ms in which nothing else runs.
    """
    return httpx.create_ssl_context()


@asynccontextmanager
async def foreign_answer(
    method: str,
    url: str,
    policy: FetchPolicy,
    network: NetworkAccess,
    *,
    limit_s: float,
    **options: Any,
) -> AsyncIterator[httpx.Response]:
    """Open the answer of an address that an untrusted client chose; its body is unread.

    No connection is kept: they are to addresses, and a certificate was checked for one host only.

    Args:
        method: of HTTP.
        url: to check and to call.
        policy: what is allowed.
        network: how it is reached.
        limit_s: seconds for the answer and the body of the `async with`.
        options: those of httpx.

    Raises:
        ProtocolError: it is not allowed.
        UpscalerUnavailable: it did not answer.
    """
    headers = {"User-Agent": "trustscale", "Accept-Encoding": "identity"} | options.pop(
        "headers", {}
    )
    try:
        async with asyncio.timeout(limit_s):
            place = await target(url, policy, network.resolve)
            async with (
                httpx.AsyncClient(
                    timeout=limit_s, transport=network.transport, verify=certificate_authorities()
                ) as client,
                client.stream(
                    method,
                    place.url,
                    headers={"Host": place.origin.authority, **headers},
                    extensions={"sni_hostname": place.origin.host},
                    **options,
                ) as response,
            ):
                yield response
    except TimeoutError as error:
        raise UpscalerUnavailable(f"The {policy.fetched} did not answer in time.") from error
    except httpx.HTTPError as error:
        kind = type(error).__name__
        raise UpscalerUnavailable(f"The {policy.fetched} cannot be reached ({kind}).") from error
