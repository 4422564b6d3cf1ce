"""What the pages say about a promise, word for word, and what their charts leave out."""

from __future__ import annotations

import csv
import io
import itertools
import math

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.servers]

GUARANTEE = {"kind": "post_hoc", "between": [0.05, 0.15], "sentence": "In 9 of 10 …"}
GUARANTEE |= {"alpha": 0.1, "bound": 0.5, "applicability": "exact"}
RESULT = {"guarantee": GUARANTEE, "alpha": 0.1, "threshold": 0.01, "trusted_fraction": 0.5}
RESULT |= {"warnings": [], "typicality": 0.5, "unusual": False}


def test_promises(call):
    """The service's sentence is of the α asked for; of another the page says what holds."""

    def said(alpha: float, *, moved: bool, **changes: object) -> str:
        result = {**RESULT, "guarantee": GUARANTEE | changes}
        return str(call("upscale/words.js", "promise", result, alpha, moved))

    assert said(0.1, moved=False) == said(0.3, moved=True, kind="expectation") == "In 9 of 10 …"
    assert said(0.07, moved=True, applicability="unknown") == "In 9 of 10 …"
    assert said(0.07, moved=True).endswith("at most 1 time that level, here 0.07.")
    assert said(0.3, moved=True).endswith("here 0.15.")  # masks of larger α are that of the largest
    menu = {"between": None, "menu": [0.1, 0.2]}
    assert said(0.3, moved=True, **menu).endswith("here 0.2.")
    assert "window placed at random" in said(0.07, moved=True, applicability="per_window")


def rows(*areas: float) -> list[dict]:
    """A table of t_α and these trusted areas."""
    alphas = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2)
    return [
        {"alpha": alpha, "threshold": 1.0, "trusted_fraction": area}
        for alpha, area in zip(alphas, areas, strict=True)
    ]


def test_looking_first(call):
    """Asked for where every class can hold it, and only for α that may be chosen so."""
    easy, hard = rows(0, 0.5, 0.6, 0.7, 0.8, 0.8), rows(0, 0.1, 0.2, 0.3, 0.4, 0.4)
    few = [row | {"threshold": "-inf"} for row in hard]
    for tables, answered, wanted in (
        ((easy, hard), ["jpeg-80"], True),
        ((easy, few), ["jpeg-80"], False),
        ((easy, hard), ["*"], False),
        ((), ["*"], False),
    ):
        classes = [{"tables": {"post_hoc": table}} for table in tables]
        given = {"classes": classes, "calibrations": [{"classes": answered}]}
        assert call("upscale/words.js", "looksFirst", given) is wanted
    own = {"table": [], "default_alpha": 0.1, "min_alpha": 0.01, "looksFirst": True}
    own["classes"] = [{"tables": {"post_hoc": table}} for table in (easy, hard)]
    found = call("upscale/words.js", "choices", own)
    strict, balanced, lenient = [(one["alpha"], one["low"], one["high"]) for one in found]
    assert (strict, balanced, lenient) == ((0.05, 0.1, 0.5), (0.1, 0.3, 0.7), (0.15, 0.4, 0.8))
    for alpha, group, wanted in (
        (None, "", "post_hoc"),
        (0.15, "", "post_hoc"),
        (0.2, "", ""),
        (0.02, "", ""),
        (0.1, "faces", ""),
    ):
        assert call("upscale/words.js", "guaranteeFor", own, alpha, group) == wanted


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
    result["guarantee"] = GUARANTEE
    facts = {"origin": "http://x", "name": 'a"b', "result": result, "needsKey": True}
    command = call("upscale/words.js", "curl", facts)
    for part in (
        "group=faces'",
        "guarantee=post_hoc'",
        'image=@"a\\"b"\'',
        '"Authorization: Bearer $TRUSTSCALE_KEY"',
    ):
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
