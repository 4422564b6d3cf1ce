"""Hosted APIs, against fakes of them."""

import asyncio

import httpx
import numpy as np
import pytest

from harness.factories import encoded
from harness.pictures import adapter, sample, uri
from harness.pictures import source as picture
from harness.waiting import cancelled
from tests.upscalers.remote.hosted import State, base64_of, hosted
from trustscale_server.platform.errors import ProtocolError, UpscalerRejected
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.failures import (
    AnswerLost,
    BadCredentials,
    Busy,
    Filtered,
    GenerationFailed,
    QuotaSpent,
    TooManyCalls,
    WrongSample,
)
from trustscale_server.upscalers.remote import predictions

BASE = "http://127.0.0.1"
REPLICATE = {"kind": "replicate", "model": "o/m", "scale": 2}
PRESETS = {
    "fal-queue": {"poll": {"interval_s": 0.01}},
    "stability-creative": {"poll": {"interval_s": 0.01}},
    "hf-endpoint": {"scale": 2, "request": {"path": "/hf"}},
}


def hosted_by(fakes, name, **settings):
    if name == "replicate":
        return adapter(fakes, **{**REPLICATE, "url": f"{BASE}/v1", **settings})
    return adapter(fakes, kind="http", preset=name, url=BASE, **PRESETS.get(name, {}), **settings)


@pytest.fixture
def state():
    return State()


@pytest.fixture
def fakes(state):
    return httpx.ASGITransport(hosted(state))


@pytest.mark.parametrize(
    ("name", "seeds", "scale"),
    [
        ("replicate", [7], 2),
        ("fal-queue", [7], 2),
        ("stability-fast", [None], 4),
        ("stability-conservative", [7], 4),  # picks its own size
        ("stability-creative", [7], 4),
        ("a1111-extras", [], 4),
        ("a1111-sd-upscale", [7], 2),
        ("hf-endpoint", [], 2),
        ("openai-images-edits", [], 1),
    ],
)
async def test_sample(source, state, fakes, name, seeds, scale):
    up = hosted_by(fakes, name)
    await up.probe()
    [got] = await up.generate(source, [7])
    assert got.shape == (48 * scale, 48 * scale, 3)
    assert state.seeds == seeds
    assert up.capabilities.seeds is (seeds == [7])
    if seeds == [7] and name != "stability-conservative":
        assert np.array_equal(got, sample(source.rgb, 7, scale))


@pytest.mark.parametrize("name", ["replicate", "fal-queue"])
async def test_cancel(source, state, fakes, name):
    state.polls = 10**6
    up = hosted_by(fakes, name)
    await up.probe()
    task = asyncio.create_task(up.generate(source, [1]))
    await cancelled(task, lambda: any(row["polls"] < 10**6 for row in state.predictions.values()))
    await up.close()
    assert state.cancelled == list(state.predictions)


class Beginning(httpx.AsyncBaseTransport):
    """Lies before the fakes: `after` runs when a POST was served, before its answer."""

    def __init__(self, fakes, after):
        self.fakes, self.after, self.begun = fakes, after, 0

    async def handle_async_request(self, request):
        reply = await self.fakes.handle_async_request(request)
        if request.method == "POST" and not request.url.path.endswith("/cancel"):
            self.begun += 1
            await self.after(self.begun)
        return reply


@pytest.mark.parametrize("name", ["replicate", "fal-queue"])
async def test_cancelled_while_it_begins(source, state, fakes, name):
    """A client that leaves before the first answer leaves nothing that is paid for."""
    answered = asyncio.Event()
    between = Beginning(fakes, lambda _: answered.wait())
    up = hosted_by(between, name)
    await up.probe()
    task = asyncio.create_task(up.generate(source, [1]))
    await cancelled(task, lambda: between.begun)
    answered.set()
    await up.close()
    assert state.cancelled == list(state.predictions) != []


@pytest.mark.parametrize("name", ["replicate", "fal-queue"])
async def test_given_up(source, state, fakes, name):
    """Work whose state cannot be asked for is cancelled before it is asked for anew."""
    state.fail = "polls"
    up = hosted_by(fakes, name)
    with pytest.raises(GenerationFailed):
        await up.generate(source, [1])
    await up.close()
    assert state.cancelled == list(state.predictions)


@pytest.mark.parametrize(
    ("name", "fail", "kind", "words"),
    [("stability-conservative", "filter", Filtered, "withheld"),
     ("stability-creative", "filter", Filtered, "withheld"),
     ("fal-queue", "model", UpscalerRejected, r"body\.image_url: too small")],
)  # fmt: skip
async def test_failures(source, state, fakes, name, fail, kind, words):
    state.fail = fail
    with pytest.raises(kind, match=words):
        await hosted_by(fakes, name).generate(source, [7])


