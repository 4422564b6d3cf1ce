"""What a model added: numbers, pictures and problems over HTTP."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from harness.factories import photo, with_arrays
from harness.fakes import FakeUpscaler
from harness.gateway import check_problem, post
from trustscale_server.conformal.added import FULL_SHARE, STEPS
from trustscale_server.images.encoding.png import to_png


def judged(calibration, real=40):
    """The same calibration, in which all detail below a score of real/64 is real."""
    marked = np.zeros((calibration.everything.pairs, 2, STEPS + 1), np.uint16)
    marked[:, 0] = np.linspace(0, FULL_SHARE, STEPS + 1).astype(np.uint16)
    marked[:, 1, real + 1 :] = marked[:, 0, real + 1 :] - marked[:, 0, [real]]
    return with_arrays(calibration, marked=marked)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def answered(start, calibration):
    """A gateway that knows what of the added detail was real, and an answer of it."""
    client = start(FakeUpscaler(strength=12), calibrations=(judged(calibration),))
    return client, post(client, to_png(photo(5, 40, 48)), alpha=0.1).json()


def test_numbers_and_zones_agree(answered):
    """The shares are those of the picture: what is 128 is unchanged, and 255 holds up."""
    client, answer = answered
    added = answer["added"]
    zones = pixels(client.get(answer["links"]["added"]).content)
    assert zones.shape == (answer["height"], answer["width"])
    assert set(np.unique(zones)) <= {0, 128, 255}
    assert added["unchanged"] == pytest.approx((zones == 128).mean())
    assert added["held"] + added["doubtful"] == pytest.approx(1)
    assert (added["held"] > 0) == (zones == 255).any()
    assert added["rho"] == 0.3
    assert added["plain"].startswith("The model added")


def test_a_larger_rho_marks_no_less(answered):
    """Zones of another ρ are drawn from what is stored."""
    client, answer = answered
    link = answer["links"]["added"]
    held = [(pixels(client.get(f"{link}?rho={rho}").content) == 255).sum() for rho in (0.1, 0.8)]
    assert held[0] <= held[1] > 0


@pytest.mark.parametrize("rho", ["0", "1", "-1", "nan", "inf", "x", ""])
def test_a_rho_that_is_none_is_a_problem(answered, rho):
    client, answer = answered
    told = check_problem(client.get(answer["links"]["added"], params={"rho": rho}), "bad-request")
    assert "rho" in json.dumps(told)


def test_the_safe_copy_lies_between_the_picture_and_the_plain_enlargement(answered):
    """Each of its values does, to a step of rounding."""
    client, answer = answered
    safe = pixels(client.get(answer["links"]["safe"]).content).astype(int)
    made = pixels(client.get(answer["links"]["image"]).content).astype(int)
    source = Image.fromarray(photo(5, 40, 48))
    plain = np.asarray(source.resize(made.shape[1::-1], Image.Resampling.BICUBIC)).astype(int)
    assert (safe >= np.minimum(made, plain) - 2).all()
    assert (safe <= np.maximum(made, plain) + 2).all()


def test_a_calibration_that_never_looked_promises_nothing(client, answer):
    """Its answers say so, and no place of the picture holds up."""
    assert answer["added"]["held"] is None
    assert "not promised" in answer["added"]["plain"]
    assert answer["guarantee"]["promised"]
    assert not (pixels(client.get(answer["links"]["added"]).content) == 255).any()


def test_without_a_mask_nothing_is_said(client):
    """`mask=none` gives the picture alone."""
    answer = post(client, mask="none").json()
    assert "added" not in answer["links"]
    for part in ("added", "safe"):
        check_problem(client.get(f"{answer['links']['self']}/{part}.png"), "not-found")
