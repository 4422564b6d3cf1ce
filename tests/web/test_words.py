"""What the pages say about a promise, word for word, and what their charts leave out."""

from __future__ import annotations

import csv
import io
import itertools
import math

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.servers]

GUARANTEE = {"kind": "expectation", "metric": "neighborhood", "labels": None, "n": 243}
GUARANTEE |= {"error": "mean colour error around a pixel", "unit": "lab"}
GUARANTEE |= {"alpha": 0.1, "bound": 1.9576, "applicability": "exact"}
RESULT = {"guarantee": GUARANTEE, "alpha": 0.1, "threshold": 0.01, "trusted_fraction": 0.5}
RESULT |= {"warnings": [], "typicality": 0.5, "unusual": False}

SURE = {0.1: "90 %", 0.07: "93 %", 0.014: "98.6 %", 0.1234: "87 %", 0.0001: "99.99 %"}


def test_promises(call):
    """A rule is not called a person, certainty is never rounded up, nothing is called nothing."""

    def said(**changes: object) -> str:
        own = {name: value for name, value in changes.items() if name in RESULT}
        result = {**RESULT, **own, "guarantee": GUARANTEE | changes}
        return str(call("upscale/words.js", "promise", result))

    assert "about 10 of the 100 steps of lightness" in said()
    assert "worst spot in the trusted area is off by at most" in said()
    assert "over images like the 243 it was calibrated with" in said()
    assert "81 scenes (243 pictures)" in said(n=81, pairs=243)
    assert "an error above 50 steps counts as 50" in said(counted_up_to=0.5)
    marked = said(unit="label", error="difference in meaning")
    assert "at most about 10 of 100 have a difference in meaning anywhere" in marked
    assert "the largest oddity in the trusted area is at most" in said(unit=None, error="oddity")
    placed = "in a window of the calibrated size placed at random"
    assert placed in said(applicability="per_window")
    assert said(applicability="unknown").startswith("Not known")
    assert said(threshold="-inf") == "Nothing is trusted, so nothing is promised."
    assert said(alpha=2).startswith("This α promises nothing")
    for delta, wanted in SURE.items():
        high = said(kind="high_probability", delta=delta)
        assert high.startswith(f"With a probability of at least {wanted} over the draw")


def test_alerts(call):
    """What is unlike the calibration images is grave; what was done to it has a name."""
    grave = {**RESULT, "warnings": ["Unlike."], "unusual": True}
    assert call("upscale/words.js", "alertsOf", grave) == {"lines": ["Unlike."], "grave": True}
    assert call("upscale/words.js", "alertsOf", RESULT) == {"lines": [], "grave": False}
    assert call("upscale/words.js", "done", {"scale": 1}) == "restored"


def test_choices(call):
    """Strict, Balanced and Lenient come from the calibration's table, as far as it has them."""
    table = [{"alpha": a, "trusted_fraction": 2 * a} for a in (0.025, 0.05, 0.075, 0.1, 0.15, 0.2)]
    own = {"table": table, "default_alpha": 0.1, "min_alpha": 0.01}
    strict, balanced, lenient = ("Strict", 0.05), ("Balanced", 0.1), ("Lenient", 0.15)
    for changes, wanted in (
        ({}, [strict, balanced, lenient]),
        ({"min_alpha": 0.06}, [("Strict", 0.075), balanced, lenient]),
        ({"min_alpha": 0.1}, [balanced, lenient]),
        ({"table": []}, [balanced]),
    ):
        found = call("upscale/words.js", "choices", {**own, **changes})
        assert [(one["name"], one["alpha"]) for one in found] == wanted
    assert call("upscale/words.js", "apart", 0.1, 0.10003) == ["0.1", "0.10003"]


def test_the_command(call):
    """It repeats the request: group, quoted name, and the key by its variable."""
    result = {"upscaler": "span-x4", "seed": 7, "group": "faces", "alpha": 0.1}
    facts = {"origin": "http://x", "name": 'a"b', "result": result, "needsKey": True}
    command = call("upscale/words.js", "curl", facts)
    for part in ("group=faces'", 'image=@"a\\"b"\'', '"Authorization: Bearer $TRUSTSCALE_KEY"'):
        assert part in command


def test_the_marking_stands_out(call):
    """Pink, unless the picture is full of it."""
    grey, pink = 0xFF808080, 0xFF8C00E0
    assert call("upscale/paint.js", "standingOut", [grey] * 9) == [224, 0, 140]
    assert call("upscale/paint.js", "standingOut", [pink] * 9) == [255, 208, 0]


