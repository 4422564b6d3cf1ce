"""`trustscale calibrations`: what is asked for, and the words of what comes."""

import pytest

from harness.factories import pictures, truths
from tests.cli.conftest import FORCED


@pytest.fixture
def two(run, place):
    """Ids of two calibrations of three photos; the second is active."""
    truths(place / "photos", 3)
    plain = ("calibrate", "photos", "--mixture", "none", "--samples", 2, "--json")
    first, second = (run(*plain, *FORCED, "--seed", seed).json["id"] for seed in (1, 2))
    return first, second


def test_a_life(run, two, place, upscaler):
    listed = run("calibrations", "list", "--json").json
    assert {row["id"]: row["active"] for row in listed} == {two[0]: False, two[1]: True}
    assert f"* {two[1]}" in run("calibrations", "list").out
    shown = run("calibrations", "show", two[1], "--json").json
    text = run("calibrations", "show", two[1]).out
    smallest = f"{shown['min_alpha']:.4f}"
    assert all(s in text for s in (f"{two[1]} (active)", "scenes       3 (", "fake, ×2", smallest))
    done = run("calibrations", "activate", two[0], "--force", "--json").json
    assert (done["calibration"], done["previous"]) == two
    back = run("calibrations", "activate", two[1], "--force", "--only").out
    assert f"{two[1]} is active, replaced {two[0]}" in back
    calls = len(upscaler.calls)
    made = run("calibrations", "derive", two[1], "--delta", 0.2, "--name", "mine", "--json").json
    assert (made["guarantee"]["delta"], made["name"], made["state"]) == (0.2, "mine", "ready")
    looked = run("calibrations", "derive", two[1], "--menu", 0.1, "--menu", 0.2, "--json").json
    assert (looked["guarantee"]["kind"], looked["guarantee"]["menu"]) == ("post_hoc", [0.1, 0.2])
    cut = run("calibrations", "derive", two[1], "--bound", 0.2, "--activate", "--force", "--json")
    assert (cut.json["pipeline"]["fidelity"]["bound"], cut.json["state"]) == (0.2, "active")
    run("calibrations", "derive", cut.json["id"], "--bound", 0.4).check_error(1, "were cut")
    assert "25 random halvings" in text
    assert len(upscaler.calls) == calls
    pictures(place / "more", "a.png", "b.png", first=7)
    extended = run("calibrations", "extend", two[0], "more", *FORCED, "--json").json
    assert (extended["n"], extended["state"]) == (5, "active")
    assert run("calibrations", "delete", two[0]).out == f"{two[0]} is deleted\n"
    run("calibrations", "delete", extended["id"]).check_error(1, "active")


def test_another_upscaler(run, place, calibrated, upscaler, monkeypatch):
    run("calibrations", "export", calibrated, "a.calibration")
    upscaler.fingerprint = "fake:2"
    asked = [("activate", calibrated), ("import", "a.calibration", "--activate")]
    for words in (*asked, ("derive", calibrated, "--activate")):
        run("calibrations", *words, "--force").check_error(1, "fingerprint")
    assert len(run("calibrations", "list", "--json").json) == 1
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", '[{"name": "other", "kind": "embedded"}]')
    for words in asked:
        assert run("calibrations", *words, "--force").code == 0
