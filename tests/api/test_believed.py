"""`believed.png`: the picture's own pixels inside the mask, something plain outside."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from app.conformal.indecision import IndecisionSettings
from tests.api.gateway import IMAGE, aside, check_problem, pixels, post, text_chunks
from tests.api.test_forms_of_pictures import TRANSPARENT
from tests.factories import calibration_of, encoded, photo, sharp
from tests.fakes import FakeUpscaler, FakeWitness

LARGE = encoded(photo(1000, 96, 96))


def parts_of(client, answer, alpha=None) -> tuple[np.ndarray, ...]:
    """Picture, mask and `believed.png`."""
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
    assert answer["believed"]["outside"] == "upload"
    assert len(upscaler.calls) == calls


def test_after_looking(start):
    """Where α may be chosen after looking, the file is of the mask of that α."""
    client = start(calibrations=(aside(calibration_of(FakeUpscaler(), 45)),))
    answer = post(client, guarantee="post_hoc", alpha=0.05, seed=3).json()
    before, (picture, mask, believed) = parts_of(client, answer), parts_of(client, answer, 0.15)
    assert mask.sum() > before[1].sum()
    np.testing.assert_array_equal(believed[mask], picture[mask])


def test_what_is_said_of_it(client):
    """File and answer say what is shown outside, and that nothing is promised of that."""
    answer = post(client, alpha=0.1, seed=3).json()
    text = text_chunks(client.get(answer["links"]["believed"]).content)
    said = answer["believed"]["statement"]
    assert text["trustscale:believed"] == said
    assert text["trustscale:alpha"] == "0.1"
    assert "enlarged without a model" in said
    assert "nothing is promised of it" in said


def test_in_a_zip_where_it_is_asked_for(client):
    """The same file as behind the link; not in other zips."""

    def names(**fields):
        packed = post(client, headers={"Accept": "application/zip"}, seed=3, alpha=0.1, **fields)
        with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    answer = post(client, alpha=0.1, seed=3).json()
    linked = client.get(answer["links"]["believed"]).content
    assert names(believed=True)["believed.png"] == linked
    assert "believed.png" not in names()


def test_without_a_mask(client):
    """There is none, and it cannot be asked for."""
    link = post(client, mask="none").json()["links"]["self"]
    check_problem(client.get(f"{link}/believed.png"), "not-found")
    assert (
        "mask=none"
        in check_problem(post(client, mask="none", believed=True), "bad-request")["detail"]
    )
    check_problem(client.get("/v1/results/res-x/believed.png?alpha=-1"), "bad-alpha")


class TestWitness:
    """The faithful model's answer is there already where samples were compared with it."""

    @pytest.fixture
    def witnessed(self, start):
        """A client of an upscaler with a witness, and the witness."""
        upscaler = FakeUpscaler(witness=FakeWitness())
        calibration = aside(
            calibration_of(
                upscaler,
                samples=1,
                indecision=IndecisionSettings("witness"),
                witness="witness:1 x2",
            )
        )
        return start(upscaler, calibrations=(calibration,)), upscaler.witness

    def test_of_an_upload_without_loss(self, witnessed):
        """It is shown outside the mask, and is not asked again."""
        client, witness = witnessed
        asked = witness.asked
        answer = post(client, encoded(sharp()), alpha=0.1, seed=3).json()
        assert answer["believed"]["outside"] == "witness"
        assert "span-x4" in answer["believed"]["statement"]
        nothing = parts_of(client, answer, 0)[2].astype(int)
        large = sharp().repeat(2, 0).repeat(2, 1)
        assert np.abs(nothing - large).mean() < 3  # kept with a little loss
        assert witness.asked == asked + 1

    def test_of_others(self, witnessed):
        """Of what JPEG has left the faithful model makes something ugly: the upload is shown."""
        client, _ = witnessed
        jpeg = encoded(photo(1000, 24, 24), "JPEG", quality=60)
        answer = post(client, jpeg, alpha=0.1, seed=3).json()
        assert answer["believed"]["outside"] == "upload"
