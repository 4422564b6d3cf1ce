"""Who may import whom, what is an edge, and that a metric or a score is a row."""

import json
import sys
from pathlib import Path

import numpy as np
from grimp import build_graph

from harness.admin import Admin, truth_files
from harness.gateway import ADMIN_KEY, post
from tests.api.conftest import *  # noqa: F403 - its gateways
from trustscale_server.conformal.fidelity import METRICS, Metric
from trustscale_server.main import create_app
from trustscale_server.settings import Settings
from trustscale_server.sigma.estimators import ESTIMATORS, Estimator

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("workers/**/*.py")])


def test_the_conformal_core_is_pure():
    """The core imports numpy, scipy, the standard library's pure parts, and itself.

    A text reader is a function of arrays, too.
    """
    graph = build_graph("trustscale_server", include_external_packages=True, cache_dir=None)
    core = graph.find_descendants("trustscale_server.conformal") | {"trustscale_server.conformal"}
    outside = set().union(*map(graph.find_modules_directly_imported_by, core)) - core
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
    settings = ("app/config_sources.py", "app/settings.py", "app/telemetry/signals.py")
    files = (*settings, "app/assembly.py", "app/concurrency.py")
    readers = [path for path in MODULES if "os.environ" in path.read_text("utf-8")]
    names = {path.relative_to(ROOT).as_posix() for path in readers}
    assert not {name for name in names if not name.startswith(("app/cli/", "workers/", *files))}


def brightness(truth, prediction, settings):
    difference = truth.max(axis=2).astype(np.float32) - prediction.max(axis=2)
    return np.abs(difference) / np.float32(255)


METRIC = {"title": "Brightness", "summary": "error of brightness", "bound": 1.0}
CLAUSE = "difference of a pixel's brightness, blurred by {blur:g} px"
ESTIMATOR = {"title": "Darkness", "smooths": False}


def check_row(start, kind, name, told, **config):
    """An answer under it: forms offer it, and it can be chosen, calibrated, tested and served."""
    admin = Admin(start(calibrations=()))
    options = admin.client.get("/v1/admin/options", headers={"X-API-Key": ADMIN_KEY}).json()
    assert options[f"{kind}s"][-1] == {kind: name, **told}
    made = admin.create(truth_files(12), default_alpha=0.3, activate=True, **config)
    answer = post(admin.client, alpha=0.3).json()
    assert answer["calibration"] == made["id"]
    assert admin.get(f"/{made['id']}/backtest", splits=5)["rows"]
    return answer


def test_a_metric_is_a_row(start, monkeypatch):
    made_of = {"error": brightness, "radius": lambda _: 0, "bytes_per_pixel": 16, "clause": CLAUSE}
    monkeypatch.setitem(METRICS, "brightness", Metric(**METRIC, **made_of))
    told = {"loss_clipped_at": 1.0, "error_unit": "lab", "needs_label": False, "blurs": False}
    told |= METRIC
    answer = check_row(start, "metric", "brightness", told, fidelity={"metric": "brightness"})
    promise = answer["guarantee"]
    assert "difference of a pixel's brightness, blurred by 4 px" in promise["theorem"]
    assert (promise["error"], promise["bound"]) == ("error of brightness", 1.0)


def test_an_estimator_is_a_row(start, monkeypatch):
    def sigma(accumulator):
        return np.ascontiguousarray(1 - accumulator.maps().mean[0])

    row = Estimator(sigma=sigma, radius=lambda _: 0, **ESTIMATOR)
    monkeypatch.setitem(ESTIMATORS, "darkness", row)
    told = {"least_samples": 1, "takes_fit": False, **ESTIMATOR}
    chosen = {"estimator": "darkness"}
    answer = check_row(start, "estimator", "darkness", told, indecision=chosen, samples=1)
    assert (answer["samples"], answer["guarantee"]["unit"]) == (1, "spot")
