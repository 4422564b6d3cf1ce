"""Data of 16 bits from the upload to the files of the answer, judged by their fields' readers."""

import io
import json
import warnings
import zipfile

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.io import MemoryFile
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from starlette.testclient import TestClient

from harness.factories import calibration_of, cells
from harness.gateway import aside, gateway
from tests.images.test_raster import raster, stack
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.kinds.features import BANDS
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

SIDE = 12
PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)


UPLOAD = raster(cells(1000), transform=PLACE, crs="EPSG:32633")
FIELDS = {"metadata": "keep-gps", "seed": 1, "alpha": 0.05}
PIPELINE = {
    "samples": 1,
    "indecision": IndecisionSettings("departure"),
    "fidelity": FidelitySettings("intensity"),
    "input_rule": BANDS,
    "stretch": "p0,p100",
}


def enlarged(seed):
    """Cells four times as large, so that X is like an upload of them."""
    large = ndimage.zoom(cells(seed)[..., 0].astype(float), 4, order=1)
    return np.rint(large).astype(np.uint16)[..., np.newaxis]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A service whose embedded network was calibrated on cells."""
    upscaler = EmbeddedUpscaler()
    folder = tmp_path_factory.mktemp("science")

    async def calibrated():
        return await calibration_of(upscaler, 24, file=lambda k: raster(enlarged(k)), **PIPELINE)

    app = gateway(folder, upscaler, calibrations=[aside(calibrated())])
    with TestClient(app) as client:
        yield client


def post(client, data=UPLOAD, accept="application/json", **fields):
    return client.post(
        "/v1/upscale",
        files={"image": ("upload", data)},
        data=FIELDS | fields | ({"alpha": ""} if fields.get("mask") == "none" else {}),
        headers={"Accept": accept},
    )


def answer(client, data=UPLOAD, **fields):
    """The document and the files of an answer."""
    response = post(client, data, "application/zip", **fields)
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as file:
        files = {name: file.read(name) for name in file.namelist()}
    return json.loads(files["result.json"]), files


def opened(data):
    """The values [h, w, c] of a file, its dataset closed, and what GDAL says of it."""
    with warnings.catch_warnings(action="ignore"), MemoryFile(data) as file, file.open() as dataset:
        about = {
            "back": (dataset.offsets, dataset.scales),
            "transform": dataset.transform,
            "crs": dataset.crs,
            "mask": dataset.dataset_mask() == 255,
            "tags": dataset.tags(),
        }
        return np.moveaxis(dataset.read(), 0, 2), about


@pytest.fixture(scope="module")
def plain(client):
    """The same answer as PNG, which the others must equal."""
    return answer(client)


def test_grey_of_16_bits(plain):
    """The picture has one channel, more levels than 8 bits have, and its window."""
    document, files = plain
    values, about = opened(files["image.png"])
    assert (values.shape, values.dtype) == ((4 * SIDE, 4 * SIDE, 1), np.uint16)
    assert len(np.unique(values)) > 256
    counts = cells(1000)
    told = document["raster"]
    assert told["stretch"] == "p0,p100"
    assert (told["low"], told["high"]) == ([counts.min()], [counts.max()])
    assert about["tags"]["trustscale_stretch"] == "p0,p100"
    back = told["low"][0] + (told["high"][0] - told["low"][0]) * values / 65535
    reduced = back.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))
    assert np.abs(reduced - counts[..., 0]).mean() < 0.05 * np.ptp(counts)
    assert document["guarantee"]["metric"] == "intensity"
    assert document["guarantee"]["error_unit"] == "stretch"
    assert document["guarantee"]["promised"]
    assert (document["input_class"]["name"], document["input_class"]["n"]) == ("grey", 24)
    assert 0 < document["trusted_fraction"] < 1


@pytest.mark.parametrize("form", ["tiff", "cog.tiff"])
def test_geotiff(client, plain, form):
    """rasterio reads values, mask, place, and what gives the upload's units back."""
    document, files = answer(client, format=form)
    values, about = opened(files[f"image.{form}"])
    png, _ = opened(plain[1]["image.png"])
    np.testing.assert_array_equal(values, png)
    mask = np.asarray(Image.open(io.BytesIO(files["mask.png"])))
    np.testing.assert_array_equal(about["mask"], mask)
    assert about["transform"] == rasterio.Affine(2.5, 0, 500_000, 0, -2.5, 4_000_000)
    assert about["crs"].to_epsg() == 32633
    [low], [high] = document["raster"]["low"], document["raster"]["high"]
    assert about["back"] == ((low,), (pytest.approx((high - low) / 65535),))
    assert about["tags"]["trustscale_calibration"] == document["calibration"]


