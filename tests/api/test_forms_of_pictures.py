"""The picture in the form that was asked for, with its transparency and its metadata."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from app.images.encode import FORMS
from tests.api.gateway import IMAGE, check_problem, post
from tests.factories import encoded, photo

HALF = np.where(np.arange(24) < 12, 255, 100).astype(np.uint8)
TRANSPARENT = encoded(np.dstack([photo(1000, 24, 24), np.tile(HALF, (24, 1))]))


def picture_of(client, answer) -> Image.Image:
    """The picture behind `links.image`."""
    response = client.get(answer["links"]["image"])
    assert response.headers["content-type"] == FORMS[answer["format"]].media_type
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("form", FORMS)
def test_the_form_that_was_asked_for(client, form):
    """Link, type and zip name it; lossy ones come with a warning about the promise."""
    packed = post(client, headers={"Accept": "application/zip"}, seed=1, format=form)
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert f"image.{form}" in archive.namelist()
        answer = json.loads(archive.read("result.json"))
    assert answer["links"]["image"].endswith(f"/image.{form}")
    assert picture_of(client, answer).size == (48, 48)
    lossy = [text for text in answer["warnings"] if "before that" in text]
    assert bool(lossy) is not FORMS[form].lossless
    assert client.get(answer["links"]["overlay"]).status_code == 200


def test_a_result_in_other_forms(client):
    """What is stored without loss can be had in every form, with what the file says; else not."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    answer = post(client, encoded(photo(1000, 24, 24), exif=exif), metadata="keep").json()
    link = answer["links"]["self"]
    pixels = np.asarray(picture_of(client, answer))
    for form, kind in FORMS.items():
        response = client.get(f"{link}/image.{form}")
        assert response.headers["content-type"] == kind.media_type
        found = Image.open(io.BytesIO(response.content))
        assert (found.format or "").lower() == form
        assert kind.lossless == np.array_equal(np.asarray(found.convert("RGB")), pixels)
        if form != "tiff":
            assert found.getexif()[0x010F] == "Camera"
    tiff = io.BytesIO(client.get(f"{link}/image.tiff").content)
    assert len(tifffile.TiffFile(tiff).pages) == 3
    lossy = post(client, format="webp").json()["links"]["self"]
    assert "with loss" in client.get(f"{lossy}/image.png").json()["detail"]
    clear = post(client, TRANSPARENT).json()["links"]["self"]
    assert client.get(f"{clear}/image.webp").status_code == 200
    assert client.get(f"{clear}/image.jpeg").status_code == 422
    assert client.get("/v1/results/res-none/image.webp").status_code == 404


def test_transparency_is_enlarged_and_never_trusted(client):
    """The picture has alpha; white in the mask is opaque, for every α and in the trust levels."""
    opaque, answer = post(client, IMAGE, seed=1).json(), post(client, TRANSPARENT, seed=1).json()
    alpha = np.asarray(picture_of(client, answer))[..., 3]
    assert (alpha[:, :20] == 255).all()
    assert (alpha[:, 28:] < 200).all()
    for link in (answer["links"]["mask"], f"{answer['links']['mask']}?alpha=100"):
        mask = np.asarray(Image.open(io.BytesIO(client.get(link).content)))
        assert mask.any()
        assert not mask[alpha < 255].any()
    trust = np.asarray(Image.open(io.BytesIO(client.get(answer["links"]["trust"]).content)))
    assert (trust[alpha < 255] == 65535).all()
    assert answer["threshold"] == opaque["threshold"]


def test_the_transparent_part_is_neither_trusted_nor_guessed(client):
    """The share is of opaque pixels, and the overlay leaves all others as they are."""
    answer = post(client, TRANSPARENT, seed=1).json()
    picture = np.asarray(picture_of(client, answer))
    is_opaque = picture[..., 3] == 255
    mask = np.asarray(Image.open(io.BytesIO(client.get(answer["links"]["mask"]).content)))
    assert answer["trusted_fraction"] == mask[is_opaque].mean()
    assert answer["opaque_fraction"] == is_opaque.mean()
    drawn = client.get(f"{answer['links']['overlay']}?alpha=0").content
    overlay = np.asarray(Image.open(io.BytesIO(drawn)))
    np.testing.assert_array_equal(overlay[~is_opaque], picture[~is_opaque])
    assert (overlay[is_opaque] != picture[is_opaque]).any(axis=1).all()
    assert post(client, IMAGE).json()["opaque_fraction"] == 1


def test_what_cannot_be_had(client):
    """A form that cannot hold the picture, and values that mean nothing, are 422."""
    for fields, words in (
        ({"format": "jpeg"}, "transparent"),
        ({"format": "heic"}, "format"),
        ({"quality": 50}, "lossless"),
        ({"format": "webp", "quality": 0}, "quality"),
        ({"metadata": "all"}, "metadata"),
        ({"fit": 0}, "fit"),
    ):
        response = post(client, TRANSPARENT, **fields)
        assert response.status_code == 422
        assert words in response.json()["detail"]


def test_a_reduced_picture(client):
    """With `fit` the output is that of the reduced input, and the answer says so."""
    answer = post(client, encoded(photo(1, 96, 48)), fit=24).json()
    assert (answer["width"], answer["height"]) == (24, 48)
    assert any("fit=24" in text for text in answer["warnings"])


def test_a_compressed_picture_is_not_measured(client):
    """The truth about a picture that was compressed afterwards is refused: Ŷ is gone."""
    link = post(client, format="jpeg").json()["links"]["self"]
    response = client.post(f"{link}/truth", files={"image": encoded(photo(1, 48, 48))})
    assert "compressed" in check_problem(response, "conflict")["detail"]
