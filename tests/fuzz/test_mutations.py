"""Valid files, damaged, and bombs: what strangers send us as bytes, and what may come of it.

A value, or an error of the caller's. Each target takes any bytes. It returns when they were read or
refused in one sentence, and raises when something of ours broke: another exception, or a promise
about the value that does not hold.
"""

import asyncio
import functools
import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.admin import zipped
from harness.factories import calibration_of, encoded, photo
from harness.fakes import FakeUpscaler
from trustscale_server.calibration import file
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.decoding.header import image_size
from trustscale_server.images.limits import Limits
from trustscale_server.platform.errors import BadCalibration, BadInput

LIMITS = Limits(max_bytes=2**20, max_pixels=2**16, max_side=2**12)


def image(data):
    try:
        height_width = image_size(data, LIMITS)[::-1]
    except BadInput as error:
        height_width = None
        _check_told(error)
    try:
        decoded = decode(data, LIMITS, background="white")
    except BadInput as error:
        _check_told(error)
        return
    height, width, channels = decoded.rgb.shape
    assert (height, width) == height_width
    assert channels == 3
    assert height * width <= LIMITS.max_pixels
    assert decoded.rgb.dtype == np.uint8


def images():
    rgb = photo(3, 12, 16)
    deep = (photo(4, 8, 8)[..., 0].astype(np.uint16) * 257).astype("<u2")
    return [
        encoded(rgb),
        encoded(rgb, "JPEG", quality=80),
        encoded(rgb, "JPEG", progressive=True),
        encoded(rgb, "WEBP"),
        encoded(rgb, "WEBP", lossless=True),
        encoded(np.dstack([rgb, rgb[..., 0]])),
        encoded(deep),
    ]


def calibration(data):
    try:
        loaded = file.load(data)
    except BadCalibration as error:
        _check_told(error)
        return
    assert file.load(file.dump(loaded)).id == loaded.id


def inside_of_a_calibration(data):
    """An imported calibration whose checksums were made to fit, so that its parts are parsed.

    The first byte chooses the part that the rest replaces.
    """
    parts = _members(calibrations()[0])
    names = sorted(parts)
    parts[names[(data[0] if data else 0) % len(names)]] = data[1:]
    try:
        document = json.loads(parts["calibration.json"])
        document["sha256"] = {
            name: hashlib.sha256(part).hexdigest()
            for name, part in parts.items()
            if name != "calibration.json"
        }
        parts["calibration.json"] = json.dumps(document).encode()
    except (ValueError, TypeError, RecursionError):
        pass  # no document any more; it is refused as such
    calibration(zipped(parts))


@functools.cache
def calibrations():
    return [file.dump(asyncio.run(calibration_of(FakeUpscaler(), 2, side=16)))]


def parts_of_calibrations():
    parts = _members(calibrations()[0])
    return [bytes([place]) + parts[name] for place, name in enumerate(sorted(parts))]


# What takes any bytes, and valid files to start from.
TARGETS = {
    "image": (image, images),
    "calibration": (calibration, calibrations),
    "calibration-parts": (inside_of_a_calibration, parts_of_calibrations),
}


def _check_told(error):
    assert error.detail.endswith((".", "!", "?")), error.detail
    assert len(error.detail) < 2000, error.detail
    error.detail.encode()


def _members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


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
    run, seeds = TARGETS[name]

    @settings(max_examples=150, derandomize=True, database=None)
    @given(damaged(seeds()))
    def check(data):
        run(data)

    check()


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_an_image_with_a_huge_text_or_profile(kind):
    """What is small on the wire and huge behind it is refused in little memory."""
    packed = zlib.compressobj(1)
    zeros = b"".join(packed.compress(bytes(MIB)) for _ in range(256)) + packed.flush()
    chunk = kind + b"name\0\0" + zeros
    part = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    valid = images()[0]
    end_of_header = 8 + 25
    tracemalloc.start()
    try:
        with pytest.raises(BadInput):
            decode(valid[:end_of_header] + part + valid[end_of_header:], Limits())
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
