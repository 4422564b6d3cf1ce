"""Messages that are none of the Open Inference Protocol; tests/workers judges others by Triton."""

import json

import numpy as np
import pytest

from trustscale_server.upscalers.tensors import Malformed, decode_message

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def entry(**changes):
    return {"name": "image", "shape": [2, 4, 3], "datatype": "UINT8", **changes}


def read(*entries, tail=b"", side="outputs"):
    """The tensors of a message with these entries; binary if there is a tail."""
    head = json.dumps({side: list(entries)}).encode()
    return decode_message(head + tail, str(len(head)) if tail else None, side)[1]


@pytest.mark.parametrize(
    ("told", "message"),
    [(1, "an entry of 'outputs' must be a JSON object"), (entry(name=5), "a name and a datatype"),
     (entry(shape=[2, -3, 3]), "non-negative"), (entry(), "neither 'data' nor"),
     (entry(parameters={"shared_memory_region": "x"}), "shared memory"),
     (entry(parameters={"binary_data_size": 99}), "24 bytes are left"),
     (entry(shape=[2, 2, 3], parameters={"binary_data_size": 24}), "24 bytes for shape"),
     (entry(datatype="BYTES", parameters={"binary_data_size": 24}), "of shape"),
     (entry(datatype="BYTES", shape=[1], parameters={"binary_data_size": 24}), "length prefix")],
)  # fmt: skip
def test_is_refused_in_words(told, message):
    def looked_at():
        tensor = read(told, tail=PIXELS.tobytes())["image"]
        return tensor.file() if tensor.datatype == "BYTES" else tensor.numbers()

    with pytest.raises(Malformed, match=message):
        looked_at()


@pytest.mark.parametrize(
    "data", [[256], [-1], [0.5], ["1"], [True], [None], [[1], [2, 3]], [], 5, [10**400]]
)
def test_wrong_values(data):
    data = data * 3 if isinstance(data, list) else data
    with pytest.raises(Malformed, match="'image'"):
        read(entry(shape=[1, 1, 3], data=data))["image"].numbers()


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "9999", "²", "", "1" * 5000])
def test_header_length(length):
    with pytest.raises(Malformed, match="Inference-Header"):
        decode_message(b"{}", length, "inputs")


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"", "not valid JSON"), (b"{", "not valid JSON"), (b"\xff", "not valid JSON"),
     (b"[" * 100_000, "not valid JSON"), (b"[]", "the message must be a JSON object"),
     (b"{}", "'inputs' must be a list")],
)  # fmt: skip
def test_no_message(body, message):
    with pytest.raises(Malformed, match=message):
        decode_message(body, None, "inputs")


def test_an_impossible_shape():
    told = entry(shape=[0, 2**30, 2**30, 2**30], data=[])
    with pytest.raises(Malformed, match="impossible shape"):
        read(told)["image"].numbers()
