"""`trustscale evaluate`."""

import pytest

from tests.evaluation.conftest import photographs
from trustscale_server.calibration import file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenes", "options"),
    [
        pytest.param(3, [], id="classes"),
        pytest.param(40, ["--noise", 1], id="fitted"),  # enough to fit σ by itself
    ],
)
def test_what_is_judged_is_what_is_served(run, place, upscaler, scenes, options):
    """By default: the calibration of `calibrate`, to the last digit, and its answers."""
    photographs(place / "photos" / "calibration", scenes, side=32, crops=1)
    test = photographs(place / "photos" / "test", 2, side=40, crops=1)
    made = place / "made.calibration"
    asked = ("photos/calibration", "--scene-by", "scene", *options, "--export", made)
    assert run("calibrate", *asked, "--skip-bad-pairs").code == 0
    levels = ("--alpha", 0.2, "--alpha", 0.4, "--json")
    outcome = run("evaluate", "photos", *options, *levels, "--skip-bad-pairs")
    assert outcome.code == 0, outcome.err
    shown = outcome.json
    settings = shown["upscalers"][0]["variants"][0]
    calibration = file.load(made.read_bytes())
    assert settings["scenes"] == calibration.n == (3 if scenes == 3 else 20)
    assert (calibration.pipeline.indecision.fit is None) == (scenes == 3)
    own = run("evaluate", test, "--calibration", made, "--out", "own", *levels)
    assert own.code == 0, own.err
    made_name = own.json["upscalers"][0]["variants"][0]["name"]
    judged, again = (
        [{**row, "variant": None} for row in rows if row["variant"] in {"served", made_name}]
        for rows in (shown["table"], own.json["table"])
    )
    assert judged == again
    assert "as the calibration" in own.json["findings"][0]
    assert "0.2 was promised" in shown["findings"][0]
