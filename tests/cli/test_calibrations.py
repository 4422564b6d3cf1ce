"""`trustscale calibrations`, alike for the stores of this machine and for a server."""

from __future__ import annotations

import pytest

from app.cli.calibrations import verdict_of
from tests.cli.conftest import FORCED
from tests.factories import pictures, truths


def test_list(command, two):
    """The newest first; the active one is marked."""
    listed = command("calibrations", "list", "--json").json
    made = [row["created_at"] for row in listed]
    assert made == sorted(made, reverse=True)
    rows = {row["id"]: row for row in listed}
    assert [(rows[one]["active"], rows[one]["n"]) for one in two] == [(False, 3), (True, 3)]
    assert f"* {two[1]}" in command("calibrations", "list").out


def test_show(command, two):
    """Text for people, JSON for machines, the same facts."""
    shown = command("calibrations", "show", two[1], "--json").json
    assert (shown["id"], shown["n"], shown["active"]) == (two[1], 3, True)
    text = command("calibrations", "show", two[1]).out
    smallest = f"{shown['min_alpha']:.4f}"
    for words in (f"{two[1]} (active)", "scenes       3 (", "fake, ×2", "threshold", smallest):
        assert words in text


def test_activate(command, two):
    """The answer names the one that is replaced; and back again."""
    done = command("calibrations", "activate", two[0], "--force", "--json").json
    assert (done["calibration"], done["previous"]) == two
    back = command("calibrations", "activate", two[1], "--force").out
    assert f"{two[1]} is active, replaced {two[0]}" in back
    assert f"{two[1]} answers" in back
    alone = command("calibrations", "activate", two[0], "--force", "--only", "--json").json
    assert [one["id"] for one in alone["calibrations"]] == [two[0]]
    command("calibrations", "activate", two[1], "--force")
    log = command("calibrations", "audit", "--limit", 4, "--json").json
    assert [(one["action"], one["facts"]["calibration"]) for one in log] == [
        ("calibration.activate", calibration) for calibration in (two[1], two[0], two[1], two[0])
    ]


def test_derive(command, two, used):
    """The same pairs under another promise or bound; nothing is generated."""
    calls = len(used.calls)
    made = command("calibrations", "derive", two[1], "--delta", 0.2, "--json").json
    assert (made["guarantee"]["delta"], made["n"], made["active"]) == (0.2, 3, False)
    assert made["provenance"]["parent"] == two[1]
    back = ("--guarantee", "expectation", *FORCED, "--name", "back", "--json")
    made = command("calibrations", "derive", made["id"], *back).json
    assert (made["name"], made["active"]) == ("back", True)
    cut = command("calibrations", "derive", two[1], "--bound", 0.2, "--json").json
    assert cut["pipeline"]["fidelity"]["bound"] == 0.2
    assert cut["min_alpha"] == pytest.approx(0.05)
    assert cut["guarantee"] == made["guarantee"]
    assert len(used.calls) == calls
    command("calibrations", "derive", cut["id"], "--bound", 0.4).check_error(1, "were cut")
    same = command("calibrations", "derive", two[1], "--guarantee", "expectation")
    same.check_error(1, "already")
    assert command("calibrations", "derive", two[1], "--delta", 0).code == 2


@pytest.mark.parametrize("name", ["show", "activate", "derive", "export", "delete", "backtest"])
def test_unknown_ids(command, name):
    """One line and code 1."""
    path = ["x.calibration"] if name == "export" else []
    command("calibrations", name, "cal-unknown", *path).check_error(1, "cal-unknown")


def test_files(command, two, place):
    """One that is no calibration is refused; one that is not there, or cannot be, is named."""
    (place / "x").write_bytes(b"text")
    command("calibrations", "import", "x").check_error(1, "not a calibration")
    command("calibrations", "import", "missing").check_error(1, "missing")
    command("calibrations", "export", two[0], "no/such/file").check_error(1, "no/such/file")


def test_a_file_travels(run, place, calibrated, monkeypatch):
    """It comes to another installation unchanged, and serves there."""
    assert run("calibrations", "export", calibrated, "a.calibration").code == 0
    monkeypatch.setenv("TRUSTSCALE_DATA_DIR", str(place / "elsewhere"))
    outcome = run("calibrations", "import", "a.calibration", "--activate")
    assert outcome.out == f"{calibrated}\n"
    assert run("calibrations", "export", calibrated, "b.calibration").code == 0
    first, second = ((place / name).read_bytes() for name in ("a.calibration", "b.calibration"))
    assert first == second
    (log,) = run("calibrations", "audit", "--json").json
    assert (log["action"], log["facts"]["activate"]) == ("calibration.import", True)
    pictures(place, "bird.png", side=24)
    assert run("upscale", "bird.png").code == 0


