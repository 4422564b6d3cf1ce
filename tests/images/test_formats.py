"""Files as they are: in from other programs, out for other programs."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import pytest
import rasterio
from PIL import Image

from app.errors import BadRequest, ImageTooLarge
from app.images.decode import Limits, decode
from app.images.encode import FORMS, FormName, Pages, picture
from app.images.metadata import Metadata
from app.serving.answer import form_of
from tests.factories import encoded, photo
from tests.missing import not_here

LIMITS = Limits()
EXACT = {"png", "tiff", "bmp", "gif", "jxl"}
UNUSUAL_XMP = "The XMP data may tell the place in an unusual way and were not kept."
GEO = {
    33550: (10.0, 10.0, 0.0),
    33922: (2.0, 3.0, 0.0, 500000.0, 4600000.0, 0.0),
    34735: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631),
}


def program(name: str, *words: object) -> str:
    """The output of another program."""
    found = shutil.which(name)
    if found is None:
        not_here(f"{name} is not installed")
    return subprocess.run(
        [found, *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    ).stdout


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


@pytest.fixture(scope="module")
def photograph(tmp_path_factory) -> bytes:
    """A file that knows too much: author, lens, place, and that it lies on its side."""
    path = tmp_path_factory.mktemp("camera") / "a.jpg"
    Image.fromarray(photo()).save(path)
    program(
        *("exiftool", "-q", "-overwrite_original", "-Artist=Ada", "-Orientation#=6"),
        *("-LensModel=Fifty", "-ExposureTime=1/30"),
        *("-GPSLatitude=52.5", "-GPSLatitudeRef=N", "-XMP:Creator=Ada"),
        *("-XMP:GPSLatitude=52.5", "-ExifImageWidth=32", path),
    )
    return path.read_bytes()


class TestMetadata:
    @pytest.fixture
    def kept(self, tmp_path, photograph):
        """What exiftool reads in a picture made of the photograph."""

        def made(keep: str, form: FormName = "png") -> dict[str, str]:
            decoded = decode(photograph, LIMITS, keep=keep)
            assert decoded.rgb.shape == (32, 24, 3)
            image = Image.fromarray(decoded.rgb)
            data = picture(image, form, metadata=decoded.metadata.enlarged(1))
            (tmp_path / f"b.{form}").write_bytes(data)
            told = program("exiftool", "-s", tmp_path / f"b.{form}").splitlines()
            lines = (line.partition(":") for line in told)
            return {name.strip(): value.strip() for name, _, value in lines}

        return made

    def test_nothing_is_kept_by_default(self, kept):
        """Without a word no EXIF, XMP or place leaves the service; the colours are named sRGB."""
        found = kept("none")
        assert not found.keys() & {"Artist", "Creator", "GPSLatitude", "Orientation"}
        assert "SRGBRendering" in found

    @pytest.mark.parametrize("form", FORMS)
    def test_kept_without_the_place(self, kept, form):
        """The author stays, the place does not; orientation and size are those of the output."""
        found = kept("keep", form)
        assert (found["Artist"], found["Creator"], found["ExifImageWidth"]) == ("Ada", "Ada", "24")
        assert (found["LensModel"], found["ExposureTime"]) == ("Fifty", "1/30")
        assert found.get("Orientation", "Horizontal (normal)") == "Horizontal (normal)"
        assert "GPSLatitude" not in found

    @pytest.mark.parametrize("form", FORMS)
    def test_the_place_when_asked_for(self, kept, form):
        """`keep-gps` keeps it."""
        assert kept("keep-gps", form)["GPSLatitude"].startswith("52 deg 30'")

    @pytest.mark.parametrize("prefix", ["exif", "e"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_a_place_in_xmp_however_it_is_written(self, prefix, encoding):
        """Under any prefix and in any encoding it is found, or nothing is kept."""
        attribute, element = f'{prefix}:GPSLatitude="52,30N"', f"{prefix}:GPSTrack"
        place = f"<rdf:Description {attribute}/><{element}>1</{element}>"
        kept = decode(encoded(photo(), "WEBP", xmp=place.encode(encoding)), LIMITS, keep="keep")
        assert kept.metadata.xmp == (b"<rdf:Description/>" if encoding == "utf-8" else b"")
        assert kept.notes == ([] if encoding == "utf-8" else [UNUSUAL_XMP])

    def test_a_place_in_xmp_without_an_end(self):
        """What is not found to its end is not kept."""
        kept = decode(encoded(photo(), "WEBP", xmp=b"<e:GPSTrack>1"), LIMITS, keep="keep")
        assert (kept.metadata.xmp, kept.notes) == (b"", [UNUSUAL_XMP])

    def test_xmp_with_zeros_behind_its_end(self):
        """It is kept: those of UTF-16 lie in between."""
        kept = decode(encoded(photo(), "WEBP", xmp=b"<x:a>Ada</x:a>\0\0"), LIMITS, keep="keep")
        assert (kept.metadata.xmp.rstrip(b"\0"), kept.notes) == (b"<x:a>Ada</x:a>", [])

    def test_damaged_exif_is_told(self):
        """It is left out with a note."""
        decoded = decode(encoded(photo(), exif=b"Exif\0\0garbage"), LIMITS, keep="keep")
        assert decoded.metadata.exif == b""
        assert decoded.notes == ["The EXIF data are damaged and were not kept."]


class TestOut:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_can_be_read_again(self, form):
        """ImageMagick's sizes and our own decoder agree; lossless forms keep every pixel."""
        data = picture(
            Image.fromarray(photo()),
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
        data = picture(Image.fromarray(rgba), "webp", quality=100)
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(data)))[..., 3], rgba[..., 3]
        )
        assert FORMS["webp"].is_lossless(100)
        assert not FORMS["webp"].is_lossless(99)

    def test_facts_travel_in_every_form(self):
        """α and the calibration are in each file, for exiftool or any reader of EXIF."""
        text = {"Software": "trustscale 1", "trustscale:alpha": "0.1"}
        for form in ("webp", "avif", "jpeg"):
            exif = Image.open(
                io.BytesIO(picture(Image.fromarray(photo()), form, text=text))
            ).getexif()
            assert exif[0x000B] == "Software=trustscale 1; alpha=0.1"

    @pytest.mark.parametrize("alpha", [False, True])
    def test_tiff_carries_its_mask(self, tmp_path, alpha):
        """GDAL sees the mask as the dataset's, smaller pixels, and the same place."""
        mask = photo()[..., 0] > 100
        trust = photo()[..., 1].astype(np.uint16) * 257
        pixels = np.dstack([photo(), photo()[..., 2]]) if alpha else photo()
        data = picture(
            Image.fromarray(pixels),
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
        """Georeference of an uploaded TIFF file comes back, and not by itself."""
        data = picture(Image.fromarray(photo()), "tiff", metadata=Metadata(geo=GEO))
        assert decode(data, LIMITS).metadata == Metadata()
        assert decode(data, LIMITS, keep="keep").metadata.geo == GEO


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
