"""What pip installs is called after the project, and each part brings what it needs."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from tests.servers import ran

ROOT = Path(__file__).parent.parent
PARTS = {
    ".": {"trustscale_server", "trustscale"},
    "trustscale": {"trustscale"},
    "workers": {"trustscale_worker"},
    "evaluation": {"trustscale_evaluation"},
}


def installed(place, *parts):
    """Wheels of these folders in a folder of their own, without what they depend on."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(place)]
    subprocess.run([*command, *(str(ROOT / part) for part in parts)], check=True)
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("part", "names"), PARTS.items())
def test_the_names_that_are_installed(tmp_path, part, names):
    """Nothing called app, workers or evaluation reaches site-packages."""
    site = installed(tmp_path / "site", part)
    found = {path.name for path in site.iterdir() if path.is_dir()} - {"bin"}
    assert {name for name in found if not name.endswith(".dist-info")} == names


@pytest.mark.slow
def test_beside_a_project_with_an_app_of_its_own(tmp_path):
    """The commands run where `import app` means the project's own module."""
    site = installed(tmp_path / "site", ".", "workers", "evaluation")
    project = tmp_path / "project"
    project.mkdir()
    for name in ("app", "workers", "evaluation"):
        (project / f"{name}.py").write_text("raise SystemExit('the project was imported')\n")
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save(project / "small.png")
    # The project's folder is on the path, as it is for every program that is started in it.
    paths = os.pathsep.join(map(str, (project, site)))
    env = {**os.environ, "PYTHONPATH": paths, "TRUSTSCALE_DATA_DIR": str(tmp_path / "data")}

    def trustscale(*words):
        return ran(sys.executable, site / "bin/trustscale", *words, cwd=project, env=env)

    code = "import trustscale_server, trustscale_worker; print(trustscale_server.__file__)"
    assert ran(sys.executable, "-c", code, env=env).stdout.startswith(str(site))
    done = trustscale("upscale", "small.png", "--out", "large", "--upscaler", "span-x4")
    assert done.returncode == 0, done.stderr
    assert list((project / "large").glob("*.png"))
    for words in (["evaluate", "--help"], ["worker", "--help"], ["models", "list"]):
        done = trustscale(*words)
        assert done.returncode == 0, done.stderr


def test_a_command_that_is_not_installed(tmp_path):
    """It is named, with the folder that it is built from."""
    site = installed(tmp_path / "site", ".")
    # Without the checkout's own entry points: only this folder is searched.
    code = (
        "import sys; from trustscale_server.cli.main import main; "
        "sys.argv[1:] = ['evaluate']; main()"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    hide = "import importlib.metadata as m; m.entry_points = lambda **_: []; "
    done = ran(sys.executable, "-c", hide + code, env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install . ./evaluation" in done.stderr


def test_only_workers_need_torch():
    """The service has no torch, and the client needs three packages."""
    needs = {
        part: {
            name.split(">")[0].split("=")[0].split("[")[0]
            for name in tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"][
                "dependencies"
            ]
        }
        for part in PARTS
    }
    assert "torch" not in needs["."] | needs["trustscale"] | needs["evaluation"]
    assert "torch" in needs["workers"]
    assert needs["trustscale"] == {"httpx", "numpy", "pillow"}
    assert "matplotlib" not in needs["."]
