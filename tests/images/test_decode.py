"""Uploads become pixels: kinds, oddities, profiles."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from harness.factories import encoded, photo
from harness.hostile import bomb, chunk, jpeg_of_scans
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.decoding.jpeg_scans import check_scans
from trustscale_server.images.limits import Limits
from trustscale_server.platform.errors import (
    BadImage,
    BadRequest,
    DecodeLimit,
    ImageTooLarge,
    UnsupportedMedia,
)
from trustscale_server.proof.verify import verify

LIMITS = Limits()


def deep_rgb(values):
    """A PNG line of 16-bit colours with these values in all channels."""
    line = np.repeat(np.asarray(values, ">u2")[:, None], 3, 1).tobytes()
    header = struct.pack(">IIBBBBB", len(values), 1, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + line))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def deep_grey(values):
    """A PNG line of 16-bit greys."""
    return encoded(Image.fromarray(np.array([values], np.uint16)))


def deep_tiff(values, kind="u2", **options):
    out = io.BytesIO()
    tifffile.imwrite(out, np.array([values], kind), **options)
    return out.getvalue()


def several(form):
    return encoded(photo(), form, save_all=True, append_images=[Image.fromarray(photo(1))])


def greys(*levels):
    """The line that these greys are shown as."""
    return np.repeat(np.array(levels, np.uint8)[None, :, None], 3, axis=2)


PALETTE = Image.fromarray(photo()).quantize(8)
BILEVEL = Image.fromarray(photo()[..., 0] > 100)
OPAQUE = np.dstack([photo(), np.full((24, 32), 255, np.uint8)])


ACCEPTED = {
    "png": (encoded(photo()), photo(), []),
    "webp": (encoded(photo(), "WEBP", lossless=True), photo(), []),
    "pixel": (encoded(photo(0, 1, 1)), photo(0, 1, 1), []),
    "long": (encoded(photo(0, 10, 500)), photo(0, 10, 500), []),
    "opaque": (encoded(OPAQUE), photo(), []),
    "grey": (encoded(photo()[..., 0]), np.repeat(photo()[..., :1], 3, axis=2), []),
    "bilevel": (encoded(BILEVEL), np.asarray(BILEVEL.convert("RGB")), []),
    "palette": (encoded(PALETTE), np.asarray(PALETTE.convert("RGB")), ["palette of 8 colours"]),
    "deep grey": (deep_grey([0, 65535, 32768, 257]), greys(0, 255, 128, 1), ["was rounded to 8"]),
    "negative": (deep_tiff([0, 65535, 257], photometric="miniswhite"), greys(255, 0, 254),
     ["was rounded to 8"]),
    "floats": (deep_tiff([0, 0.5, 1.5, np.nan], "f4"), greys(0, 128, 255, 0),
     ["2 of its values lie outside of 0 … 1 and were cut", "has 32 bits"]),
    "integers": (deep_tiff([-1, 65535, 65536], "i4"), greys(0, 255, 255),
     ["2 of its values lie outside of 0 … 65,535", "has 32 bits"]),
    "deep": (deep_rgb([0, 255, 65535, 0x80FF]), greys(0, 0, 255, 128), ["cut to the upper 8"]),
    "rubbish": (encoded(photo(), icc_profile=b"no profile"), photo(), ["profile is damaged"]),
    "pages": (several("TIFF"), photo(), ["pages; the first was taken"]),
}  # fmt: skip

REFUSED = {
    "nothing": (b"", {}, BadImage, "empty"),
    "text": (b"text, named .png", {}, UnsupportedMedia, "not a PNG, JPEG, .* or its header"),
    "document": (b"%PDF-1.7", {}, UnsupportedMedia, "PDF"),
    "transparent": (encoded(PALETTE, transparency=0), {}, BadImage, "Flatten it first"),
    "colour": (encoded(0 * OPAQUE), {"background": "clearish"}, BadRequest, "colour"),
    "colour of the opaque": (encoded(photo()), {"background": "nocolour"}, BadRequest, "colour"),
    "gif": (several("GIF"), {}, BadImage, "animated"),
    "webp": (several("WEBP"), {}, BadImage, "animated"),
    "black grey": (deep_grey(range(100)), {}, BadImage, "black"),
    "black": (deep_rgb(range(100)), {}, BadImage, "black"),
    "bomb": (bomb(30_000, 30_000), {}, ImageTooLarge, "too many pixels"),
    "smaller bomb": (bomb(9000, 9000), {}, ImageTooLarge, "at most"),
    "long": (encoded(np.zeros((1, 20_000, 3), np.uint8)), {}, ImageTooLarge, "no side"),
}


class TestAccepted:
    @pytest.mark.parametrize(("data", "expected", "notes"), ACCEPTED.values(), ids=ACCEPTED)
    def test_pixels_and_notes(self, data, expected, notes):
        """A file gives the picture that a viewer shows, and notes on what was changed."""
        decoded = decode(data, LIMITS)
        np.testing.assert_array_equal(decoded.rgb, expected)
        assert decoded.rgb.flags.c_contiguous
        assert len(decoded.notes) == len(notes)
        assert all(words in note for words, note in zip(notes, decoded.notes, strict=True))

    def test_exif_orientation_is_applied(self):
        image = Image.fromarray(photo())
        exif = image.getexif()
        exif[0x0112] = 6  # turn 90° clockwise to view
        decoded = decode(encoded(image, "JPEG", exif=exif, quality=100, subsampling=0), LIMITS)
        assert decoded.rgb.shape == (32, 24, 3)
        expected = np.rot90(photo(), -1).astype(int)
        assert np.abs(decoded.rgb - expected).mean() < 2

    def test_transparency(self):
        """It comes apart from the colours, or is flattened: background=red shows through."""
        rgba = np.dstack([photo(), np.tile(np.arange(32, dtype=np.uint8) * 8, (24, 1))])
        apart = decode(encoded(rgba), LIMITS, with_alpha=True)
        np.testing.assert_array_equal(apart.rgb, photo())
        np.testing.assert_array_equal(apart.alpha, rgba[..., 3])
        assert decode(encoded(OPAQUE), LIMITS, with_alpha=True).alpha is None
        deep = Image.fromarray(np.arange(16 * 256, dtype=np.uint16).reshape(16, 256) * 16)
        apart = decode(encoded(deep, transparency=16), LIMITS, with_alpha=True)
        assert [*np.flatnonzero(apart.alpha == 0)] == [1]  # not 0, which is as black with 8 bits
        flat = decode(encoded(rgba), LIMITS, background="#ff0000")
        np.testing.assert_array_equal(flat.rgb[:, 0], np.tile([255, 0, 0], (24, 1)))
        assert "flattened" in flat.notes[0]


def test_a_camera_file_with_a_second_picture():
    """Of a JPEG file with further pictures the first is taken, upright, with a note."""
    image = Image.fromarray(photo())
    exif = image.getexif()
    exif[0x0112] = 6
    options = {"exif": exif, "quality": 95}
    both = encoded(image, "MPO", save_all=True, append_images=[image.resize((8, 6))], **options)
    assert Image.open(io.BytesIO(both)).format == "MPO"
    decoded = decode(both, LIMITS)
    alone = decode(encoded(image, "JPEG", **options), LIMITS)
    np.testing.assert_array_equal(decoded.rgb, alone.rgb)
    assert decoded.format == "JPEG"
    assert decoded.notes == ["The file holds several pictures; the first was taken."]


class TestRefused:
    @pytest.mark.parametrize(("data", "options", "error", "words"), REFUSED.values(), ids=REFUSED)
    def test_with_the_reason(self, data, options, error, words):
        with pytest.raises(error, match=words):
            decode(data, LIMITS, **options)

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
    def test_truncated_files(self, form):
        data = encoded(photo(0, 200, 200), form)
        with pytest.raises(BadImage, match=r"damaged or incomplete|header is damaged"):
            decode(data[: len(data) // 2], LIMITS)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_jpeg_files_cut_before_their_end_mark(self, mode, options):
        """A picture of which nine tenths are missing is damaged, although it ends as it should."""
        data = encoded(Image.fromarray(photo(0, 200, 200)).convert(mode), "JPEG", **options)
        assert not [note for note in decode(data, LIMITS).notes if "damaged" in note]
        with pytest.raises(BadImage, match="damaged or incomplete"):
            decode(data[: len(data) // 2] + data[-2:], LIMITS)

    def test_jpeg_files_of_many_scans(self):
        """Scans are counted in blocks, before any is decoded; common programs make few."""
        check_scans(jpeg_of_scans(20))  # and the six of its program
        for fit in (None, 1000):
            with pytest.raises(DecodeLimit, match="more than 32 times") as caught:
                decode(jpeg_of_scans(30_000, 1024), LIMITS, max_input_side=fit)
            assert caught.value.members["limit"] == "scans"

    def test_scans_of_few_components(self):
        """A scan of one colour of three counts as its share; a preview in EXIF does not count."""
        preview = encoded(photo(), "JPEG", progressive=True) * 9
        exif = b"Exif\0\0" + preview[:60_000]
        for sampling in ("4:4:4", "4:2:0"):
            options = {"progressive": True, "subsampling": sampling, "exif": exif}
            check_scans(encoded(photo(0, 64, 64), "JPEG", **options))
        colour = encoded(photo(0, 64, 64), "JPEG", progressive=True, subsampling="4:4:4")
        scans = [k for k in range(len(colour)) if colour[k : k + 2] == b"\xff\xda"]
        of_one = colour[scans[-1] :][:10] + b"\0\0"
        check_scans(colour[:-2] + of_one * 3 * 24 + colour[-2:])
        with pytest.raises(DecodeLimit):
            check_scans(colour[:-2] + of_one * 3 * 32 + colour[-2:])

    @pytest.mark.parametrize("read", [lambda data: decode(data, LIMITS), verify])
    @pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
    def test_memory_is_no_damage(self, monkeypatch, read, options):
        """A decoder of Pillow without memory says so by a number, of which two errors are made."""

        class Decoder:
            pulls_fd = False

            def setimage(self, *_):
                pass

            def decode(self, _):
                return -1, -9

            def cleanup(self):
                pass

        data = encoded(photo(), "TIFF" if options else "PNG", **options)
        monkeypatch.setattr(Image, "_getdecoder", lambda *_: Decoder())
        with pytest.raises(MemoryError):
            read(data)

    def test_oddities_of_jpeg_files(self):
        """Bytes that belong to nothing are noted; what stands behind the end is no damage."""
        data = encoded(photo(0, 200, 200), "JPEG")
        assert "belong to nothing" in decode(data[:-2] + bytes(64) + data[-2:], LIMITS).notes[0]
        assert decode(data + b"abc", LIMITS).notes == []


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def linear(name="sRGB"):
    """The profile of linear light with the primaries of sRGB; its description begins so."""
    raw = bytearray(SRGB)
    curve = raw.find(b"para") + 12
    raw[curve : curve + 20] = struct.pack(">5i", 65536, 65536, 0, 65536, 0)
    return bytes(raw).replace("sRGB".encode("utf-16-be"), name.encode("utf-16-be"))


def grey_profile():
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
        image = Image.fromarray(photo())
        image = image.quantize(8) if kind == "P" else image.convert(kind)
        plain = decode(encoded(image, form), LIMITS)
        tagged = decode(encoded(image, form, icc_profile=SRGB), LIMITS)
        np.testing.assert_array_equal(tagged.rgb, plain.rgb)
        assert tagged.notes == plain.notes
        assert not [note for note in tagged.notes if "profile" in note]

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
        if kind == "I;16":
            image = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
        else:
            rgb = Image.new("RGB", (4, 4), (100, 100, 100))
            image = rgb.quantize(4) if kind == "P" else rgb.convert(kind)
        for profile in (linear("Mine"), *([grey_profile()] if kind in {"L", "LA", "I;16"} else [])):
            decoded = decode(encoded(image, icc_profile=profile), LIMITS)
            assert decoded.rgb[0, 0].tolist() == [168, 168, 168]
            assert "converted to sRGB" in decoded.notes[0]
