"""Foreign servers of the Open Inference Protocol."""

from __future__ import annotations

import json
import struct

import httpx
import numpy as np
import pytest

from app.errors import UpscalerRejected, UpscalerUnavailable
from app.upscalers.remote.errors import (
    BadCredentials,
    Busy,
    GenerationFailed,
    Misconfigured,
    ProtocolError,
)
from app.upscalers.tensors import HEADER_LENGTH
from tests.upscalers.remote.pictures import adapter, decoded, encoded, sample


def output(**changes):
    entry = {"name": "samples", "shape": [2, 4, 3], "datatype": "UINT8"}
    return {"outputs": [{**entry, **changes}]}


class Server:
    """A server of the protocol as a handler; it answers in the form it is asked in."""

    def __init__(self, extensions=("binary_tensor_data",), **changes):
        self.extensions = list(extensions)
        self.changes = changes
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
        size = int(request.headers.get(HEADER_LENGTH, len(request.content)))
        document = json.loads(request.content[:size])
        image, *rest = document["inputs"]
        tail = memoryview(request.content)[size:]
        binary = HEADER_LENGTH in request.headers
        if image["datatype"] == "BYTES":
            rgb = decoded(bytes(tail[4:]))
            result = sample(rgb, 0)
            raw = encoded(result)
            entry = {"name": "samples", "shape": [1], "datatype": "BYTES",
                     "parameters": {"binary_data_size": len(raw) + 4}}  # fmt: skip
            return self.binary(entry, struct.pack("<I", len(raw)) + raw)
        dtype = np.uint8 if image["datatype"] == "UINT8" else np.float32
        if binary:
            data = np.frombuffer(tail[: image["parameters"]["binary_data_size"]], dtype)
            seeds = np.frombuffer(tail[image["parameters"]["binary_data_size"] :], "<i8")
        else:
            data = np.array(image["data"], dtype)
            seeds = np.array(rest[0]["data"]) if rest else np.zeros(1)
        data = data.reshape(image["shape"])
        if "CHW" in self.changes.get("layout", ""):
            data = data.reshape(data.shape[-3:]).transpose(1, 2, 0)
        rgb = data.reshape(data.shape[-3:])
        if dtype == np.float32:
            rgb = np.rint(rgb * 255).astype(np.uint8)
        stack = np.stack([sample(rgb, int(seed)) for seed in (seeds if len(seeds) else [0])])
        if "CHW" in self.changes.get("layout", ""):
            stack = np.ascontiguousarray(stack.transpose(0, 3, 1, 2))
        if dtype == np.float32:
            stack = stack.astype(np.float32) / 255
        entry = {"name": "samples", "shape": list(stack.shape), "datatype": image["datatype"]}
        if binary:
            entry["parameters"] = {"binary_data_size": stack.nbytes}
            return self.binary(entry, stack.tobytes())
        return httpx.Response(200, json={"outputs": [{**entry, "data": stack.ravel().tolist()}]})

    def binary(self, entry, tail):
        head = json.dumps({"model_name": "m", "outputs": [entry]}).encode()
        return httpx.Response(200, content=head + tail, headers={HEADER_LENGTH: str(len(head))})


def oip(handler, **settings):
    return adapter(handler, kind="oip", url="http://127.0.0.1", scale=2, model="m", **settings)


class TestUpscaler:
    @pytest.mark.parametrize("extensions", [["binary_tensor_data"], []])
    async def test_samples(self, source, extensions):
        """One call gives one sample per seed, in binary where the server offers it."""
        up = oip(Server(extensions), seed_input="seeds", samples_per_call=4)
        got = await up.generate(source, [5, 6])
        assert [
            np.array_equal(g, sample(source.rgb, s)) for g, s in zip(got, (5, 6), strict=True)
        ] == [True, True]

    @pytest.mark.parametrize("layout", ["NHWC", "CHW", "NCHW"])
    @pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
    async def test_layouts(self, source, layout, datatype):
        """Axes and types are as configured, and nothing is lost."""
        up = oip(
            Server(layout=layout),
            image_layout=layout,
            output_layout=layout,
            image_datatype=datatype,
            seed_input="seed",
            seed_shape=[1, 1] if layout.startswith("N") else [1],
        )
        [got] = await up.generate(source, [5])
        assert np.array_equal(got, sample(source.rgb, 5))

    async def test_encoded_file(self, source):
        """A PNG as BYTES is sent and received."""
        up = oip(Server(), image_layout="PNG", output_layout="PNG")
        [got] = await up.generate(source, [5])
        assert np.array_equal(got, sample(source.rgb, 0))

    async def test_version(self):
        """A version is part of the address, and of the fingerprint."""
        server = Server()
        up, other = oip(server, version="2"), oip(server)
        await up.check()
        await other.check()
        assert server.asked[0] == "/v2/models/m/versions/2"
        assert up.fingerprint != other.fingerprint

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (httpx.Response(400, json={"error": "Expected [-1,-1,3]"}), UpscalerRejected),
            (httpx.Response(401), BadCredentials),
            (httpx.Response(404, content=b'{"error":"no model"}',
                            headers={"content-type": "text/plain"}), Misconfigured),
            (httpx.Response(500, content=b"Internal Server Error"), GenerationFailed),
            (httpx.Response(503, json={"error": "Exceeds maximum queue size"}), Busy),
            (httpx.Response(200, json={"outputs": []}), ProtocolError),
            (httpx.Response(200, json=output(name="y", data=[0] * 24)), ProtocolError),
            (httpx.Response(200, json=output()), ProtocolError),
            (httpx.Response(200, json=output(data=[0] * 24)), ProtocolError),
            (httpx.Response(200, json=output(datatype="INT64", data=[0] * 24)), ProtocolError),
            (httpx.Response(200, json=output(datatype="FP32", shape=[1], data=[0])), ProtocolError),
        ],
    )  # fmt: skip
    async def test_failures(self, source, reply, kind):
        """Errors in JSON, in text and inside 200 have their meanings."""
        server = Server()
        server.infer = lambda request: reply
        with pytest.raises(kind):
            await oip(server).generate(source, [1])

    async def test_not_ready(self):
        """A model that is not ready is unavailable."""

        def handler(request):
            return httpx.Response(400 if request.url.path.endswith("/ready") else 200, json={})

        with pytest.raises(UpscalerUnavailable, match="not ready"):
            await oip(handler).check()
