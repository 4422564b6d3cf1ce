"""The rooms of the house and the doors between them, checked on the imports themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from grimp import build_graph

from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("workers/**/*.py")])


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_conformal_core_is_pure():
    """app.conformal imports numpy, scipy, the standard library's pure parts, and itself."""
    graph = build_graph("app", include_external_packages=True, cache_dir=None)
    core = graph.find_descendants("app.conformal") | {"app.conformal"}
    outside = set().union(*map(graph.find_modules_directly_imported_by, core)) - core
    impure = {"os", "io", "pathlib", "time", "datetime", "socket", "asyncio", "threading"}
    assert outside <= {"numpy", "scipy", "skimage"} | sys.stdlib_module_names - impure


def test_contracts():
    """Rooms import downward only, in no circles, and the contracts of pyproject.toml hold."""
    check = "from importlinter.cli import lint_imports_command as check; check(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", check], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout


def test_the_document_of_the_api():
    """docs/openapi.json is the document of this program; `make openapi` writes it anew."""
    kept = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))
    made = create_app(Settings()).openapi()
    # Two models of one name would both have long ones.
    assert not [name for name in made["components"]["schemas"] if "__" in name]
    assert kept == made, "run: make openapi"


def test_only_the_edges_read_the_environment():
    """os.environ appears where settings are read, upscalers built and programs begun."""
    edges = {
        "app.config_sources",
        "app.settings",
        "app.assembly",
        "app.cli",
        "app.system",
        "workers",
    }
    for path in MODULES:
        if "os.environ" in path.read_text("utf-8"):
            name = name_of(path)
            assert any(within(name, edge) for edge in edges), name


def test_files_stay_readable():
    """Files end where their subject ends, and no subject of a module takes more than 500 lines."""
    files = [*MODULES, *ROOT.glob("trustscale/**/*.py")]
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    assert not {path: count for path, count in lines.items() if count > 500}
