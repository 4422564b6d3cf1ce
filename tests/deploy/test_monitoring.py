"""Alerts and dashboard speak of metrics that exist, and every alert has its runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from app.main import create_app
from app.problems import PROBLEMS
from app.settings import Settings
from app.telemetry.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics
from tests.deploy.files import DEPLOY, ROOT, document, run, services

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/trustscale.json").read_text("utf-8"))
RULES = [rule for group in document(DEPLOY / "alerts.yml")["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
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
def exported() -> dict[str, set[str]]:
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


def selectors(expression: str) -> Iterator[tuple[str, str]]:
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

    def test_they_fire_and_stay_silent(self):
        """On given series the alerts do what they say."""
        run("promtool", "test", "rules", *(ROOT / "tests/deploy").glob("*.test.yml"))

    def test_names_are_unique(self):
        """One name, one alert."""
        names = [rule["alert"] for rule in RULES]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
    def test_the_runbook(self, rule):
        """Each alert says how bad it is and what is wrong, and leads to a section of its name."""
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
        assert rule["alert"] in headings

    def test_the_memory_alert_knows_the_limit(self):
        """It fires at nine tenths of what a gateway may use."""
        (rule,) = (rule for rule in RULES if rule["alert"] == "MemoryHigh")
        limit = services()["gateway"]["deploy"]["resources"]["limits"]["memory"]
        assert f"0.9 * {limit.removesuffix('G')} * 1024 ^ 3" in rule["expr"]


class TestScraping:
    def test_targets_are_services(self):
        """Every name that is looked up is a service, on a port that it opens."""
        for job in document(DEPLOY / "prometheus.yml")["scrape_configs"]:
            for discovery in job.get("dns_sd_configs", []):
                for name in discovery["names"]:
                    assert str(discovery["port"]) in services()[name]["expose"]


class TestDashboard:
    def test_panels(self):
        """Ids are unique, panels do not overlap, each that is not a row asks something."""
        panels = DASHBOARD["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert taken.isdisjoint(cells), panel["title"]
            taken |= cells
            assert panel["type"] == "row" or panel["targets"]

    def test_it_asks_the_provisioned_source(self):
        """Panels name the data source that is provisioned beside them."""
        provisioned = document(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")
        uids = {source["uid"] for source in provisioned["datasources"]}
        for panel in DASHBOARD["panels"]:
            for target in panel.get("targets", []):
                assert target["datasource"]["uid"] in uids

    def test_it_is_found(self):
        """The provider looks where the file is mounted."""
        provider = document(DEPLOY / "grafana/provisioning/dashboards/trustscale.yml")
        path = provider["providers"][0]["options"]["path"]
        assert f"./deploy/grafana/dashboards:{path}:ro" in services()["grafana"]["volumes"]
