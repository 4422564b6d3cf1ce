"""What a worker takes for a request; the format itself is judged in tests/upscalers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from app.upscalers.tensors import HEADER_LENGTH, encode
from tests.factories import encoded
from tests.workers.fakes import noise
from workers.errors import InputError, TooLarge
from workers.protocol import parse_request
from workers.settings import WorkerSettings

SETTINGS = WorkerSettings(max_pixels=100, max_samples=4)
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
SEEDS = np.array([1, -2], np.int64)


def _parse(document=None, **tensors):
    named = {"image": PIXELS, "seeds": SEEDS, **tensors}
    given = {name: tensor for name, tensor in named.items() if tensor is not None}
    parts, headers = encode(document or {}, "inputs", given, binary=True)
    return parse_request(memoryview(b"".join(parts)), headers[HEADER_LENGTH], SETTINGS)


NOISE = noise(9, 9)


class TestRequest:
    def test_tensors(self):
        """Image, seeds and the client's name for it; the answer is JSON unless asked otherwise."""
        request = _parse({"id": "x"})
        assert np.array_equal(request.image, PIXELS)
        assert request.seeds.tolist() == [1, -2]
        assert (request.id, request.binary, request.timeout_s) == ("x", False, None)
        assert (request.output, request.mean) == ("samples", False)

    @pytest.mark.parametrize(
        ("parameters", "outputs", "binary"),
        [
            ({}, [], False),
            ({"binary_data_output": True}, [], True),
            ({}, [{"name": "samples", "parameters": {"binary_data": True}}], True),
            (
                {"binary_data_output": True},
                [{"name": "samples", "parameters": {"binary_data": False}}],
                False,
            ),
        ],
    )
    def test_form_of_the_answer(self, parameters, outputs, binary):
        """The output's own wish goes before the request's."""
        assert _parse({"parameters": parameters, "outputs": outputs}).binary is binary

    def test_parameters(self):
        """The timeout is in microseconds; the prediction may be the mean of the samples."""
        request = _parse({"parameters": {"timeout": 2_500_000, "prediction": "mean"}})
        assert (request.timeout_s, request.mean) == (2.5, True)

    @pytest.mark.parametrize(
        ("document", "tensors", "message"),
        [
            ({"id": 5}, {}, "'id' must be a string"),
            ({"parameters": []}, {}, "parameters must be a JSON object"),
            ({"parameters": {"timeout": -1}}, {}, "timeout"),
            ({"parameters": {"timeout": 10**400}}, {}, "timeout"),
            ({"parameters": {"prediction": "median"}}, {}, "first or mean"),
            ({"parameters": {"binary_data_output": 1}}, {}, "true or false"),
            ({"outputs": [{"name": "other"}]}, {}, "unknown output 'other'"),
            ({"outputs": [{"name": "folded"}]}, {}, "needs the binary tensor extension"),
            ({"outputs": [{"name": "samples"}, {"name": "folded"}]}, {}, "one output at a time"),
            (
                {"outputs": [{"name": "samples", "parameters": {"classification": 3}}]},
                {},
                "classification",
            ),
            ({}, {"picture": PIXELS}, "unknown input 'picture'"),
            ({}, {"image": PIXELS.astype(np.float32)}, "datatype 'FP32'"),
            ({}, {"image": PIXELS[None]}, r"expected shape \[H, W, 3\]"),
            ({}, {"image": PIXELS[:0]}, r"expected shape \[H, W, 3\]"),
            ({}, {"seeds": SEEDS[:0]}, r"expected shape \[M\]"),
            ({}, {"seeds": np.array(1, np.int64)}, r"expected shape \[M\]"),
            ({}, {"seeds": None}, "'seeds' is missing"),
        ],
    )
    def test_is_refused_in_words(self, document, tensors, message):
        """Whatever is wrong with a request, the message says what."""
        with pytest.raises(InputError, match=message):
            _parse(document, **tensors)

    def test_malformed(self):
        """So is what does not follow the protocol."""
        with pytest.raises(InputError, match="not valid JSON"):
            parse_request(memoryview(b"{"), None, SETTINGS)

    @pytest.mark.parametrize(
        ("tensors", "limit"),
        [
            ({"image": np.zeros((11, 10, 3), np.uint8)}, "100"),
            ({"image": encoded(Image.new("RGB", (11, 10)))[:60]}, "100"),
            ({"seeds": np.arange(5)}, "at most 4"),
        ],
    )
    def test_limits(self, tensors, limit):
        """Too many pixels or samples are refused as too large, before anything is decompressed."""
        with pytest.raises(TooLarge, match=limit):
            _parse(**tensors)


class TestFiles:
    def test_as_the_gateway_reads_them(self):
        """Files are read as uploads are: losslessly, and turned as their EXIF data say."""
        assert np.array_equal(_parse(image=encoded(PIXELS)).image, PIXELS)
        exif = Image.Exif()
        exif[274] = 6
        turned = _parse(image=encoded(PIXELS, "JPEG", exif=exif)).image
        assert turned.shape == (3, 2, 3)

    @pytest.mark.parametrize(
        "data", [b"", b"text", encoded(Image.new("RGBA", (3, 2))), encoded(NOISE)[:70]]
    )
    def test_no_usable_image(self, data):
        """Other files, transparent ones and damaged ones are refused."""
        with pytest.raises(InputError, match="'image'"):
            _parse(image=data)
