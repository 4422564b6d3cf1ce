"""Cog and Replicate: one protocol, two dialects."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext

import httpx
import numpy as np
import pytest

from app.errors import UpscalerRejected, UpscalerUnavailable
from app.upscalers.remote.errors import (
    AnswerLost,
    Filtered,
    GenerationFailed,
    ProtocolError,
)
from tests.factories import encoded
from tests.upscalers.remote.faults import FaultServer, answer, reset, silent
from tests.upscalers.remote.pictures import adapter, decoded, from_uri, sample, uri
from tests.waiting import until


def cog(handler, **settings):
    return adapter(handler, kind="cog", url="http://cog:5000", scale=2, **settings)


def prediction(**changes):
    return {"id": "p", "status": "succeeded", "output": None, **changes}


class TestCog:
    async def test_request(self, source):
        """The image and the seed arrive in the configured fields, with the fixed input."""
        asked = []

        def handler(request):
            asked.append(request)
            given = json.loads(request.content)["input"]
            assert given["steps"] == 4
            result = sample(decoded(from_uri(given["img"])), given["noise_seed"])
            return httpx.Response(200, json=prediction(output=uri(encoded(result))))

        up = cog(handler, image_field="img", seed_field="noise_seed", input={"steps": 4})
        [got] = await up.generate(source, [7])
        assert np.array_equal(got, sample(source.rgb, 7))
        assert asked[0].method == "PUT"
        assert asked[0].url.path.startswith("/predictions/")
        assert "authorization" not in asked[0].headers

    @pytest.mark.parametrize("none", [None, ""])
    async def test_no_seed_field(self, none, source):
        """A model without seeds is sent none, and says so in its capabilities."""

        def handler(request):
            assert set(json.loads(request.content)["input"]) == {"image"}
            return httpx.Response(200, json=prediction(output=uri(encoded(sample(source.rgb)))))

        up = cog(handler, seed_field=none)
        await up.generate(source, [7])
        assert not up.capabilities.seeds

    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [
            ({"status": "failed", "error": "CUDA out of memory"}, GenerationFailed, "CUDA"),
            ({"status": "failed", "error": "NSFW content detected"}, Filtered, "NSFW"),
            ({"status": "canceled"}, UpscalerUnavailable, "cancelled"),
            ({"status": "odd"}, ProtocolError, "odd"),
            ({}, ProtocolError, "no image"),
            ({"output": {"png": "x"}}, ProtocolError, "output_pointer"),
        ],
    )
    async def test_failures_inside_200(self, source, changes, kind, words):
        """Every way to fail has its own error, with the server's words."""
        reply = httpx.Response(200, json=prediction(**changes))
        with pytest.raises(kind, match=words):
            await cog(lambda request: reply).generate(source, [1])

    @pytest.mark.parametrize("output", [["{}"], {"images": ["{}"]}])
    async def test_outputs(self, source, output):
        """Lists give their first image; a pointer finds it in an object."""
        text = json.dumps(output).replace("{}", uri(encoded(sample(source.rgb))))
        reply = httpx.Response(200, json=prediction(output=json.loads(text)))
        pointer = "/images" if isinstance(output, dict) else ""
        [got] = await cog(lambda request: reply, output_pointer=pointer).generate(source, [1])
        assert got.shape == (96, 96, 3)

    @pytest.mark.parametrize(("size", "words"), [(7, "not base64"), (16, "sent more than 8,4")])
    async def test_how_large_an_answer_may_be(self, source, size, words):
        """Eight megabytes, and what pictures of this size need as text; more is not read."""
        document = json.dumps(prediction(output="data:image/png;base64,?" + "A" * (size * 2**20)))
        pieces = [document[at : at + 2**16].encode() for at in range(0, len(document), 2**16)]
        read = []

        async def body():
            for piece in pieces:
                read.append(len(piece))
                yield piece

        with pytest.raises(ProtocolError, match=words):
            await cog(lambda _: httpx.Response(200, content=body())).generate(source, [1])
        assert sum(read) < 9 * 2**20

    async def test_cancelling_cancels_at_the_server(self, source):
        """When nobody waits any more, the server is told until it has ended; close waits for that.

        Cog accepts a cancellation that comes before its worker has begun, and overlooks it.
        """
        async with FaultServer([silent, answer(json={}), answer(404)]) as server:
            up = adapter(kind="cog", url=server.url, scale=2)
            task = asyncio.create_task(up.generate(source, [1]))
            await until(lambda: server.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await up.close()
            made, *cancelled = [asked.path for asked in server.asked]
            assert cancelled == [f"{made}/cancel"] * 2

    async def test_a_lost_answer(self, source):
        """What may still run there is cancelled before it is asked for again."""
        async with FaultServer([reset, answer(404)]) as server:
            up = adapter(kind="cog", url=server.url, scale=2)
            with pytest.raises(AnswerLost):
                await up.generate(source, [1])
            await up.close()
            made, cancelled = [asked.path for asked in server.asked]
            assert cancelled == f"{made}/cancel"

    async def test_cancelled_after_the_end(self, source, caplog):
        """A call that is cancelled once its upscaler is closed ends like any, without a word."""
        asked = []

        async def silent(request):
            asked.append(request)
            await asyncio.Event().wait()

        up = cog(silent)
        task = asyncio.create_task(up.generate(source, [1]))
        await until(lambda: asked)
        await up.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert (len(asked), caplog.records) == (1, [])

    @pytest.mark.parametrize(
        ("reply", "serves"),
        [
            (httpx.Response(200, json={"status": "READY"}), True),
            (httpx.Response(200, json={"status": "BUSY"}), True),
            (httpx.Response(200, json={"status": "SETUP_FAILED"}), False),
            (httpx.Response(404), False),
            (httpx.Response(200, content=b"hi"), False),
        ],
    )
    async def test_check(self, reply, serves):
        """A ready or busy server can serve, and the fingerprint is known then."""
        up = cog(lambda request: reply)
        with nullcontext() if serves else pytest.raises(UpscalerUnavailable):
            await up.check()
        with nullcontext() if serves else pytest.raises(UpscalerUnavailable, match="not been"):
            assert up.fingerprint.startswith("sha256:")

    async def test_fingerprint(self):
        """It covers what reaches the model, and nothing else."""

        async def fingerprint(**settings):
            up = cog(lambda request: httpx.Response(200, json={"status": "READY"}), **settings)
            await up.check()
            return up.fingerprint

        base = await fingerprint()
        assert base == await fingerprint(
            concurrency=2, attempts=3, token_env="TOKEN", allow_private=True
        )
        assert base != await fingerprint(input={"steps": 5})
        assert base != await fingerprint(seed_field=None)
        assert base != await fingerprint(headers={"x-model": "b"})
        assert await fingerprint(identity="m") != base

    async def test_too_large(self, source):
        """An input over the provider's limit is refused before it is sent."""
        with pytest.raises(UpscalerRejected, match="2,304 pixels; 'up' takes at most 2,000"):
            await cog(None, max_input_pixels=2000).generate(source, [1])
