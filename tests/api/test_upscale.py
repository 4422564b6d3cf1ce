"""POST /v1/upscale: document, files and forms of the answer, and `auto`."""

import math
import re
from urllib.parse import unquote

import numpy as np
import pytest

from harness.admin import Admin, truth_files
from harness.factories import calibration_of, encoded, sharp
from harness.fakes import FakeUpscaler
from harness.gateway import IMAGE, check_problem, ended, form, gateway, pixels, post
from trustscale_server.calibration import file
from trustscale_server.conformal.error_metrics import LAB_BOUND
from trustscale_server.http.negotiation import negotiate
from trustscale_server.platform.errors import BadRequest
from trustscale_server.serving.document import Result
from trustscale_server.upscalers.base import image_digest

PARTS = ("image", "mask", "trust", "overlay", "believed")


def test_every_field_of_the_document(client, calibration):
    response = post(client, alpha=0.1, seed=7)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    base = f"/v1/results/{answer['id']}"
    assert response.headers["content-location"] == base
    assert set(answer) == set(Result.model_fields) - {"batch"}  # it belongs to none
    assert answer["upscaler"] == "fake"
    assert answer["calibration"] == calibration.id
    assert (answer["scale"], answer["width"], answer["height"]) == (2, 48, 48)
    assert answer["alpha"] == 0.1
    assert answer["threshold"] == calibration.curve.threshold(0.1)
    assert 0 < answer["trusted_fraction"] < 1
    assert (answer["samples"], answer["seed"], answer["prediction"]) == (4, 7, "first")
    assert answer["warnings"] == []
    promised = {"kind": "expectation", "metric": "neighborhood", "alpha": 0.1, "n": 30}
    promised |= {"bound": LAB_BOUND, "lab_psnr_lower_bound_db": None}
    assert answer["guarantee"].items() >= promised.items()
    assert set(answer["timings_ms"]) == {"wait", "samples", "indecision", "added", "encode"}
    assert all(value >= 0 for value in answer["timings_ms"].values())
    links = {part: f"{base}/{part}.png" for part in (*PARTS, "card", "added", "safe")}
    assert answer["links"] == {"self": base, **links}


def test_what_an_application_needs_stands_first(client):
    """Short answers leave out what statisticians need; `detail=full` adds it."""
    short = client.post("/v1/upscale", **form(seed=7)).json()
    full = post(client, seed=7).json()
    assert list(short)[:4] == list(full)[:4] == ["promised", "plain", "warnings", "added"]
    assert short["promised"] is short["guarantee"]["promised"] is True
    assert short["plain"] == f"{short['added']['plain']} {short['guarantee']['plain']}"
    assert full.keys() - short.keys() == {"threshold"}
    missing = full["guarantee"].keys() - short["guarantee"].keys()
    nulls = {name for name, value in full["guarantee"].items() if value is None}
    assert missing == nulls | {"bound", "void_if"}
    link = short["links"]["self"]
    assert client.get(link).json() == short
    again = client.get(link, params={"detail": "full"}).json()
    assert again["guarantee"] == full["guarantee"]
    check_problem(client.get(link, params={"detail": "some"}), "bad-request")


def test_defaults(client, calibration):
    """The seed follows from the pixels, not from the file, and not from who asks how."""
    png = post(client).json()
    again = post(client, alpha="", seed=png["seed"]).json()
    assert png["alpha"] == again["alpha"] == calibration.manifest.default_alpha
    images = [client.get(one["links"]["image"]).content for one in (png, again)]
    assert images[0] == images[1]
    rgb = pixels(IMAGE).copy()
    tiff = post(client, encoded(rgb, "TIFF")).json()
    job = post(client, headers={"Prefer": "respond-async"}).headers["location"]
    as_job = client.get(ended(client, job)["result"]).json()
    assert png["seed"] == tiff["seed"] == as_job["seed"] == int(image_digest(rgb)[:13], 16)
    rgb[0, 0] ^= 1
    assert post(client, encoded(rgb)).json()["seed"] != png["seed"]


def test_below_the_smallest_possible(client):
    """α below B/(n+1): an empty mask, threshold −inf, and the n that it needs, if any."""
    for alpha, words in (("0.05", "at least 39 pairs"), ("0", "no number")):
        answer = post(client, alpha=alpha).json()
        assert (answer["threshold"], answer["trusted_fraction"]) == ("-inf", 0)
        assert words in answer["warnings"][0]
        assert not pixels(client.get(answer["links"]["mask"]).content).any()


