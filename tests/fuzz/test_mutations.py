"""Valid files, damaged, and bombs: what strangers send, at every target."""

import functools
import json
import struct
import tracemalloc
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS
from trustscale_server.errors import BadInput, ProtocolError
from trustscale_server.images.decode import Limits, decode
from trustscale_server.upscalers.remote.oip import output_of
from trustscale_server.upscalers.remote.responses import Reply

MIB = 2**20
NUMBERS = st.sampled_from([0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])


@st.composite
def damaged(draw, seeds):
    """A valid file after a few of: cut, flipped bits, a huge number, a part twice or elsewhere."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["cut", "flip", "number", "copy", "insert"])):
            case "cut":
                del data[place:]
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "number":
                form = draw(st.sampled_from(["<I", ">I"]))
                data[place : place + 4] = struct.pack(form, draw(NUMBERS))
            case "copy":
                data += data[place : place + draw(st.integers(1, 200))]
            case "insert":
                data[place:place] = draw(st.binary(max_size=20))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")  # of Pillow, zipfile and numpy about what is damaged
def test_damaged_files(name):
    target = TARGETS[name]

    @settings(max_examples=150, derandomize=True, database=None)
    @given(damaged(target.seeds()))
    def check(data):
        target.run(data)

    check()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["samples", "UINT8", "BYTES", "FP16", "outputs", "shape"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {
        "name": st.just("samples") | JSON,
        "datatype": st.sampled_from(["UINT8", "FP16", "BOOL", "BYTES", "INT64"]) | JSON,
        "shape": st.lists(st.integers(-2, 2**40), max_size=4) | JSON,
    },
    optional={
        "data": JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-9, 99)}) | JSON,
    },
)


@settings(max_examples=150, derandomize=True, database=None)
@given(
    document=st.fixed_dictionaries({"outputs": st.lists(ENTRY | JSON, max_size=3)}) | JSON,
    tail=st.binary(max_size=40),
    is_binary=st.booleans(),
)
def test_answers_of_the_wrong_shape(document, tail, is_binary):
    head = json.dumps(document).encode()
    with warnings.catch_warnings(action="ignore"):  # a number that does not fit half precision
        targets.tensor(
            (len(head).to_bytes(2, "big") if is_binary else b"\0\0")
            + head
            + (tail if is_binary else b"")
        )


def test_deep_json():
    """An answer nested beyond the parser's depth is no answer of the protocol."""
    with pytest.raises(ProtocolError):
        output_of(Reply(200, {}, b'{"outputs":' + b"[" * 100_000), "samples")


@functools.cache
def zeros(mib):
    packed = zlib.compressobj(1)
    return b"".join(packed.compress(bytes(MIB)) for _ in range(mib)) + packed.flush()


class TestBombs:
    """What is small on the wire and huge behind it is refused in little memory."""

    @pytest.fixture(autouse=True)
    def _little_memory(self):
        zeros(256)
        tracemalloc.start()
        yield
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 * MIB

    @pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
    def test_an_image_with_a_huge_text_or_profile(self, kind):
        chunk = kind + b"name\0\0" + zeros(256)
        part = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        valid = targets.images()[0]
        end_of_header = 8 + 25
        with pytest.raises(BadInput):
            decode(valid[:end_of_header] + part + valid[end_of_header:], Limits())

    @pytest.mark.parametrize("shape", [(2, 2**40), (2**33, 2), (2, 10**9)])
    def test_a_calibration_with_a_huge_array(self, shape):
        """The size that an array declares is checked against the bytes that are there."""
        parts = targets.parts_of_calibrations()
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n"
        place = next(part[:1] for part in parts if b"NUMPY" in part[:10])
        targets.inside_of_a_calibration(place + array + bytes(64))

    def test_a_tensor_of_a_terabyte(self):
        """The shape is compared with the bytes before anything is made."""
        head = {"outputs": [{"name": "samples", "datatype": "FP64", "shape": [2**17, 2**20]}]}
        head["outputs"][0]["parameters"] = {"binary_data_size": 8}
        text = json.dumps(head).encode()
        targets.tensor(len(text).to_bytes(2, "big") + text + bytes(8))