def test_areas_and_backtests_between_the_tabled_alphas(call):
    """Areas are steps, realised risks are apart, and left of the smallest α there is nothing."""
    alphas = [0.05, 0.1, 0.12]
    found = {"id": "cal-1", "min_alpha": 0.09}
    found["thresholds"] = [{"alpha": a, "trusted_fraction": a} for a in alphas]
    spread = {"risk": 0.1, "risk_low": 0, "risk_high": 0.2, "trusted_low": 0, "trusted_high": 1}
    rows = [{"alpha": a, **spread} for a in alphas]
    area = call("calibrations/curves.js", "areaChart", [found], rows)
    assert [one["kind"] for one in area["series"]] == ["ranges", "step"]
    backtest = call("calibrations/curves.js", "backtestChart", found, rows)
    for series in [*area["series"], backtest["series"][0]]:
        assert [point["x"] for point in series["points"]] == [0.1, 0.12]


def test_a_late_refusal_spares_a_newer_key(run):
    """A key that has come while the old one was being refused is used, not thrown away."""
    found = run(
        """
        const [{ getJson }, { key, setKey }] = [await at("lib/api.js"), await at("lib/auth.js")];
        setKey("client", "old");
        const real = globalThis.fetch;
        globalThis.fetch = async (path, { headers }) => {
            if (headers.Authorization === "Bearer new") return new Response("1");
            setKey("client", "new");
            return new Response("{}", { status: 401 });
        };
        try {
            return [await getJson("/any"), key("client")];
        } finally {
            globalThis.fetch = real;
            setKey("client", null);
        }
        """
    )
    assert found == [1, "new"]


TIMES = [  # now, steps that are done, what is usual, what is left of five
    (0, 1, None, None),
    (0, None, 100, 400),
    (1000, None, 2000, 7000),
    (1000, 3, 2000, 1000),
    (1400, 3, None, 600),
    (2200, None, None, 0),
    (9000, None, None, None),
]


def test_the_time_that_is_left(run):
    """By the pace of steps that were seen, else by what is usual; it grows shorter in between."""
    found = run(
        """
        const { Pace } = await at("lib/pace.js");
        const real = performance.now;
        const pace = new Pace();
        const found = given[0].map(([now, done, usual]) => {
            performance.now = () => now;
            if (done !== null) pace.saw(done);
            return pace.left(5, usual);
        });
        performance.now = real;
        return found;
        """,
        TIMES,
    )
    assert found == [left for *_, left in TIMES]


def test_axes_and_look_up(call):
    """Ticks are round and within the axis; the nearest point and the step before are found."""
    for low, high in ((0, 1), (0.013, 0.171), (-3, 4000), (0, 1e-6)):
        ticks = call("charts/scale.js", "roundTicks", low, high, 5)
        assert 3 <= len(ticks) <= 8
        assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in ticks)
        steps = {round((b - a) / (high - low), 6) for a, b in itertools.pairwise(ticks)}
        assert len(steps) == 1
        mantissa = (ticks[1] - ticks[0]) / 10 ** math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)
        assert round(mantissa, 6) in {1, 2, 5}
    points = [{"x": x, "y": 10 * x} for x in (1, 2, 4, 8)]
    assert [call("charts/data.js", "nearest", points, x) for x in (0, 2.9, 3.1, 9)] == [0, 1, 2, 3]
    step = {"kind": "step", "points": points}
    assert call("charts/data.js", "pointAt", step, 3.9) == {"x": 2, "y": 20}
    assert call("charts/data.js", "pointAt", step, 0.5) is None
    assert call("charts/scale.js", "powerOfTen", -12) == "10⁻¹²"


def test_csv(call):
    """Series are joined by x; hostile names are quoted and are no formulae to a spreadsheet."""
    spec = {
        "x": {"label": "α"},
        "series": [
            {"name": '=HYPERLINK("x")', "points": [{"x": 1, "y": -2}, {"x": 3, "y": 4}]},
            {"name": "band, wide", "kind": "ranges", "points": [{"x": 1, "low": 5, "high": 6}]},
        ],
    }
    text = call("charts/data.js", "csv", spec)
    assert list(csv.reader(io.StringIO(text))) == [
        ["α", '\'=HYPERLINK("x")', "band, wide, lower", "band, wide, upper"],
        ["1", "-2", "5", "6"],
        ["3", "4", "", ""],
    ]
