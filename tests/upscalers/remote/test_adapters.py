"""Cog and Replicate, Gradio, and foreign servers of the Open Inference Protocol."""

import asyncio
import json
from contextlib import nullcontext

import httpx
import numpy as np
import pytest

from harness.factories import encoded
from harness.faults import FaultServer, answer, reset, silent
from harness.pictures import adapter, decoded, from_uri, sample, uri
from harness.waiting import cancelled
from trustscale_server.platform.errors import ProtocolError, UpscalerFailed, UpscalerUnavailable
from trustscale_server.upscalers.bounded_json import MAX_VALUES
from trustscale_server.upscalers.failures import (
    AnswerLost,
    Filtered,
    GenerationFailed,
    OutOfBounds,
    QuotaSpent,
)
from trustscale_server.upscalers.tensors import HEADER_LENGTH, decode_message, encode_message


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

    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [({"status": "failed", "error": "CUDA out of memory"}, GenerationFailed, "CUDA"),
         ({"status": "failed", "error": "NSFW content detected"}, Filtered, "NSFW"),
         ({"status": "canceled"}, UpscalerUnavailable, "cancelled"),
         ({"status": "odd"}, ProtocolError, "odd"),
         ({}, ProtocolError, "no image at ''; its answer holds nothing: set output_pointer"),
         ({"output": {"png": "x"}}, ProtocolError, "holds /png: set output_pointer")],
    )  # fmt: skip
    async def test_failures_inside_200(self, source, changes, kind, words):
        reply = httpx.Response(200, json=prediction(**changes))
        with pytest.raises(kind, match=words):
            await cog(lambda request: reply).generate(source, [1])

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
        """When nobody waits, the server is told until it has ended; close waits for that."""
        async with FaultServer([silent, answer(json={}), answer(404)]) as server:
            up = adapter(kind="cog", url=server.url, scale=2)
            task = asyncio.create_task(up.generate(source, [1]))
            await cancelled(task, lambda: server.asked)
            await up.close()
            made, *told = [asked.path for asked in server.asked]
            assert told == [f"{made}/cancel"] * 2

    async def test_a_lost_answer(self, source):
        """What may still run there is cancelled before it is asked for again."""
        async with FaultServer([reset, answer(404)]) as server:
            up = adapter(kind="cog", url=server.url, scale=2)
            with pytest.raises(AnswerLost):
                await up.generate(source, [1])
            await up.close()
            made, cancelled = [asked.path for asked in server.asked]
            assert cancelled == f"{made}/cancel"

    @pytest.mark.parametrize(
        ("status", "serves"), [("READY", True), ("BUSY", True), ("SETUP_FAILED", False)]
    )
    async def test_check(self, status, serves):
        """A ready or busy server can serve, and the fingerprint is known then."""
        up = cog(lambda request: httpx.Response(200, json={"status": status}))
        with nullcontext() if serves else pytest.raises(UpscalerUnavailable):
            await up.probe()
        with nullcontext() if serves else pytest.raises(UpscalerUnavailable, match="not been"):
            assert up.fingerprint.startswith("sha256:")

    async def test_fingerprint(self):
        """It covers what reaches the model, and nothing else."""

        async def fingerprint(**settings):
            up = cog(lambda request: httpx.Response(200, json={"status": "READY"}), **settings)
            await up.probe()
            return up.fingerprint

        base = await fingerprint()
        assert base == await fingerprint(concurrency=2, token_env="TOKEN", allow_private=True)
        assert base != await fingerprint(input={"steps": 5})
        assert base != await fingerprint(seed_field=None)
        assert base != await fingerprint(headers={"x-model": "b"})
        assert await fingerprint(fingerprint_alias="m") != base


PATH = "/tmp/gradio/out 1.png"
META = {"_type": "gradio.FileData"}
RESULT = {"path": PATH, "url": f"http://internal:7860/gradio_api/file={PATH}"}


class App:
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
            complete = f"event: complete\ndata: {json.dumps([RESULT])}"
            events = self.events or ["event: heartbeat\ndata: null", complete]
            return httpx.Response(200, content="\n\n".join(events).encode() + b"\n\n")
        assert path == "/gradio_api/file=/tmp/gradio/out 1.png"
        return httpx.Response(200, content=encoded(sample(decoded(self.png), self.arguments[1])))


def gradio(handler, **settings):
    told = {"kind": "gradio", "url": "http://127.0.0.1", "scale": 2, "api_name": "upscale"}
    return adapter(handler, **{**told, **settings})


async def test_samples(source):
    """Arguments arrive in order; results come from the app's address, after one upload."""
    app = App()
    up = gradio(app, inputs=["{image}", "{seed}", 2])
    got = await up.generate(source, [7, 8])
    assert np.array_equal(got, [sample(source.rgb, seed) for seed in (7, 8)])
    assert app.arguments == [{"path": "/tmp/gradio/in.png", "meta": META}, 8, 2]
    assert app.uploads == 1


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [('event: error\ndata: {"error": null}', GenerationFailed, "without saying why"),
     ('event: error\ndata: {"error": "no image"}', GenerationFailed, "no image"),
     ('event: error\ndata: {"error": "You have exceeded your GPU quota"}', QuotaSpent, "quota"),
     ('event: error\ndata: "404: Not Found"', UpscalerFailed, "failed"),
     ("event: heartbeat\ndata: null", ProtocolError, "without a result"),
     ("event: complete\ndata: [oops", ProtocolError, "no JSON"),
     ("event: complete\ndata: [null]", ProtocolError, "no image"),
     ("event: complete\ndata: [" + "1," * MAX_VALUES + "1]", OutOfBounds, "more than 262,144"),
     ("event: complete\ndata: null", ProtocolError, "holds nothing: set output_pointer")],
)  # fmt: skip
async def test_failures(source, event, kind, words):
    with pytest.raises(kind, match=words):
        await gradio(App([event])).generate(source, [7])


