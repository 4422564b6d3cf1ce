"""The Helm chart: valid for four releases of Kubernetes, restricted, closed, and like compose."""

import ipaddress
import json
import re
import tomllib
from functools import cache
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

import trustscale_server
from tests.deploy.files import CHART, DEFAULTS, ROOT, document, rendered, run, services
from trustscale_server.bootstrap.settings import load_settings, unknown_variables
from trustscale_server.bootstrap.sources import read_secret_files
from trustscale_server.http.app import create_app
from trustscale_server.stores.job_status import JobKind
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.remote.worker import WorkerConfig

USES = [DEFAULTS, *sorted(path.stem for path in (CHART / "values").glob("*.yaml"))]
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
# Of what is installed beside Kubernetes; their schemas are not at hand.
OTHERS = {"ScaledObject", "ServiceMonitor", "PrometheusRule", "HTTPRoute"}
EVERY_USE = pytest.mark.parametrize("use", USES)
OURS = ("gateway", "jobs")
KEYS = ("redis-password", "admin-keys", "client-keys")


@cache
def judge():
    """What validates objects of Kubernetes."""
    # Every process of the tests that only collects this module would pay two seconds for it.
    import kubernetes_validate  # noqa: PLC0415
    from kubernetes_validate import utils  # noqa: PLC0415

    # It would read them anew for every object.
    utils.schema_contents = cache(utils.schema_contents)
    return kubernetes_validate


def of_kind(use, kind, *arguments):
    """What there is of a kind, by its name without that of the release."""
    found = (one for one in rendered(use, *arguments) if one["kind"] == kind)
    return {one["metadata"]["name"].removeprefix("trustscale-"): one for one in found}


def pods(use, *arguments):
    kinds = ("Deployment", "StatefulSet")
    found = {n: one for kind in kinds for n, one in of_kind(use, kind, *arguments).items()}
    return {name: one["spec"]["template"] for name, one in found.items()}


def given(values):
    """Values by their names with dots, as words of `helm`."""
    return [
        word
        for name, value in values.items()
        for word in ("--set-json", f"{name}={json.dumps(value)}")
    ]


def container(pod):
    (only,) = pod["spec"]["containers"]
    return only


@EVERY_USE
def test_valid(use):
    values = () if use == DEFAULTS else ("--values", CHART / "values" / f"{use}.yaml")
    run("helm", "lint", "--strict", CHART, *values)
    for version in VERSIONS:
        for found in rendered(use):
            if found["kind"] not in OTHERS:
                judge().validate(found, version, strict=True)


@pytest.mark.parametrize("value", ["typo=1", "gateway.typo=1", "workers.a.model=x", "env.A=1"])
def test_typed(value):
    with pytest.raises(AssertionError, match="schema"):
        rendered(DEFAULTS, "--set", value)


@EVERY_USE
def test_secrets(use):
    made = of_kind(use, "Secret")
    assert bool(made) == (use == DEFAULTS)
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
        (tmp_path / key).write_text("secret-key")
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
    assert ":secret-key@" in settings.store
    assert settings.queue == settings.store
    assert not settings.gateway_runs_jobs
    ports = {
        f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}": service
        for service in of_kind(use, "Service").values()
    }
    shipped, others = (
        settings.upscalers[: len(SHIPPED_MODELS)],
        settings.upscalers[len(SHIPPED_MODELS) :],
    )
    assert [one.model for one in shipped] == [*SHIPPED_MODELS]
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
        ends = [to for rule in spec.get("egress", []) for to in rule["to"]]
        out = {other for to in ends for other in every if _selects(to, every[other])}
        assert out == (set(every) - set(OURS) if name in OURS else set())


def _reaches(policy, address, port):
    """Whether a policy lets a pod open a connection to an address outside of pods."""
    ip = ipaddress.ip_address(address)
    for rule in policy["spec"].get("egress", []):
        if port in [one["port"] for one in rule["ports"]]:
            for block in (to["ipBlock"] for to in rule["to"] if "ipBlock" in to):
                inside = [ip in ipaddress.ip_network(one) for one in block.get("except", [])]
                if ip in ipaddress.ip_network(block["cidr"]) and not any(inside):
                    return True
    return False


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("use", "options", "opened"),
    [
        (DEFAULTS, [], set()),
        ("many-cpus", [], {("10.1.2.3", 6379), ("8.8.8.8", 443)}),
        (
            "many-cpus",
            ["redis.url=rediss://:${REDIS_PASSWORD}@redis.example:6380"],
            {("10.1.2.3", 6380), ("8.8.8.8", 443)},
        ),
        (DEFAULTS, ["networkPolicy.workloadIdentity=eks"], {("169.254.170.23", 80)}),
        (DEFAULTS, ["networkPolicy.workloadIdentity=gke"], {("169.254.169.254", 80)}),
    ],
)
def test_ways_out(use, options, opened, name):
    """Names are asked of caches on nodes, too; of the rest only what the values ask for is open."""
    places = ("10.1.2.3", "8.8.8.8", "169.254.169.254", "169.254.170.23", "169.254.20.10")
    words = [word for option in options for word in ("--set", option)]
    policy = of_kind(use, "NetworkPolicy", *words)[name]
    ways = product(places, (53, 80, 443, 6379, 6380, 4318))
    found = {(place, port) for place, port in ways if _reaches(policy, place, port)}
    assert found == opened | {("169.254.20.10", 53), ("10.1.2.3", 53)}


