"""Calibrations on the command line, alike for the stores of this machine and for a server."""

from __future__ import annotations

import pytest

from tests.cli.conftest import FORCED
from tests.factories import truths


@pytest.fixture(params=["run", "at"], ids=["here", "there"])
def command(request):
    """Runs a command on this machine's stores, or with `--server`."""
    return request.getfixturevalue(request.param)


def test_list(command, two):
    """The newest first; the active one is marked."""
    rows = {row["id"]: row for row in command("calibrations", "list", "--json").json}
    assert list(rows)[:2] == [two[1], two[0]]
    assert [(rows[one]["active"], rows[one]["n"]) for one in two] == [(False, 3), (True, 3)]
    assert command("calibrations", "list").out.startswith(f"* {two[1]}")


def test_show(command, two):
    """Text for people, JSON for machines, the same facts."""
    shown = command("calibrations", "show", two[1], "--json").json
    assert (shown["id"], shown["n"]) == (two[1], 3)
    text = command("calibrations", "show", two[1]).out
    assert f"{two[1]} (active)" in text
    assert f"{shown['min_alpha']:.4f}" in text


def test_activate(command, two):
    """The answer names the one that is replaced; and back again."""
    done = command("calibrations", "activate", two[0], "--force", "--json").json
    assert (done["calibration"], done["previous"]) == two
    back = command("calibrations", "activate", two[1], "--force").out
    assert f"{two[1]} is active, replaced {two[0]}" in back


def test_worse_stays_inactive(command, place):
    """It is stored, both figures are said, and the code is that of a failure."""
    truths(place / "photos", 3)
    outcome = command("calibrate", "photos", "--samples", 4, "--activate", "--json")
    assert (outcome.code, outcome.json["active"]) == (1, False)
    assert "smallest α" in outcome.err
    assert "force" in outcome.err
    forced = command("calibrate", "photos", "--samples", 4, *FORCED, "--json")
    assert (forced.code, forced.json["active"]) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "missing is not a folder"),
        (["empty"], "no images"),
        (["photos", "--upscaler", "other"], "'other'"),
        (["photos", "--export", "no/such/file"], "no/such/file"),
        (["photos", "--export", "empty"], "empty"),
    ],
)
def test_mistakes(command, place, arguments, words):
    """One line and code 1, before anything is sent or generated."""
    truths(place / "photos", 2)
    (place / "empty").mkdir()
    command("calibrate", *arguments).check_error(1, words)


@pytest.mark.parametrize("name", ["show", "activate", "export", "delete", "backtest"])
def test_unknown_ids(command, name):
    """One line and code 1."""
    path = ["x.calibration"] if name == "export" else []
    command("calibrations", name, "cal-unknown", *path).check_error(1, "cal-unknown")


def test_files_that_are_no_calibrations(command, place):
    """A file of another kind is refused; one that is not there is named."""
    (place / "x").write_bytes(b"text")
    command("calibrations", "import", "x").check_error(1, "not a calibration")
    command("calibrations", "import", "missing").check_error(1, "missing")
