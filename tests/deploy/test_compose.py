"""docker-compose.yml: it is valid, it scales, it is hardened, and its settings are settings."""

from __future__ import annotations

import re

import pytest
import yaml

from app.settings import load_settings, unknown_variables
from tests.deploy.files import (
    ROOT,
    SECRETS,
    compose,
    configured,
    filled,
    references,
    run,
    services,
)

SERVICES = services()
OURS = ("gateway", "jobs")
EVERY_SERVICE = pytest.mark.parametrize("name", sorted(SERVICES))


def mounts(name: str) -> dict[str, str]:
    """What lies where in a container: target -> source."""
    mounted = (filled(mount, SECRETS).split(":") for mount in SERVICES[name].get("volumes", []))
    return {target: source for source, target, *_ in mounted}


def environment(name: str) -> dict[str, str]:
    found = SERVICES[name].get("environment", {})
    return {key: filled(value, SECRETS) for key, value in found.items()}


class TestFile:
    def test_compose_accepts_it(self):
        """Docker Compose reads it against its schema and resolves every reference."""
        text = run("docker-compose", "--profile", "*", "config", **SECRETS)
        assert set(yaml.safe_load(text)["services"]) == set(SERVICES)

    def test_the_example_of_the_environment(self):
        """.env.example names exactly what the file refers to, and no secret has a value."""
        lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
        example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        assert set(example) == set(references(compose()))
        for name, value in example.items():
            assert not (re.search("PASSWORD|KEYS", name) and value), name

    def test_what_is_mounted(self):
        """Volumes are declared and used; files are there, apart from the operator's weights."""
        sources = {source for name in SERVICES for source in mounts(name).values()}
        assert {one for one in sources if one[0] not in "./"} == set(compose()["volumes"])
        ours = {one for one in sources if one.startswith("./")} - {"./weights"}
        assert [one for one in ours if not (ROOT / one).exists()] == []


class TestScaling:
    def test_replicas_share_what_they_must(self):
        """Results and uploads lie in a volume that gateways and jobs both see."""
        blobs = {name: environment(name)["TRUSTSCALE_BLOBS"] for name in OURS}
        assert blobs["gateway"] == blobs["jobs"]
        path = blobs["gateway"].removeprefix("file://")
        for name in OURS:
            (source,) = (s for target, s in mounts(name).items() if path.startswith(target + "/"))
            assert source == "data"


class TestSettings:
    @pytest.mark.parametrize("name", OURS)
    def test_the_settings_load(self, name, monkeypatch):
        """File and environment are a configuration on Redis, with keys; nothing is misspelt."""
        assert unknown_variables(environment(name)) == []
        for key, value in environment(name).items():
            monkeypatch.setenv(key, value)
        config = environment(name)["TRUSTSCALE_CONFIG"]
        monkeypatch.setenv("TRUSTSCALE_CONFIG", str(ROOT / mounts(name)[config]))
        settings = load_settings()
        assert settings.store == settings.queue == "redis://:redispassword@redis:6379/0"
        assert not settings.gateway_runs_jobs
        assert [key.get_secret_value() for key in settings.admin_keys] == ["adminkey"]
        assert settings.client_keys == []
        (upscaler,) = settings.upscalers
        assert upscaler.threads == int(SERVICES[name]["deploy"]["resources"]["limits"]["cpus"])

    @pytest.mark.parametrize("name", OURS)
    def test_a_worker_is_an_upscaler(self, name, monkeypatch):
        """With WORKER_MODEL in .env, and nothing else, there is the upscaler `worker` too."""
        configured(monkeypatch)
        address = SERVICES[name]["environment"]["TRUSTSCALE_WORKERS"]
        monkeypatch.setenv("TRUSTSCALE_WORKERS", filled(address, {"WORKER_MODEL": "sinsr"}))
        first, worker = load_settings().upscalers
        assert (first.kind, worker.name, worker.kind) == ("embedded", "worker", "worker")
        host, port = worker.urls[0].removeprefix("http://").split(":")
        assert host == "worker"
        assert SERVICES["cpu-worker"]["networks"]["inside"]["aliases"] == [host]
        for profile in ("worker", "cpu-worker"):
            assert f"--port={port}" in SERVICES[profile]["command"]

    def test_there_is_time_to_finish(self, monkeypatch):
        """A stopped gateway may finish its requests before it is killed."""
        configured(monkeypatch)
        grace = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
        assert grace > load_settings().request_timeout_s

    @EVERY_SERVICE
    def test_secrets_come_from_the_environment(self, name):
        """No password or key is written down; the required ones stop the start if missing."""
        for key, value in SERVICES[name].get("environment", {}).items():
            if re.search("PASSWORD|KEYS|AUTH|SECRET|TOKEN", key) or "redis://" in value:
                assert re.search(r"\$\{\w+(:\?[^}]+|:-)\}", value), key
                assert "pass" not in filled(value, {}), key
        for word in ("REDIS_PASSWORD", "TRUSTSCALE_ADMIN_KEYS"):
            assert f"${{{word}:?" in (ROOT / "docker-compose.yml").read_text("utf-8")


class TestHardening:
    def test_redis_keeps_what_it_is_told(self):
        """Every write goes to a file, and nothing is evicted."""
        lines = (ROOT / "deploy/redis.conf").read_text("utf-8").splitlines()
        options = dict(line.split(maxsplit=1) for line in lines if line and line[0] != "#")
        assert options["appendonly"] == "yes"
        assert options["maxmemory-policy"] == "noeviction"
        assert options["dir"] in mounts("redis")
