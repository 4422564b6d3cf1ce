"""Requests and answers of the Open Inference Protocol, byte by byte."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from workers.errors import InputError, TooLarge
from workers.protocol import Answer, json_parts, parse_request
from workers.settings import WorkerSettings

SETTINGS = WorkerSettings(max_pixels=100, max_samples=4)
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
SEEDS = np.array([1, -2], "<i8")


def _document(**changes):
    document = {
        "inputs": [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": [2, 3, 3],
                "parameters": {"binary_data_size": 18},
            },
            {
                "name": "seeds",
                "datatype": "INT64",
                "shape": [2],
                "parameters": {"binary_data_size": 16},
            },
        ]
    }
    return {**document, **changes}


TENSORS = PIXELS.tobytes() + SEEDS.tobytes()


def _parse(document, tail=TENSORS, settings=SETTINGS):
    head = json.dumps(document).encode()
    return parse_request(memoryview(head + tail), str(len(head)), settings)


def _changed(number, **changes):
    document = _document()
    document["inputs"][number].update(changes)
    return document


class TestBinary:
    def test_tensors(self):
        """Raw tensors are read in the order of the inputs, without copying the image."""
        head = json.dumps(_document(id="x")).encode()
        body = memoryview(head + PIXELS.tobytes() + SEEDS.tobytes())
        request = parse_request(body, str(len(head)), SETTINGS)
        assert np.array_equal(request.image, PIXELS)
        assert np.shares_memory(request.image, np.frombuffer(body, np.uint8))
        assert request.seeds.tolist() == [1, -2]
        assert (request.id, request.binary, request.timeout_s) == ("x", False, None)

    def test_encoded_file(self):
        """BYTES hold one encoded file behind its length."""
        file = io.BytesIO()
        Image.fromarray(PIXELS).save(file, "PNG")
        raw = len(file.getvalue()).to_bytes(4, "little") + file.getvalue()
        document = _changed(
            0, datatype="BYTES", shape=[1], parameters={"binary_data_size": len(raw)}
        )
        request = _parse(document, raw + SEEDS.tobytes())
        assert np.array_equal(request.image, PIXELS)

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
        assert _parse(_document(parameters=parameters, outputs=outputs)).binary is binary

    def test_timeout(self):
        """The timeout is in microseconds."""
        assert _parse(_document(parameters={"timeout": 2_500_000})).timeout_s == 2.5


class TestJson:
    @pytest.mark.parametrize("nested", [False, True])
    def test_data(self, nested):
        """Numbers may be flat or nested."""
        image = PIXELS.tolist() if nested else PIXELS.ravel().tolist()
        document = {
            "inputs": [
                {"name": "seeds", "datatype": "INT64", "shape": [1], "data": [2**63 - 1]},
                {"name": "image", "datatype": "UINT8", "shape": [2, 3, 3], "data": image},
            ]
        }
        request = parse_request(memoryview(json.dumps(document).encode()), None, SETTINGS)
        assert np.array_equal(request.image, PIXELS)
        assert request.seeds.tolist() == [2**63 - 1]

    @pytest.mark.parametrize("data", [[256], [-1], [0.5], ["1"], [True], [None], [[1], [2, 3]], 5])
    def test_wrong_values(self, data):
        """Values that are no bytes are refused, not wrapped or rounded."""
        document = {
            "inputs": [
                {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": data},
                {"name": "seeds", "datatype": "INT64", "shape": [1], "data": [1]},
            ]
        }
        with pytest.raises(InputError, match="'image'"):
            parse_request(memoryview(json.dumps(document).encode()), None, SETTINGS)

    def test_seed_beyond_64_bits(self):
        """A seed that does not fit is refused."""
        document = {
            "inputs": [
                {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]},
                {"name": "seeds", "datatype": "INT64", "shape": [1], "data": [2**63]},
            ]
        }
        with pytest.raises(InputError, match="'seeds'"):
            parse_request(memoryview(json.dumps(document).encode()), None, SETTINGS)


class TestMalformed:
    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({}, "'inputs' must be a list"),
            ([], "must be a JSON object"),
            ({"inputs": [1]}, "an input must be a JSON object"),
            (_document(id=5), "'id' must be a string"),
            (_document(parameters=[]), "parameters must be a JSON object"),
            (_document(parameters={"timeout": -1}), "timeout"),
            (_document(parameters={"binary_data_output": 1}), "true or false"),
            (_document(outputs=[{"name": "other"}]), "unknown output 'other'"),
            (
                _document(outputs=[{"name": "samples", "parameters": {"classification": 3}}]),
                "classification",
            ),
            (_changed(0, name="picture"), "unknown input 'picture'"),
            (_changed(0, name="seeds", datatype="INT64"), "bytes for shape|twice"),
            (_changed(0, datatype="FP32"), "datatype 'FP32'"),
            (_changed(0, shape=[2, -3, 3]), "non-negative"),
            (_changed(0, shape=[1, 2, 3, 3]), r"expected shape \[H, W, 3\]"),
            (_changed(0, shape=[2, 2, 3]), "18 bytes for shape"),
            (_changed(0, shape=[0, 3, 3]), r"expected shape \[H, W, 3\]"),
            (_changed(0, parameters={}), "neither 'data' nor"),
            (_changed(0, parameters={"binary_data_size": 99}), "34 bytes are left"),
            (_changed(0, parameters={"shared_memory_region": "x"}), "shared memory"),
            (_changed(1, shape=[]), r"expected shape \[M\]|bytes for shape"),
            (_changed(1, parameters={"binary_data_size": 8}), "belong to no input"),
            (_changed(0, datatype="BYTES", shape=[1]), "length prefix"),
        ],
    )
    def test_is_refused_in_words(self, document, message):
        """Whatever is wrong with a request, the message says what."""
        with pytest.raises(InputError, match=message):
            _parse(document)

    def test_missing_input(self):
        """Each input is required."""
        document = _document()
        del document["inputs"][1]
        with pytest.raises(InputError, match="'seeds' is missing"):
            _parse(document, PIXELS.tobytes())

    @pytest.mark.parametrize("length", ["x", "-1", "1e3", "9999", "²"])
    def test_header_length(self, length):
        """A header length that is no number or beyond the body is refused."""
        with pytest.raises(InputError, match="Inference-Header"):
            parse_request(memoryview(b"{}"), length, SETTINGS)

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
    def test_not_json(self, body):
        """A body that is no JSON is refused."""
        with pytest.raises(InputError, match="not valid JSON"):
            parse_request(memoryview(body), None, SETTINGS)

    def test_limits(self):
        """Too many pixels or samples are refused as too large."""
        with pytest.raises(TooLarge, match="at most 100"):
            _parse(_changed(0, shape=[11, 10, 3]))
        with pytest.raises(TooLarge, match="at most 4"):
            _parse(
                _changed(1, shape=[5], parameters={"binary_data_size": 40}),
                PIXELS.tobytes() + bytes(40),
            )


class TestAnswer:
    def test_chunks_are_views(self):
        """The samples' bytes are handed out in order and never copied."""
        samples = np.random.default_rng(0).integers(0, 256, (2, 700, 900, 3), np.uint8)
        chunks = list(Answer("samples", samples, "m", "1", None, "f").chunks())
        assert len(chunks) > 1
        assert b"".join(chunks) == samples.tobytes()
        assert all(np.shares_memory(np.frombuffer(chunk, np.uint8), samples) for chunk in chunks)

    def test_json_is_whole(self):
        """The pieces of a JSON answer are one valid document."""
        samples = np.random.default_rng(0).integers(0, 256, (1, 700, 600, 3), np.uint8)
        document = json.loads(b"".join(json_parts(Answer("samples", samples, "m", "1", "i", "f"))))
        assert document["id"] == "i"
        [output] = document["outputs"]
        assert output["shape"] == [1, 700, 600, 3]
        assert output["data"] == samples.ravel().tolist()
