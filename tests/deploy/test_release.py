"""What a release publishes: workflows, one compose file, the citation."""

from __future__ import annotations

import yaml

import app
from deploy.one_file import one_file
from deploy.release import licences, same_version
from tests.deploy.files import ROOT, SECRETS, run


def test_one_version_and_known_licences():
    """Every part names one version, and images pass on what may be passed on."""
    assert same_version(ROOT) == app.__version__
    licences(ROOT)


def test_workflows_are_valid():
    """The schema of workflows accepts them."""
    workflows = sorted((ROOT / ".github/workflows").iterdir())
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


def test_the_citation_is_valid():
    """CITATION.cff follows its schema and names the paper."""
    path = ROOT / "CITATION.cff"
    run("check-jsonschema", "--builtin-schema", "vendor.citation-file-format", path)
    assert "Conformalized Generative Models" in path.read_text("utf-8")


def test_one_file_needs_nothing_beside_it(tmp_path):
    """Compose accepts it where nothing else lies; only the operator's weights are mounted."""
    document = one_file("ghcr.io/owner/", "v1.2.3")
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(document), "utf-8")
    seen = run("docker-compose", "--file", tmp_path / "compose.yaml", "config", **SECRETS)
    assert "ghcr.io/owner/trustscale-gateway:v1.2.3" in seen
    for service in document["services"].values():
        for volume in service["volumes"]:
            assert not volume.startswith("./"), volume
    for config, content in yaml.safe_load(seen)["configs"].items():
        assert content["content"].strip(), config