class TestFiles:
    @pytest.fixture
    def files(self, client, answer):
        return {part: client.get(answer["links"][part]).content for part in PARTS}

    def test_forms(self, files, answer, calibration):
        """RGB of 8 bits, exactly k times the input; a mask of one bit; trust levels of 16."""
        depths = {"image": b"\x08\x02", "mask": b"\x01\x00", "trust": b"\x10\x00"}
        assert {part: files[part][24:26] for part in depths} == depths  # and colour types
        assert pixels(files["image"]).shape == (48, 48, 3)
        assert pixels(files["mask"]).shape == (48, 48)
        assert pixels(files["mask"]).mean() == answer["trusted_fraction"]
        levels = np.unique(pixels(files["trust"]).astype(np.int64))
        assert levels.min() >= math.floor(calibration.curve.min_alpha / LAB_BOUND * 65534)
        assert (levels[:-1] <= 65534).all()  # and one beyond the end of the curve

    def test_trust_thresholded_is_inside_the_mask(self, client, answer, files):
        """`value ≤ floor(α/B · 65534)` is a subset of the mask of α, for any α."""
        trust = pixels(files["trust"])
        for alpha in np.random.default_rng(0).uniform(0.05, 0.2, 16):
            mask = client.get(answer["links"]["mask"], params={"alpha": repr(float(alpha))})
            trusted = trust <= math.floor(alpha / LAB_BOUND * 65534)
            assert not (trusted & ~pixels(mask.content)).any()


FAITHFUL, SHARP = "span-x4", "realesr-x4-safe"
PICTURE = sharp()


def upscalers():
    return [FakeUpscaler(name, fingerprint=f"fake:{name}") for name in (FAITHFUL, SHARP)]


@pytest.fixture
async def calibrations():
    return [await calibration_of(upscaler, 3, side=192) for upscaler in upscalers()]


async def test_it_follows_the_class(serve, calibrations):
    async with serve(*upscalers(), calibrations=calibrations) as served:
        png, jpeg = encoded(PICTURE), encoded(PICTURE, "JPEG", quality=60)
        for fields in ({}, {"upscaler": "auto"}):
            made = (await served.post(png, **fields)).json()
            assert (made["upscaler"], made["calibration"]) == (FAITHFUL, calibrations[0].id)
            made = (await served.post(jpeg, **fields)).json()
            assert (made["upscaler"], made["calibration"]) == (SHARP, calibrations[1].id)
            assert "JPEG of a quality" in made["upscaler_reason"]
        named = (await served.post(jpeg, upscaler=FAITHFUL)).json()
        assert (named["upscaler"], named["upscaler_reason"]) == (FAITHFUL, None)
        listed = (await served.client.get("/v1/upscalers")).json()
        assert [row["default"] for row in listed] == [True, True]


def test_a_calibration_names_its_upscaler(start):
    """Where the class of an upload would choose, nobody guesses which model is to be paid for."""
    models = upscalers()
    admin = Admin(start(*models, calibrations=()))
    for named in ({}, {"upscaler": "auto"}):
        for fields in ({}, {"dry_run": "true"}):
            answer = admin.post_files(truth_files(1), fields=fields, **named)
            problem = check_problem(answer, "bad-request")
            assert problem["fields"][0]["field"] == "upscaler"
            assert f"{FAITHFUL} and {SHARP}" in problem["detail"]
    answer = admin.post_files(truth_files(1), fields={"dry_run": "true"}, upscaler=SHARP)
    assert answer.status_code == 200
    assert [model.calls for model in models] == [[], []]


async def test_one_is_not_calibrated(serve, calibrations):
    jpeg = encoded(PICTURE, "JPEG", quality=60)
    async with serve(*upscalers(), calibrations=calibrations[:1]) as served:
        made = (await served.post(jpeg)).json()
        assert made["upscaler"] == FAITHFUL
        assert f"{SHARP}, for uploads of this class" in made["upscaler_reason"]
    async with serve(*upscalers(), calibrations=(), folder="empty") as served:
        check_problem(await served.post(jpeg), "no-calibration")
    # Where an upscaler of the table is not there the first one is the default, and no auto.
    async with serve(folder="another") as served:
        assert (await served.post()).json()["upscaler_reason"] is None
        check_problem(await served.post(upscaler="auto"), "not-found")


