"""What may be asked for: forms, sizes, an address, no mask, only what can be believed."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from harness.factories import changed, encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import AS_ADMIN, IMAGE, check_problem, ended, pixels, post, text_chunks
from tests.live import serving
from trustscale_server.images.encoding.encode import PICTURE_FORMATS


def test_reduced(client):
    image = encoded(photo(1000, 24, 20))
    whole = post(client, image, seed=1, alpha=0.15).json()
    small = post(client, image, seed=1, alpha=0.15, to=24).json()
    assert (small["width"], small["height"], small["reduced_from"]) == (20, 24, [40, 48])
    assert (whole["reduced_from"], small["guarantee"]) == (None, whole["guarantee"])
    assert any("before that" in warning for warning in small["warnings"])
    masks = [pixels(client.get(answer["links"]["mask"]).content) for answer in (whole, small)]
    blocks = masks[0].reshape(24, 2, 20, 2)
    np.testing.assert_array_equal(masks[1], blocks.all(axis=(1, 3)))
    assert masks[1].mean() == small["trusted_fraction"]
    codes = [pixels(client.get(answer["links"]["trust"]).content) for answer in (whole, small)]
    np.testing.assert_array_equal(codes[1], codes[0].reshape(24, 2, 20, 2).max(axis=(1, 3)))
    other = pixels(client.get(f"{small['links']['mask']}?alpha=0.2").content)
    assert other.shape == (24, 20)
    truth = {"image": ("y.png", encoded(photo(0, 24, 20)), "image/png")}
    check_problem(client.post(f"{small['links']['self']}/truth", files=truth), "conflict")


def test_a_calibration_is_tried(start, calibration):
    """An admin gets answers from one that is not active; a client does not."""
    other = changed(calibration, default_alpha=0.3)
    guarded = start(calibrations=[other, calibration], client_keys=["client-key"])
    tried = post(guarded, headers=AS_ADMIN, calibration=other.id).json()
    assert (tried["calibration"], tried["alpha"]) == (other.id, 0.3)
    assert post(guarded, headers=AS_ADMIN).json()["calibration"] == calibration.id
    as_client = {"Authorization": "Bearer client-key"}
    check_problem(post(guarded, headers=as_client, calibration=other.id), "forbidden")
    check_problem(post(guarded, headers=AS_ADMIN, calibration="cal-none"), "not-found")


@pytest.mark.parametrize("mask", ["trust", "none"])
def test_the_bounds(client, mask):
    answer = post(client, to=48, mask=mask).json()
    assert (answer["width"], answer["reduced_from"]) == (48, None)
    assert post(client, to=1, mask=mask).json()["width"] == 1
    assert "48" in check_problem(post(client, to=49, mask=mask), "bad-request")["detail"]
    check_problem(post(client, to=0, mask=mask), "bad-request")
    for asked in ("-1", "1.5", "huge", "a9@300", "a3@0", "a3", "1e9", "٣"):
        detail = check_problem(post(client, to=asked, mask=mask), "bad-request")["detail"]
        assert f"{asked!r}" in detail
        assert "a3@300" in detail


def test_a_promise_about_pictures_is_for_their_size(start, calibration):
    """Another output has no mask: the answer names the size, and what would hold for any."""
    pipeline = calibration.document["pipeline"]
    fidelity = {**pipeline["fidelity"], "unit": "picture"}
    upscaler = FakeUpscaler()
    about = changed(calibration, pipeline={**pipeline, "fidelity": fidelity})
    client = start(upscaler, calibrations=(about,))
    assert post(client).json()["guarantee"]["unit"] == "picture"
    calls = len(upscaler.calls)
    other = encoded(photo(1, 24, 30))
    detail = check_problem(post(client, other), "calibration-mismatch")["detail"]
    assert "whole pictures of 48×48 pixels, and this output has 60×48" in detail
    assert "unit=spot" in detail
    assert len(upscaler.calls) == calls
    assert post(client, other, mask="none").status_code == 200


def test_without_a_calibration(start):
    """The error names what makes one, and mask=none, of which nothing has a mask."""
    upscaler = FakeUpscaler()
    bare = start(upscaler, calibrations=())
    detail = check_problem(post(bare), "no-calibration")["detail"]
    assert "trustscale calibrate FOLDER --upscaler fake --activate" in detail
    assert "mask=none" in detail
    assert upscaler.calls == []
    answer = post(bare, mask="none", seed=3).json()
    nothing = {"calibration": None, "guarantee": None, "alpha": None, "trusted_fraction": None}
    assert answer.items() >= {"mask": "none", "samples": 1, "width": 48, **nothing}.items()
    assert "nothing says where" in answer["warnings"][0]
    assert set(answer["links"]) == {"self", "image"}
    assert bare.get(answer["links"]["self"]).json() == answer
    for field in ({"alpha": 0.1}, {"group": "a"}):
        refused = check_problem(post(bare, mask="none", **field), "bad-request")
        assert "mask=none" in refused["detail"]
    image = bare.get(answer["links"]["image"]).content
    assert text_chunks(image)["trustscale:mask"] == "none"
    base = answer["links"]["self"]
    for path in ("mask.png", "trust.png", "believed.png", "mask.png?alpha=0.2"):
        check_problem(bare.get(f"{base}/{path}"), "not-found")
    truth = {"image": ("y.png", image, "image/png")}
    check_problem(bare.post(f"{base}/truth", files=truth), "not-found")
    assert bare.get(f"{base}/image.webp").status_code == 200


def test_the_same_picture_as_with_a_mask(client, upscaler):
    alone, masked = (post(client, seed=7, mask=mask).json() for mask in ("none", "trust"))
    one, other = (client.get(a["links"]["image"]).content for a in (alone, masked))
    assert (pixels(one) == pixels(other)).all()
    assert [len(calls) for calls in (upscaler.calls[:1], upscaler.calls[1:])] == [1, 4]


@pytest.fixture
def url():
    photos = Starlette(routes=[Route("/a.png", lambda _: Response(IMAGE))])
    with serving(photos) as address:
        yield f"http://{address}/a.png"


def ask(client, headers=None, **fields):
    return client.post("/v1/upscale", data=fields, headers=headers or {})


def test_the_same_answer(start, url):
    client = start(image_url_allowed_hosts="127.0.0.1", allow_private_networks="image_url")
    sent = post(client, seed=3).json()
    fetched = ask(client, image_url=url, seed="3").json()
    accepted = ask(client, {"Prefer": "respond-async"}, image_url=url, seed="3")
    job = ended(client, accepted.headers["location"])
    later = client.get(job["result"]).json()
    images = [client.get(answer["links"]["image"]).content for answer in (sent, fetched, later)]
    assert images[0] == images[1] == images[2]


HALF = np.where(np.arange(24) < 12, 255, 100).astype(np.uint8)
TRANSPARENT = encoded(np.dstack([photo(1000, 24, 24), np.tile(HALF, (24, 1))]))


def picture_of(client, answer):
    response = client.get(answer["links"]["image"])
    assert response.headers["content-type"] == PICTURE_FORMATS[answer["format"]].media_type
    return Image.open(io.BytesIO(response.content))


def test_a_result_in_other_forms(client):
    """What is stored without loss can be had in every form, with what the file says; else not."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    answer = post(client, encoded(photo(1000, 24, 24), exif=exif), metadata="keep").json()
    link = answer["links"]["self"]
    pixels = np.asarray(picture_of(client, answer))
    for form, kind in PICTURE_FORMATS.items():
        response = client.get(f"{link}/image.{form}")
        assert response.headers["content-type"] == kind.media_type
        found = Image.open(io.BytesIO(response.content))
        assert (found.format or "").lower() == form.rpartition(".")[2]
        assert kind.lossless == np.array_equal(np.asarray(found.convert("RGB")), pixels)
        if not form.endswith("tiff"):
            assert found.getexif()[0x010F] == "Camera"
    tiff = io.BytesIO(client.get(f"{link}/image.tiff").content)
    assert len(tifffile.TiffFile(tiff).pages) == 3
    lossy = post(client, format="webp").json()["links"]["self"]
    assert "with loss" in client.get(f"{lossy}/image.png").json()["detail"]
    # Nor is the truth compared with it: Ŷ is gone.
    response = client.post(f"{lossy}/truth", files={"image": encoded(photo(1, 48, 48))})
    assert "compressed" in check_problem(response, "conflict")["detail"]
    clear = post(client, TRANSPARENT).json()["links"]["self"]
    assert client.get(f"{clear}/image.webp").status_code == 200
    assert client.get(f"{clear}/image.jpeg").status_code == 422
    assert client.get("/v1/results/res-none/image.webp").status_code == 404


