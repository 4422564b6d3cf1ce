"""Messages of the Open Inference Protocol, byte by byte, as both ends write and read them."""

import json

import numpy as np
import pytest

from trustscale_server.upscalers.tensors import (
    HEADER_LENGTH,
    Malformed,
    decode_message,
    encode_message,
)

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
SEEDS = np.array([1, -2], np.int64)
TENSORS = {"image": PIXELS, "seeds": SEEDS, "file": b"png"}


def entry(**changes):
    return {"name": "image", "shape": [2, 4, 3], "datatype": "UINT8", **changes}


def read(*entries, tail=b"", side="outputs"):
    """The tensors of a message with these entries; binary if there is a tail."""
    head = json.dumps({side: list(entries)}).encode()
    return decode_message(head + tail, str(len(head)) if tail else None, side)[1]


class TestEncode:
    def test_binary(self):
        """The header tells the size of each tensor; their bytes follow in order, not copied."""
        parts, headers = encode_message({"id": "x"}, "inputs", TENSORS, binary=True)
        document = json.loads(parts[0])
        assert len(parts[0]) == int(headers[HEADER_LENGTH])
        assert document["id"] == "x"
        assert [t["parameters"]["binary_data_size"] for t in document["inputs"]] == [24, 16, 7]
        assert [t["shape"] for t in document["inputs"]] == [[2, 4, 3], [2], [1]]
        assert [t["datatype"] for t in document["inputs"]] == ["UINT8", "INT64", "BYTES"]
        assert b"".join(parts[1:]) == PIXELS.tobytes() + SEEDS.astype("<i8").tobytes() + (
            b"\3\0\0\0png"
        )
        assert np.shares_memory(np.frombuffer(parts[1], np.uint8), PIXELS)

    @pytest.mark.parametrize("binary", [False, True])
    def test_there_and_back(self, binary):
        arrays = {"image": PIXELS, "seeds": SEEDS, "f": np.array([0.5, -1], np.float32)}
        parts, headers = encode_message({"id": "x"}, "outputs", arrays, binary=binary)
        document, tensors = decode_message(b"".join(parts), headers.get(HEADER_LENGTH), "outputs")
        assert document["id"] == "x"
        for name, array in arrays.items():
            assert np.array_equal(tensors[name].numbers(), array)
            assert tensors[name].numbers().dtype == array.dtype


class TestDecode:
    def test_binary_is_a_view(self):
        """An array is a view of the received bytes, behind the other tensors."""
        parts, headers = encode_message(
            {}, "outputs", {"first": SEEDS, "image": PIXELS}, binary=True
        )
        message = b"".join(parts)
        image = decode_message(message, headers[HEADER_LENGTH], "outputs")[1]["image"].numbers()
        assert np.array_equal(image, PIXELS)
        assert np.shares_memory(image, np.frombuffer(message, np.uint8))

    @pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.ravel().tolist()])
    def test_json(self, data):
        assert np.array_equal(read(entry(data=data))["image"].numbers(), PIXELS)

    @pytest.mark.parametrize(
        ("told", "message"),
        [
            (1, "an entry of 'outputs' must be a JSON object"),
            (entry(name=5), "a name and a datatype"),
            (entry(shape=[2, -3, 3]), "non-negative"),
            (entry(), "neither 'data' nor"),
            (entry(parameters={"shared_memory_region": "x"}), "shared memory"),
            (entry(parameters={"binary_data_size": 99}), "24 bytes are left"),
            (entry(shape=[2, 2, 3], parameters={"binary_data_size": 24}), "24 bytes for shape"),
            (entry(datatype="BYTES", parameters={"binary_data_size": 24}), "of shape"),
            (
                entry(datatype="BYTES", shape=[1], parameters={"binary_data_size": 24}),
                "length prefix",
            ),
        ],
    )
    def test_is_refused_in_words(self, told, message):
        def looked_at():
            tensor = read(told, tail=PIXELS.tobytes())["image"]
            return tensor.file() if tensor.datatype == "BYTES" else tensor.numbers()

        with pytest.raises(Malformed, match=message):
            looked_at()

    @pytest.mark.parametrize(
        "data", [[256], [-1], [0.5], ["1"], [True], [None], [[1], [2, 3]], [], 5, [10**400]]
    )
    def test_wrong_values(self, data):
        data = data * 3 if isinstance(data, list) else data
        with pytest.raises(Malformed, match="'image'"):
            read(entry(shape=[1, 1, 3], data=data))["image"].numbers()

    @pytest.mark.parametrize("length", ["x", "-1", "1e3", "9999", "²", "", "1" * 5000])
    def test_header_length(self, length):
        with pytest.raises(Malformed, match="Inference-Header"):
            decode_message(b"{}", length, "inputs")

    @pytest.mark.parametrize(
        ("body", "message"),
        [(b"", "not valid JSON"), (b"{", "not valid JSON"), (b"\xff", "not valid JSON"),
         (b"[" * 100_000, "not valid JSON"), (b"[]", "the message must be a JSON object"),
         (b"{}", "'inputs' must be a list")],
    )  # fmt: skip
    def test_no_message(self, body, message):
        with pytest.raises(Malformed, match=message):
            decode_message(body, None, "inputs")
