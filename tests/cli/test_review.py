"""`trustscale upscale --review`: answers that need no look lie apart."""

import json

import pytest

from harness.factories import pictures
from trustscale_server.cli.review import decided


def record(p, *, accept=False, name="lossless", delta=0.05):
    review = None if p is None else {"needs_review": not accept, "p_value": p, "delta": delta}
    return {
        "review": review,
        "calibration": "cal-1",
        "group": None,
        "input_class": None if name is None else {"name": name},
    }


def test_decided():
    each = [record(0.9, accept=True), record(0.01), record(None)]
    assert decided(each, "each") == [True, False, False]
    # Three of four are at most 3 · .05 / 4 and pass; alone one must be below .0125.
    batch = [record(p) for p in (0.01, 0.02, 0.03, 0.5)]
    assert decided(batch, "batch") == [True, True, True, False]
    assert decided([record(0.02), *batch[3:] * 3], "batch") == [False] * 4
    # Each class is a batch: alone among its class .04 passes; among others it would not.
    classes = [record(0.04, name="jpeg-68"), *[record(0.5)] * 3]
    assert decided(classes, "batch") == [True, False, False, False]
    # What nothing is promised of, or nothing is known of, needs a look.
    odd = [record(0.001), record(1.0), record(None, name=None)]
    assert decided(odd, "batch") == [True, False, False]


@pytest.fixture
def answers(place, run, calibrated):
    """Makes the answers of `in` and gives what lies where."""
    pictures(place / "in", "a.png", "sub/b.png", side=24)

    def made(*options):
        outcome = run("upscale", "in", "-r", "--out", "out", *options)
        assert outcome.code == 0, outcome.err
        found = sorted(
            path.relative_to(place / "out").as_posix().removesuffix(".result.json")
            for path in (place / "out").rglob("*.result.json")
        )
        return outcome, found

    return made


def test_sorted_into_folders(answers, place, monkeypatch, upscaler):
    """A picture that is accepted lies in accepted/ with all its files; the count says so."""
    outcome, found = answers("--review")
    verdicts = {
        path.name: json.loads(path.read_bytes())["review"]
        for path in (place / "out").rglob("*.result.json")
    }
    where = {
        name: "review" if review["needs_review"] else "accepted"
        for name, review in ((one.partition(".")[0], review) for one, review in verdicts.items())
    }
    assert found == sorted([f"{where['a']}/a", f"{where['b']}/sub/b"])
    assert "With a probability of at most 0.05" in outcome.err
    accepted = sum(not review["needs_review"] for review in verdicts.values())
    assert f"; {accepted} accepted, {2 - accepted} to review" in outcome.err


@pytest.mark.parametrize("stops", [False, True])
def test_moves_when_the_decision_changes(answers, place, monkeypatch, upscaler, stops):
    """Kept answers are sorted anew, nothing is generated again, and a stopped move is mended."""
    monkeypatch.setattr("trustscale_server.cli.batch.decided", lambda rows, _: [True] * len(rows))
    assert answers("--review")[1] == ["accepted/a", "accepted/sub/b"]
    calls = len(upscaler.calls)
    monkeypatch.setattr("trustscale_server.cli.batch.decided", lambda rows, _: [False] * len(rows))
    if stops:  # the record and the mask are still there
        (place / "out/accepted/a.image.png").rename(place / "out/review/a.image.png")
    outcome, found = answers("--review-batch")
    assert found == ["review/a", "review/sub/b"]
    assert len(list((place / "out").rglob("*.*.png"))) == 4
    assert (len(upscaler.calls) > calls) == stops
    assert "on average over such folders" in outcome.err
