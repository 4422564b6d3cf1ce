"""Gradio: upload, call, event stream, fetch."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from app.errors import UpscalerFailed, UpscalerUnavailable
from app.upscalers.remote.errors import Busy, GenerationFailed, ProtocolError, QuotaSpent
from tests.factories import encoded
from tests.upscalers.remote.pictures import adapter, decoded, sample

PATH = "/tmp/gradio/out 1.png"
META = {"_type": "gradio.FileData"}
RESULT = {"path": PATH, "url": f"http://internal:7860/gradio_api/file={PATH}"}


class App:
    """A Gradio app as a handler."""

    def __init__(self, events=None):
        self.events = events
        self.uploads = 0
        self.png = b""
        self.arguments = None

    def __call__(self, request):
        path = request.url.path
        if path == "/config":
            return httpx.Response(200, json={"api_prefix": "/gradio_api", "version": "6.31.0"})
        if path == "/gradio_api/info":
            return httpx.Response(200, json={"named_endpoints": {"/upscale": {}}})
        if path == "/gradio_api/upload":
            self.uploads += 1
            start = request.content.index(b"\x89PNG")
            self.png = request.content[start : request.content.index(b"IEND") + 8]
            return httpx.Response(200, json=["/tmp/gradio/in.png"])
        if path == "/gradio_api/call/upscale":
            self.arguments = json.loads(request.content)["data"]
            return httpx.Response(200, json={"event_id": "e1"})
        if path == "/gradio_api/call/upscale/e1":
            events = self.events or [
                "event: heartbeat\ndata: null",
                "event: generating\ndata: [1]",
                f"event: complete\ndata: {json.dumps([RESULT])}",
            ]
            return httpx.Response(200, content="\n\n".join(events).encode() + b"\n\n")
        assert path == "/gradio_api/file=/tmp/gradio/out 1.png"
        return httpx.Response(200, content=encoded(sample(decoded(self.png), self.arguments[1])))


def gradio(handler, **settings):
    told = {"kind": "gradio", "url": "http://127.0.0.1", "scale": 2, "api_name": "upscale"}
    return adapter(handler, **{**told, **settings})


async def test_samples(source):
    """Arguments arrive in order; results come from the app's own address, after one upload."""
    app = App()
    up = gradio(app, inputs=["{image}", "{seed}", 2])
    got = await up.generate(source, [7, 8])
    assert np.array_equal(got, [sample(source.rgb, seed) for seed in (7, 8)])
    assert app.arguments == [{"path": "/tmp/gradio/in.png", "meta": META}, 8, 2]
    assert app.uploads == 1


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        ('event: error\ndata: {"error": null}', GenerationFailed, "without saying why"),
        ('event: error\ndata: {"error": "no image"}', GenerationFailed, "no image"),
        ('event: error\ndata: {"error": "You have exceeded your GPU quota"}', QuotaSpent, "quota"),
        ('event: error\ndata: "404: Not Found"', UpscalerFailed, "failed"),
        ("event: heartbeat\ndata: null", ProtocolError, "without a result"),
        ("event: complete\ndata: [oops", ProtocolError, "no JSON"),
        ("event: complete\ndata: [null]", ProtocolError, "no image"),
    ],
)
async def test_failures(source, event, kind, words):
    """Only a complete event with an image counts as success."""
    with pytest.raises(kind, match=words):
        await gradio(App([event])).generate(source, [7])


async def test_a_lost_upload(source):
    """A server that restarts may lose what it was given, so after a failure it is given again."""
    app = App()
    up = gradio(app)
    await up.generate(source, [7])
    app.events = ['event: error\ndata: {"error": null}']
    with pytest.raises(GenerationFailed):
        await up.generate(source, [8])
    app.events = None
    await up.generate(source, [8])
    assert app.uploads == 2


async def test_full_queue(source):
    """A full queue is busy."""
    app = App()

    def handler(request):
        full = httpx.Response(503, json={"detail": "Queue is full. Max size is 4."})
        return full if request.url.path == "/gradio_api/call/upscale" else app(request)

    with pytest.raises(Busy, match="Queue is full"):
        await gradio(handler).generate(source, [7])


async def test_wrong_endpoint():
    """A wrong endpoint is named, with those there are."""
    with pytest.raises(UpscalerUnavailable, match="no endpoint /other; it has: /upscale"):
        await gradio(App(), api_name="/other").check()


def test_seeds():
    """An app whose inputs have no seed takes none."""
    assert gradio(App()).capabilities.seeds
    assert not gradio(App(), inputs=["{image}"]).capabilities.seeds


@pytest.mark.parametrize("prefix", ["@127.0.0.1:9", ".evil.example"])
async def test_a_prefix_that_is_another_host(prefix):
    """A prefix that would make another host of the address is refused, and nobody is asked."""
    asked = []

    def handler(request):
        asked.append(str(request.url))
        return httpx.Response(200, json={"api_prefix": prefix, "version": "6"})

    with pytest.raises(UpscalerUnavailable, match="no path"):
        await gradio(handler).check()
    assert asked == ["http://127.0.0.1/config"]
