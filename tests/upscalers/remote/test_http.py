"""Upstream against servers that misbehave."""

from __future__ import annotations

import gzip
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from app.errors import ConfigError, UpscalerRejected, UpscalerUnavailable
from app.upscalers.remote.errors import BadCredentials, ProtocolError
from app.upscalers.remote.http import Upstream
from app.upscalers.tensors import encode
from app.upscalers.turns import Turn
from tests.upscalers.remote.faults import (
    FaultServer,
    answer,
    endless,
    reset,
    silent,
    slow,
    truncated,
)
from tests.upscalers.remote.pictures import TOKEN, config, patient


@asynccontextmanager
async def upstream(url, network=None, environ=None, **settings):
    """An upstream of this address, by default over the real network."""
    settings = {"kind": "cog", "scale": 2, "url": url, **settings}
    up = Upstream(config(**settings), url, environ or {"TOKEN": TOKEN}, network or patient())
    yield up
    await up.close()


@asynccontextmanager
async def facing(behaviour, **settings):
    """A server that behaves so, and an upstream of it."""
    async with FaultServer([behaviour]) as server, upstream(server.url, **settings) as up:
        yield server, up


class TestFaults:
    @pytest.mark.parametrize(
        ("behaviour", "limit_s", "words"),
        [
            (reset, 60, "broke"),
            (truncated, 60, "broke"),
            (silent, 0.1, "in time"),
            (slow, 0.1, "in time"),
        ],
    )
    async def test_no_answer(self, behaviour, limit_s, words):
        """A reset, a truncated body, and no whole answer in time mean: unavailable, try again."""
        async with facing(behaviour, call_timeout_s=limit_s) as (_, up):
            with pytest.raises(UpscalerUnavailable, match=words):
                await up.request("POST", "/x", json={})

    async def test_nobody_listens(self):
        """A refused connection is unavailable at once."""
        async with upstream("http://127.0.0.1:9") as up:
            with pytest.raises(UpscalerUnavailable, match="cannot be reached"):
                await up.request("GET", "/x")

    @pytest.mark.parametrize(
        ("behaviour", "settings", "turn", "words"),
        [
            (answer(body=b"x" * 5000), {"max_answer_bytes": 4999}, Turn, "more than 4,999"),
            (endless, {}, lambda: None, "more than"),  # its size is not declared
            # Compression is the way to small bombs.
            (answer(headers={"content-encoding": "gzip"}), {}, lambda: None, "compressed"),
        ],
    )
    async def test_refused_bodies(self, behaviour, settings, turn, words):
        """A body that is, or may become, too large is not read to its end."""
        async with facing(behaviour, **settings) as (server, up):
            with pytest.raises(ProtocolError, match=words):
                await up.request("GET", "/x", turn=turn())
            assert server.asked[0].headers["accept-encoding"] == "identity"

    async def test_redirects_are_answers(self):
        """A redirect is handed over, not followed; as the result it is an error."""
        moved = answer(307, headers={"location": "http://169.254.169.254/"})
        async with facing(moved) as (server, up):
            assert (await up.request("GET", "/x")).status == 307
            with pytest.raises(ProtocolError, match="redirects are refused"):
                await up.fetch(f"{server.url}/a.png", Turn())
            assert len(server.asked) == 2

    async def test_body_in_parts(self):
        """A message in parts is sent with its length, not chunked."""
        parts, headers = encode({}, "inputs", {"a": np.arange(5)}, binary=True)
        async with facing(answer()) as (server, up):
            await up.request("POST", "/x", content=parts, headers=headers)
            assert server.asked[0].body == b"".join(parts)
            assert "transfer-encoding" not in server.asked[0].headers


