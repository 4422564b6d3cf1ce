"""What pip installs is called after the project, and each part brings what it needs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from harness.servers import ran

ROOT = Path(__file__).parent.parent
PARTS = {
    ".": {"trustscale_server", "trustscale"},
    "client": {"trustscale"},
    "workers": {"trustscale_worker"},
    "evaluation": {"trustscale_evaluation"},
}


def installed(place, part):
    """The wheel of a folder in a folder of its own, without what it depends on."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(place)]
    subprocess.run([*command, str(ROOT / part)], check=True)
    return place


@pytest.mark.slow
def test_what_is_installed(tmp_path):
    """Nothing called app; all of it runs where `import app` means a project's own module."""
    sites = {part: installed(tmp_path / f"site{k}", part) for k, part in enumerate(PARTS)}
    for part, site in sites.items():
        found = {path.name for path in site.iterdir() if path.is_dir()} - {"bin"}
        assert {name for name in found if not name.endswith(".dist-info")} == PARTS[part]

    project = tmp_path / "project"
    project.mkdir()
    for name in ("app", "workers", "evaluation"):
        (project / f"{name}.py").write_text("raise SystemExit('the project was imported')\n")
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save(project / "small.png")

    def ran_with(parts, *words):
        # The project's folder is on the path, as it is for every program that is started in it.
        paths = os.pathsep.join(map(str, (project, *(sites[part] for part in parts))))
        env = {**os.environ, "PYTHONPATH": paths, "TRUSTSCALE_DATA_DIR": str(tmp_path / "data")}
        return ran(sys.executable, *words, cwd=project, env=env)

    # The client imports nothing of the service.
    code = "import sys, trustscale; print(trustscale.__file__, *sys.modules)"
    file, *modules = ran_with(["client"], "-c", code).stdout.split()
    assert file.startswith(str(sites["client"]))
    assert {"trustscale_server", "trustscale_worker", "fastapi", "scipy"}.isdisjoint(modules)

    program = sites["."] / "bin/trustscale"
    code = "import trustscale_server, trustscale_worker; print(trustscale_server.__file__)"
    assert ran_with(PARTS, "-c", code).stdout.startswith(str(sites["."]))
    asked = ["upscale", "small.png", "--out", "large", "--upscaler", "span-x4"]
    for words in (asked, ["evaluate", "--help"], ["worker", "--help"]):
        done = ran_with(PARTS, program, *words)
        assert done.returncode == 0, done.stderr
    assert list((project / "large").glob("*.png"))

    # Without entry points but its own, the folder that a missing command is built from is named.
    code = (
        "import sys, importlib.metadata as m; m.entry_points = lambda **_: []; "
        "from trustscale_server.cli.main import main; sys.argv[1:] = ['evaluate']; main()"
    )
    done = ran_with(["."], "-c", code)
    assert done.returncode == 2
    assert "pip install . ./evaluation" in done.stderr


def test_only_workers_need_torch():
    """The service has no torch, and the client needs three packages."""
    needs = {}
    for part in PARTS:
        project = tomllib.loads((ROOT / part / "pyproject.toml").read_text("utf-8"))["project"]
        needs[part] = {re.match(r"[\w-]+", name)[0] for name in project["dependencies"]}
    assert "torch" not in needs["."] | needs["client"] | needs["evaluation"]
    assert "torch" in needs["workers"]
    assert needs["client"] == {"httpx", "numpy", "pillow"}
    assert "matplotlib" not in needs["."]
