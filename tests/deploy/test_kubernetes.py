"""The Kubernetes manifests: restricted pods, known settings, and the same parts as compose."""

from __future__ import annotations

import re

import pytest
import yaml

from app.settings import load_settings, unknown_variables
from tests.deploy.files import KUBERNETES, document, documents, run, services

BASE = [
    found
    for name in document(KUBERNETES / "kustomization.yaml")["resources"]
    for found in documents(KUBERNETES / name)
]
PODS = {
    found["metadata"]["name"]: found["spec"]["template"]["spec"]
    for found in BASE
    if found["kind"] in {"Deployment", "StatefulSet"}
}
EVERY_POD = pytest.mark.parametrize("name", sorted(PODS))
OURS = ("gateway", "jobs")
WORKER = KUBERNETES.with_name("kubernetes-worker")


def of_kind(kind: str) -> dict[str, dict]:
    return {f["metadata"]["name"]: f for f in BASE if f["kind"] == kind}


def container(name: str) -> dict:
    (only,) = PODS[name]["containers"]
    return only


@pytest.mark.parametrize("folder", [KUBERNETES, WORKER], ids=lambda folder: folder.name)
def test_they_build(folder):
    """Kustomize makes manifests of the base and of each overlay."""
    kinds = {found["kind"] for found in yaml.safe_load_all(run("kustomize", "build", folder))}
    assert {"Deployment", "StatefulSet", "NetworkPolicy"} <= kinds


def test_the_files():
    """Each is in the base, or says why not; the base has what is not the cluster's own."""
    listed = set(document(KUBERNETES / "kustomization.yaml")["resources"])
    apart = {"kustomization.yaml", "secret.example.yaml", "autoscaling-keda.yaml"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == listed | apart
    assert set(PODS) == {*OURS, "redis"}


@EVERY_POD
def test_mounts_have_volumes(name):
    """What a container mounts, its pod brings."""
    volumes = {volume["name"] for volume in PODS[name]["volumes"]}
    claims = of_kind("StatefulSet").get(name, {}).get("spec", {}).get("volumeClaimTemplates", [])
    volumes |= {claim["metadata"]["name"] for claim in claims}
    assert {mount["name"] for mount in container(name)["volumeMounts"]} == volumes
    for volume in PODS[name]["volumes"]:
        if "configMap" in volume:
            assert volume["configMap"]["name"] in of_kind("ConfigMap")
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert claim in of_kind("PersistentVolumeClaim")


@EVERY_POD
def test_secrets_are_references(name):
    """No variable holds a password; the example of the secret has every key that is referred to."""
    keys = document(KUBERNETES / "secret.example.yaml")["stringData"]
    assert not any(re.search(r"\w", value) for value in keys.values())
    for variable in container(name)["env"]:
        if re.search("PASSWORD|KEYS|AUTH", variable["name"]):
            assert variable["valueFrom"]["secretKeyRef"]["key"] in keys


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name, monkeypatch, tmp_path):
    """The environment and the file of the config map are a valid configuration."""
    given = {v["name"]: v.get("value", "secret") for v in container(name)["env"]}
    assert unknown_variables(given) == []
    for key, value in given.items():
        monkeypatch.setenv(key, value.replace("$(REDIS_PASSWORD)", given["REDIS_PASSWORD"]))
    path = tmp_path / "trustscale.toml"
    path.write_text(of_kind("ConfigMap")["trustscale"]["data"]["trustscale.toml"], "utf-8")
    monkeypatch.setenv("TRUSTSCALE_CONFIG", str(path))
    settings = load_settings()
    assert settings.store == "redis://:secret@redis:6379/0"
    assert not settings.gateway_runs_jobs
    if name == "gateway":
        grace = PODS["gateway"]["terminationGracePeriodSeconds"]
        assert grace > settings.request_timeout_s + 5  # the pause before SIGTERM


@pytest.mark.parametrize("name", OURS)
def test_the_commands_are_those_of_compose(name):
    """Arguments only: the entry point of the image stays, and tini with it."""
    assert container(name)["args"] == services()[name]["command"]
    assert "command" not in container(name)


def test_who_is_scraped_is_reached():
    """A policy over pods that Prometheus is told to scrape lets it in."""
    found = [*BASE, *documents(WORKER / "worker.yaml")]
    scraped = {
        one["metadata"]["name"]
        for one in found
        if one["kind"] == "Deployment"
        and "prometheus.io/scrape" in one["spec"]["template"]["metadata"]["annotations"]
    }
    policies = {one["metadata"]["name"]: one for one in found if one["kind"] == "NetworkPolicy"}
    assert scraped == {*OURS, "worker"}
    for name in scraped & policies.keys():
        (rule,) = policies[name]["spec"]["ingress"]
        assert "from" not in rule or any("namespaceSelector" in peer for peer in rule["from"]), name


def test_the_worker_is_that_of_compose(monkeypatch):
    """The overlay starts a worker by the variables of compose, and tells gateways its address."""
    overlay = document(WORKER / "kustomization.yaml")
    parts = {found["kind"]: found for found in documents(WORKER / "worker.yaml")}
    (own,) = parts["Deployment"]["spec"]["template"]["spec"]["containers"]
    service = services()["worker"]
    assert own["args"][:4] == service["command"][:4]
    assert {variable["name"] for variable in own["env"]} <= set(service["environment"])
    (patch,) = overlay["patches"]
    ((added,),) = [yaml.safe_load(patch["patch"])]
    monkeypatch.setenv(added["value"]["name"], added["value"]["value"])
    (url,) = load_settings().upscalers[-1].urls
    port = parts["Service"]["spec"]["ports"][0]["port"]
    assert url == f"http://{parts['Service']['metadata']['name']}:{port}"
    assert set(re.findall(r"\w+", patch["target"]["name"])) == set(OURS)