def stability(status, name, text):
    return status, {"id": "1", "name": name, "errors": [text]}


@pytest.mark.parametrize(
    ("name", "answer", "kind", "words", "pause"),
    [
        ("replicate", (401, {"detail": "no"}), BadCredentials, "token_env", None),
        # A moderated input is refused for good, although the status is 403.
        ("stability-fast", stability(403, "content_moderation", "Your request was flagged."),
         UpscalerRejected, "flagged", None),
        # Its pause is known; Hugging Face tells how long a model is loaded.
        ("stability-fast", stability(429, "rate_limit_exceeded", "slow"), TooManyCalls, "slow", 60),
        ("hf-endpoint", (503, {"error": "m is currently loading", "estimated_time": 7.5}),
         Busy, "loading", 7.5),
        # Forge answers with its input when its upscaler is missing.
        ("a1111-extras", (200, {"image": base64_of(picture().rgb)}),
         WrongSample, "of 48×48 pixels", None),
        # A 429 like a rate limit.
        ("openai-images-edits", (429, {"error": {
            "message": "You exceeded your current quota", "type": "insufficient_quota",
            "param": None, "code": "insufficient_quota"}}),
         QuotaSpent, "exceeded your current quota", None),
    ],
)  # fmt: skip
async def test_refusals(source, name, answer, kind, words, pause):
    status, body = answer
    up = hosted_by(lambda _: httpx.Response(status, json=body), name)
    with pytest.raises(kind, match=words) as failure:
        await up.generate(source, [7])
    assert pause is None or failure.value.retry_after == pause


class TestReplicate:
    async def test_a_lost_answer(self, source, state, fakes):
        """A prediction whose creation was not answered is found again, not made and paid twice."""

        async def lose(begun):
            if begun in {1, 2}:
                raise httpx.ReadError("broken")

        up = hosted_by(Beginning(fakes, lose), "replicate")
        got = await asyncio.gather(*(up.generate(source, [seed]) for seed in (7, 8, 9)))
        assert sorted(state.seeds) == [7, 8, 9]
        for seed, [one] in zip((7, 8, 9), got, strict=True):
            assert np.array_equal(one, sample(source.rgb, seed))

    async def test_a_lost_request(self, source, state, fakes):
        """What never came there is tried again as usual; so is what another input has made."""

        async def lose(begun):
            if begun == 2:
                state.predictions.popitem()
                raise httpx.ReadError("broken")

        up = hosted_by(Beginning(fakes, lose), "replicate")
        await up.generate(Source(255 - source.rgb), [7])
        with pytest.raises(AnswerLost):
            await up.generate(source, [7])

    @pytest.mark.parametrize(("model", "version"), [("o/m", "f" * 64), ("o/official", "hidden")])
    async def test_versions(self, state, fakes, source, model, version):
        """A community model runs the version of its fingerprint; official ones hide theirs.

        It is asked for its state, and ends by itself when nobody asks.
        """
        state.polls = 3
        await hosted_by(fakes, "replicate", model=model).generate(source, [7])
        assert state.predictions["p0"]["now"]["version"] == version
        assert "prefer" not in state.headers[1]
        assert state.headers[1]["cancel-after"] == "120s"

    async def test_upload_once(self, source, state, fakes, monkeypatch):
        monkeypatch.setattr(predictions, "_MAX_INLINE_BYTES", 10)
        up = hosted_by(fakes, "replicate")
        await asyncio.gather(*(up.generate(source, [seed]) for seed in range(1, 5)))
        assert state.uploads == 1

    async def test_polls_elsewhere(self, source, state, fakes):
        """A status URL on another host is refused: the token would go there."""
        state.base = "http://evil.example"
        with pytest.raises(ProtocolError, match=r"evil\.example"):
            await hosted_by(fakes, "replicate").generate(source, [1])

    async def test_a_broken_poll_is_asked_again(self, source):
        done = {"status": "succeeded", "output": uri(encoded(sample(source.rgb)))}
        replies = iter(
            [
                httpx.Response(200, json={"latest_version": {"id": "a"}}),
                httpx.Response(201, json={"status": "starting", "urls": {"get": "/v1/p"}}),
                httpx.Response(502),
                httpx.Response(429, headers={"retry-after": "0"}),
                httpx.Response(200, json=done),
            ]
        )
        [got] = await hosted_by(lambda _: next(replies), "replicate").generate(source, [1])
        assert got.shape == (96, 96, 3)
