"""Files as they are: in from other programs, out for other programs."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
from PIL import Image

from app.errors import BadRequest, ImageTooLarge
from app.images.decode import Limits, decode
from app.images.encode import FORMS, Pages, picture
from app.images.metadata import Metadata
from app.serving.answer import form_of
from tests.factories import encoded, photo
from tests.images.programs import program

LIMITS = Limits()
EXACT = {"png", "tiff", "bmp", "gif", "jxl"}
GEO = {
    33550: (10.0, 10.0, 0.0),
    33922: (2.0, 3.0, 0.0, 500000.0, 4600000.0, 0.0),
    34735: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631),
}


class TestIn:
    @pytest.mark.parametrize("kind", ["png", "tiff", "bmp", "gif", "avif", "heic", "jxl", "webp"])
    def test_files_of_imagemagick(self, tmp_path, kind):
        """What ImageMagick writes arrives as the picture that it shows: lossless to the pixel."""
        Image.fromarray(photo()).quantize(64).convert("RGB").save(tmp_path / "a.png")
        program("magick", tmp_path / "a.png", "-quality", 95, tmp_path / f"b.{kind}")
        decoded = decode((tmp_path / f"b.{kind}").read_bytes(), LIMITS)
        truth = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
        assert np.abs(decoded.rgb - truth).max() <= (0 if kind in EXACT - {"jxl"} else 60)
        assert np.abs(decoded.rgb - truth).mean() < 6

    @pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits"])
    def test_deep_tiff_of_libvips(self, tmp_path, compression):
        """16-bit colours of any compression are cut to 8 bits, and the answer says so."""
        deep = photo().astype(np.uint16) * 256 + 17
        (tmp_path / "a.ppm").write_bytes(b"P6 32 24 65535\n" + deep.astype(">u2").tobytes())
        program(
            "vips", "tiffsave", tmp_path / "a.ppm", tmp_path / "b.tif", "--compression", compression
        )
        decoded = decode((tmp_path / "b.tif").read_bytes(), LIMITS)
        np.testing.assert_array_equal(decoded.rgb, photo())
        assert "cut to the upper 8" in decoded.notes[0]

    @pytest.mark.parametrize("form", ["JPEG", "PNG"])
    def test_a_large_picture_is_reduced_when_asked(self, form):
        """`fit` reduces before anything else, also over the limit; the error offers it."""
        limits = Limits(max_pixels=100 * 100)
        data = encoded(np.tile(photo(), (10, 10, 1)), form)
        with pytest.raises(ImageTooLarge, match=r"fit=115 "):
            decode(data, limits)
        decoded = decode(data, limits, fit=115)
        assert decoded.rgb.shape == (86, 115, 3)
        assert "reduced from 320×240" in decoded.notes[-1]
        assert decode(data, Limits(), fit=1000).rgb.shape == (240, 320, 3)

    def test_fit_has_a_limit_too(self):
        """Nothing larger than `max_fit_pixels` is decoded."""
        with pytest.raises(ImageTooLarge, match="at most 100 are"):
            decode(encoded(photo()), Limits(max_fit_pixels=100), fit=5)


class TestOut:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_can_be_read_again(self, form):
        """ImageMagick's sizes and our own decoder agree; lossless forms keep every pixel."""
        data = picture(
            photo(),
            form,
            text={"Software": "trustscale", "trustscale:alpha": "0.1"},
        )
        read = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(read - photo()).mean() < 8
        if FORMS[form].lossless:
            np.testing.assert_array_equal(read, photo())

    def test_the_best_webp_is_lossless(self):
        """Quality 100 keeps every pixel, also of pictures with alpha."""
        rgba = np.dstack([photo(), photo()[..., 0]])
        data = picture(rgba, "webp", quality=100)
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(data)))[..., 3], rgba[..., 3]
        )
        assert FORMS["webp"].is_lossless(100)
        assert not FORMS["webp"].is_lossless(99)

    def test_facts_travel_in_every_form(self):
        """α and the calibration are in each file, for exiftool or any reader of EXIF."""
        text = {"Software": "trustscale 1", "trustscale:alpha": "0.1"}
        for form in ("webp", "avif", "jpeg", "tiff"):
            exif = Image.open(io.BytesIO(picture(photo(), form, text=text))).getexif()
            assert exif[0x000B] == "Software=trustscale 1; alpha=0.1"

    @pytest.mark.parametrize("alpha", [False, True])
    def test_tiff_carries_its_mask(self, tmp_path, alpha):
        """GDAL sees the mask as the dataset's, smaller pixels, and the same place."""
        mask = photo()[..., 0] > 100
        trust = photo()[..., 1].astype(np.uint16) * 257
        pixels = np.dstack([photo(), photo()[..., 2]]) if alpha else photo()
        data = picture(
            pixels,
            "tiff",
            metadata=Metadata(geo=GEO).enlarged(4),
            pages=Pages(mask, trust),
        )
        (tmp_path / "a.tif").write_bytes(data)
        with rasterio.open(tmp_path / "a.tif") as file:
            np.testing.assert_array_equal(file.read().transpose(1, 2, 0), pixels)
            assert file.crs.to_epsg() == 32631
            assert file.res == (2.5, 2.5)
            # The tie point is the corner of another pixel now, at the same place on the ground.
            assert file.xy(12, 8, offset="ul") == pytest.approx((500000, 4600000))
            if not alpha:
                np.testing.assert_array_equal(file.dataset_mask() > 0, mask)
        with Image.open(io.BytesIO(data)) as file:
            file.seek(2)
            np.testing.assert_array_equal(np.asarray(file), trust)

    def test_tags_survive_the_way_through(self):
        """Georeference of an uploaded TIFF file comes back, but only with the place."""
        data = picture(photo(), "tiff", metadata=Metadata(geo=GEO))
        assert decode(data, LIMITS).metadata == Metadata()
        assert decode(data, LIMITS, keep="keep").metadata.geo == {}
        assert decode(data, LIMITS, keep="keep-gps").metadata.geo == GEO


class TestForms:
    def test_what_a_form_cannot_hold(self):
        """Sizes and transparency are refused before anything is generated."""
        with pytest.raises(BadRequest, match="16,383"):
            form_of("webp", None).check(20_000, transparent=False)
        with pytest.raises(BadRequest, match="background=white"):
            form_of("jpeg", None).check(10, transparent=True)
        with pytest.raises(BadRequest, match="has no quality"):
            form_of("png", 5)
        with pytest.raises(BadRequest, match="one of png, webp"):
            form_of("heic", None)
