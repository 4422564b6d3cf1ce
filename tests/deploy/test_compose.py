"""docker-compose.yml, the proxy in front, the image, and what a release publishes."""

import re
from importlib import import_module

import pytest
import yaml
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import trustscale_server
from deploy.one_file import one_file
from deploy.release import licences, same_version
from tests.deploy.files import (
    CHART,
    DEPLOY,
    ROOT,
    SECRETS,
    compose,
    configured,
    filled,
    references,
    run,
    services,
)
from trustscale_server.bootstrap.settings import load_settings, unknown_variables
from trustscale_server.http.pairs_form import MAX_ARCHIVE_BYTES
from trustscale_server.monitoring.scoring import MAX_TRUTH_BYTES
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS

SERVICES = services()
OURS = ("gateway", "jobs")


def mounts(name):
    """What lies where in a container: target -> source."""
    mounted = (filled(mount, SECRETS).split(":") for mount in SERVICES[name].get("volumes", []))
    return {target: source for source, target, *_ in mounted}


def environment(name):
    found = SERVICES[name].get("environment", {})
    return {key: filled(value, SECRETS) for key, value in found.items()}


class TestFile:
    def test_compose_accepts_it(self):
        text = run("docker-compose", "--profile", "*", "config", **SECRETS)
        assert set(yaml.safe_load(text)["services"]) == set(SERVICES)

    def test_the_example_of_the_environment(self):
        lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
        example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        assert set(example) == references(compose())
        for name, value in example.items():
            assert not (re.search("PASSWORD|KEYS", name) and value), name


class TestSettings:
    @pytest.mark.parametrize("name", OURS)
    def test_the_settings_load(self, name, monkeypatch):
        """With the secrets that were made, in files; both shipped models, and `auto`, are there."""
        files = {f"{key}_FILE" for key in ("REDIS_PASSWORD", "TRUSTSCALE_ADMIN_KEYS")}
        given = environment(name)
        for key in files:
            assert given.pop(key).startswith("/run/secrets/made/")
            assert "/run/secrets/made" in mounts(name)
        assert unknown_variables(given) == []
        for key, value in given.items():
            monkeypatch.setenv(key, value)
        config = environment(name)["TRUSTSCALE_CONFIG"]
        monkeypatch.setenv("TRUSTSCALE_CONFIG", str(ROOT / mounts(name)[config]))
        settings = load_settings()
        assert settings.store == settings.queue == "redis://:redispassword@redis:6379/0"
        assert not settings.gateway_runs_jobs
        assert [key.get_secret_value() for key in settings.admin_keys] == ["adminkey"]
        assert settings.client_keys == []
        assert {upscaler.model for upscaler in settings.upscalers} == set(SHIPPED_MODELS)
        assert settings.prefers_auto
        for upscaler in settings.upscalers:
            assert upscaler.threads == int(SERVICES[name]["deploy"]["resources"]["limits"]["cpus"])

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_secrets_come_from_the_environment(self, name):
        for key, value in SERVICES[name].get("environment", {}).items():
            if key.endswith("_FILE"):
                assert value.startswith("/run/secrets/made/"), key
            elif value and re.search("PASSWORD|KEYS|AUTH|SECRET|TOKEN|redis://", f"{key}={value}"):
                assert re.search(r"\$\{\w+:-\}", value), key
                assert "pass" not in filled(value, {}), key

    def test_secrets_are_made_once(self, tmp_path):
        """What `.env` lacks is made at the first start and stays; what it has is taken over."""
        (*shell, script) = SERVICES["secrets"]["entrypoint"]
        assert "/run/secrets/made" in mounts("secrets")
        script = script.replace("$$", "$").replace("/run/secrets/made", str(tmp_path))

        def start(**given):
            nothing = dict.fromkeys(SERVICES["secrets"]["environment"], "")
            run(*shell, script, **{**nothing, **given})
            for path in tmp_path.iterdir():
                assert path.stat().st_mode & 0o777 == 0o444
            return {path.name: path.read_text().strip() for path in tmp_path.iterdir()}

        made = start()
        assert set(made) == {"redis_password", "admin_keys"}
        assert len(set(made.values())) == 2
        for value in made.values():
            assert re.fullmatch("[0-9a-f]{64}", value)
        assert start() == made
        own = start(TRUSTSCALE_ADMIN_KEYS="ops:$own key")
        assert own == {**made, "admin_keys": "ops:$own key"}
        assert start() == own

    @pytest.mark.parametrize("given", ["", "own"])
    def test_redis_waits_for_its_password(self, tmp_path, given):
        """It starts with the file that was made, once that has what `.env` says."""
        shell = [*SERVICES["redis"]["command"]]
        script = shell.pop().replace("$$", "$").replace("/tmp/password", f"{tmp_path}/password")
        begin, _, _ = script.replace("/run/secrets/made", str(tmp_path)).partition("&& unset")
        file = tmp_path / "redis_password"
        file.write_text("before\n" if given else "", "utf-8")
        later = f"sleep() {{ echo {given or 'made'} > {file}; }}; "
        run(*shell, later + begin, REDIS_PASSWORD=given, REDIS_PASSWORD_FILE=str(file))
        assert (tmp_path / "password.conf").read_text() == f"requirepass {given or 'made'}\n"

    def test_keys_of_others_come_through_env(self, tmp_path):
        """Gateways and job workers get every line of `.env`, but the password of Grafana."""
        lines = {**SECRETS, "REPLICATE_API_TOKEN": "r8", "AWS_SECRET_ACCESS_KEY": "s3"}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (tmp_path / ".env").write_text(text, "utf-8")
        words = ("--project-directory", tmp_path, "--profile", "*", "config")
        found = yaml.safe_load(run("docker-compose", "--file", ROOT / "docker-compose.yml", *words))
        for name, service in found["services"].items():
            seen = {key: service.get("environment", {}).get(key) for key in lines}
            own = {"REPLICATE_API_TOKEN": "r8", "AWS_SECRET_ACCESS_KEY": "s3"}
            assert (seen.items() >= own.items()) == (name in OURS), name
            assert not seen["GRAFANA_ADMIN_PASSWORD"], name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nobody_is_root(name):
    """What serves has a user of its own, here or in its image; root only gives a volume away."""
    service = SERVICES[name]
    if name in {"proxy-volumes", "secrets"}:
        assert service["network_mode"] == "none"
        assert service.get("cap_add", []) == (["CHOWN"] if name == "proxy-volumes" else [])
        return
    assert "cap_add" not in service
    assert service["cap_drop"] == ["ALL"]
    # Images of ours, Prometheus, Grafana and Jaeger name one.
    assert service.get("user", "10001:10001") != "0:0"
    assert ("user" in service) == (name in {"proxy", "redis"})


