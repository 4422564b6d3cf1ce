"""Upstreams that misbehave, and where results may be fetched from."""

from contextlib import asynccontextmanager

import httpx
import pytest

from harness.faults import FaultServer, answer, endless, reset, silent, slow, truncated
from harness.pictures import TOKEN, config, patient, resolving
from trustscale_server.platform.errors import ProtocolError, UpscalerRejected, UpscalerUnavailable
from trustscale_server.upscalers.failures import BadCredentials
from trustscale_server.upscalers.outbound.guard import (
    FetchPolicy,
    Origin,
    is_public,
    own_url,
    target,
)
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.remote.predictions import CogConfig
from trustscale_server.upscalers.remote.upstream import Upstream


@asynccontextmanager
async def upstream(url, network=None, environ=None, **settings):
    """An upstream of this address, by default over the real network."""
    settings = {"kind": "cog", "scale": 2, "url": url, **settings}
    up = Upstream(config(**settings), url, environ or {"TOKEN": TOKEN}, network or patient())
    yield up
    await up.close()


@asynccontextmanager
async def facing(behaviour, **settings):
    async with FaultServer([behaviour]) as server, upstream(server.url, **settings) as up:
        yield server, up


class TestFaults:
    @pytest.mark.parametrize(
        ("behaviour", "limit_s", "words"),
        [(reset, 60, "broke"), (truncated, 60, "broke"), (silent, 0.1, "in time"),
         (slow, 0.1, "in time")],
    )  # fmt: skip
    async def test_no_answer(self, behaviour, limit_s, words):
        """A reset, a truncated body, and no whole answer in time mean: unavailable, try again."""
        async with facing(behaviour, call_timeout_s=limit_s) as (_, up):
            with pytest.raises(UpscalerUnavailable, match=words):
                await up.request("POST", "/x", json={})

    async def test_nobody_listens(self):
        async with upstream("http://127.0.0.1:9") as up:
            with pytest.raises(UpscalerUnavailable, match="cannot be reached"):
                await up.request("GET", "/x")

    @pytest.mark.parametrize(
        ("behaviour", "most", "permit", "words"),
        [
            (answer(body=b"x" * 5000), 4999, MemoryPermit, "more than 4,999"),
            (endless, 2**30, lambda: None, "more than"),  # its size is not declared
            # Compression is the way to small bombs.
            (answer(headers={"content-encoding": "gzip"}), 2**30, lambda: None, "compressed"),
        ],
    )
    async def test_refused_bodies(self, monkeypatch, behaviour, most, permit, words):
        """A body that is, or may become, too large is not read to its end."""
        monkeypatch.setattr(CogConfig, "MAX_ANSWER_BYTES", most)
        async with facing(behaviour) as (server, up):
            with pytest.raises(ProtocolError, match=words):
                await up.request("GET", "/x", permit=permit())
            assert server.asked[0].headers["accept-encoding"] == "identity"

    async def test_redirects_are_answers(self):
        moved = answer(307, headers={"location": "http://169.254.169.254/"})
        async with facing(moved) as (server, up):
            assert (await up.request("GET", "/x")).status == 307
            with pytest.raises(ProtocolError, match="redirects are refused"):
                await up.fetch(f"{server.url}/a.png", MemoryPermit())
            assert len(server.asked) == 2


class TestEvents:
    async def test_lines_in_pieces(self):
        """Cut anywhere, with any end of line."""
        pieces = [b"event: comp", b"lete\r", b"\ndata: \xc3", b"\xa4\r\n\r", b"\nevent: late"]

        async def body():
            for piece in pieces:
                yield piece

        network = patient(lambda _: httpx.Response(200, content=body()))
        async with upstream("http://127.0.0.1", network) as up:
            assert [event async for event in up.events("/x", MemoryPermit())] == [("complete", "ä")]

    async def test_a_line_without_an_end(self, monkeypatch):
        monkeypatch.setattr(CogConfig, "MAX_ANSWER_BYTES", 4999)
        async with facing(endless) as (_, up):
            with pytest.raises(ProtocolError, match="more than 4,999"):
                [event async for event in up.events("/x", MemoryPermit())]


