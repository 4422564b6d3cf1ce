"""Colour profiles: what they do counts, and what they say is harmless."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.images.decode import Limits, decode
from tests.factories import encoded, photo

LIMITS = Limits()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def linear(name: str = "sRGB") -> bytes:
    """The profile of linear light with the primaries of sRGB; its description begins so."""
    raw = bytearray(SRGB)
    curve = raw.find(b"para") + 12
    raw[curve : curve + 20] = struct.pack(">5i", 65536, 65536, 0, 65536, 0)
    return bytes(raw).replace("sRGB".encode("utf-16-be"), name.encode("utf-16-be"))


def grey_profile() -> bytes:
    """The smallest profile of linear grey."""
    xyz = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = "Grey".encode("utf-16-be")
    desc = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    tags = {b"desc": desc, b"wtpt": xyz, b"kTRC": curve, b"cprt": desc}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", start + len(body))
    header[8:12] = b"\x04\x30\0\0"
    header[12:24] = b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(header) + table + body


class TestProfiles:
    @pytest.mark.parametrize(
        ("form", "kind"),
        [*(("PNG", kind) for kind in ("RGB", "L", "P", "1")), ("JPEG", "RGB"), ("JPEG", "L")],
    )
    def test_srgb_changes_nothing(self, form, kind):
        """An sRGB profile leaves every pixel of every kind of image as it is, without a note."""
        image = Image.fromarray(photo())
        image = image.quantize(8) if kind == "P" else image.convert(kind)
        plain = decode(encoded(image, form), LIMITS)
        tagged = decode(encoded(image, form, icc_profile=SRGB), LIMITS)
        np.testing.assert_array_equal(tagged.rgb, plain.rgb)
        assert tagged.notes == plain.notes
        assert not [note for note in tagged.notes if "profile" in note]

    def test_a_slightly_different_srgb_changes_nothing(self):
        """A profile that calls itself sRGB and differs by rounding only is sRGB."""
        raw = bytearray(SRGB)
        curve = raw.find(b"para") + 12
        raw[curve : curve + 4] = struct.pack(">i", round(2.41 * 65536))
        decoded = decode(encoded(photo(), icc_profile=bytes(raw)), LIMITS)
        np.testing.assert_array_equal(decoded.rgb, photo())
        assert decoded.notes == []

    @pytest.mark.parametrize("name", ["sRGB", "Mine"])
    def test_what_it_does_counts_not_its_name(self, name):
        """Linear light is converted, whether its profile calls itself sRGB or not."""
        image = np.full((4, 4, 3), (50, 100, 150), np.uint8)
        decoded = decode(encoded(image, icc_profile=linear(name)), LIMITS)
        assert decoded.rgb[0, 0].tolist() == [122, 168, 202]
        assert "converted to sRGB" in decoded.notes[0]

    def test_elements_without_end(self):
        """A profile may list the same step a thousand times; that list is not followed."""
        raw = bytearray(linear("Mine"))
        tags = int.from_bytes(raw[128:132])
        steps = 1000
        step = b"matf" + bytes(4) + struct.pack(">HH12f", 3, 3, *[0.5] * 12)
        elements = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, steps)
        elements += struct.pack(">II", 16 + 8 * steps, len(step)) * steps + step
        for k in range(tags):  # one more entry moves all that the others point to
            at = 132 + 12 * k + 4
            raw[at : at + 4] = struct.pack(">I", int.from_bytes(raw[at : at + 4]) + 12)
        raw[128:132] = struct.pack(">I", tags + 1)
        raw[132:132] = b"D2B0" + struct.pack(">II", len(raw) + 12, len(elements))
        raw += elements
        raw[0:4] = struct.pack(">I", len(raw))
        image = np.full((4, 4, 3), (50, 100, 150), np.uint8)
        decoded = decode(encoded(image, icc_profile=bytes(raw)), LIMITS)
        assert decoded.rgb[0, 0].tolist() == [122, 168, 202]  # by its curves and matrix

    def test_names_are_short_and_harmless(self):
        """Of a profile's name a note repeats some letters, none that turns or breaks the text."""
        raw = bytearray(grey_profile())
        long = ("\u202e\x1b[2J\n" + "x" * 30_000).encode("utf-16-be")
        desc = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(long), 28)
        place = 128 + 4
        raw[place + 4 : place + 12] = struct.pack(">II", len(raw), len(desc + long))
        raw += desc + long
        raw[0:4] = struct.pack(">I", len(raw))
        grey = Image.fromarray(photo()[..., 0])
        note = decode(encoded(grey, icc_profile=bytes(raw)), LIMITS).notes[0]
        assert "[2Jxxx" in note
        assert note.isprintable()
        assert len(note) < 200

    @pytest.mark.parametrize("kind", ["P", "L", "LA", "RGBA", "I;16"])
    def test_of_every_kind_of_image(self, kind):
        """Palette, grey and 16-bit images get their profile applied as well."""
        if kind == "I;16":
            image = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
        else:
            rgb = Image.new("RGB", (4, 4), (100, 100, 100))
            image = rgb.quantize(4) if kind == "P" else rgb.convert(kind)
        for profile in (linear("Mine"), *([grey_profile()] if kind in {"L", "LA", "I;16"} else [])):
            decoded = decode(encoded(image, icc_profile=profile), LIMITS)
            assert decoded.rgb[0, 0].tolist() == [168, 168, 168]
            assert "converted to sRGB" in decoded.notes[0]

    def test_one_that_does_not_fit(self):
        """A grey profile in a colour image is ignored, and the answer says so."""
        decoded = decode(encoded(photo(), icc_profile=grey_profile()), LIMITS)
        np.testing.assert_array_equal(decoded.rgb, photo())
        assert decoded.notes == ["The colour profile “Grey” is for GRAY and was ignored."]

    def test_a_background_is_srgb(self):
        """The background is not converted by the profile of the image in front of it."""
        clear = encoded(np.zeros((2, 2, 4), np.uint8), icc_profile=linear())
        decoded = decode(clear, LIMITS, background="rgb(50, 100, 150)")
        assert decoded.rgb[0, 0].tolist() == [50, 100, 150]