def test_transparency_is_enlarged_and_never_trusted(client):
    """White in the mask is opaque, for every α; the share is of what is opaque."""
    opaque, answer = post(client, IMAGE, seed=1).json(), post(client, TRANSPARENT, seed=1).json()
    alpha = np.asarray(picture_of(client, answer))[..., 3]
    assert (alpha[:, :20] == 255).all()
    assert (alpha[:, 28:] < 200).all()
    for link in (answer["links"]["mask"], f"{answer['links']['mask']}?alpha=100"):
        mask = pixels(client.get(link).content)
        assert mask.any()
        assert not mask[alpha < 255].any()
    assert (pixels(client.get(answer["links"]["trust"]).content)[alpha < 255] == 65535).all()
    assert answer["threshold"] == opaque["threshold"]
    picture = np.asarray(picture_of(client, answer))
    is_opaque = alpha == 255
    mask = pixels(client.get(answer["links"]["mask"]).content)
    assert answer["trusted_fraction"] == mask[is_opaque].mean()
    assert answer["opaque_fraction"] == is_opaque.mean()
    overlay = pixels(client.get(f"{answer['links']['overlay']}?alpha=0").content)
    np.testing.assert_array_equal(overlay[~is_opaque], picture[~is_opaque])
    assert 0.1 < (overlay[is_opaque] != picture[is_opaque]).any(axis=1).mean() < 0.6
    assert post(client, IMAGE).json()["opaque_fraction"] == 1


