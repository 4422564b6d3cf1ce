"""Dockerfile: who runs what, from which locked files."""

from __future__ import annotations

import fnmatch
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import ROOT, run

TEXT = (ROOT / "Dockerfile").read_text("utf-8")
LOCKS = ("build", "gateway", "gateway-extras", "worker")


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, by its name."""
    lines = [line for line in TEXT.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            current = found.setdefault(rest.rpartition(" AS ")[2], [])
        current.append((word, rest))
    return found


STAGES = stages()


def all_of(stage: str, word: str) -> list[str]:
    """What an instruction says in a stage and in those it is built from."""
    parent = STAGES[stage][0][1].partition(" ")[0]
    inherited = all_of(parent, word) if parent in STAGES else []
    return inherited + [rest for name, rest in STAGES[stage] if name == word]


def requirements(lock: str) -> dict[str, str]:
    """Name -> version of a lock."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))


class TestDockerfile:
    def test_the_linter_accepts_it(self):
        """hadolint finds nothing."""
        run("hadolint", "Dockerfile")

    def test_installs_are_locked(self):
        """Everything from outside is installed by hash, and the wheel without looking outside."""
        installs = [
            part
            for stage in STAGES.values()
            for word, rest in stage
            if word == "RUN"
            for part in rest.split("&&")
            if re.search(r"\bpip\b.* (install|wheel) ", part)
        ]
        assert installs
        for part in installs:
            assert "--require-hashes" in part or "--no-deps" in part, part


class TestContext:
    def test_only_the_package_reaches_the_build(self):
        """Everything is ignored but what the wheel is made of; secrets and data are not."""
        lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        assert rules[0] == "*"
        kept = {rule[1:] for rule in rules if rule.startswith("!")}
        assert kept.isdisjoint({".env", ".git", ".venv", "tests", "deploy"})
        copied = {
            source
            for stage in STAGES.values()
            for word, rest in stage
            if word == "COPY" and "--from" not in rest
            for source in rest.split()[:-1]
        }
        for source in copied:
            top = source.partition("/")[0]
            assert any(fnmatch.fnmatch(top, name) for name in kept), source


class TestLocks:
    @pytest.mark.parametrize("name", [*LOCKS, "dev"])
    def test_every_release_has_hashes(self, name):
        """Each requirement is one exact release with at least one hash, from no named index."""
        text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
        entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert entries
        for entry in entries:
            assert re.match(r"[a-z0-9-]+==\S+", entry), entry[:60]
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:60]
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text

    def test_the_gateway_has_no_torch(self):
        """The small image carries no GPU libraries; the worker's has torch."""
        assert not {"torch", "torchvision", "triton", "spandrel"} & set(requirements("gateway"))
        assert {"torch", "spandrel", "safetensors"} <= set(requirements("worker"))
        assert any(name.startswith("nvidia-") for name in requirements("worker"))

    def test_torch_is_left_to_pip(self):
        """The lock for tests has no build of torch: which one a machine needs, its pip knows."""
        tied = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")
        assert not [name for name in requirements("dev") if tied.fullmatch(name)]

    def test_the_locks_agree(self):
        """Tests and images have the same release of what they share."""
        gateway = requirements("gateway")
        for other in ("gateway-extras", "worker", "dev"):
            versions = requirements(other)
            shared = set(gateway) & set(versions)
            assert {name: gateway[name] for name in shared} == {n: versions[n] for n in shared}

    def test_every_dependency_is_locked(self):
        """What pyproject.toml asks for is in the lock."""
        document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        project = document["project"]
        installed = re.search(r"--editable '\.\[(.+)\]'", (ROOT / "Makefile").read_text("utf-8"))
        assert installed is not None
        extras = {
            "dev": installed[1].split(","),
            "gateway": ["tracing"],
            "gateway-extras": ["tracing", "credentials"],
            "worker": ["tracing", "worker"],
        }
        for lock, chosen in extras.items():
            asked = [*project["dependencies"]]
            for extra in chosen:
                asked += project["optional-dependencies"][extra]
            if lock == "dev":
                asked += document["dependency-groups"]["dev"]
            names = {canonicalize_name(Requirement(one).name) for one in asked}
            not_in_a_lock = {"torch", "trustscale"} if lock == "dev" else set()
            assert names - not_in_a_lock <= requirements(lock).keys(), lock
