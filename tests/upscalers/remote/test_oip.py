"""Foreign servers of the Open Inference Protocol."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from app.errors import UpscalerUnavailable
from app.upscalers.remote.errors import ProtocolError
from app.upscalers.tensors import HEADER_LENGTH, decode, encode
from tests.factories import encoded
from tests.upscalers.remote.pictures import adapter, decoded, sample


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
        image, *rest = decode(request.content, length, "inputs")[1].values()
        if image.datatype == "BYTES":
            samples = encoded(sample(decoded(image.file())))
        else:
            samples = self.samples(image.numbers(), rest[0].numbers().ravel() if rest else [0])
        parts, headers = encode({}, "outputs", {"samples": samples}, binary=length is not None)
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
        """One call gives one sample per seed, in binary where the server offers it."""
        up = oip(Server(extensions), seed_input="seeds", samples_per_call=4)
        got = await up.generate(source, [5, 6])
        assert np.array_equal(got, [sample(source.rgb, seed) for seed in (5, 6)])

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
        "outputs",
        [
            [],
            [{"name": "y", "data": [0] * 24}],
            [{}],
            [{"data": [0] * 24}],
            [{"datatype": "INT64", "data": [0] * 24}],
            [{"datatype": "FP32", "shape": [1], "data": [0]}],
        ],
    )
    async def test_wrong_outputs(self, source, outputs):
        """An answer without the tensor that was asked for is no sample."""
        usual = {"name": "samples", "shape": [2, 4, 3], "datatype": "UINT8"}
        server = Server()
        server.infer = lambda request: httpx.Response(
            200, json={"outputs": [{**usual, **told} for told in outputs]}
        )
        with pytest.raises(ProtocolError):
            await oip(server).generate(source, [1])

    async def test_not_ready(self):
        """A model that is not ready is unavailable."""

        def handler(request):
            return httpx.Response(400 if request.url.path.endswith("/ready") else 200, json={})

        with pytest.raises(UpscalerUnavailable, match="not ready"):
            await oip(handler).check()
