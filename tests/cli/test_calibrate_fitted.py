"""`trustscale calibrate --estimator learned`."""

from __future__ import annotations

from app.conformal.indecision import LEARNED_STATE
from tests.factories import truths


def test_the_learned_sigma_can_be_chosen(run, place):
    """The pipeline of the new calibration names the estimator and its weights."""
    truths(place / "photos", 3)
    made = run("calibrate", "photos", "--samples", 4, "--estimator", "learned", "--json").json
    assert made["pipeline"]["indecision"]["estimator"] == "learned"
    assert made["pipeline"]["indecision"]["state"] == LEARNED_STATE


def test_an_unknown_estimator_is_one_line(run, place):
    """What is no estimator is refused with the list of those that are."""
    truths(place / "photos", 3)
    outcome = run("calibrate", "photos", "--estimator", "guessed")
    assert outcome.code != 0
    assert "learned" in outcome.err
    assert "Traceback" not in outcome.err