def test_cloud_optimised(client, tmp_path):
    """`rio cogeo validate` accepts a picture of several tiles and, a second file, its levels."""
    large = cells(7, 160)
    document, files = answer(client, raster(large, transform=PLACE), format="cog.tiff")
    for name in ("image.cog.tiff", "trust.cog.tiff"):
        (tmp_path / name).write_bytes(files[name])
        is_valid, errors, remarks = cog_validate(str(tmp_path / name), strict=True)
        assert (is_valid, errors, remarks) == (True, [], [])
        with rasterio.open(tmp_path / name) as dataset:
            assert dataset.overviews(1)
            assert dataset.block_shapes == [(512, 512)]
    codes, about = opened(files["trust.cog.tiff"])
    np.testing.assert_array_equal(codes[..., 0], Image.open(io.BytesIO(files["trust.png"])))
    assert about["transform"].a == 2.5
    link = document["links"]["trust_cog"]
    assert client.get(link).content == files["trust.cog.tiff"]


@pytest.mark.filterwarnings("ignore")  # of bioio and what it is made of
def test_ome_tiff(client, plain, tmp_path):
    """tifffile and bioio read the planes, and pixels that are k times smaller."""
    path = tmp_path / "a.ome.tiff"
    about = {"axes": "YX", "PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.65}
    tifffile.imwrite(path, cells(1000)[..., 0], ome=True, metadata=about)
    _, files = answer(client, path.read_bytes(), format="ome.tiff", metadata="none")
    path.write_bytes(files["image.ome.tiff"])
    with tifffile.TiffFile(path) as file:
        picture, mask, levels = (series.asarray() for series in file.series)
    np.testing.assert_array_equal(picture[..., np.newaxis], opened(plain[1]["image.png"])[0])
    np.testing.assert_array_equal(mask == 255, Image.open(io.BytesIO(files["mask.png"])))
    np.testing.assert_array_equal(levels, Image.open(io.BytesIO(files["trust.png"])))
    from bioio import BioImage  # noqa: PLC0415 - takes seconds

    image = BioImage(path)
    assert len(image.scenes) == 3
    sizes = image.physical_pixel_sizes
    assert (pytest.approx(0.1625), pytest.approx(0.1625)) == (sizes.X, sizes.Y)
    np.testing.assert_array_equal(image.data.reshape(picture.shape), picture)


def test_bands_and_pages(client, plain):
    bands = np.concatenate([cells(k) for k in range(1000, 1005)], axis=2)
    document, files = answer(client, raster(bands), bands="4,3,2")
    assert document["raster"]["bands"] == [4, 3, 2]
    assert opened(files["image.png"])[0].shape == (4 * SIDE, 4 * SIDE, 3)
    # Nothing is known of three channels yet.
    assert not document["guarantee"]["promised"]
    assert document["input_class"].items() >= {"name": "colour", "rule": BANDS, "n": 0}.items()
    pages = np.stack([cells(k)[..., 0] for k in (1, 1000)])
    document, files = answer(client, stack(pages), page=2)
    assert (document["raster"]["page"], document["raster"]["pages"]) == (2, 2)
    np.testing.assert_array_equal(opened(files["image.png"])[0], opened(plain[1]["image.png"])[0])
    assert post(client, stack(pages), page=10_001).status_code == 422