def test_another_upscaler(run, place, calibrated, upscaler):
    """What was made with another one is not activated, by whatever command, even if forced."""
    run("calibrations", "export", calibrated, "a.calibration")
    upscaler.fingerprint = "fake:2"
    for asked in (
        ("activate", calibrated),
        ("derive", calibrated, "--activate"),
        ("import", "a.calibration", "--activate"),
    ):
        run("calibrations", *asked, "--force").check_error(1, "fingerprint")
    assert len(run("calibrations", "list", "--json").json) == 1


def test_an_upscaler_of_other_servers(run, place, calibrated, monkeypatch):
    """Where it is not configured the servers that share the stores compare it: activated here."""
    run("calibrations", "export", calibrated, "a.calibration")
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", '[{"name": "other", "kind": "embedded"}]')
    for asked in (("activate", calibrated), ("import", "a.calibration", "--activate")):
        outcome = run("calibrations", *asked, "--force")
        assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("area", "active", "n", "grade", "command"),
    [
        (0.6, False, 80, "Good: at α = 0.1 about 60% of pic", "calibrations activate cal-1"),
        (0.6, True, 80, "Good: at α = 0.1 about 60% of pic", None),
        (0.2, False, 80, "Usable: at α = 0.1 about 20% of pic", "calibrations activate cal-1"),
        (0.05, False, 80, "Hardly useful: at α = 0.1 about 5% of pic", "evaluate DIR"),
        (0.0, False, 3, "Not usable yet: the default ", "calibrations extend cal-1 DIR"),
    ],
)
def test_verdict(area, active, n, grade, command):
    """What it is good for by its area at the default α, and the next command where there is one."""
    document = {
        "id": "cal-1",
        "active": active,
        "n": n,
        "min_alpha": 0.5 / (n + 1),
        "default_alpha": 0.1,
        "classes": [],
        "thresholds": [
            {"alpha": 0.1, "trusted": area, "threshold": 1.0},
            {"alpha": 0.15, "trusted": 1.0, "threshold": 1.0},
        ],
        "guarantee": {"kind": "expectation"},
        "pipeline": {"fidelity": {"bound": 0.5}},
    }
    verdict, *rest = verdict_of(document)
    assert verdict.startswith(grade)
    assert [line.partition("trustscale ")[2] for line in rest] == ([command] if command else [])


class TestServer:
    @pytest.fixture
    def command(self, at):
        """What makes `two`."""
        return at

    def test_of_a_copy_the_same_is_said(self, at, run, two, place):
        """A file from there is stored here and back, and described and expected alike."""
        assert at("calibrations", "export", two[1], "a.calibration").code == 0
        imported = ("calibrations", "import", "a.calibration", *FORCED)
        for command in (run, at):
            assert command(*imported).out == f"{two[1]}\n"
        for asked in (
            ("show",),
            ("show", "--json"),
            ("backtest",),
            ("backtest", "--json", "--splits", 7),
        ):
            there, here = (command("calibrations", *asked, two[1]) for command in (at, run))
            assert (there.code, there.out) == (0, here.out)

    def test_extend_and_delete(self, at, two, place):
        """More pairs make a new calibration of all; the old one can go, and the log tells."""
        pictures(place / "more", "a.png", "b.png", first=7)
        made = at("calibrations", "extend", two[0], "more", "--json").json
        assert (made["n"], made["active"]) == (5, False)
        assert at("calibrations", "delete", two[0]).out == f"{two[0]} is deleted\n"
        at("calibrations", "show", two[0]).check_error(1, two[0])
        at("calibrations", "delete", two[1]).check_error(1, "active")
        actions = [entry["action"] for entry in at("calibrations", "audit", "--json").json]
        assert actions[:2] == ["calibration.delete", "calibration.extend"]
        line = at("calibrations", "audit", "--limit", 1).out
        assert "calibration.delete" in line
        assert two[0] in line


def test_jobs(at, run, place):
    """What has not ended is listed, and can be given up, there as here."""
    truths(place / "photos", 1)
    job = at("calibrate", "photos", "--samples", 2, "--metric", "semantic").err.split()[0]
    assert f"{job}  calibration  awaiting_labels  1 of 1 pairs" in at("jobs", "list").out
    assert at("jobs", "cancel", job, "--json").json["state"] == "cancelled"
    assert job not in {row["id"] for row in at("jobs", "list", "--json").json}
    assert run("jobs", "list").out == "No job is queued or running.\n"
    for command in (at, run):
        command("jobs", "cancel", "job-unknown").check_error(1, "job-unknown")