LARGE = encoded(photo(1000, 96, 96))


def parts_of(client, answer, alpha=None):
    links = answer["links"]
    asked = {} if alpha is None else {"alpha": alpha}
    mask, believed = (
        client.get(links[part], params=asked).content for part in ("mask", "believed")
    )
    return pixels(client.get(links["image"]).content), pixels(mask), pixels(believed)


@pytest.mark.parametrize(
    ("image", "fields"),
    [(IMAGE, {}), (TRANSPARENT, {}), (LARGE, {"to": 150})],
    ids=["plain", "transparent", "reduced"],
)
def test_the_mask_holds_the_pixels_of_the_picture(client, upscaler, image, fields):
    """Of every α, without another sample; outside it is the upload, enlarged by no model."""
    answer = post(client, image, seed=3, **fields).json()
    calls = len(upscaler.calls)
    codes = pixels(client.get(answer["links"]["trust"]).content)
    half = np.median(codes[codes < codes.max()]) / 65534 * answer["guarantee"]["bound"]
    picture, mask, believed = parts_of(client, answer, half)
    assert believed.shape == picture.shape
    assert mask.any()
    np.testing.assert_array_equal(believed[mask], picture[mask])
    assert (believed != picture)[~mask].any()
    nothing = parts_of(client, answer, 0)[2]
    plain = Image.open(io.BytesIO(image)).convert("RGB").resize(picture.shape[1::-1], 3)
    np.testing.assert_array_equal(nothing[..., :3], np.asarray(plain))
    text, said = text_chunks(client.get(answer["links"]["believed"]).content), answer["believed"]
    assert said["statement"] == text["trustscale:believed"]
    assert "enlarged without a model" in said["statement"]
    assert "nothing is promised of it" in said["statement"]
    assert len(upscaler.calls) == calls


def test_addresses_that_are_refused(start, client, url):
    check_problem(ask(client, image_url=url), "bad-request")
    allowed = start(image_url_allowed_hosts="127.0.0.1", allow_private_networks="image_url")
    check_problem(ask(allowed, image_url=url.replace("127.0.0.1", "localhost")), "bad-request")
    check_problem(post(allowed, image_url=url), "bad-request")