@pytest.mark.parametrize("unread", [0, 1])
async def test_one_cannot_be_read(serve, tmp_path, calibrations, monkeypatch, unread):
    """Another model is not taken because of that; a request may name it."""
    other = calibrations[1 - unread]
    with monkeypatch.context() as older:
        older.setattr(file, "VERSION", 0)
        gateway(tmp_path, *upscalers(), calibrations=[calibrations[unread]])
    async with serve(*upscalers(), calibrations=[other]) as served:
        for upload in (encoded(PICTURE), encoded(PICTURE, "JPEG", quality=60)):
            refused = check_problem(await served.post(upload), "no-calibration")
            assert f"{calibrations[unread].id} of" in refused["detail"]
        named = await served.post(encoded(PICTURE), upscaler=other.manifest.upscaler)
        assert named.json()["calibration"] == other.id
        assert (await served.client.get("/v1/upscalers")).status_code == 200


class TestThePictureAlone:
    """`Accept: image/…` gets the file; promise and links are in its headers."""

    @pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
    def test_its_format(self, client, form):
        """The type in `Accept` is the format, as if the form had named it."""
        sent = post(client, seed=3, headers={"Accept": f"image/{form}, */*"})
        assert (sent.status_code, sent.headers["content-type"]) == (200, f"image/{form}")
        document = client.get(document_of(sent)).json()
        assert (document["format"], document["scale"]) == (form, 2)
        same = client.get(sent.headers["content-location"])
        assert same.content == sent.content == client.get(document["links"]["image"]).content

    def test_its_promise(self, client):
        """What is promised, of how much, and where the mask is, as the document says it."""
        sent = post(client, alpha=0.1, headers={"Accept": "image/*"})
        document = client.get(document_of(sent)).json()
        said = {
            name.removeprefix("trustscale-"): unquote(value)
            for name, value in sent.headers.items()
            if name.startswith("trustscale-")
        }
        assert said == {
            "promised": str(document["guarantee"]["promised"]).lower(),
            "promise": document["guarantee"]["plain"],
            "alpha": "0.1",
            "trusted-fraction": f"{document['trusted_fraction']:.4f}",
            "warnings": str(len(document["warnings"])),
        }
        assert f'<{document["links"]["mask"]}>; rel="related"' in sent.headers["link"]

    def test_without_a_mask(self, client):
        """Nothing is promised, and the header says why."""
        sent = post(client, mask="none", headers={"Accept": "image/png"})
        assert sent.headers["trustscale-promised"] == "false"
        assert "no trust mask" in unquote(sent.headers["trustscale-promise"])
        assert 'rel="related"' not in sent.headers["link"]

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("application/json;q=0.5, image/png", "image/png"),
            ("image/webp;q=0.2, image/png; Q=0.9", "image/png"),
            ("text/html, image/webp, */*;q=0.8", "image/webp"),
            ("image/webp;q=0.1, */*;q=0.8", "application/json"),
            ("image/webp, */*", "image/webp"),
            ("application/json;q=0, */*", "application/zip"),
            ("application/*", "application/json"),
            ("image/png;q=much, image/webp;q=0.1", "image/webp"),
            ("", "application/json"),
        ],
    )
    def test_weights(self, accept, kind):
        """What is wanted most is answered, not what is named first."""
        assert negotiate(accept) == kind

    @pytest.mark.parametrize("accept", ["image/png;q=0", "text/html", "*/*;q=0"])
    def test_nothing_of_ours(self, accept):
        with pytest.raises(BadRequest, match="allows none of"):
            negotiate(accept)

    def test_again(self, client, upscaler):
        """The same key brings the same file; another format is refused, and nothing is made."""
        once = {"Idempotency-Key": "alone"}
        sent = post(client, headers={**once, "Accept": "image/webp"})
        calls = len(upscaler.calls)
        assert post(client, headers={**once, "Accept": "image/webp"}).content == sent.content
        other = check_problem(post(client, headers={**once, "Accept": "image/jpeg"}), "bad-request")
        assert "format=webp" in other["detail"]
        assert len(upscaler.calls) == calls

    def test_two_formats(self, client, upscaler):
        """A format in the form is kept if the type fits it, and refused if not."""
        tiff = {"Accept": "image/tiff"}
        assert post(client, format="ome.tiff", headers=tiff).status_code == 200
        calls = len(upscaler.calls)
        said = check_problem(post(client, format="png", headers=tiff), "bad-request")
        assert "name different formats" in said["detail"]
        assert len(upscaler.calls) == calls


def document_of(sent):
    """The address of the document that a picture's `Link` header names."""
    return re.search('<([^>]*)>; rel="describedby"', sent.headers["link"])[1]
