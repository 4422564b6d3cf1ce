"""Alerts and dashboard speak of metrics that exist, and every alert has its runbook."""

import json
import re

import pytest

from tests.deploy.files import DEPLOY, ROOT, compose, document, filled, run
from trustscale_server.main import create_app
from trustscale_server.problems import PROBLEMS
from trustscale_server.settings import Settings
from trustscale_server.telemetry.signals import COUNTERS, GAUGES, HISTOGRAMS, Metrics

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/trustscale.json").read_text("utf-8"))
RULES = [rule for group in document(DEPLOY / "alerts.yml")["groups"] for rule in group["rules"]]
# (where, PromQL) of everything that asks Prometheus
EXPRESSIONS = [(rule["alert"], rule["expr"]) for rule in RULES] + [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]


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
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


class TestNames:
    @pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
    def test_metrics_and_labels_exist(self, where, expression, exported):
        known = {**exported, "up": set(), "trustscale_replicas": set()}  # of Prometheus itself
        everywhere = {"job", "instance"}
        pattern = r"\b((?:trustscale|process)_\w+|up)\b(?:\{([^}]*)\})?"
        found = re.findall(pattern, expression)
        assert found, where
        for metric, inside in found:
            assert metric in known, metric
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", inside))
            assert labels <= known[metric] | everywhere, metric
        labels = everywhere.union(*(known[metric] for metric, _ in found))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {name.strip() for name in group.split(",")} <= labels

    def test_values_of_labels_exist(self, tmp_path):
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
        run("promtool", "check", "config", DEPLOY / "prometheus.yml")
        run("promtool", "test", "rules", *(ROOT / "tests/deploy").glob("*.test.yml"))

    def test_how_many_there_should_be(self, tmp_path):
        """Prometheus of the stack knows that from `.env`, under the names of its scrapes."""
        text = filled(compose()["configs"]["replicas"]["content"], {"GATEWAYS": "3"})
        (tmp_path / "replicas.yml").write_text(text, "utf-8")
        run("promtool", "check", "rules", tmp_path / "replicas.yml")
        (group,) = document(tmp_path / "replicas.yml")["groups"]
        found = {rule["labels"]["job"]: rule["expr"] for rule in group["rules"]}
        assert found == {"trustscale-gateway": "vector(3)", "trustscale-jobs": "vector(1)"}
        scraped = {job["job_name"] for job in document(DEPLOY / "prometheus.yml")["scrape_configs"]}
        assert found.keys() < scraped

    @pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
    def test_the_runbook(self, rule):
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
        assert rule["alert"] in headings
