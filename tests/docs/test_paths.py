"""The files that the maps of the code name are there."""

import re

from harness.blocks import ROOT

SERVER = ROOT / "app/trustscale_server"
MAPS = (ROOT / "CONTRIBUTING.md", ROOT / "docs/find-your-way.md")
PATH = re.compile(r"`((?:[\w-]+/)+[\w-]+\.(?:py|js|sh|toml|md))`")


def test_maps_name_files_that_exist():
    """Every path in backticks exists, from the root, from the server's package or its pages."""
    places = (ROOT, SERVER, SERVER / "web/static")
    for page in MAPS:
        named = PATH.findall(page.read_text("utf-8"))
        assert len(named) > 10
        missing = {path for path in named if not any((at / path).exists() for at in places)}
        assert not missing, page.name


def test_ten_files_at_most_answer_a_question():
    """The table asks ten questions, and names at most ten files for each."""
    rows = [line for line in MAPS[1].read_text("utf-8").splitlines() if "?" in line and "|" in line]
    assert len(rows) == 10
    assert all(1 <= len(re.findall(r"`[\w/-]+\.py`", row)) <= 10 for row in rows)