class TestEvents:
    async def test_stream(self):
        """Events and their data arrive in order; other lines are ignored."""
        body = b"event: heartbeat\ndata: null\n\n: note\nevent: complete\ndata: [1,\ndata: 2]\n\n"
        async with facing(answer(body=body)) as (_, up):
            assert [event async for event in up.events("/x", Turn())] == [
                ("heartbeat", "null"),
                ("complete", "[1,\n2]"),
            ]

    async def test_lines_in_pieces(self):
        """Where the network cuts a line does not matter, nor how it ends."""
        pieces = [b"event: comp", b"lete\r", b"\ndata: \xc3", b"\xa4\r\n\r", b"\nevent: late"]

        async def body():
            for piece in pieces:
                yield piece

        network = patient(lambda _: httpx.Response(200, content=body()))
        async with upstream("http://127.0.0.1", network) as up:
            assert [event async for event in up.events("/x", Turn())] == [("complete", "ä")]

    @pytest.mark.parametrize(
        ("behaviour", "words"),
        [
            (endless, "more than 4,999"),  # a line without an end
            (answer(body=b"data: x\n" * 1000), "more than 4,999"),
            (
                answer(body=gzip.compress(bytes(10**7)), headers={"content-encoding": "gzip"}),
                "compressed",
            ),
        ],
    )
    async def test_too_long(self, behaviour, words):
        """Bytes are counted as they come; compression is refused before."""
        async with facing(behaviour, max_answer_bytes=4999) as (_, up):
            with pytest.raises(ProtocolError, match=words):
                [event async for event in up.events("/x", Turn())]


class TestToken:
    @pytest.mark.parametrize(
        ("token", "scheme", "sent"),
        [(TOKEN, "Key", f"Key {TOKEN}"), ("u:p", "Basic", "Basic dTpw")],
    )
    async def test_token(self, token, scheme, sent):
        """The token goes to the configured address in the configured form; Basic is encoded."""
        told = {"environ": {"T": token}, "token_env": "T", "token_scheme": scheme}
        async with facing(answer(), **told) as (server, up):
            await up.request("GET", "/x")
            assert server.asked[0].headers["authorization"] == sent

    @pytest.mark.parametrize("environ", [{"X": ""}, {"TOKEN": " "}])
    async def test_missing(self, environ):
        """Without its token nothing is called; the variable is named."""
        async with facing(answer(), environ=environ, token_env="TOKEN") as (server, up):
            with pytest.raises(BadCredentials, match="TOKEN"):
                await up.request("GET", "/x")
            assert server.asked == []

    async def test_no_token(self):
        """A variable that holds no token stops the start, by name."""
        told = {"environ": {"TOKEN": "a\nb"}, "token_env": "TOKEN"}
        with pytest.raises(ConfigError, match="TOKEN"):
            await upstream("http://127.0.0.1", **told).__aenter__()

    @pytest.mark.parametrize(
        ("scheme", "repeated"),
        [("Bearer", "u:secret"), ("Basic", "u:secret"), ("Basic", "dTpzZWNyZXQ=")],
    )
    @pytest.mark.parametrize("before", [0, 280, 295])
    async def test_redaction(self, scheme, repeated, before):
        """A token that an answer repeats, plain or as it was sent, is told to nobody, nor half."""
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
        """What an answer gives as a path cannot change the host that gets the token."""
        async with upstream("https://api.example.com", token_env="TOKEN") as up:
            with pytest.raises(ProtocolError, match="no path"):
                await up.request("GET", path)

    async def test_paths(self):
        """Paths lie below the address, whatever they hold, and nothing is the address itself."""
        async with upstream("https://api.example.com/v1") as up:
            for path in ("", "/x?y=1", "?y=1", ":predict", "/é", "/@10.0.0.1"):
                assert up.url(path) == "https://api.example.com/v1" + path
                assert httpx.URL(up.url(path)).host == "api.example.com"


class TestFetch:
    async def test_pinned_without_token(self):
        """A result on an allowed host comes from the checked address, without token.

        A name that turns private after the check is refused when it is asked for again.
        """
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
            assert await up.fetch("https://cdn.example.net/a.png", Turn()) == b"png"
            assert looked_up == ["cdn.example.net"]
            with pytest.raises(ProtocolError, match="private"):
                await up.fetch("https://cdn.example.net/a.png", Turn())
        [request] = seen
        assert request.url.host == "93.184.216.34"
        assert request.headers["host"] == "cdn.example.net"
        assert request.extensions["sni_hostname"] == "cdn.example.net"
        assert not {"authorization", "x-org"} & set(request.headers)

    async def test_loopback_elsewhere(self):
        """A result on another port of this machine is refused unless it was allowed."""
        async with FaultServer([answer(body=b"x")]) as server:
            async with upstream("http://127.0.0.1:9") as up:
                # Same host, another port: not the upscaler's origin.
                with pytest.raises(ProtocolError, match="https"):
                    await up.fetch(f"{server.url}/a.png", Turn())
            async with upstream("http://127.0.0.1:9", allow_private=True) as up:
                assert await up.fetch(f"{server.url}/a.png", Turn()) == b"x"
