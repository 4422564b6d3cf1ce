"""Who may import whom, what is an edge, and which document the API has."""

import json
import sys
from pathlib import Path

from grimp import build_graph

from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app

ROOT = Path(__file__).parent.parent
SERVER = ROOT / "app/trustscale_server"
MODULES = sorted(SERVER.rglob("*.py"))


def test_the_conformal_core_is_pure():
    """The core, and all that it stands on, imports numpy, scipy and pure parts of the library.

    A text reader is a function of arrays, too.
    """
    graph = build_graph("trustscale_server", include_external_packages=True, cache_dir=None)
    core = graph.find_descendants("trustscale_server.conformal") | {"trustscale_server.conformal"}
    outside, ahead = set(), set(core)
    while ahead:
        imported = graph.find_modules_directly_imported_by(ahead.pop()) - core
        ours = {name for name in imported if name.startswith("trustscale_server.")}
        outside |= imported - ours
        core |= ours
        ahead |= ours
    impure = {"os", "io", "pathlib", "time", "datetime", "socket", "asyncio", "threading"}
    assert outside <= {"numpy", "scipy", "skimage", "rapidocr"} | sys.stdlib_module_names - impure


def test_the_document_of_the_api():
    """docs/openapi.json is the document of this program; `make reference` writes it anew."""
    kept = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))
    made = create_app(Settings()).openapi()
    # Two models of one name would both have long ones.
    assert not [name for name in made["components"]["schemas"] if "__" in name]
    assert kept == made, "run: make reference"


def test_only_the_edges_read_the_environment():
    """os.environ appears where settings are read, upscalers built, programs begun, spans sent."""
    files = ("bootstrap/", "platform/telemetry/traces.py", "images/sandbox/process.py")
    readers = [path for path in MODULES if "os.environ" in path.read_text("utf-8")]
    names = {path.relative_to(SERVER).as_posix() for path in readers}
    assert not {name for name in names if not name.startswith(("cli/", *files))}
