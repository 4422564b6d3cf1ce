"""The reverse proxy lets through what the service takes, and waits as long as it may need."""

from __future__ import annotations

import re

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.api.made import MAX_ARCHIVE_BYTES
from app.settings import load_settings
from app.watch.truth import MAX_TRUTH_BYTES
from tests.deploy.files import CHART, DEPLOY, ROOT, configured, run

CADDYFILE = DEPLOY / "Caddyfile"
TEXT = CADDYFILE.read_text("utf-8")
UNITS = {"MiB": 1024**2, "GiB": 1024**3, "s": 1, "m": 60}


def value(name: str, after: str = "") -> float:
    """The number that an option is set to, in bytes or seconds; the first one after a text."""
    found = re.search(rf"{name} (\d+)(\w+)$", TEXT[TEXT.index(after) :], re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * UNITS[found.group(2)]


@pytest.fixture
def settings(monkeypatch):
    """Of the compose stack."""
    configured(monkeypatch)
    return load_settings()


def test_caddy_accepts_it():
    """The file is a valid configuration."""
    output = run("caddy", "validate", "--adapter", "caddyfile", "--config", CADDYFILE)
    assert "Valid configuration" in output


def test_uploads_reach_the_gateway(settings):
    """The proxy's limits lie above the gateway's, which answers with a problem document."""
    assert settings.max_upload_bytes < value("max_size", "request_body @public") < 2 * 32 * 1024**2
    assert value("max_size", "request_body @admin") > MAX_ARCHIVE_BYTES
    assert value("max_size", "request_body @truth") > MAX_TRUTH_BYTES


def test_the_proxy_waits_for_the_answer(settings):
    """The slowest request that the gateway accepts is answered by the gateway."""
    slowest = (settings.max_waiting / settings.max_in_flight + 1) * settings.request_timeout_s
    assert slowest < value("response_header_timeout")


def test_metrics_stay_inside():
    """Nobody outside reads them."""
    assert re.search(r"@internal path /metrics\n\s*respond @internal 404", TEXT)


def test_all_replicas_are_found():
    """Upstreams are looked up by the service's name, again and again."""
    block = TEXT[TEXT.index("dynamic a {") :]
    assert re.search(r"name gateway\n\s*port 8000\n\s*refresh 5s", block)
    assert "lb_policy least_conn" in TEXT


@pytest.mark.parametrize("file", [ROOT / "docker-compose.yml", CHART / "values.yaml"])
@pytest.mark.parametrize(
    ("forwarded", "client"),
    [("203.0.113.7", "203.0.113.7"), ("198.51.100.1, 203.0.113.7, 10.0.0.3", "203.0.113.7")],
    ids=["of one proxy", "made up by the client"],
)
async def test_whose_word_on_the_address_counts(file, forwarded, client):
    """The address of a client is the last public one, whatever it sends itself."""
    trusted = re.search(r"(?:FORWARDED_ALLOW_IPS|trustedProxies): (\S+)\n", file.read_text("utf-8"))
    assert trusted is not None
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
