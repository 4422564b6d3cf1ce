"""POST /v1/upscale: the document, the files, and the forms in which they come together."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
import pytest

from app import __version__
from app.api.upscale import negotiate
from app.calibration.guarantee import Expectation
from app.calibration.insight import thresholds
from app.conformal.fidelity import LAB_BOUND
from app.errors import BadRequest
from app.serving.answer import Result
from app.upscalers.base import Capabilities
from tests.api.gateway import IMAGE, aside, pixels, post, text_chunks
from tests.factories import calibration_of, encoded, photo
from tests.fakes import FakeUpscaler

PARTS = ("image", "mask", "trust", "overlay", "believed")


class TestDocument:
    def test_every_field(self, client, calibration):
        """The answer has the fields of the contract, and each says what it should."""
        response = post(client, alpha=0.1, seed=7)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
        base = f"/v1/results/{answer['id']}"
        assert response.headers["content-location"] == base
        assert set(answer) == set(Result.model_fields)
        assert answer["upscaler"] == "fake"
        assert answer["calibration"] == calibration.id
        assert (answer["scale"], answer["width"], answer["height"]) == (2, 48, 48)
        assert answer["alpha"] == 0.1
        assert answer["threshold"] == calibration.curve.threshold(0.1)
        assert 0 < answer["trusted_fraction"] < 1
        assert (answer["samples"], answer["seed"], answer["prediction"]) == (4, 7, "first")
        assert 0 < answer["typicality"] <= 1
        assert answer["warnings"] == []
        guarantee = answer["guarantee"]
        assert (guarantee["kind"], guarantee["metric"]) == ("expectation", "neighborhood")
        assert (guarantee["alpha"], guarantee["bound"], guarantee["n"]) == (0.1, LAB_BOUND, 30)
        assert guarantee["lab_psnr_lower_bound_db"] is None
        assert "is at most 0.1, if the image is exchangeable" in guarantee["statement"]
        assert any("choosing alpha after" in void for void in guarantee["voids"])
        assert set(answer["timings_ms"]) == {"wait", "samples", "indecision", "encode"}
        assert all(value >= 0 for value in answer["timings_ms"].values())
        assert answer["links"] == {
            "self": base,
            **{part: f"{base}/{part}.png" for part in PARTS},
        }

    def test_defaults(self, client, calibration):
        """Without fields: the calibration's α and a seed that is told."""
        first, second = post(client).json(), post(client).json()
        assert first["alpha"] == calibration.manifest.default_alpha
        assert first["seed"] != second["seed"]
        assert post(client, alpha="", seed=first["seed"]).json()["alpha"] == first["alpha"]

    def test_an_unusual_image_is_called_unusual(self, client):
        """An image on which the samples disagree far more than on the pairs earns a warning."""
        stripes = np.zeros((24, 24, 3), np.uint8)
        stripes[::2] = 255
        answer = post(client, encoded(stripes)).json()
        assert answer["typicality"] == pytest.approx(2 / 31)  # 30 pairs cannot say less

    def test_notes_reach_the_answer(self, client, upscaler):
        """What was done to a 16-bit image is said, and compression on the way to the model."""
        deep = np.full((24, 24), 40000, np.uint16)
        deep[:12] = 10000
        upscaler.capabilities = Capabilities(concurrency=4, lossless=False)
        warnings = post(client, encoded(deep)).json()["warnings"]
        assert "16 bits" in warnings[0]
        assert any("lossy" in text for text in warnings)

    def test_any_shape(self, client):
        """The smallest and the most oblong images are answered, k times larger.

        What is promised of such sizes is not known, which a warning says.
        """
        for height, width in ((1, 1), (5, 7), (2, 300)):
            answer = post(client, encoded(photo(5, height, width))).json()
            assert (answer["height"], answer["width"]) == (2 * height, 2 * width)
            assert answer["guarantee"]["applicability"] == "unknown"
            assert any("of another size than the" in text for text in answer["warnings"])


class TestAlpha:
    def test_below_the_smallest_possible(self, client):
        """α below B/(n+1): an empty mask, threshold −inf, and the n that it needs, if any."""
        for alpha, words in (("0.05", "at least 39 pairs"), ("0", "no number")):
            answer = post(client, alpha=alpha).json()
            assert (answer["threshold"], answer["trusted_fraction"]) == ("-inf", 0)
            assert words in answer["warnings"][0]
            assert not pixels(client.get(answer["links"]["mask"]).content).any()

    def test_not_below_the_bound(self, client, calibration):
        """α ≥ B trusts all that is like the calibration, and says that this means nothing."""
        answer = post(client, alpha=3).json()
        assert answer["threshold"] == calibration.curve.threshold(3) < math.inf
        assert answer["trusted_fraction"] > 0.9
        assert "the promise says nothing" in answer["warnings"][0]


def test_seeds_determine_the_bytes(client):
    """Seed and pipeline determine image, mask and trust level; another seed, another image."""
    first, second, other = (post(client, seed=seed).json() for seed in (5, 5, 6))
    for part in PARTS:
        one, same = (client.get(a["links"][part]).content for a in (first, second))
        assert one == same
    images = [client.get(answer["links"]["image"]).content for answer in (first, other)]
    assert images[0] != images[1]


