"""Data of science files: which values, bands and pages become X, and how they are mapped back."""

import io
import itertools
import warnings

import numpy as np
import pytest
import rasterio
import tifffile
from pydantic import TypeAdapter, ValidationError
from rasterio.io import MemoryFile

from harness import hostile
from harness.factories import encoded, photo
from trustscale_server.images.decoding.raster import read_picture, read_values
from trustscale_server.images.limits import Limits
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.images.stretch import Bands, Stretch
from trustscale_server.platform.errors import BadImage, BadInput, BadRequest, ImageTooLarge

LIMITS = Limits()
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(200, 4000, (20, 30, 1)).astype(np.uint16)
COLOURS = RANDOM.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
BANDS = RANDOM.integers(0, 10_000, (20, 30, 5)).astype(np.uint16)
PAGES = RANDOM.integers(0, 4096, (4, 20, 30)).astype(np.uint16)
PHOTO = encoded(photo(), "PNG")
FLOATS = RANDOM.normal(0, 3, (20, 30, 1)).astype(np.float32)


def raster(values: np.ndarray, driver: str = "GTiff", **profile: object) -> bytes:
    height, width, count = values.shape
    shape = {"width": width, "height": height, "count": count, "dtype": values.dtype.name}
    with warnings.catch_warnings(action="ignore"), MemoryFile() as file:
        with file.open(driver=driver, **shape, **profile) as dataset:
            dataset.write(np.moveaxis(values, 2, 0))
        return file.read()


def stack(pages: np.ndarray) -> bytes:
    """A TIFF file with pages."""
    out = io.BytesIO()
    tifffile.imwrite(out, pages, photometric="minisblack")
    return out.getvalue()


def with_a_damaged_page() -> bytes:
    """A TIFF file of 8 bits whose second directory begins somewhere in the pixels."""
    data = bytearray(stack((PAGES >> 4).astype(np.uint8)))
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[after : after + 4] = (9).to_bytes(4, "little")
    return bytes(data)


def expected(values: np.ndarray, low: float, high: float) -> np.ndarray:
    share = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    return np.broadcast_to(np.rint(share * 65535), (*values.shape[:2], 3))


RGB, TILES = {"photometric": "RGB"}, {"blockxsize": 16, "blockysize": 16}
READ = {
    "grey PNG": (raster(GREY, "PNG"), {}, GREY),
    "grey TIFF, LZW": (raster(GREY, compress="LZW", predictor=2), {}, GREY),
    "colour PNG": (raster(COLOURS, "PNG"), {}, COLOURS),
    "colour TIFF, tiles": (raster(COLOURS, tiled=True, **TILES, **RGB), {}, COLOURS),
    "colour TIFF, planes": (raster(COLOURS, interleave="band", **RGB), {}, COLOURS),
    "bands": (raster(BANDS), {"bands": "4,3,2"}, BANDS[..., [3, 2, 1]]),
    "one band": (raster(BANDS), {"bands": "5"}, BANDS[..., [4]]),
    "page": (stack(PAGES), {"page": 3}, PAGES[2][..., np.newaxis]),
    "first page": (stack(PAGES), {}, PAGES[0][..., np.newaxis]),
    "floats": (raster(FLOATS), {}, FLOATS),
    "8 bits": (encoded(photo(), "WEBP", lossless=True), {}, photo()),
}


@pytest.mark.parametrize("kind", READ)
def test_values_become_x_and_can_be_mapped_back(kind):
    """16 bits by a window or by percentiles; within it no value is lost by more than rounding."""
    data, options, values = READ[kind]
    low, high = float(values.min()) + 1, float(np.median(values)) + 2
    image = in_decoder(read_picture, data, LIMITS, stretch=f"{low!r},{high!r}", **options)
    np.testing.assert_array_equal(image.rgb, expected(values, low, high))
    image = in_decoder(read_picture, data, LIMITS, stretch="p1,p99", **options)
    told = image.raster
    assert (image.rgb.dtype, told.stretch) == (np.uint16, "p1,p99")
    assert told.has_one_band == (values.shape[2] == 1)
    for k, (low, high) in enumerate(zip(told.low, told.high, strict=True)):
        assert [low, high] == np.percentile(values[..., k], [1, 99]).tolist()
        back = low + (high - low) * image.rgb[..., k].astype(float) / 65535
        cut = np.clip(values[..., k], low, high)
        np.testing.assert_allclose(back, cut, atol=(high - low) / 65535)


def test_the_page_that_was_taken_is_told():
    image = read_picture(stack(PAGES), LIMITS, stretch="0,4095", page=2)
    assert (image.raster.page, image.raster.pages, image.raster.bands) == (2, 4, (1,))
    assert not image.notes
    [note] = read_picture(stack(PAGES), LIMITS, stretch="0,4095").notes
    assert "4 pages; the first was taken" in note


def test_filters_of_warnings_stay(monkeypatch):
    """All threads share them: one that puts back those that it met may undo another's."""
    during, opened = [], rasterio.open

    def opening(*arguments, **options):
        during.append(list(warnings.filters))
        return opened(*arguments, **options)

    monkeypatch.setattr(rasterio, "open", opening)
    read_values(raster(GREY), LIMITS)
    assert during
    assert all(filters == warnings.filters for filters in during)


