"""Alerts and dashboard speak of metrics that exist, and every alert has its runbook."""

import json
import re

import pytest

from app.main import create_app
from app.problems import PROBLEMS
from app.settings import Settings
from app.telemetry.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics
from tests.deploy.files import DEPLOY, ROOT, document, run

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/trustscale.json").read_text("utf-8"))
RULES = [rule for group in document(DEPLOY / "alerts.yml")["groups"] for rule in group["rules"]]


def expressions():
    """(where, PromQL) of everything that asks Prometheus."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())
EVERY_EXPRESSION = pytest.mark.parametrize(
    "expression", [e for _, e in EXPRESSIONS], ids=[where for where, _ in EXPRESSIONS]
)


@pytest.fixture(scope="module")
def exported():
    """Names of the samples that a gateway exports, with the labels of each."""
    metrics = Metrics()
    for name, (_, labels) in COUNTERS.items():
        metrics.count(name, *labels)
    for name, (_, labels, _) in HISTOGRAMS.items():
        metrics.observe(name, 1.0, *labels)
    for name, (_, labels) in GAUGES.items():
        metrics.set(name, 1.0, *labels)
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def selectors(expression):
    """(metric, what stands in its braces) of an expression."""
    pattern = r"\b((?:trustscale|process)_\w+|up)\b(?:\{([^}]*)\})?"
    for match in re.finditer(pattern, expression):
        yield match.group(1), match.group(2) or ""


class TestNames:
    @EVERY_EXPRESSION
    def test_metrics_and_labels_exist(self, expression, exported):
        """Each metric is exported under that name, with the labels of selections and groups."""
        known = {**exported, "up": set()}
        everywhere = {"job", "instance"}
        found = list(selectors(expression))
        assert found
        for metric, inside in found:
            assert metric in known, metric
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", inside))
            assert labels <= known[metric] | everywhere, metric
        labels = everywhere.union(*(known[metric] for metric, _ in found))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {name.strip() for name in group.split(",")} <= labels

    def test_values_of_labels_exist(self, tmp_path):
        """Routes, problem types and jobs that are selected are those of the service."""
        app = create_app(Settings(data_dir=tmp_path))
        routes = set(app.openapi()["paths"])
        scraped = {job["job_name"] for job in document(DEPLOY / "prometheus.yml")["scrape_configs"]}
        known = {"route": routes, "type": set(PROBLEMS), "job": scraped}
        for _, expression in EXPRESSIONS:
            for name, values in re.findall(
                r'\b(route|type|job)\s*(?:=~|!=|=)"([^"]*)"', expression
            ):
                assert set(values.split("|")) <= known[name], expression


class TestAlerts:
    def test_prometheus_accepts_its_configuration(self):
        """promtool finds no mistake in the configuration, nor in the rules that it refers to."""
        run("promtool", "check", "config", DEPLOY / "prometheus.yml")
        run("promtool", "test", "rules", *(ROOT / "tests/deploy").glob("*.test.yml"))

    @pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
    def test_the_runbook(self, rule):
        """Each alert says how bad it is and what is wrong, and leads to a section of its name."""
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
        assert rule["alert"] in headings
