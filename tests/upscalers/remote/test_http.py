"""Upstream against servers that misbehave."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from app.errors import ConfigError, UpscalerUnavailable
from app.upscalers.remote.errors import BadCredentials, ProtocolError
from app.upscalers.remote.http import Upstream
from app.upscalers.tensors import encode
from app.upscalers.turns import Turn
from tests.servers import free_port
from tests.upscalers.remote.faults import (
    FaultServer,
    answer,
    endless,
    reset,
    slow,
    truncated,
)
from tests.upscalers.remote.pictures import TOKEN, config, patient
from tests.waiting import until


@asynccontextmanager
async def upstream(url, network=None, environ=None, **settings):
    settings = {"kind": "cog", "scale": 2, "url": url, **settings}
    up = Upstream(config(**settings), url, environ or {"TOKEN": TOKEN}, network or patient())
    yield up
    await up.close()


class TestFaults:
    @pytest.mark.parametrize("behaviour", [reset, truncated])
    async def test_broken_connections(self, behaviour):
        """A reset and a truncated body mean: unavailable, try again."""
        async with FaultServer([behaviour]) as server, upstream(server.url) as up:
            with pytest.raises(UpscalerUnavailable, match="broke"):
                await up.request("POST", "/x", json={})

    async def test_slow(self):
        """A server that is silent for longer than the limit is unavailable."""
        silent = slow(3600)
        async with FaultServer([silent]) as server, upstream(server.url, call_timeout_s=0.1) as up:
            with pytest.raises(UpscalerUnavailable, match="in time"):
                await up.request("GET", "/x")

    async def test_nobody_listens(self):
        """A refused connection is unavailable at once."""
        async with upstream(f"http://127.0.0.1:{free_port()}") as up:
            with pytest.raises(UpscalerUnavailable, match="cannot be reached"):
                await up.request("GET", "/x")

    @pytest.mark.parametrize(
        ("behaviour", "settings", "turn", "words"),
        [
            (answer(body=b"x" * 5000), {"max_answer_bytes": 4999}, Turn, "at most 4,999"),
            (endless, {}, lambda: None, "more than"),  # its size is not declared
            # Compression is the way to small bombs.
            (answer(headers={"content-encoding": "gzip"}), {}, lambda: None, "compressed"),
        ],
    )
    async def test_refused_bodies(self, behaviour, settings, turn, words):
        """A body that is, or may become, too large is not read to its end."""
        async with FaultServer([behaviour]) as server, upstream(server.url, **settings) as up:
            with pytest.raises(ProtocolError, match=words):
                await up.request("GET", "/x", turn=turn())
            assert server.asked[0].headers["accept-encoding"] == "identity"

    async def test_redirects_are_answers(self):
        """A redirect is handed over, not followed."""
        moved = answer(307, headers={"location": "http://169.254.169.254/"})
        async with FaultServer([moved]) as server, upstream(server.url) as up:
            assert (await up.request("GET", "/x")).status == 307
            assert len(server.asked) == 1

    async def test_body_in_parts(self):
        """A message in parts is sent with its length, not chunked."""
        parts, headers = encode({}, "inputs", {"a": np.arange(5)}, binary=True)
        async with FaultServer([answer()]) as server, upstream(server.url) as up:
            await up.request("POST", "/x", content=parts, headers=headers)
            assert server.asked[0].body == b"".join(parts)
            assert "transfer-encoding" not in server.asked[0].headers

    async def test_cancelling_drops_the_connection(self):
        """The server notices at once that nobody waits any more."""
        async with FaultServer([slow(3600)]) as server, upstream(server.url) as up:
            task = asyncio.create_task(up.request("GET", "/x"))
            await until(lambda: server.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


class TestEvents:
    async def test_stream(self):
        """Events and their data arrive in order; other lines are ignored."""
        body = b"event: heartbeat\ndata: null\n\n: note\nevent: complete\ndata: [1,\ndata: 2]\n\n"
        async with FaultServer([answer(body=body)]) as server, upstream(server.url) as up:
            assert [event async for event in up.events("/x")] == [
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
            assert [event async for event in up.events("/x")] == [("complete", "ä")]

    @pytest.mark.parametrize("compressed", [False, True])
    async def test_endless_line(self, compressed):
        """A line without an end is counted as it comes; compression is refused before."""
        zipped = answer(body=gzip.compress(bytes(10**7)), headers={"content-encoding": "gzip"})
        async with (
            FaultServer([zipped if compressed else endless]) as server,
            upstream(server.url, max_answer_bytes=4999) as up,
        ):
            with pytest.raises(ProtocolError, match="compressed" if compressed else "4,999"):
                [event async for event in up.events("/x")]

    async def test_endless_stream(self):
        """A stream has a byte cap too."""
        body = b"data: x\n" * 1000
        async with (
            FaultServer([answer(body=body)]) as server,
            upstream(server.url, max_answer_bytes=1000) as up,
        ):
            with pytest.raises(ProtocolError, match="events of more than"):
                [event async for event in up.events("/x")]


class TestToken:
    @pytest.mark.parametrize(
        ("token", "scheme", "sent"),
        [(TOKEN, "Key", f"Key {TOKEN}"), ("u:p", "Basic", "Basic dTpw")],
    )
    async def test_token(self, token, scheme, sent):
        """The token goes to the configured address in the configured form; Basic is encoded."""
        async with (
            FaultServer([answer()]) as server,
            upstream(server.url, environ={"T": token}, token_env="T", token_scheme=scheme) as up,
        ):
            await up.request("GET", "/x")
            assert server.asked[0].headers["authorization"] == sent

    @pytest.mark.parametrize("environ", [{"X": ""}, {"TOKEN": " "}])
    async def test_missing(self, environ):
        """Without its token nothing is called; the variable is named."""
        async with (
            FaultServer([answer()]) as server,
            upstream(server.url, environ=environ, token_env="TOKEN") as up,
        ):
            with pytest.raises(BadCredentials, match="TOKEN"):
                await up.request("GET", "/x")
            assert server.asked == []

    async def test_no_token(self):
        """A variable that holds no token stops the start, by name."""
        with pytest.raises(ConfigError, match="TOKEN"):
            await upstream(
                "http://127.0.0.1", environ={"TOKEN": "a\nb"}, token_env="TOKEN"
            ).__aenter__()

    async def test_redaction(self):
        """A repeated token is taken out of messages."""
        async with upstream("http://127.0.0.1", token_env="TOKEN") as up:
            assert up.redact(f"bad key {TOKEN}!") == "bad key ***!"


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

    async def test_redirect_to_a_private_address(self):
        """A redirect of a result is an error, wherever it leads."""
        moved = answer(302, headers={"location": "http://127.0.0.1:1/secret"})
        async with FaultServer([moved]) as server, upstream(server.url) as up:
            with pytest.raises(ProtocolError, match="redirects are refused"):
                await up.fetch(f"{server.url}/a.png", Turn())
            assert len(server.asked) == 1

    async def test_loopback_elsewhere(self):
        """A result on another port of this machine is refused unless it was allowed."""
        async with FaultServer([answer(body=b"x")]) as server:
            async with upstream("http://127.0.0.1:9") as up:
                # Same host, another port: not the upscaler's origin.
                with pytest.raises(ProtocolError, match="https"):
                    await up.fetch(f"{server.url}/a.png", Turn())
            async with upstream("http://127.0.0.1:9", allow_private=True) as up:
                assert await up.fetch(f"{server.url}/a.png", Turn()) == b"x"