def test_traces_of_workers():
    """Whatever makes spans may send them, and knows where to."""
    policies = of_kind("gpu-pool", "NetworkPolicy")
    for name, pod in pods("gpu-pool").items():
        if name == "redis":
            continue
        (rule,) = [r for r in policies[name]["spec"]["egress"] if r["ports"] == [{"port": 4318}]]
        (peer,) = rule["to"]
        (namespace,) = peer["namespaceSelector"]["matchLabels"].values()
        variables = {variable["name"]: variable["value"] for variable in container(pod)["env"]}
        assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://collector.{namespace}:4318"
    egress = [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 9}]}]
    opened = given({"workers.sinsr.egress": egress})
    assert _reaches(of_kind("gpu-pool", "NetworkPolicy", *opened)["worker-sinsr"], "10.9.1.1", 9)


def test_what_operators_add():
    """Labels, volumes, secrets, classes and affinity come to all pods that they are for."""
    affinity = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    ca = {"name": "ca", "configMap": {"name": "private-ca"}}
    mount = {"name": "ca", "mountPath": "/etc/private", "readOnly": True}
    values = {
        "podLabels": {"team": "pictures"},
        "volumes": [ca],
        "volumeMounts": [mount],
        "workers.sinsr.envFrom": ["hub-token"],
        "workers.sinsr.runtimeClassName": "nvidia",
    }
    for part in ("gateway", "jobs", "redis", "workers.sinsr"):
        values |= {f"{part}.affinity": affinity, f"{part}.priorityClassName": "high"}
    made = pods("gpu-pool", *given(values))
    for name in ("gateway", "jobs", "redis", "worker-sinsr"):
        spec = made[name]["spec"]
        assert (spec["affinity"], spec["priorityClassName"]) == (affinity, "high")
        is_ours = name != "redis"
        assert (made[name]["metadata"]["labels"].get("team") == "pictures") == is_ours
        assert (
            (ca in spec["volumes"]) == (mount in container(made[name])["volumeMounts"]) == is_ours
        )
        judge().validate(
            {"apiVersion": "v1", "kind": "Pod", **made[name]}, VERSIONS[-1], strict=True
        )
    sinsr = made["worker-sinsr"]["spec"]
    assert sinsr["runtimeClassName"] == "nvidia"
    assert container(made["worker-sinsr"])["envFrom"] == [{"secretRef": {"name": "hub-token"}}]


OPTIONS = (
    {"runAsUser": None, "redis.runAsUser": None},
    {"runAsUser": 2000, "redis.runAsUser": 3000},
    {"serviceAccount.name": "given"},
    {"serviceAccount.annotations": {"role": "pictures"}},
    {"commonLabels": {"team": "pictures"}},
    {"redis.podLabels": {"app": "redis"}, "redis.podAnnotations": {"backup": "yes"}},
    {"gateway.service": {"type": "LoadBalancer", "annotations": {"internal": "true"}}},
    {"gateway.service": {"type": "NodePort", "annotations": {}}},
    {"sidecars": [{"name": "proxy", "image": "proxy:1"}]},
    {"networkPolicy.workloadIdentity": "azure", "networkPolicy.publicPorts": [443]},
    {"jobs.uploads": "7Gi"},
    {"gateway.terminationGraceSeconds": 300, "jobs.terminationGraceSeconds": 200},
    {"embedded": [], "workers": {"own": {"model": "onnx"}}},
    {"keda.enabled": True, "keda.fallbackReplicas": 3},
    {"blobs": {"url": "", "existingClaim": "shared", "accessModes": ["ReadWriteMany"]}},
    {"networkPolicy.enabled": False},
    {"monitoring": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}},
    {"image.digests.gateway": f"sha256:{64 * 'a'}", "image.pullSecrets": ["registry"]},
    {"tracing.endpoint": "http://collector:4318", "env": {"A": "1"}, "envFrom": ["tokens"]},
    {"existingSecret": "", "embedded": ["span-x4"]},
)


