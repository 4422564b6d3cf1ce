"""What browsers are told to do, and not to do, with an answer."""

from __future__ import annotations

import re

import pytest

from tests.api.gateway import ADMIN_KEY, post

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
PATHS = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/upscalers",
    "/v1/results/none",
    "/problems/bad-image",
    "/docs",
    "/docs/style.css",
    "/openapi.json",
    "/no/such/path",
]


def policy(response) -> dict[str, str]:
    """The directives of an answer's Content-Security-Policy."""
    parts = response.headers["content-security-policy"].split("; ")
    return {part.partition(" ")[0]: part.partition(" ")[2] for part in parts}


class TestEveryAnswer:
    @pytest.mark.parametrize("path", PATHS)
    def test_the_fixed_headers(self, client, path):
        """Each stands exactly once, also on errors."""
        response = client.get(path)
        for name, value in ALWAYS.items():
            assert response.headers.get_list(name) == [value]

    @pytest.mark.parametrize("path", PATHS)
    def test_nothing_is_embedded_or_framed(self, client, path):
        """Whatever a page may load, it loads by name, and no page frames another."""
        directives = policy(client.get(path))
        assert directives["default-src"] == "'none'"
        assert directives["frame-ancestors"] == "'none'"
        assert directives["base-uri"] == "'none'"

    def test_a_failure_nobody_expected(self, client, upscaler):
        """A 500 has them too."""
        upscaler.failure = RuntimeError("broken")
        response = post(client)
        assert response.status_code == 500
        assert ALWAYS.items() <= dict(response.headers).items()

    def test_a_body_over_the_limit(self, start):
        """The framework's own 413 has them, and is counted as a problem."""
        client = start(max_upload_bytes=1000)
        response = post(client, b"x" * 200_000)
        assert response.status_code == 413
        assert ALWAYS.items() <= dict(response.headers).items()
        assert (
            'trustscale_problems_total{type="image-too-large"} 1.0' in client.get("/metrics").text
        )


class TestPages:
    def test_a_page_of_a_problem_runs_nothing(self, client):
        """No script, no style, no form."""
        response = client.get("/problems/bad-image")
        assert response.headers["content-type"].startswith("text/html")
        assert policy(response).keys() == {
            "default-src",
            "base-uri",
            "form-action",
            "frame-ancestors",
        }

    def test_the_page_of_the_api_needs_nothing_from_elsewhere(self, client):
        """No script and no style but our own file, so that it works without the internet."""
        response = client.get("/docs")
        assert policy(response)["style-src"] == "'self'"
        assert "script-src" not in policy(response)
        assert "<script" not in response.text
        assert "style=" not in response.text
        assert (
            re.findall(r'(?:src|href)="([^#"][^"]*)"', response.text).count("/docs/style.css") == 1
        )
        assert "://" not in response.text.replace("https://…", "")
        assert client.get("/docs/style.css").headers["content-type"].startswith("text/css")
        assert client.get("/redoc").status_code == 404

    def test_the_plot_may_style_itself(self, client, calibration):
        """Opened as a document it shows its colours, and can do nothing else."""
        response = client.get(
            f"/v1/admin/calibrations/{calibration.id}/plot.svg",
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        )
        assert response.status_code == 200
        assert policy(response)["style-src"] == "'unsafe-inline'"
        assert "sandbox" in policy(response)
        assert "script-src" not in policy(response)


class TestCaching:
    def test_results_are_kept_by_the_client_alone(self, client):
        """The document and the files may be kept for minutes, by no shared cache."""
        links = post(client).json()["links"]
        for link in links.values():
            assert client.get(link).headers["cache-control"] == "private, max-age=300"

    @pytest.mark.parametrize("path", ["/v1/results/none", "/v1/upscalers", "/readyz", "/metrics"])
    def test_what_changes_is_not_kept(self, client, path):
        """Neither is a result that is not there (yet)."""
        assert client.get(path).headers["cache-control"] == "no-store"

    def test_answers_are_not_kept(self, client):
        """An upscaling is answered to one client, once."""
        assert post(client).headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/problems/bad-image"])
    def test_documentation_may_be_kept(self, client, path):
        """It is the same for everybody."""
        assert "cache-control" not in client.get(path).headers