class TestFiles:
    @pytest.fixture
    def answer(self, client):
        return post(client, alpha=0.1, seed=3).json()

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
        assert levels.max() <= 65534

    def test_trust_thresholded_is_inside_the_mask(self, client, answer, files):
        """`value ≤ floor(α/B · 65534)` is a subset of the mask of α, for any α."""
        trust = pixels(files["trust"])
        for alpha in np.random.default_rng(0).uniform(0.05, 0.2, 16):
            mask = client.get(answer["links"]["mask"], params={"alpha": repr(float(alpha))})
            trusted = trust <= math.floor(alpha / LAB_BOUND * 65534)
            assert not (trusted & ~pixels(mask.content)).any()

    def test_trust_is_the_mask_on_its_grid(self, client, answer, files):
        """For α = k · B/65534, up to rounding, the thresholded trust level is the mask itself."""
        trust = pixels(files["trust"])
        sizes = set()
        for code in np.unique(trust)[:16]:
            alpha = int(code) * LAB_BOUND / 65534 * (1 + 1e-12)
            mask = client.get(answer["links"]["mask"], params={"alpha": repr(alpha)})
            np.testing.assert_array_equal(trust <= code, pixels(mask.content))
            sizes.add(pixels(mask.content).mean())
        assert len(sizes) > 5

    def test_text_chunks(self, files, calibration):
        """Every file says where it comes from."""
        for part in PARTS:
            text = text_chunks(files[part])
            assert (text.pop("trustscale:believed", None) is None) == (part != "believed")
            assert text == {
                "Software": f"trustscale {__version__}",
                "trustscale:calibration": calibration.id,
                "trustscale:alpha": "0.1",
                "trustscale:threshold": repr(calibration.curve.threshold(0.1)),
                "trustscale:guarantee": "expectation",
                "trustscale:fingerprint": "fake:1",
            }


class TestForms:
    def test_zip(self, client):
        """Accept: application/zip gives the three files and the document in one archive.

        Whatever the client calls the upload: the content decides what it is.
        """
        files = {"image": ("holiday.exe", IMAGE, "application/octet-stream")}
        headers = {"Accept": "application/zip"}
        response = client.post("/v1/upscale", files=files, headers=headers)
        assert response.headers["content-type"] == "application/zip"
        assert ".zip" in response.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            parts = {name: archive.read(name) for name in archive.namelist()}
        assert set(parts) == {"image.png", "mask.png", "trust.png", "result.json"}
        result = Result.model_validate_json(parts["result.json"])
        assert client.get(result.links.self).content == parts["result.json"]
        for part in ("image", "mask", "trust"):
            assert client.get(getattr(result.links, part)).content == parts[f"{part}.png"]

    @pytest.mark.parametrize(
        ("accept", "chosen"),
        [
            *((a, "application/json") for a in ("*/*", "application/*", "text/html, */*;q=0.1")),
            ("Application/JSON;q=0.9", "application/json"),
            ("application/json;q=0, application/zip", "application/zip"),
            ("application/json;q=0.5, application/zip", "application/zip"),
            ("application/json; q=0.2, application/zip; Q=0.30", "application/zip"),
            ("application/zip, application/json", "application/zip"),
            ("application/json, application/zip", "application/json"),
            ("*/*, application/json;q=0", "application/zip"),
            ("application/*;q=0.1, application/zip;q=0.9", "application/zip"),
            ('text/plain;a=",application/zip;q=1", application/json;q=0.1', "application/json"),
            ('application/zip;a=";q=0"', "application/zip"),
            ("application/zip;q=many", "application/zip"),
            ('application/zip, text/plain;a="', "application/zip"),
            ("", "application/json"),
        ],
    )
    def test_qualities(self, accept, chosen):
        """The type of the highest quality is taken, of equals the first named, JSON by default."""
        assert negotiate(accept) == chosen

    @pytest.mark.parametrize(
        "accept", ["*/*;q=0", "application/zip;q=0.000", "image/png, application/json;q=0", '"']
    )
    def test_nothing_is_left(self, accept):
        """A quality of 0 forbids a type."""
        with pytest.raises(BadRequest):
            negotiate(accept)


class TestUpscalers:
    def test_list(self, start, calibration):
        """GET /v1/upscalers names kind, scale, fingerprint, M and the active calibration."""
        other = FakeUpscaler("other", scale=3, fingerprint="fake:2")
        client = start(FakeUpscaler(), other, default_upscaler="other")
        of_both = {
            "title": "SPAN ×4",
            "character": "faithful",
            "price_per_call": None,
            "seconds_per_megapixel": None,
            "kind": "embedded",
            "groups": {},
            "classes": [],
            "calibrations": [],
        }
        first, second = client.get("/v1/upscalers").json()
        assert first == of_both | {
            "name": "fake",
            "scale": 2,
            "fingerprint": "fake:1",
            "samples": 4,
            "calibration": calibration.id,
            "calibrations": [{"id": calibration.id, "name": None, "classes": ["*"]}],
            "guarantee": Expectation().facts(),
            "calibrated_on": "30 pictures, of which nothing more is said",
            "default": False,
            "default_alpha": calibration.manifest.default_alpha,
            "min_alpha": calibration.curve.min_alpha,
            "bound": calibration.bound,
            "unit": "lab",
            "table": [
                {key: row[key] for key in ("alpha", "trusted_fraction")}
                for row in thresholds(calibration)
            ],
        }
        known = {
            "name": "other",
            "scale": 3,
            "fingerprint": "fake:2",
            "samples": 1,
            "table": [],
        }
        assert second == dict.fromkeys(first) | of_both | known | {"default": True}

    def test_the_named_one_answers(self, start, calibration):
        """`upscaler` chooses; without it the default answers."""
        first, second = FakeUpscaler(), FakeUpscaler("second", scale=3, fingerprint="fake:2")
        calibrations = (calibration, aside(calibration_of(second, 20)))
        client = start(first, second, calibrations=calibrations)
        assert post(client).json()["upscaler"] == "fake"
        answer = post(client, upscaler="second").json()
        assert (answer["upscaler"], answer["scale"], answer["width"]) == ("second", 3, 72)