async def test_a_lost_upload(source):
    """After a failure the input is uploaded again: a restarted server has lost it."""
    app = App()
    up = gradio(app)
    await up.generate(source, [7])
    app.events = ['event: error\ndata: {"error": null}']
    with pytest.raises(GenerationFailed):
        await up.generate(source, [8])
    app.events = None
    await up.generate(source, [8])
    assert app.uploads == 2


@pytest.mark.parametrize("prefix", ["@127.0.0.1:9", ".evil.example"])
async def test_a_prefix_that_is_another_host(prefix):
    """A prefix that would change the host is refused before it is called."""
    asked = []

    def handler(request):
        asked.append(str(request.url))
        return httpx.Response(200, json={"api_prefix": prefix, "version": "6"})

    with pytest.raises(UpscalerUnavailable, match="no path"):
        await gradio(handler).probe()
    assert asked == ["http://127.0.0.1/config"]


class Server:
    """A server of the protocol as a handler; it answers in the form it is asked in."""

    def __init__(self, extensions=("binary_tensor_data",), layout="HWC"):
        self.extensions = list(extensions)
        self.has_planes = layout.endswith("CHW")
        self.asked = []

    def __call__(self, request):
        path = request.url.path
        self.asked.append(path)
        if path == "/v2":
            return httpx.Response(200, json={"name": "s", "extensions": self.extensions})
        if path.endswith("/ready"):
            return httpx.Response(200)
        if path.endswith("/infer"):
            return self.infer(request)
        return httpx.Response(200, json={"name": "m", "versions": ["3"], "platform": "x"})

    def infer(self, request):
        length = request.headers.get(HEADER_LENGTH)
        image, *rest = decode_message(request.content, length, "inputs")[1].values()
        if image.datatype == "BYTES":
            samples = encoded(sample(decoded(image.file())))
        else:
            samples = self.samples(image.numbers(), rest[0].numbers().ravel() if rest else [0])
        parts, headers = encode_message(
            {}, "outputs", {"samples": samples}, binary=length is not None
        )
        return httpx.Response(200, content=b"".join(parts), headers=headers)

    def samples(self, image, seeds):
        rgb = image.reshape(image.shape[-3:])
        if self.has_planes:
            rgb = rgb.transpose(1, 2, 0)
        if image.dtype == np.float32:
            rgb = np.rint(rgb * 255).astype(np.uint8)
        stack = np.stack([sample(rgb, int(seed)) for seed in seeds])
        if self.has_planes:
            stack = stack.transpose(0, 3, 1, 2)
        return stack if image.dtype == np.uint8 else stack.astype(np.float32) / 255


def oip(handler, **settings):
    return adapter(handler, kind="oip", url="http://127.0.0.1", scale=2, model="m", **settings)


class TestUpscaler:
    @pytest.mark.parametrize("extensions", [["binary_tensor_data"], []])
    async def test_samples(self, source, extensions):
        """A call gives a sample, in binary where the server offers it."""
        up = oip(Server(extensions), seed_input="seeds")
        got = await up.generate(source, [5, 6])
        assert np.array_equal(got, [sample(source.rgb, seed) for seed in (5, 6)])

    @pytest.mark.parametrize("layout", ["NHWC", "CHW", "NCHW"])
    @pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
    async def test_layouts(self, source, layout, datatype):
        up = oip(
            Server(layout=layout), image_layout=layout, output_layout=layout,
            image_datatype=datatype, seed_input="seed",
            seed_shape=[1, 1] if layout.startswith("N") else [1],
        )  # fmt: skip
        [got] = await up.generate(source, [5])
        assert np.array_equal(got, sample(source.rgb, 5))

    @pytest.mark.parametrize(
        ("told", "words"),
        [({"datatype": "INT64"}, "of type int64"), ({"shape": [8, 3]}, "of shape")],
    )
    async def test_wrong_outputs(self, source, told, words):
        usual = {"name": "samples", "shape": [2, 4, 3], "datatype": "UINT8", "data": [0] * 24}
        server = Server()
        server.infer = lambda _: httpx.Response(200, json={"outputs": [{**usual, **told}]})
        with pytest.raises(ProtocolError, match=words):
            await oip(server).generate(source, [1])

    async def test_more_numbers_than_the_picture_has(self, source):
        """The expected size decides how many values of JSON an answer may have."""
        data = [0] * (MAX_VALUES + 5 * 4 * source.height * source.width)
        usual = {"name": "samples", "shape": [len(data)], "datatype": "UINT8", "data": data}
        server = Server()
        server.infer = lambda _: httpx.Response(200, json={"outputs": [usual]})
        with pytest.raises(OutOfBounds, match="more than"):
            await oip(server).generate(source, [1])