class TestToken:
    @pytest.mark.parametrize(
        ("token", "scheme", "sent"),
        [(TOKEN, "Key", f"Key {TOKEN}"), ("u:p", "Basic", "Basic dTpw")],
    )
    async def test_token(self, token, scheme, sent):
        told = {"environ": {"T": token}, "token_env": "T", "token_scheme": scheme}
        async with facing(answer(), **told) as (server, up):
            await up.request("GET", "/x")
            assert server.asked[0].headers["authorization"] == sent

    @pytest.mark.parametrize("environ", [{"X": ""}, {"TOKEN": " "}])
    async def test_missing(self, environ):
        async with facing(answer(), environ=environ, token_env="TOKEN") as (server, up):
            with pytest.raises(BadCredentials, match="TOKEN"):
                await up.request("GET", "/x")
            assert server.asked == []

    @pytest.mark.parametrize(
        ("scheme", "repeated"),
        [("Bearer", "u:secret"), ("Basic", "u:secret"), ("Basic", "dTpzZWNyZXQ=")],
    )
    @pytest.mark.parametrize("before", [0, 280, 295])
    async def test_redaction(self, scheme, repeated, before):
        """A token that an answer repeats, plain or as sent, is in no error, nor half of it."""
        refused = answer(400, json={"error": f"{before * 'x'}{repeated}!"})
        told = {"environ": {"T": "u:secret"}, "token_env": "T", "token_scheme": scheme}
        async with facing(refused, **told) as (_, up):
            with pytest.raises(UpscalerRejected) as failure:
                await up.call("GET", "/x")
        assert repeated[:4] not in failure.value.detail


class TestUrl:
    @pytest.mark.parametrize(
        "path", ["@127.0.0.1:9/x", ".evil.example/x", ":8443@10.0.0.1/x", "x", ":443/x", "/\0"]
    )
    async def test_what_is_no_path(self, path):
        """A path of an answer cannot change the host that gets the token."""
        async with upstream("https://api.example.com", token_env="TOKEN") as up:
            with pytest.raises(ProtocolError, match="no path"):
                await up.request("GET", path)

    async def test_paths(self):
        async with upstream("https://api.example.com/v1") as up:
            for path in ("", "/x?y=1", "?y=1", ":predict", "/é", "/@10.0.0.1"):
                assert up.url(path) == "https://api.example.com/v1" + path
                assert httpx.URL(up.url(path)).host == "api.example.com"


class TestFetch:
    async def test_pinned_without_token(self):
        """A result on an allowed host comes from the checked address, without token."""
        addresses = iter([["93.184.216.34"], ["127.0.0.1"]])
        seen, looked_up = [], []

        def handler(request):
            seen.append(request)
            return httpx.Response(200, content=b"png")

        async def resolve(host, port):
            looked_up.append(host)
            return next(addresses)

        async with upstream(
            "https://api.example.com/v1",
            patient(handler, resolve),
            token_env="TOKEN",
            headers={"x-org": "1"},
            allowed_hosts=["cdn.example.net"],
        ) as up:
            assert await up.fetch("https://cdn.example.net/a.png", MemoryPermit()) == b"png"
            assert looked_up == ["cdn.example.net"]
            with pytest.raises(ProtocolError, match="private"):
                await up.fetch("https://cdn.example.net/a.png", MemoryPermit())
        [request] = seen
        assert request.url.host == "93.184.216.34"
        assert request.headers["host"] == "cdn.example.net"
        assert request.extensions["sni_hostname"] == "cdn.example.net"
        assert not {"authorization", "x-org"} & set(request.headers)

    async def test_a_connection_is_for_one_host(self):
        """Two hosts may have one address; each shows its own certificate."""
        async with (
            FaultServer([answer(body=b"x")]) as server,
            upstream("http://127.0.0.1:9", allow_private=True) as up,
        ):
            for _ in range(2):
                await up.fetch(f"{server.url}/a.png", MemoryPermit())
            assert server.connections == 2

    async def test_loopback_elsewhere(self):
        """A result on another port of this machine is refused unless it was allowed."""
        async with FaultServer([answer(body=b"x")]) as server:
            async with upstream("http://127.0.0.1:9") as up:
                # Same host, another port: not the upscaler's origin.
                with pytest.raises(ProtocolError, match="https"):
                    await up.fetch(f"{server.url}/a.png", MemoryPermit())
            async with upstream("http://127.0.0.1:9", allow_private=True) as up:
                assert await up.fetch(f"{server.url}/a.png", MemoryPermit()) == b"x"


