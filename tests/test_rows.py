"""A metric or an estimator is one row of its registry: nothing else has to know it."""

from __future__ import annotations

import numpy as np

from app.conformal.fidelity import METRICS, Metric
from app.conformal.indecision import ESTIMATORS, Estimator
from tests.api.admin import Admin, truth_files
from tests.api.conftest import *  # noqa: F403 - its gateways
from tests.api.gateway import ADMIN_KEY, post


def brightness(truth, prediction, settings):
    """The difference of the brightest channels, in [0, 1]."""
    del settings
    difference = truth.max(axis=2).astype(np.float32) - prediction.max(axis=2)
    return np.abs(difference) / np.float32(255)


TOY = Metric(
    error=brightness,
    bound=1.0,
    sentence="difference of a pixel's brightness, blurred by {blur:g} px",
    words="error of brightness",
    title="Brightness",
    radius=lambda _: 0,
    bytes_per_pixel=16,
)


def test_a_metric_is_a_row(start, monkeypatch):
    """Entered in METRICS, it can be chosen, calibrated, served, tested and is offered by forms."""
    monkeypatch.setitem(METRICS, "brightness", TOY)
    admin = Admin(start(calibrations=()))
    options = admin.client.get("/v1/admin/options", headers={"X-API-Key": ADMIN_KEY}).json()
    assert options["metrics"][-1] == {
        "metric": "brightness",
        "labels": "people",
        "listed": "brightness",
        "title": "Brightness",
        "words": "error of brightness",
        "bound": 1.0,
        "counted_up_to": 1.0,
        "unit": "lab",
        "needs_label": False,
        "blurs": False,
    }
    made = admin.create(truth_files(12), fidelity={"metric": "brightness"}, activate=True)
    assert (made["bound"], made["pipeline"]["fidelity"]["metric"]) == (1.0, "brightness")
    promise = post(admin.client, alpha=0.3).json()["guarantee"]
    assert "difference of a pixel's brightness, blurred by 4 px" in promise["statement"]
    assert (promise["error"], promise["bound"]) == ("error of brightness", 1.0)
    assert admin.get(f"/{made['id']}/backtest", splits=5)["rows"]


DARKNESS = Estimator(
    sigma=lambda accumulator: np.ascontiguousarray(1 - accumulator.maps().mean[0]),
    title="Darkness",
    radius=lambda _: 0,
    smooths=False,
)


def test_an_estimator_is_a_row(start, monkeypatch):
    """Entered in ESTIMATORS, it can be chosen, calibrated and served, and is offered by forms."""
    monkeypatch.setitem(ESTIMATORS, "darkness", DARKNESS)
    admin = Admin(start(calibrations=()))
    options = admin.client.get("/v1/admin/options", headers={"X-API-Key": ADMIN_KEY}).json()
    assert options["estimators"][-1] == {
        "estimator": "darkness",
        "title": "Darkness",
        "least_samples": 1,
        "smooths": False,
        "takes_fit": False,
    }
    chosen = {"estimator": "darkness"}
    made = admin.create(truth_files(12), indecision=chosen, samples=1, activate=True)
    assert made["pipeline"]["indecision"]["estimator"] == "darkness"
    answer = post(admin.client, alpha=0.3).json()
    assert (answer["samples"], answer["guarantee"]["applicability"]) == (1, "exact")
    assert admin.get(f"/{made['id']}/backtest", splits=5)["rows"]
