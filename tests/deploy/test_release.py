"""What a release is made of: licences in bills of materials, and settings that fit it."""

import json
import re

from deploy.licences import fill_in
from deploy.release import commands
from tests.deploy.files import ROOT


def test_licences_are_told(tmp_path):
    """Each package names its licence; one that is not installed is named instead."""
    path = tmp_path / "bill.cdx.json"
    path.write_text(json.dumps({"components": [{"name": "fastapi"}, {"name": "not-here"}]}))
    assert fill_in(path) == ["not-here"]
    first, second = json.loads(path.read_text("utf-8"))["components"]
    assert first["licenses"] == [{"license": {"name": "MIT"}}]
    assert "licenses" not in second


def test_settings_fit_their_release():
    """What `make package` replaces in .env.example and the chart is there to be replaced."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    places = {".env.example": (ROOT / ".env.example"), "values.yaml": ROOT / "deploy/chart"}
    places["values.yaml"] /= "values.yaml"
    texts = {name: path.read_text("utf-8") for name, path in places.items()}
    patterns = re.findall(r"s\|(\^[^|]+)\|", makefile.replace("$$", "$"))
    assert len(patterns) == 3
    for pattern in patterns:
        found = [name for name, text in texts.items() if re.search(pattern, text, re.MULTILINE)]
        assert len(found) == 1, pattern


def test_the_workflow_publishes_what_the_folder_has():
    """The commands that are printed and the workflow name the same files."""
    workflow = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    (by_hand,) = [line for line in commands("1.2.3", []) if "gh release" in line]
    named = set(re.findall(r"(?:package|sbom)/\S+", by_hand))
    assert named
    assert named <= set(re.findall(r"(?:package|sbom)/\S+", workflow))