OWN = Origin.from_url("https://api.example.com/v1")
POLICY = FetchPolicy(OWN, ("replicate.delivery",))


PUBLIC = resolving("93.184.216.34")


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
def test_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public(address):
    assert is_public(address)


LOCAL = FetchPolicy(Origin.from_url("http://127.0.0.1:5000"))
INSIDE = FetchPolicy(OWN, ("minio.internal",), allow_private=True)


class TestTarget:
    @pytest.mark.parametrize(
        ("url", "policy", "addresses", "pinned", "authority"),
        [
            ("https://a.replicate.delivery/x.png?k=1", POLICY, ["93.184.216.34"],
             "https://93.184.216.34/x.png?k=1", "a.replicate.delivery"),
            ("https://replicate.delivery:8443/x", POLICY, ["2606:4700:4700::1111"],
             "https://[2606:4700:4700::1111]:8443/x", "replicate.delivery:8443"),
            ("http://minio.internal:9000/x", INSIDE, ["10.0.0.7"],
             "http://10.0.0.7:9000/x", "minio.internal:9000"),
            ("http://127.0.0.1:5000/file.png", LOCAL, [],
             "http://127.0.0.1:5000/file.png", "127.0.0.1:5000"),
        ],
    )  # fmt: skip
    async def test_pinned(self, url, policy, addresses, pinned, authority):
        """A listed host is contacted at the address that was checked, the own origin as it is."""
        place = await target(url, policy, resolving(*addresses))
        found = (place.url, place.origin.authority, place.is_own)
        assert found == (pinned, authority, policy is LOCAL)

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.com/x.png", "https://replicate.delivery.evil.com/x.png",
            "https://evilreplicate.delivery/x.png", "https://replicate.delivery@evil.com/x.png",
            "https://user:pass@replicate.delivery/x.png", "http://replicate.delivery/x.png",
            "http://api.example.com/x.png", "https://127.0.0.1/x.png", "https://[::1]/x.png",
            "file:///etc/passwd", "gopher://replicate.delivery/", "https:///x.png",
            "https://replicate.delivery:99999/x.png", "https://replicate.delivery\n.evil.com/",
            "https://rеplicate.delivery/x.png", "https://evil.com\\.replicate.delivery/x",
            "https://*.replicate.delivery/x", "https://evil.com;.replicate.delivery/x",
            "https://evil.com%00.replicate.delivery/x",
        ],
    )  # fmt: skip
    async def test_refused(self, url):
        with pytest.raises(ProtocolError):
            await target(url, POLICY, PUBLIC)

    @pytest.mark.parametrize("addresses", [("10.0.0.1",), ("93.184.216.34", "127.0.0.1")])
    async def test_private_address_behind_a_listed_name(self, addresses):
        with pytest.raises(ProtocolError, match="private address"):
            await target("https://replicate.delivery/x", POLICY, resolving(*addresses))

    async def test_unresolvable(self):
        with pytest.raises(UpscalerUnavailable):
            await target("https://replicate.delivery/x", POLICY, resolving())


@pytest.mark.parametrize(
    "url", ["https://evil.com/p", "//evil.com/p", "http://api.example.com/p",
            "https://api.example.com:444/p", "https://api.example.com@evil.com/"],
)  # fmt: skip
def test_urls_of_other_origins(url):
    own = "https://api.example.com/v1"
    with pytest.raises(ProtocolError):
        own_url(url, own)
    for same in ("/v1/p?x=2", "https://API.example.com:443/v1/p?x=2"):
        assert own_url(same, own) == f"{own}/p?x=2"
