"""A call that has a price is not made where it is known that nothing will be promised."""

import pytest

from harness.factories import changed, encoded, upload
from harness.fakes import FakeUpscaler
from harness.gateway import IMAGE, check_problem, post
from trustscale_server.kinds.features import UPLOAD

JPEG = encoded(upload(1000), "JPEG", quality=75)
PAID = [{"name": "fake", "kind": "embedded", "price_per_call": 0.5}]
ANYWAY = {"without_promise": "true"}


@pytest.fixture
def of_png(calibration):
    """A calibration of files such as `IMAGE` only."""
    pairs = [{**pair, "input_class": "decoded"} for pair in calibration.document["pairs"]]
    pipeline = {**calibration.document["pipeline"], "input_rule": UPLOAD}
    return changed(calibration, pairs=pairs, pipeline=pipeline)


@pytest.fixture
def asked(start, of_png):
    """A gateway with these settings, and its model."""

    def asked(**settings):
        upscaler = FakeUpscaler()
        settings = {"upscalers": PAID, **settings}
        return start(upscaler, calibrations=[of_png], **settings), upscaler

    return asked


@pytest.mark.parametrize("headers", [{}, {"Prefer": "respond-async"}], ids=["at once", "as a job"])
def test_no_call_is_made(asked, headers):
    """The answer says why and what to send; with that, the call is made."""
    client, upscaler = asked()
    said = check_problem(post(client, JPEG, alpha=0.2, headers=headers), "no-promise")["detail"]
    assert "too few uploads like this one" in said
    assert "without_promise=true" in said
    assert upscaler.calls == []
    made = post(client, JPEG, alpha=0.2, headers=headers, **ANYWAY)
    assert made.status_code in {200, 202}
    if not headers:
        assert made.json()["guarantee"]["promised"] is False
        assert len(upscaler.calls) > 0


def test_an_alpha_that_trusts_nothing(asked):
    """That, too, is known before."""
    client, upscaler = asked()
    said = check_problem(post(client, IMAGE, alpha=0.001), "no-promise")["detail"]
    assert "lies below" in said
    assert upscaler.calls == []


def test_what_is_promised_is_made(asked):
    """An upload of the calibrated class is answered, and a picture without a mask."""
    client, _ = asked()
    assert post(client, IMAGE, alpha=0.2).json()["guarantee"]["promised"]
    assert post(client, JPEG, mask="none").status_code == 200


def test_calls_that_cost_nothing(asked):
    """Without a price nobody has to ask for them."""
    client, _ = asked(upscalers=[{"name": "fake", "kind": "embedded"}])
    assert not post(client, JPEG, alpha=0.2).json()["guarantee"]["promised"]
