"""Where results may be fetched from."""

from __future__ import annotations

import pytest

from app.errors import UpscalerUnavailable
from app.upscalers.remote.errors import ProtocolError
from app.upscalers.remote.guard import FetchPolicy, Origin, is_public, own_url, target

OWN = Origin.of("https://api.example.com/v1")
POLICY = FetchPolicy(OWN, ("replicate.delivery",))


def resolving(*addresses):
    async def resolve(host, port):
        if not addresses:
            raise OSError("no such host")
        return addresses

    return resolve


PUBLIC = resolving("93.184.216.34")


class TestIsPublic:
    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1",
            "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
            "fc00::1", "::ffff:10.0.0.1", "2002:0a00:0001::", "64:ff9b::7f00:1", "ff02::1",
            "2001:0:4136:e378:8000:63bf:f5ff:fffe", "fec0::1", "192.88.99.1", "::ffff:192.88.99.1",
            "168.63.129.16", "::ffff:168.63.129.16", "3fff::1", "5f00::1", "64:ff9b:1::a00:1",
            "100:0:0:1::1", "::10.0.0.1", "25.1.2.3",
        ],
    )  # fmt: skip
    def test_not_public(self, address):
        """Private, local, multicast and reserved addresses are not public, however written."""
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
    def test_public(self, address):
        """Addresses of the public internet are."""
        assert is_public(address)


class TestTarget:
    @pytest.mark.parametrize(
        ("url", "address", "pinned", "authority"),
        [
            (
                "https://a.replicate.delivery/x.png?k=1",
                "93.184.216.34",
                "https://93.184.216.34/x.png?k=1",
                "a.replicate.delivery",
            ),
            (
                "https://replicate.delivery:8443/x",
                "2606:4700:4700::1111",
                "https://[2606:4700:4700::1111]:8443/x",
                "replicate.delivery:8443",
            ),
        ],
    )
    async def test_listed_host_is_pinned(self, url, address, pinned, authority):
        """A listed host is contacted at the address that was checked, under its own name."""
        place = await target(url, POLICY, resolving(address))
        assert (place.url, place.origin.authority, place.is_own) == (pinned, authority, False)

    async def test_own_origin_is_not_resolved(self):
        """The upscaler's own address is the operator's choice, private or not."""
        url = "http://127.0.0.1:5000/file.png"
        policy = FetchPolicy(Origin.of("http://127.0.0.1:5000"))
        place = await target(url, policy, resolving())
        assert (place.url, place.is_own) == (url, True)

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.com/x.png",
            "https://replicate.delivery.evil.com/x.png",
            "https://evilreplicate.delivery/x.png",
            "https://replicate.delivery@evil.com/x.png",
            "https://user:pass@replicate.delivery/x.png",
            "http://replicate.delivery/x.png",
            "http://api.example.com/x.png",
            "https://127.0.0.1/x.png",
            "https://[::1]/x.png",
            "file:///etc/passwd",
            "gopher://replicate.delivery/",
            "https:///x.png",
            "https://replicate.delivery:99999/x.png",
            "https://replicate.delivery\n.evil.com/",
            "https://rеplicate.delivery/x.png",
            "https://evil.com\\.replicate.delivery/x",
            "https://*.replicate.delivery/x",
            "https://evil.com;.replicate.delivery/x",
            "https://evil.com%00.replicate.delivery/x",
        ],
    )
    async def test_refused(self, url):
        """Other hosts, other schemes, credentials and tricks in the URL are refused."""
        with pytest.raises(ProtocolError):
            await target(url, POLICY, PUBLIC)

    @pytest.mark.parametrize("addresses", [("10.0.0.1",), ("93.184.216.34", "127.0.0.1")])
    async def test_private_address_behind_a_listed_name(self, addresses):
        """A listed name with any private address is refused."""
        with pytest.raises(ProtocolError, match="private address"):
            await target("https://replicate.delivery/x", POLICY, resolving(*addresses))

    async def test_private_allowed(self):
        """The operator may allow private addresses and plain http for listed hosts."""
        policy = FetchPolicy(OWN, ("minio.internal",), allow_private=True)
        place = await target("http://minio.internal:9000/x", policy, resolving("10.0.0.7"))
        assert place.url == "http://10.0.0.7:9000/x"

    async def test_unresolvable(self):
        """A host without address may have one later."""
        with pytest.raises(UpscalerUnavailable):
            await target("https://replicate.delivery/x", POLICY, resolving())


class TestOwnUrl:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://api.example.com/v1/p/1", "https://api.example.com/v1/p/1"),
            ("/v1/p/1?x=2", "https://api.example.com/v1/p/1?x=2"),
            ("https://API.example.com:443/p", "https://api.example.com/p"),
        ],
    )
    def test_same_origin(self, url, expected):
        """URLs on the upscaler's origin are followed, relative ones too."""
        assert own_url(url, "https://api.example.com/v1") == expected

    @pytest.mark.parametrize(
        "url", ["https://evil.com/p", "//evil.com/p", "http://api.example.com/p",
                "https://api.example.com:444/p", "https://api.example.com@evil.com/"],
    )  # fmt: skip
    def test_other_origins(self, url):
        """The token goes nowhere else: other host, scheme or port is refused."""
        with pytest.raises(ProtocolError):
            own_url(url, "https://api.example.com/v1")
