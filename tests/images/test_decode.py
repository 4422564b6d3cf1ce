"""What people upload, and what they get."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.errors import BadImage, BadRequest, ImageTooLarge, UnsupportedMedia
from app.images.decode import Limits, decode
from tests.factories import encoded, photo
from tests.images.hostile import bomb, chunk

LIMITS = Limits()


def deep_rgb(values) -> bytes:
    """A PNG line of 16-bit colours with these values in all channels."""
    line = np.repeat(np.asarray(values, ">u2")[:, None], 3, 1).tobytes()
    header = struct.pack(">IIBBBBB", len(values), 1, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + line))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


class TestAccepted:
    @pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
    def test_lossless_files_arrive_unchanged(self, form, options):
        """PNG and lossless WebP give the very pixels."""
        image = photo()
        decoded = decode(encoded(image, form, **options), LIMITS)
        np.testing.assert_array_equal(decoded.rgb, image)
        assert decoded.rgb.flags.c_contiguous
        assert decoded.notes == []
        assert decoded.format == form

    def test_exif_orientation_is_applied(self):
        """A photograph that was taken sideways comes out upright."""
        image = Image.fromarray(photo())
        exif = image.getexif()
        exif[0x0112] = 6  # turn 90° clockwise to view
        decoded = decode(encoded(image, "JPEG", exif=exif, quality=100, subsampling=0), LIMITS)
        assert decoded.rgb.shape == (32, 24, 3)
        expected = np.rot90(photo(), -1).astype(int)
        assert np.abs(decoded.rgb - expected).mean() < 2

    def test_grey_becomes_rgb(self):
        """One channel is repeated three times."""
        grey = photo()[..., 0]
        decoded = decode(encoded(Image.fromarray(grey)), LIMITS)
        np.testing.assert_array_equal(decoded.rgb, np.repeat(grey[..., None], 3, 2))

    def test_sixteen_bit_grey_is_rounded_and_noted(self):
        """65535 is white, 32768 is 128 (rounded to nearest), and the answer says so."""
        deep = np.array([[0, 65535, 32768, 257]], np.uint16)
        decoded = decode(encoded(Image.fromarray(deep)), LIMITS)
        assert decoded.rgb[0, :, 0].tolist() == [0, 255, 128, 1]
        assert "16 bits" in decoded.notes[0]

    def test_colours_of_sixteen_bits_are_cut_and_noted(self):
        """Of colours the upper byte is taken, and the answer does not call that rounding."""
        decoded = decode(deep_rgb([0, 0x00FF, 0xFFFF, 0x80FF]), LIMITS)
        assert decoded.rgb[0, :, 0].tolist() == [0, 0, 255, 128]
        assert "cut to the upper 8" in decoded.notes[0]

    @pytest.mark.parametrize("top", [1023, 4095])
    def test_dark_sixteen_bit_data(self, top):
        """Data of 10 or 12 bits are nearly black, which a warning says."""
        values = np.linspace(0, top, 16).astype(np.uint16)
        for data in (encoded(Image.fromarray(values[None])), deep_rgb(values)):
            assert "brightest value" in decode(data, LIMITS).notes[1]

    @pytest.mark.parametrize("data", ["grey", "rgb"])
    def test_sixteen_bit_data_that_would_be_black(self, data):
        """Nothing is left of values below 256, so nothing is upscaled."""
        values = np.arange(100, dtype=np.uint16)
        data = deep_rgb(values) if data == "rgb" else encoded(Image.fromarray(values[None]))
        with pytest.raises(BadImage, match="black"):
            decode(data, LIMITS)

    def test_palette_and_bilevel_images(self):
        """Palette and 1-bit images are shown in their colours."""
        palette = Image.fromarray(photo()).quantize(8)
        np.testing.assert_array_equal(
            decode(encoded(palette), LIMITS).rgb, np.asarray(palette.convert("RGB"))
        )
        assert "palette of 8 colours" in decode(encoded(palette), LIMITS).notes[0]
        bilevel = Image.fromarray(photo()[..., 0] > 100)
        assert set(np.unique(decode(encoded(bilevel), LIMITS).rgb)) <= {0, 255}

    def test_cmyk_jpeg_is_converted_and_noted(self):
        """A CMYK photograph becomes RGB, with a note on how."""
        decoded = decode(encoded(Image.fromarray(photo()).convert("CMYK"), "JPEG"), LIMITS)
        assert decoded.rgb.shape == (24, 32, 3)
        assert "CMYK" in decoded.notes[0]

    def test_a_colour_profile_is_converted_to_srgb(self):
        """An image in another colour space is converted, and the answer says so."""
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        raw = profile.tobytes().replace(b"s\0R\0G\0B", b"x\0Y\0Z\0B").replace(b"sRGB", b"xYZB")
        decoded = decode(encoded(photo(), icc_profile=raw), LIMITS)
        assert "converted to sRGB" in decoded.notes[0]
        assert np.abs(decoded.rgb.astype(int) - photo()).max() <= 2

    def test_a_damaged_colour_profile_is_ignored_and_noted(self):
        """Rubbish in place of a profile does not stop the image."""
        decoded = decode(encoded(photo(), icc_profile=b"no profile"), LIMITS)
        np.testing.assert_array_equal(decoded.rgb, photo())
        assert "profile is damaged" in decoded.notes[0]

    def test_an_opaque_alpha_channel_is_dropped(self):
        """Full opacity says nothing."""
        rgba = np.dstack([photo(), np.full((24, 32), 255, np.uint8)])
        np.testing.assert_array_equal(decode(encoded(rgba), LIMITS).rgb, photo())

    def test_transparency_is_flattened_onto_a_background(self):
        """background=red shows through transparent pixels."""
        rgba = np.zeros((2, 2, 4), np.uint8)
        rgba[0] = [0, 255, 0, 255]
        decoded = decode(encoded(rgba), LIMITS, background="#ff0000")
        assert decoded.rgb[0, 0].tolist() == [0, 255, 0]
        assert decoded.rgb[1, 1].tolist() == [255, 0, 0]
        assert "flattened" in decoded.notes[0]

    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (10, 500)])
    def test_small_and_long_images(self, shape):
        """Any shape within the limits is accepted."""
        image = photo(0, *shape)
        np.testing.assert_array_equal(decode(encoded(image), LIMITS).rgb, image)


class TestOddFiles:
    def test_one_transparent_grey_of_sixteen_bits(self):
        """Greys of 16 bits are not clipped where one of them is declared transparent."""
        deep = encoded(Image.fromarray(np.array([[30000, 5]], np.uint16)))
        place = deep.find(b"IDAT") - 4
        data = deep[:place] + chunk(b"tRNS", struct.pack(">H", 5)) + deep[place:]
        decoded = decode(data, LIMITS, background="red")
        assert decoded.rgb[0].tolist() == [[117, 117, 117], [255, 0, 0]]
        with pytest.raises(BadImage, match="transparent"):
            decode(data, LIMITS)
        near = encoded(Image.fromarray(np.array([[30000, 6]], np.uint16)))
        data = near[:place] + chunk(b"tRNS", struct.pack(">H", 5)) + near[place:]
        assert decode(data, LIMITS).rgb[0].tolist() == [[117] * 3, [0] * 3]

    def test_a_camera_file_with_a_second_picture(self):
        """Of a JPEG file with further pictures the first is taken, upright, with a note."""
        image = Image.fromarray(photo())
        exif = image.getexif()
        exif[0x0112] = 6
        options = {"exif": exif, "quality": 95}
        both = encoded(image, "MPO", save_all=True, append_images=[image.resize((8, 6))], **options)
        assert Image.open(io.BytesIO(both)).format == "MPO"
        decoded = decode(both, LIMITS)
        np.testing.assert_array_equal(
            decoded.rgb, decode(encoded(image, "JPEG", **options), LIMITS).rgb
        )
        assert decoded.format == "JPEG"
        assert decoded.notes == ["The file holds several pictures; the first was taken."]


class TestRefused:
    def test_transparency_without_a_background(self):
        """Transparent pixels are refused, and the way out is named."""
        palette = Image.fromarray(photo()).quantize(8)
        with pytest.raises(BadImage, match="background=white"):
            decode(encoded(palette, transparency=0), LIMITS)

    def test_a_background_that_is_no_colour(self):
        """The colour must be one."""
        rgba = np.zeros((2, 2, 4), np.uint8)
        with pytest.raises(BadRequest, match="colour"):
            decode(encoded(rgba), LIMITS, background="transparentish")

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"just text, named .png", "not a PNG, JPEG, .* image, or its header"),
            (b"%PDF-1.7", "PDF"),
        ],
    )
    def test_other_files(self, data, message):
        """Other kinds of files are unsupported media, named where they are known."""
        with pytest.raises(UnsupportedMedia, match=message):
            decode(data, LIMITS)

    def test_an_empty_file(self):
        """Nothing is a bad image."""
        with pytest.raises(BadImage, match="empty"):
            decode(b"", LIMITS)

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
    def test_truncated_files(self, form):
        """Half a file is an error, not half an image."""
        data = encoded(photo(0, 200, 200), form)
        with pytest.raises(BadImage, match=r"cannot be decoded|header is damaged"):
            decode(data[: len(data) // 2], LIMITS)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_jpeg_files_cut_before_their_end_mark(self, mode, options):
        """A picture of which nine tenths are missing is damaged, although it ends as it should."""
        data = encoded(Image.fromarray(photo(0, 200, 200)).convert(mode), "JPEG", **options)
        assert not [note for note in decode(data, LIMITS).notes if "damaged" in note]
        with pytest.raises(BadImage, match=r"damaged|truncated"):
            decode(data[: len(data) // 2] + data[-2:], LIMITS)

    def test_oddities_of_jpeg_files(self):
        """Bytes that belong to nothing are noted; what stands behind the end is no damage."""
        data = encoded(photo(0, 200, 200), "JPEG")
        assert "belong to nothing" in decode(data[:-2] + bytes(64) + data[-2:], LIMITS).notes[0]
        assert decode(data + b"abc", LIMITS).notes == []

    def test_animations(self):
        """More than one frame is refused."""
        frames = [Image.fromarray(photo(k)) for k in range(3)]
        data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
        with pytest.raises(BadImage, match="animated"):
            decode(data, LIMITS)

    def test_too_many_bytes(self):
        """The file size is checked first."""
        with pytest.raises(ImageTooLarge) as caught:
            decode(b"x" * 11, Limits(max_bytes=10))
        assert caught.value.members == {"limit": "max_bytes", "maximum": 10, "actual": 11}

    @pytest.mark.parametrize("size", [(30000, 30000), (12000, 12000), (9000, 9000)])
    def test_decompression_bombs(self, size):
        """A small file of many pixels is refused from its header."""
        with pytest.raises(ImageTooLarge, match="pixels") as caught:
            decode(bomb(*size), LIMITS)
        assert caught.value.members["limit"] == "max_pixels"

    def test_a_side_that_is_too_long(self):
        """Few pixels in one endless row are refused too."""
        with pytest.raises(ImageTooLarge, match="no side"):
            decode(encoded(np.zeros((1, 20000, 3), np.uint8)), LIMITS)

    def test_the_limit_itself_is_allowed(self):
        """max_pixels pixels pass, one more row does not."""
        limits = Limits(max_pixels=100)
        assert decode(encoded(photo(0, 10, 10)), limits).rgb.shape == (10, 10, 3)
        with pytest.raises(ImageTooLarge):
            decode(encoded(photo(0, 11, 10)), limits)