def test_one_version_and_known_licences():
    assert same_version(ROOT) == trustscale_server.__version__
    licences(ROOT)


def test_workflows_are_valid():
    workflows = sorted((ROOT / ".github/workflows").iterdir())
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


def test_one_file_needs_nothing_beside_it(tmp_path):
    document = one_file("ghcr.io/owner/", "v1.2.3")
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(document), "utf-8")
    seen = run("docker-compose", "--file", tmp_path / "compose.yaml", "config", **SECRETS)
    assert "ghcr.io/owner/trustscale-gateway:v1.2.3" in seen
    for service in document["services"].values():
        for volume in service["volumes"]:
            assert not volume.startswith("./"), volume
    for config, content in yaml.safe_load(seen)["configs"].items():
        assert content["content"].strip(), config


CADDYFILE = DEPLOY / "Caddyfile"
TEXT = CADDYFILE.read_text("utf-8")
UNITS = {"MiB": 1024**2, "GiB": 1024**3, "s": 1, "m": 60}


def value(name, after=""):
    """The number that an option is set to, in bytes or seconds; the first one after a text."""
    found = re.search(rf"{name} (\d+)(\w+)$", TEXT[TEXT.index(after) :], re.MULTILINE)
    return int(found.group(1)) * UNITS[found.group(2)]


def test_caddy_accepts_it():
    output = run("caddy", "validate", "--adapter", "caddyfile", "--config", CADDYFILE)
    assert "Valid configuration" in output
    assert re.search(r"@internal path /metrics\n\s*respond @internal 404", TEXT)


def test_the_gateway_answers(monkeypatch):
    """The limits of proxy and engine are above the gateway's, which answers with a problem."""
    configured(monkeypatch)
    settings = load_settings()
    grace = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.request_timeout_s
    assert settings.max_upload_bytes < value("max_size", "request_body @public") < 2 * 32 * 1024**2
    assert value("max_size", "request_body @admin") > MAX_ARCHIVE_BYTES
    assert value("max_size", "request_body @truth") > MAX_TRUTH_BYTES
    slowest = (settings.max_waiting / settings.max_in_flight + 1) * settings.request_timeout_s
    assert slowest < value("response_header_timeout")


@pytest.mark.parametrize("file", [ROOT / "docker-compose.yml", CHART / "values.yaml"])
@pytest.mark.parametrize(
    ("forwarded", "client"),
    [("203.0.113.7", "203.0.113.7"), ("198.51.100.1, 203.0.113.7, 10.0.0.3", "203.0.113.7")],
    ids=["of one proxy", "made up by the client"],
)
async def test_whose_word_on_the_address_counts(file, forwarded, client):
    trusted = re.search(r"(?:FORWARDED_ALLOW_IPS|trustedProxies): (\S+)\n", file.read_text("utf-8"))
    seen = []

    async def gateway(scope, *_):
        seen.append(scope["client"][0])

    scope = {
        "type": "http",
        "scheme": "http",
        "client": ("172.18.0.2", 40000),
        "headers": [(b"x-forwarded-for", forwarded.encode())],
    }
    await ProxyHeadersMiddleware(gateway, trusted[1])(scope, None, None)
    assert seen == [client]


def locked(lock):
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))


def test_the_linter_accepts_it_and_its_imports_are_there():
    run("hadolint", "Dockerfile")
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    runs = re.findall(r"^RUN (.*)$", re.sub(r"\\\n\s*", "", text), re.MULTILINE)
    parts = [part for run_ in runs for part in run_.split("&&")]
    installs = [part for part in parts if re.search(r"\bpip\b.* (install|wheel) ", part)]
    assert installs
    for part in installs:
        assert "--require-hashes" in part or "--no-deps" in part, part
    imports = re.findall(r"from (trustscale_server[\w.]+) import ([\w, ]+);", text)
    assert imports
    for module, names in imports:
        assert set(names.split(", ")) <= set(dir(import_module(module))), module


class TestLocks:
    @pytest.mark.parametrize("name", ["build", "gateway", "gateway-extras", "worker", "dev"])
    def test_every_release_has_hashes(self, name):
        text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
        entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert entries
        for entry in entries:
            assert re.match(r"[a-z0-9-]+==\S+", entry), entry[:60]
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:60]
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text

    def test_the_locks_agree(self):
        gateway = locked("gateway")
        for other in ("gateway-extras", "worker", "dev"):
            versions = locked(other)
            shared = set(gateway) & set(versions)
            assert {name: gateway[name] for name in shared} == {n: versions[n] for n in shared}