@EVERY_USE
@pytest.mark.parametrize("values", OPTIONS, ids=lambda values: next(iter(values)))
def test_matrix(use, values):
    """Whatever is set, every use of the chart is rendered and valid, with names of its own."""
    made = rendered(use, *given(values))
    names = [(one["kind"], one["metadata"]["name"]) for one in made]
    assert len(set(names)) == len(names)
    for found in made:
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "trustscale"
        if found["kind"] not in OTHERS:
            judge().validate(found, VERSIONS[-1], strict=True)


def test_without_exceptions():
    """User, account, labels, service, sidecars and times are the cluster's to say."""
    values = {name: value for options in OPTIONS[1:7] for name, value in options.items()}
    values |= {name: value for options in OPTIONS[8:12] for name, value in options.items()}
    words = given(values)
    made = pods(DEFAULTS, *words)
    assert {one["metadata"]["labels"]["team"] for one in rendered(DEFAULTS, *words)} == {"pictures"}
    assert not of_kind(DEFAULTS, "ServiceAccount", *words)
    assert {pod["spec"]["serviceAccountName"] for pod in made.values()} == {"given"}
    assert {pod["metadata"]["labels"]["team"] for pod in made.values()} == {"pictures"}
    redis = made["redis"]["metadata"]
    assert (redis["labels"]["app"], redis["annotations"]["backup"]) == ("redis", "yes")
    users = {name: pod["spec"]["securityContext"]["runAsUser"] for name, pod in made.items()}
    assert users == {"gateway": 2000, "jobs": 2000, "redis": 3000}
    for name, seconds in (("gateway", 300), ("jobs", 200)):
        spec = made[name]["spec"]
        assert [one["name"] for one in spec["containers"]] == [name, "proxy"]
        assert spec["terminationGracePeriodSeconds"] == seconds
        assert made[name]["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    volumes = {one["name"]: one for one in made["jobs"]["spec"]["volumes"]}
    assert volumes["uploads"]["emptyDir"]["sizeLimit"] == "7Gi"
    service = of_kind(DEFAULTS, "Service", *words)["gateway"]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"internal": "true"}
    free = pods(DEFAULTS, *given(OPTIONS[0]))
    for pod in free.values():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"]
        assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup"}


def test_no_values_need_one_node_only():
    """`helm install` without values: pods that share a volume of one node stay together on it."""
    made = pods(DEFAULTS)
    for name in OURS:
        affinity = made[name]["spec"]["affinity"]["podAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        (expression,) = term["labelSelector"]["matchExpressions"]
        assert set(expression["values"]) == set(OURS)
    assert "affinity" not in made["redis"]["spec"]
    (claim,) = of_kind(DEFAULTS, "PersistentVolumeClaim").values()
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    shared = given({"blobs.accessModes": ["ReadWriteMany"]})
    assert "affinity" not in pods(DEFAULTS, *shared)["jobs"]["spec"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"embedded": []}, "there would be no upscaler"),
        ({"route.enabled": True}, "route.parentRefs"),
        ({"ingress.enabled": True}, "ingress.host"),
        ({"redis.enabled": False}, "redis.url"),
    ],
)
def test_what_cannot_work_is_refused(values, reason):
    with pytest.raises(AssertionError, match=reason):
        rendered(DEFAULTS, *given(values))


