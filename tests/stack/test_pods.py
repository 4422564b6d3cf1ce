"""The pods of the chart for one node as real containers, by `podman kube play`.

`_told` says in podman's words what it does not read: groups of volumes (`fsGroup`), and probes by
HTTP and TCP, for which it wants curl and nc in the image. It leaves out readiness probes and
`preStop`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.files import rendered
from tests.factories import encoded, photo
from tests.missing import not_here
from tests.servers import ServerMissing, free_port
from tests.stack.engine import Engine
from tests.waiting import block_until

pytestmark = pytest.mark.stack

NAMES = ("redis", "gateway", "jobs")
EVERY_POD = pytest.mark.parametrize("name", NAMES)
NETWORK = "trustscale-pods-test"
GET = "from urllib.request import urlopen; urlopen('http://127.0.0.1:{port}{path}', timeout=4)"


def _found(*kinds: str) -> list[dict[str, Any]]:
    return [one for one in rendered("one-node") if one["kind"] in kinds]


def _owner(name: str) -> dict[str, Any]:
    wanted = f"trustscale-{name}"
    found = _found("Deployment", "StatefulSet")
    (owner,) = (one for one in found if one["metadata"]["name"] == wanted)
    return owner


def _spec(name: str) -> dict[str, Any]:
    return deepcopy(_owner(name)["spec"]["template"]["spec"])


def _told(name: str) -> list[dict[str, Any]]:
    """One pod and what it refers to, as podman reads it."""
    spec = _spec(name)
    (container,) = spec["containers"]
    container["imagePullPolicy"] = "IfNotPresent"
    if container["image"].startswith("trustscale-gateway:"):
        container["image"] = "localhost/trustscale-gateway:local"
    for kind in ("startupProbe", "livenessProbe"):
        probe = container.get(kind, {})
        if asked := probe.pop("httpGet", None):
            (port,) = (p["containerPort"] for p in container["ports"] if p["name"] == asked["port"])
            code = GET.format(port=port, path=asked["path"])
            probe["exec"] = {"command": ["python", "-c", code]}
        if probe.pop("tcpSocket", None):
            probe["exec"] = container["readinessProbe"]["exec"]
    for claim in _owner(name)["spec"].get("volumeClaimTemplates", []):
        volume = claim["metadata"]["name"]
        spec["volumes"].append({"name": volume, "persistentVolumeClaim": {"claimName": volume}})
    claims = []
    for volume in spec["volumes"]:
        if secret := volume.get("secret"):
            secret["defaultMode"] = 0o444  # its group is not that of the pod
        if claimed := volume.get("persistentVolumeClaim"):
            claimed["claimName"] = f"{NETWORK}-{claimed['claimName']}"
            claims.append(_claim(claimed["claimName"], str(spec["securityContext"]["fsGroup"])))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{NETWORK}-{name}"}}
    return [*_found("ConfigMap"), *claims, {**pod, "spec": spec}]


def _claim(name: str, group: str) -> dict[str, Any]:
    owner = {"volume.podman.io/uid": group, "volume.podman.io/gid": group}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "annotations": owner},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


class Pods(Engine):
    """The three pods, in a network in which they find each other by name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        if self.name != "podman":
            pytest.skip("only podman plays the files of Kubernetes")
        self.port = free_port()
        self._folder = folder
        self._secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "trustscale-keys"},
            "stringData": {
                "redis-password": secrets.token_hex(16),
                "admin-keys": secrets.token_hex(32),
                "client-keys": "",
            },
        }

    def up(self) -> None:
        self.call("network", "create", NETWORK)
        for name in NAMES:
            file = self._folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump_all([self._secret, *_told(name)]), "utf-8")
            ports = ["--publish", f"127.0.0.1:{self.port}:8000"] if name == "gateway" else []
            network = f"{NETWORK}:alias=trustscale-{name}"
            self.call("kube", "play", "--network", network, *ports, str(file))

    def down(self) -> None:
        for file in self._folder.iterdir():
            self.call("kube", "down", str(file))
        # What pods share goes last: claims, and what podman makes of configuration.
        made = [f"{NETWORK}-trustscale-blobs", f"{NETWORK}-data"]
        made += [found["metadata"]["name"] for found in _found("ConfigMap")]
        self.call("volume", "rm", "--force", *made)
        self.call("network", "rm", "--force", NETWORK)

    def passes_its_probe(self, name: str) -> bool:
        """Whether the command of the pod's probe, run once, succeeds."""
        try:
            self.call("healthcheck", "run", container(name))
        except AssertionError:
            return False
        return True


def container(name: str) -> str:
    """The name of a pod's container."""
    return f"{NETWORK}-{name}-{name}"


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """All three, started in the order in which they need each other."""
    try:
        found = Pods(tmp_path_factory.mktemp("pods"))
    except ServerMissing as missing:
        not_here(missing)
    try:
        found.up()
        yield found
    finally:
        found.down()


@EVERY_POD
def test_a_pod_is_restricted(pods: Pods, name: str):
    """User, root file system, capabilities, memory and time to stop are those of the manifest."""
    spec, found = _spec(name), pods.inspect(container(name))
    assert found["Config"]["User"].split(":")[0] == str(spec["securityContext"]["runAsUser"])
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["EffectiveCaps"] in ([], None)
    assert "no-new-privileges" in found["HostConfig"]["SecurityOpt"]
    limit = spec["containers"][0]["resources"]["limits"]["memory"]
    assert found["HostConfig"]["Memory"] == int(limit.removesuffix("Gi")) << 30
    assert found["Config"]["StopTimeout"] == spec["terminationGracePeriodSeconds"]


@EVERY_POD
def test_its_probe_answers(pods: Pods, name: str):
    """The pod becomes healthy by the probe of its manifest."""
    block_until(lambda: pods.passes_its_probe(name))


def test_they_work_together(pods: Pods):
    """The gateway answers, and the pod of jobs takes from the shared folder what waits there."""
    with httpx.Client(base_url=f"http://127.0.0.1:{pods.port}", timeout=120) as client:
        picture = {"image": encoded(photo(1000, 32, 32))}
        assert client.post("/v1/upscale", files=picture).status_code == 200
        sent = client.post("/v1/upscale", files=picture, headers={"Prefer": "respond-async"})
        job = sent.raise_for_status().headers["Location"]
        block_until(lambda: client.get(job).json()["state"] == "succeeded")