def test_gaps():
    """No data are no part of the percentiles, and are told as what is not opaque."""
    values = np.array([[[7], [0], [9], [11]]], np.uint16)
    gaps = read_picture(raster(values, nodata=0), LIMITS, stretch="p0,p100", with_alpha=True)
    assert (gaps.raster.low, gaps.raster.high) == ((7.0,), (11.0,))
    assert gaps.alpha.tolist() == [[255, 0, 255, 255]]
    floats = np.array([[[1], [np.nan], [3]]], np.float32)
    nan = read_picture(raster(floats), LIMITS, stretch="p0,p100", with_alpha=True)
    assert nan.rgb[..., 0].tolist() == [[0, 0, 65535]]
    assert nan.alpha.tolist() == [[255, 0, 255]]
    with pytest.raises(BadImage, match="without data"):
        read_picture(raster(floats), LIMITS, stretch="p0,p100")


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [(raster(BANDS), {"stretch": "p1,p99"}, BadRequest, "5 bands"),
     (raster(BANDS), {"stretch": "p1,p99", "bands": "6"}, BadRequest, "has 5"),
     (raster(BANDS), {"bands": "4,3,2"}, BadRequest, "stretch"),
     (stack(PAGES), {"stretch": "p1,p99", "page": 5}, BadRequest, "has 4"),
     (stack(PAGES), {"page": 9999}, BadRequest, "has 4"),
     (encoded(photo(), "JPEG"), {"page": 2}, BadRequest, "only TIFF"),
     (encoded(photo(), "JPEG"), {"bands": "1", "stretch": "0,9"}, BadRequest, "TIFF"),
     (raster(GREY), {"stretch": "0,9", "background": "red"}, BadRequest, "background"),
     (raster(GREY.astype("c8")), {"stretch": "0,9"}, BadImage, "complex"),
     (raster(GREY, "PNG")[:200], {"stretch": "0,9"}, BadImage, "decoded"),
     (PHOTO[: len(PHOTO) // 2], {"stretch": "0,9"}, BadImage, "decoded"),
     (raster(FLOATS * np.float32(1e35)), {"stretch": "p1,p99"}, BadImage, "too large"),
     (with_a_damaged_page(), {"page": 2}, BadImage, "damaged or incomplete"),
     (raster(BANDS), {}, BadRequest, "5 bands: name one or three"),
     (raster(np.zeros((2000, 2000, 1), np.uint16)), {"stretch": "0,9"}, ImageTooLarge, "pixels")],
)  # fmt: skip
def test_what_cannot_be_read(data, options, error, words):
    with pytest.raises(error, match=words):
        in_decoder(read_picture, data, LIMITS, **options)


@pytest.mark.parametrize("kind", [kind for kind in hostile.ENDLESS if kind.startswith("TIFF")])
@pytest.mark.slow
def test_hostile_files(kind):
    """Each is refused within the allowance of its pixels, by GDAL too."""
    with pytest.raises(BadInput):
        in_decoder(read_picture, hostile.ENDLESS[kind](), LIMITS, stretch="p1,p99", page=2)


@pytest.mark.parametrize(
    "text",
    ["", "1", "9,3", "p1,99", "p-1,p50", "p1,p101", "nan,1", "0,inf", "0,1,2", "1,1.00000000001"],
)
def test_stretches_that_mean_nothing(text):
    with pytest.raises(ValidationError):
        TypeAdapter(Stretch).validate_python(text)


def test_plain_forms():
    """One stretch has one name, since a calibration is bound to it."""
    told = map(TypeAdapter(Stretch).validate_python, (" P1.0 , p99 ", "0.0,4095", "-1e3,2"))
    assert list(told) == ["p1,p99", "0,4095", "-1000,2"]
    assert TypeAdapter(Bands).validate_python("4, 3, 2") == "4,3,2"
    for text in ("0,1,2", "1,2", "a", ""):
        with pytest.raises(ValidationError):
            TypeAdapter(Bands).validate_python(text)


def test_the_place_of_files_that_pillow_cannot_read():
    """The georeference of a page of five bands stays, where that is asked for."""
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
    data = raster(BANDS, transform=place, crs="EPSG:32633")
    kept = read_picture(data, LIMITS, stretch="p1,p99", bands="4,3,2", keep="keep-gps").metadata
    assert kept.enlarged(4).geo[33550][:2] == (2.5, 2.5)
    assert not read_picture(data, LIMITS, stretch="p1,p99", bands="4,3,2", keep="keep").metadata.geo


FILES = {
    "PNG": ((1, 2, 3, 4), ["uint8", "uint16"]),
    "TIFF": ((1, 2, 3, 4, 5), ["uint8", "uint16", "int16", "uint32", "float32", "float64"]),
    "JPEG": ((1, 3), ["uint8"]),
    "WEBP": ((1, 3), ["uint8"]),
}


@pytest.mark.parametrize(
    ("form", "dtype"), [(form, dtype) for form, (_, dtypes) in FILES.items() for dtype in dtypes]
)
def test_fit_is_of_all_forms(form, dtype):
    """Values of any kind are read and reduced, or refused in a sentence."""
    counts, _ = FILES[form]
    for count in counts:
        values = RANDOM.integers(0, 255, (20, 30, count)).astype(dtype)
        if form in {"JPEG", "WEBP"}:
            data = encoded(np.squeeze(values), form)
        else:
            data = raster(values, "PNG" if form == "PNG" else "GTiff")
        for fit, bands in itertools.product((None, 7), (None, "1", "3,1,2")):
            for given in ({}, {"stretch": "p1,p99"}, None):
                options = {"bands": bands, "max_input_side": fit}
                try:
                    if given is None:
                        pixels = read_values(data, LIMITS, **options).values
                    else:
                        pixels = read_picture(data, LIMITS, with_alpha=True, **given, **options).rgb
                except BadInput:
                    assert bands or count > 1 or dtype != "uint8"
                    continue
                assert max(pixels.shape[:2]) == min(30, fit or 30)
                assert pixels.shape[2:] in {(1,), (3,)}