def test_gateways_follow_slots_and_waiting():
    """While GPUs work, processors are idle: taken slots and waiting requests ask for gateways."""
    scaled = of_kind("gpu-pool", "ScaledObject")
    (trigger,) = scaled["gateway"]["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert query == 'sum(trustscale_slots{namespace="default",release="trustscale"})'
    config = of_kind("gpu-pool", "ConfigMap")["config"]["data"]["trustscale.toml"]
    given = tomllib.loads(config)
    pools = {
        one["name"]: WorkerConfig.model_validate(one).slots
        for one in given["upscalers"]
        if one["kind"] == "worker"
    }
    slots = given["max_in_flight"] + sum(pools.values())
    assert 0.5 * slots < float(trigger["metadata"]["threshold"]) < slots
    assert len(pools) == 2
    for name, in_flight in pools.items():  # one gateway's requests use every GPU of the pool
        assert in_flight >= scaled[f"worker-{name}"]["spec"]["maxReplicaCount"]
    for one in scaled.values():
        fallback = one["spec"]["fallback"]
        assert fallback["behavior"] == "currentReplicasIfHigher"
        assert fallback["replicas"] >= max(1, one["spec"]["minReplicaCount"])


@pytest.mark.parametrize("part", ["gateway", "jobs", "workers.sinsr"])
def test_more_than_at_most_is_refused(part):
    with pytest.raises(AssertionError, match=r"replicas.min \(9\) is above replicas.max \(8\)"):
        pods("gpu-pool", "--set", f"{part}.replicas.min=9,{part}.replicas.max=8")


def test_workers_from_zero():
    """Each kind of job that waits asks for a job worker, and one for less than a whole."""
    query = of_kind("gpu-pool", "ScaledObject")["jobs"]["spec"]["triggers"][0]["metadata"]["query"]
    assert set(re.findall(r'kind="(\w+)"', query)) == set(get_args(JobKind))


def test_calls_are_spread_over_workers():
    """A name of workers means each of them, and one that goes is left alone first."""
    service = of_kind("gpu-pool", "Service")["worker-sinsr"]
    assert service["spec"]["clusterIP"] == "None"
    pod = pods("gpu-pool")["worker-sinsr"]
    _, seconds = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
    assert 5 <= int(seconds) < pod["spec"]["terminationGracePeriodSeconds"] - 60


def test_one_tag():
    """What the chart asks for is what a release pushes, and what its compose file asks for."""
    assert document(CHART / "Chart.yaml")["appVersion"] == trustscale_server.__version__
    image = container(pods(DEFAULTS)["gateway"])["image"]
    assert image == f"trustscale-gateway:{trustscale_server.__version__}"
    workflow = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    assert 'VERSION=${GITHUB_REF_NAME#v}" >> "$GITHUB_ENV"' in workflow
    assert "trustscale-${{ matrix.target }}:${{ env.VERSION }}" in workflow
    assert "--tag $(VERSION)" in (ROOT / "Makefile").read_text("utf-8")


LONGER = "max_in_flight = 2\nmax_waiting = 5\nmax_upload_bytes = 104_857_600"


@pytest.mark.parametrize(
    ("settings", "seconds", "megabytes"), [({}, 5 * 120, 32), ({"config": LONGER}, 4 * 120, 100)]
)
def test_the_gateway_answers_before_what_stands_in_front(settings, seconds, megabytes):
    """Time and room follow the settings, in a route and in annotations of an Ingress."""
    route = {"enabled": True, "parentRefs": [{"name": "public"}]}
    size = '{{ include "trustscale.largest" . }}m'
    values = {"requestTimeoutSeconds": 120, "route": route, "ingress.annotations.size": size}
    words = given({**settings, **values})
    annotations = of_kind("many-cpus", "Ingress", *words)["gateway"]["metadata"]["annotations"]
    assert seconds < int(annotations["haproxy.org/timeout-server"].removesuffix("s")) < seconds + 90
    assert megabytes < int(annotations["size"].removesuffix("m")) < 2 * megabytes
    rules = of_kind("many-cpus", "HTTPRoute", *words)["gateway"]["spec"]["rules"]
    timed = {one["path"]["value"]: rule["timeouts"] for rule in rules for one in rule["matches"]}
    assert timed["/v1/admin"] == timed["/v1/jobs"] == {"request": "0s"}
    assert int(timed["/v1"]["request"].removesuffix("s")) > seconds + 300


def _paths(use, kind, *words):
    """The paths that lead in, each with whether it means all below."""
    (made,) = of_kind(use, kind, *words).values()
    if kind == "HTTPRoute":
        assert made["spec"]["hostnames"] == ["upscale.example"]
        matches = [one["path"] for rule in made["spec"]["rules"] for one in rule["matches"]]
        return {one["value"]: one["type"] == "PathPrefix" for one in matches}
    assert made["spec"]["tls"] == [{"hosts": ["upscale.example"], "secretName": "upscale-tls"}]
    (rule,) = made["spec"]["rules"]
    return {each["path"]: each["pathType"] == "Prefix" for each in rule["http"]["paths"]}


WAYS = pytest.mark.parametrize(
    ("use", "kind"), [("many-cpus", "Ingress"), ("gpu-pool", "HTTPRoute")]
)


@WAYS
def test_way_in_below_a_path(use, kind):
    """The setting `path_prefix` leads to the same paths below it, and to no others."""
    words = given({"config": 'path_prefix = "/trust"'})
    assert _paths(use, kind, *words) == {
        f"/trust{path}": is_prefix for path, is_prefix in _paths(use, kind).items()
    }


@WAYS
def test_way_in(use, kind):
    paths = _paths(use, kind)

    def is_open(route):
        return any(
            route == path or (is_prefix and route.startswith(f"{path}/"))
            for path, is_prefix in paths.items()
        )

    def all_of(router):
        for route in router.routes:
            inner = getattr(route, "original_router", None)
            yield from all_of(inner) if inner else [route.path]

    closed = {path for path in all_of(create_app(load_settings())) if not is_open(path)}
    assert closed == {"/metrics", "/healthz", "/readyz", "/{path}"}  # the last: "nothing is here"
