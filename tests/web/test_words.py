"""What the pages say about a promise, word for word, and what their charts leave out."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.servers]

GUARANTEE = {"kind": "expectation", "metric": "neighborhood", "labels": None, "n": 243}
GUARANTEE |= {"error": "mean colour error around a pixel", "unit": "lab"}
GUARANTEE |= {"alpha": 0.1, "bound": 1.9576, "applicability": "exact"}
RESULT = {"guarantee": GUARANTEE, "alpha": 0.1, "threshold": 0.01, "trusted_fraction": 0.5}
RESULT |= {"warnings": [], "typicality": 0.5}


def test_promises(call):
    """A rule is not called a person, certainty is never rounded up, nothing is called nothing."""

    def promise(**changes: object) -> str:
        result = {**RESULT, **{k: v for k, v in changes.items() if k in RESULT}}
        facts = {k: v for k, v in changes.items() if k not in RESULT}
        return str(call("upscale/words.js", "promise", {**result, "guarantee": GUARANTEE | facts}))

    assert f"{GUARANTEE['error']} inside the mask is at most α = 0.1" in promise()
    window = promise(applicability="per_window")
    assert "in a window of the calibrated size picked without looking" in window
    sure = {0.1: "90 %", 0.07: "93 %", 0.014: "98.6 %", 0.1234: "87 %", 0.0001: "99.99 %"}
    for delta, wanted in sure.items():
        said = promise(kind="high_probability", delta=delta)
        assert said.startswith(f"With a probability of at least {wanted} over the draw")
    assert promise(threshold="-inf") == "Nothing is trusted, so nothing is promised."
    assert promise(alpha=2).startswith("This α promises nothing")
    assert call("upscale/words.js", "sizeOfError", {**RESULT, "alpha": 2}) == ""
    assert call("upscale/words.js", "sizeOfError", RESULT) != ""
    label = {**RESULT, "guarantee": GUARANTEE | {"unit": "label"}}
    assert call("upscale/words.js", "sizeOfError", label) == ""

    grave = {**RESULT, "warnings": ["Unlike."], "typicality": 0.01}
    assert call("upscale/words.js", "alertsOf", grave) == {"lines": ["Unlike."], "grave": True}
    assert call("upscale/words.js", "alertsOf", RESULT) == {"lines": [], "grave": False}
    assert call("upscale/words.js", "done", {"scale": 1}) == "restored"


def test_areas_and_backtests_between_the_tabled_alphas(call):
    """Areas are steps, realised risks are apart, and left of the smallest α there is nothing."""
    alphas = [0.05, 0.1, 0.12]
    found = {"id": "cal-1", "min_alpha": 0.09}
    found["thresholds"] = [{"alpha": a, "trusted_fraction": a} for a in alphas]
    spread = {"risk": 0.1, "risk_low": 0, "risk_high": 0.2, "trusted_low": 0, "trusted_high": 1}
    rows = [{"alpha": a, **spread} for a in alphas]
    area = call("calibrations/curves.js", "areaChart", found, rows)
    assert [one["kind"] for one in area["series"]] == ["ranges", "step"]
    backtest = call("calibrations/curves.js", "backtestChart", found, rows)
    for series in [*area["series"], backtest["series"][0]]:
        assert [point["x"] for point in series["points"]] == [0.1, 0.12]


def test_a_late_refusal_spares_a_newer_key(call):
    """A key that has come while the old one was being refused is used, not thrown away."""
    found = call.page.evaluate(
        """async ([api, auth]) => {
            const { getJson } = await import(api);
            const { key, setKey } = await import(auth);
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
            }
        }""",
        [call.address("lib/api.js"), call.address("lib/auth.js")],
    )
    assert found == [1, "new"]
