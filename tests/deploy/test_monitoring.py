"""Alerts and dashboard speak of metrics that exist, and every alert has its runbook."""

import json
import re

import pytest
import yaml

from tests.deploy.files import CHART, DEPLOY, ROOT, compose, document, filled, run
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.platform.problems import PROBLEMS
from trustscale_server.platform.telemetry.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics

DASHBOARD = json.loads((DEPLOY / "chart/files/dashboard.json").read_text("utf-8"))
RULES = [
    rule
    for group in document(DEPLOY / "chart/files/alerts.yml")["groups"]
    for rule in group["rules"]
]
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
        everywhere = {"job", "instance", "namespace", "release"}
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

    def test_each_is_seen_to_fire(self):
        """promtool sees every alert raised by series that should raise it."""
        pages = [document(path) for path in (ROOT / "tests/deploy").glob("*.test.yml")]
        tried = [one for page in pages for case in page["tests"] for one in case["alert_rule_test"]]
        raised = {one["alertname"] for one in tried if one.get("exp_alerts")}
        assert raised == {rule["alert"] for rule in RULES}

    def test_of_a_release(self, tmp_path):
        """The chart's alerts are about its own release, and miss it however long it is gone."""
        own = {"namespace": "production", "release": "pictures"}
        text = run(
            "helm", "template", own["release"], CHART, "--namespace", own["namespace"],
            "--set", "monitoring.prometheusRule.enabled=true",
            "--set", "monitoring.prometheusRule.runbooks=https://wiki.example/trustscale",
            "--show-only", "templates/monitoring.yaml", split=True,
        )  # fmt: skip
        (tmp_path / "rules.yml").write_text(yaml.safe_dump(yaml.safe_load(text)["spec"]), "utf-8")
        other = 'namespace="staging", release="pictures"'
        expected = {
            "exp_labels": {"severity": "page", **own},
            "exp_annotations": {
                "summary": "No gateway answers",
                "runbook_url": "https://wiki.example/trustscale#nogateway",
            },
        }
        case = {
            "interval": "1h",
            "input_series": [
                {"series": f'up{{job="trustscale-gateway",{other}}}', "values": "1x60"},
                {"series": f"trustscale_store_up{{{other}}}", "values": "0x60"},
            ],
            "alert_rule_test": [
                {"eval_time": "48h", "alertname": "NoGateway", "exp_alerts": [expected]},
                {"eval_time": "48h", "alertname": "StoreDown"},
            ],
        }
        page = {"rule_files": ["rules.yml"], "evaluation_interval": "1h", "tests": [case]}
        (tmp_path / "test.yml").write_text(yaml.safe_dump(page), "utf-8")
        run("promtool", "test", "rules", tmp_path / "test.yml")

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
        address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert anchor == rule["alert"].lower()
        assert address == "https://OWNER.github.io/trustscale/operations.html"
        page = (ROOT / "docs/operations.md").read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
        assert rule["alert"] in headings
