"""Cog and Replicate: one protocol, two dialects."""

from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest

from app.errors import UpscalerRejected, UpscalerUnavailable
from app.upscalers.remote.errors import (
    BadCredentials,
    Busy,
    Filtered,
    GenerationFailed,
    Misconfigured,
    ProtocolError,
    QuotaSpent,
)
from tests.upscalers.remote.faults import FaultServer, answer, slow
from tests.upscalers.remote.pictures import (
    TOKEN,
    adapter,
    decoded,
    encoded,
    from_uri,
    sample,
    uri,
)
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
            result = sample(decoded(from_uri(given["img"])), given["noise_seed"])
            return httpx.Response(200, json=prediction(output=uri(encoded(result))))

        up = cog(handler, image_field="img", seed_field="noise_seed", input={"steps": 4})
        [got] = await up.generate(source, [7])
        assert np.array_equal(got, sample(source.rgb, 7))
        assert asked[0].method == "PUT"
        assert asked[0].url.path.startswith("/predictions/")
        body = json.loads(asked[0].content)["input"]
        assert (body["steps"], body["noise_seed"]) == (4, 7)
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
        ("reply", "kind", "words"),
        [
            (httpx.Response(200, json=prediction(status="failed", error="CUDA out of memory")),
             GenerationFailed, "CUDA"),
            (httpx.Response(200, json=prediction(status="failed", error="NSFW content detected")),
             Filtered, "NSFW"),
            (httpx.Response(200, json=prediction(status="canceled")), UpscalerUnavailable,
             "cancelled"),
            (httpx.Response(200, json=prediction(status="odd")), ProtocolError, "odd"),
            (httpx.Response(200, json=prediction()), ProtocolError, "no image"),
            (httpx.Response(200, json=prediction(output={"png": "x"})), ProtocolError,
             "output_pointer"),
            (httpx.Response(200, content=b"hello"), ProtocolError, "JSON"),
            (httpx.Response(409, json={"error": "At capacity", "status": "failed"}), Busy,
             "At capacity"),
            (httpx.Response(503, json={"error": "setup", "status": "failed"}), Busy, "setup"),
            (httpx.Response(422, json={"detail": [{"loc": ["body", "input", "image"],
                                                   "msg": "Field required"}]}),
             UpscalerRejected, "input.image: Field required"),
        ],
    )  # fmt: skip
    async def test_failures(self, source, reply, kind, words):
        """Every way to fail has its own error, with the server's words."""
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

    async def test_cancelling_cancels_at_the_server(self, source):
        """When nobody waits any more, the server is told, and close waits for that."""
        async with FaultServer([slow(3600), answer(json={})]) as server:
            up = adapter(kind="cog", url=server.url, scale=2)
            task = asyncio.create_task(up.generate(source, [1]))
            await until(lambda: server.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await up.close()
            assert server.asked[1].path == server.asked[0].path + "/cancel"

    async def test_cancelled_after_the_end(self, source, caplog):
        """A call that is cancelled once its upscaler is closed ends like any, without a word."""
        async with FaultServer([slow(3600)]) as server:
            up = adapter(kind="cog", url=server.url, scale=2)
            task = asyncio.create_task(up.generate(source, [1]))
            await until(lambda: server.asked)
            up._is_closed = True
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert not up._goodbyes
            assert len(server.asked) == 1
            await up.close()

    @pytest.mark.parametrize("status", ["READY", "BUSY"])
    async def test_check(self, status):
        """A ready or busy server can serve, and the fingerprint is known then."""
        up = cog(lambda request: httpx.Response(200, json={"status": status}))
        with pytest.raises(UpscalerUnavailable, match="not been reached"):
            _ = up.fingerprint
        await up.check()
        assert up.fingerprint.startswith("sha256:")

    @pytest.mark.parametrize(
        "reply", [httpx.Response(200, json={"status": "SETUP_FAILED"}), httpx.Response(404),
                  httpx.Response(200, content=b"hi")],
    )  # fmt: skip
    async def test_check_fails(self, reply):
        """Anything else cannot."""
        with pytest.raises(UpscalerUnavailable):
            await cog(lambda request: reply).check()

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


def replicate(fakes, **settings):
    return adapter(
        fakes,
        kind="replicate",
        poll_interval_s=0.01,
        **{"model": "o/m", "scale": 2, "url": "http://127.0.0.1/v1", **settings},
    )


@pytest.fixture
def state(state):
    state.base = "http://127.0.0.1"
    return state


class TestReplicate:
    @pytest.mark.parametrize("polls", [0, 1, 3])
    async def test_sample(self, source, state, fakes, polls):
        """Finished at once or after polling, the sample is that of the seed."""
        state.polls = polls
        up = replicate(fakes)
        [got] = await up.generate(source, [7])
        assert np.array_equal(got, sample(source.rgb, 7))
        asked = state.headers[1]
        assert asked["authorization"] == f"Bearer {TOKEN}"
        assert (asked["prefer"], asked["cancel-after"]) == ("wait=60", "120s")

    async def test_latest_version_is_pinned(self, state, fakes, source):
        """A community model runs the version that its fingerprint names."""
        up = replicate(fakes)
        await up.generate(source, [7])
        assert state.predictions["p0"]["now"]["version"] == "f" * 64

    async def test_official_model(self, state, fakes, source):
        """An official model has an address of its own."""
        await replicate(fakes, model="o/official").generate(source, [7])
        assert state.predictions["p0"]["now"]["version"] == "hidden"

    async def test_versions_have_fingerprints(self, fakes):
        """Another version is another upscaler."""
        prints = set()
        for model in ("o/m", f"o/m:{'a' * 64}", f"o/m:{'b' * 64}"):
            up = replicate(fakes, model=model)
            await up.check()
            prints.add(up.fingerprint)
        assert len(prints) == 3

    async def test_upload_once(self, source, state, fakes):
        """A large image is uploaded once for all calls of a request, and again for the next."""
        up = replicate(fakes, upload_above_bytes=10)
        await asyncio.gather(*(up.generate(source, [seed]) for seed in range(1, 5)))
        assert state.uploads == 1

    async def test_wrong_key(self, source, fakes):
        """A wrong key is named as such, with what to check."""
        up = replicate(fakes, token_scheme="Token")
        with pytest.raises(BadCredentials, match=r"valid authentication token.*token_env"):
            await up.check()

    async def test_wrong_model(self, fakes):
        """A wrong model name is named as such."""
        with pytest.raises(Misconfigured, match="Check its url and model"):
            await replicate(fakes, model="o/missing").check()

    @pytest.mark.parametrize(("fail", "kind"), [("quota", QuotaSpent), ("model", GenerationFailed)])
    async def test_failures(self, source, state, fakes, fail, kind):
        """No credit and a failed model are different errors."""
        state.fail = fail
        with pytest.raises(kind):
            await replicate(fakes).generate(source, [1])

    async def test_filtered(self, source, state, fakes):
        """A withheld sample is filtered."""
        state.filtered = {5}
        with pytest.raises(Filtered):
            await replicate(fakes).generate(source, [5])

    async def test_cancel(self, source, state, fakes):
        """A prediction that nobody waits for is cancelled."""
        state.polls = 10**6
        up = replicate(fakes)
        await up.check()
        task = asyncio.create_task(up.generate(source, [1]))
        await until(lambda: state.predictions.get("p0", {}).get("polls", 10**6) < 10**6)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.close()
        assert state.cancelled == ["p0"]

    async def test_polls_elsewhere(self, source, state, fakes):
        """A status URL on another host is refused: the token would go there."""
        state.base = "http://evil.example"
        with pytest.raises(ProtocolError, match=r"evil\.example"):
            await replicate(fakes).generate(source, [1])

    @pytest.mark.parametrize("link", ["@10.0.0.1/p", ".evil.example/p"])
    async def test_links_that_would_become_another_host(self, source, link):
        """A link that is neither a URL nor a path is refused: for asking and for cancelling."""
        asked = []

        def handler(request):
            asked.append(request.url.host)
            urls = {"get": link, "cancel": link}
            return httpx.Response(
                200, json={"latest_version": {"id": "a"}, "status": "starting", "urls": urls}
            )

        up = replicate(handler, url="http://127.0.0.1")
        with pytest.raises(ProtocolError, match="no path"):
            await up.generate(source, [1])
        await up.close()
        assert set(asked) == {"127.0.0.1"}

    async def test_a_broken_poll_is_asked_again(self, source):
        """A poll that fails does not throw away the paid generation."""
        replies = iter(
            [
                httpx.Response(200, json={"latest_version": {"id": "a"}}),
                httpx.Response(201, json={"status": "starting", "urls": {"get": "/v1/p"}}),
                httpx.Response(502),
                httpx.Response(429, headers={"retry-after": "0"}),
                httpx.Response(200, json=prediction(output=uri(encoded(sample(source.rgb))))),
            ]
        )
        [got] = await replicate(lambda request: next(replies)).generate(source, [1])
        assert got.shape == (96, 96, 3)
