"""mask=none: the picture alone, marked as such, also where there is no calibration."""

from __future__ import annotations

import io
import zipfile

import pytest

from tests.api.gateway import check_problem, ended, pixels, post, text_chunks
from tests.factories import encoded, photo


@pytest.fixture
def bare(start):
    """A gateway without a calibration."""
    return start(calibrations=())


def test_the_way_out_is_named(bare):
    """Without a calibration the error names the command that makes one, and mask=none."""
    detail = check_problem(post(bare), "no-calibration")["detail"]
    assert "trustscale calibrate FOLDER --upscaler fake --activate" in detail
    assert "mask=none" in detail


def test_the_picture_alone(bare):
    """One sample, no mask, no guarantee; the answer and the file say so."""
    answer = post(bare, mask="none", seed=3).json()
    nothing = {"calibration": None, "guarantee": None, "alpha": None, "trusted_fraction": None}
    assert answer.items() >= {"mask": "none", "samples": 1, "width": 48, **nothing}.items()
    assert "nothing says where" in answer["warnings"][0]
    assert set(answer["links"]) == {"self", "image"}
    assert bare.get(answer["links"]["self"]).json() == answer
    image = bare.get(answer["links"]["image"]).content
    assert text_chunks(image)["trustscale:mask"] == "none"
    base = answer["links"]["self"]
    for path in ("mask.png", "trust.png", "overlay.png", "mask.png?alpha=0.2"):
        check_problem(bare.get(f"{base}/{path}"), "not-found")
    truth = {"image": ("y.png", image, "image/png")}
    check_problem(bare.post(f"{base}/truth", files=truth), "not-found")
    assert bare.get(f"{base}/image.webp").status_code == 200


def test_the_same_picture_as_with_a_mask(client, upscaler):
    """Whoever asks again with a mask and the same seed gets a mask of this very picture."""
    alone, masked = (post(client, seed=7, mask=mask).json() for mask in ("none", "trust"))
    one, other = (client.get(a["links"]["image"]).content for a in (alone, masked))
    assert (pixels(one) == pixels(other)).all()
    assert [len(calls) for calls in (upscaler.calls[:1], upscaler.calls[1:])] == [1, 4]


def test_zip_and_job(bare):
    """The other forms of an answer carry the picture and the document."""
    zipped = post(bare, mask="none", headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert set(archive.namelist()) == {"image.png", "result.json"}
    accepted = post(bare, mask="none", headers={"Prefer": "respond-async"})
    job = ended(bare, accepted.headers["location"])
    assert bare.get(job["result"]).json()["mask"] == "none"


def test_transparency(bare):
    """It is enlarged as in every answer."""
    clear = encoded(photo(1, 24, 24)[:, :, [0, 1, 2, 0]])
    answer = post(bare, clear, mask="none").json()
    assert pixels(bare.get(answer["links"]["image"]).content).shape == (48, 48, 4)


@pytest.mark.parametrize("field", [{"alpha": 0.1}, {"group": "a"}])
def test_what_chooses_a_mask_is_refused(bare, field):
    """A field that nobody would read is a mistake."""
    assert "mask=none" in check_problem(post(bare, mask="none", **field), "bad-request")["detail"]
