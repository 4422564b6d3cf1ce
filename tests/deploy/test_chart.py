"""The Helm chart: valid for four releases of Kubernetes, restricted, closed, and like compose."""

import re
from pathlib import Path

import kubernetes_validate
import pytest

import app
from app.config_sources import read_secret_files
from app.main import create_app
from app.settings import load_settings, unknown_variables
from tests.deploy.files import CHART, document, rendered, run, services

USES = sorted(path.stem for path in (CHART / "values").glob("*.yaml"))
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
# Of what is installed beside Kubernetes; their schemas are not at hand.
OTHERS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
EVERY_USE = pytest.mark.parametrize("use", USES)
OURS = ("gateway", "jobs")
KEYS = ("redis-password", "admin-keys", "client-keys")


def of_kind(use, kind, *arguments):
    """What there is of a kind, by its name without that of the release."""
    found = (one for one in rendered(use, *arguments) if one["kind"] == kind)
    return {one["metadata"]["name"].removeprefix("trustscale-"): one for one in found}


def pods(use, *arguments):
    kinds = ("Deployment", "StatefulSet")
    found = {n: one for kind in kinds for n, one in of_kind(use, kind, *arguments).items()}
    return {name: one["spec"]["template"] for name, one in found.items()}


def container(pod):
    (only,) = pod["spec"]["containers"]
    return only


@EVERY_USE
def test_lint(use):
    run("helm", "lint", "--strict", CHART, "--values", CHART / "values" / f"{use}.yaml")
    assert document(CHART / "Chart.yaml")["appVersion"] == app.__version__


@pytest.mark.parametrize("version", VERSIONS)
@EVERY_USE
def test_valid(use, version):
    for found in rendered(use):
        if found["kind"] not in OTHERS:
            kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("value", ["typo=1", "gateway.typo=1", "workers.a.model=x", "env.A=1"])
def test_typed(value):
    with pytest.raises(AssertionError, match="schema"):
        rendered("one-node", "--set", value)


@EVERY_USE
def test_secrets(use):
    made = of_kind(use, "Secret")
    assert bool(made) == (use == "one-node")
    for name, pod in pods(use).items():
        secrets = [volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert len(secrets) == (not name.startswith("worker-"))
        for secret in secrets:
            assert secret["secretName"] == ("trustscale-keys" if made else "trustscale")
        for variable in container(pod).get("env", []):
            if re.search("PASSWORD|KEYS|AUTH", variable["name"]):
                key = variable["value"].removeprefix("/run/secrets/trustscale/")
                assert variable["name"].endswith("_FILE")
                assert key in (made["keys"]["data"] if made else KEYS)


@EVERY_USE
@pytest.mark.parametrize("name", OURS)
def test_settings(use, name, monkeypatch, tmp_path):
    pod = pods(use)[name]
    own = container(pod)
    given = {each["name"]: each["value"] for each in own["env"]}
    for key in KEYS:
        (tmp_path / key).write_text("secret")
    given = {k: v.replace("/run/secrets/trustscale", str(tmp_path)) for k, v in given.items()}
    given["REDIS_PASSWORD"] = (tmp_path / Path(given.pop("REDIS_PASSWORD_FILE")).name).read_text()
    read_secret_files(given)
    assert unknown_variables(given) == []
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    path = tmp_path / "trustscale.toml"
    path.write_text(of_kind(use, "ConfigMap")["config"]["data"]["trustscale.toml"], "utf-8")
    monkeypatch.setenv("TRUSTSCALE_CONFIG", str(path))
    settings = load_settings()
    assert ":secret@" in settings.store
    assert settings.queue == settings.store
    assert not settings.gateway_runs_jobs
    ports = {
        f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}": service
        for service in of_kind(use, "Service").values()
    }
    first, second, *others = settings.upscalers
    assert (first.model, second.model) == ("span-x4", "realesr-x4")
    assert {one.name for one in others} == {
        name.removeprefix("worker-") for name in pods(use) if name.startswith("worker-")
    }
    assert all(url in ports for one in others for url in one.urls)
    if name == "gateway":
        assert pod["spec"]["terminationGracePeriodSeconds"] > settings.request_timeout_s + 5
    assert own["args"] == services()[name]["command"]
    assert "command" not in own


def _selects(peer, pod):
    wanted = peer.get("podSelector", {}).get("matchLabels", {})
    return bool(wanted) and wanted.items() <= pod["metadata"]["labels"].items()


@EVERY_USE
def test_closed(use):
    policies = of_kind(use, "NetworkPolicy")
    every = pods(use)
    deny = policies.pop("deny")["spec"]
    assert all(_selects(deny, pod) for pod in every.values())
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not deny.keys() & {"ingress", "egress"}
    assert set(policies) == set(every)
    for name, policy in policies.items():
        spec = policy["spec"]
        assert [other for other in every if _selects(spec, every[other])] == [name]
        (rule,) = spec["ingress"]
        peers = rule.get("from", [])
        into = {other for other in every for peer in peers if _selects(peer, every[other])}
        assert into == (set() if name in OURS else set(OURS)), name
        scraped = any("namespaceSelector" in peer for peer in peers) or not peers
        assert scraped == (name != "redis")
        for peer in spec.get("egress", []):
            out = [o for o in every for to in peer["to"] if _selects(to, every[o])]
            is_public = any("ipBlock" in to for to in peer["to"])
            assert out or is_public or peer["ports"][0]["port"] == 53
            assert not is_public or use == "many-cpus"
        assert ("egress" in spec) == (name in OURS)


def test_way_in():
    (ingress,) = of_kind("many-cpus", "Ingress").values()
    assert ingress["spec"]["tls"] == [{"hosts": ["upscale.example"], "secretName": "upscale-tls"}]
    (rule,) = ingress["spec"]["rules"]
    paths = {each["path"]: each["pathType"] for each in rule["http"]["paths"]}

    def is_open(route):
        return any(
            route == path or (kind == "Prefix" and route.startswith(f"{path}/"))
            for path, kind in paths.items()
        )

    def all_of(router):
        for route in router.routes:
            inner = getattr(route, "original_router", None)
            yield from all_of(inner) if inner else [route.path]

    closed = {path for path in all_of(create_app(load_settings())) if not is_open(path)}
    assert closed == {"/metrics", "/healthz", "/readyz", "/{path}"}  # the last: "nothing is here"
