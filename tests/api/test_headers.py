"""What browsers are told to do, and not to do, with an answer."""

from __future__ import annotations

import re

from tests.api.gateway import post

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
# The same for everybody, so it may be kept.
DOCUMENTATION = ("/docs", "/docs/style.css", "/openapi.json", "/problems/bad-image")
PATHS = (*DOCUMENTATION, "/healthz", "/v1/upscalers", "/v1/results/none", "/no/such/path")


def policy(response) -> dict[str, str]:
    """The directives of an answer's Content-Security-Policy."""
    parts = response.headers["content-security-policy"].split("; ")
    return {part.partition(" ")[0]: part.partition(" ")[2] for part in parts}


def test_the_fixed_headers(client, upscaler):
    """Each stands exactly once, also on errors; what a page may load it loads by name."""
    answers = {path: client.get(path) for path in PATHS}
    upscaler.failure = RuntimeError("broken")
    answers["/v1/upscale"] = post(client)
    assert answers["/v1/upscale"].status_code == 500
    for path, response in answers.items():
        for name, value in ALWAYS.items():
            assert response.headers.get_list(name) == [value]
        directives = policy(response)
        for name in ("default-src", "frame-ancestors", "base-uri"):
            assert directives[name] == "'none'"
        kept = None if path in DOCUMENTATION else "no-store"
        assert response.headers.get("cache-control") == kept


def test_the_list_of_upscalers_is_packed(client):
    """By gzip for whoever takes that: it is the same document, and most of a page's first view."""
    plain, packed = (
        client.get("/v1/upscalers", headers={"Accept-Encoding": one})
        for one in ("identity", "gzip")
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json() != []


def test_a_body_over_the_limit(start):
    """The framework's own 413 has them, and is counted as a problem."""
    client = start(max_upload_bytes=1000)
    response = post(client, b"x" * 200_000)
    assert response.status_code == 413
    assert ALWAYS.items() <= dict(response.headers).items()
    assert 'trustscale_problems_total{type="image-too-large"} 1.0' in client.get("/metrics").text


def test_a_page_of_a_problem_runs_nothing(client):
    """No script, no style, no form."""
    response = client.get("/problems/bad-image")
    allowed = {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert policy(response).keys() == allowed


def test_the_page_of_the_api_needs_nothing_from_elsewhere(client):
    """Its scripts, styles and icon are files of this service, and nothing else may run."""
    response = client.get("/docs")
    assert policy(response)["style-src"] == policy(response)["script-src"] == "'self'"
    sources = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert len(sources) == 4
    assert all(source.startswith(("/swagger/", "/docs/")) for source in sources)
    assert all(client.get(source).status_code == 200 for source in sources)
    assert client.get("/redoc").status_code == 404
