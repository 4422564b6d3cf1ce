"""How the pages and their files are served; no browser needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import app.web
from app.web.files import PAGES, Site
from tests.api.gateway import gateway

PATHS = [path.replace("{result_id}", "res-x") for page in PAGES for path in page.paths]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a gateway with pages; nothing of it needs the lifespan."""
    return TestClient(gateway(tmp_path_factory.mktemp("web")))


def static_links(html: str) -> list[str]:
    return re.findall(r'(?:href|src|data-file)="(/static/[^"]+)"', html)


class TestPages:
    @pytest.mark.parametrize("path", PATHS)
    def test_every_page_is_served_without_a_key(self, client, path):
        """HTML, revalidated at every visit, also for who asks for the head alone."""
        response = client.get(path)
        assert response.status_code == client.head(path).status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers.get_list("x-content-type-options") == ["nosniff"]

    @pytest.mark.parametrize("path", PATHS)
    def test_own_files_only(self, client, path):
        """No inline code or style, nothing from elsewhere, no strings that become code."""
        response = client.get(path)
        [policy] = response.headers.get_list("content-security-policy")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "require-trusted-types-for 'script'" in policy
        assert "frame-ancestors 'none'" in policy
        inline = r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*src=)"
        assert not re.search(inline, response.text)

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_what_a_page_names_exists(self, client, page):
        """Every file that the HTML links to is served and kept for ever."""
        links = static_links(client.get(page.paths[0].replace("{result_id}", "x")).text)
        assert any(link.endswith(f"js/{page.name}.js") for link in links)
        for link in links:
            response = client.get(link)
            assert response.status_code == 200, link
            assert "immutable" in response.headers["cache-control"]

    def test_the_navigation_marks_the_page(self, client):
        """One link says where one is."""
        assert client.get("/").text.count('aria-current="page"') == 1

    def test_a_browser_that_has_the_page(self, client):
        """304 without a body, with the policy again."""
        first = client.get("/")
        again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]

    def test_a_browser_that_unpacks(self, client):
        """Texts come packed to whoever takes that, under a tag of their own."""
        plain = client.get("/", headers={"Accept-Encoding": "identity"})
        packed = client.get("/", headers={"Accept-Encoding": "gzip, br"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        assert packed.headers["etag"] != plain.headers["etag"]
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"

    def test_the_first_view_is_small(self):
        """All scripts, styles and fonts together, as they are sent, are below 250 kB."""
        static = Site().static
        sent = [
            len((file.packed or file).data)
            for path, file in static.items()
            if path.startswith(("js/", "css/", "fonts/")) and not path.endswith("txt")
        ]
        assert sum(sent) < 250_000

    def test_the_api_document_does_not_list_them(self, client):
        """OpenAPI describes the API."""
        paths = client.get("/openapi.json").json()["paths"]
        assert not [
            path
            for path in paths
            if not path.startswith(("/v1/", "/healthz", "/readyz")) and path != "/metrics"
        ]


class TestStaticFiles:
    def test_under_another_digest(self, client):
        """A page opened before an upgrade still gets its files, which are not kept."""
        response = client.get("/static/0123/css/base.css")
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-cache"

    @pytest.mark.parametrize("path", ["css/none.css", "../files.py", "%2e%2e/files.py", ""])
    def test_nothing_else_can_be_reached(self, client, path):
        """Only files that were read at the start exist, whatever the path."""
        response = client.get(f"/static/{Site().digest}/{path}")
        assert response.status_code in {404, 405}
        assert response.headers["content-type"] == "application/problem+json"

    def test_the_digest_depends_on_every_byte(self, tmp_path):
        """Another content gets another address."""
        digests = set()
        for text in ("a", "b"):
            (tmp_path / "static").mkdir(exist_ok=True)
            (tmp_path / "static" / "x.css").write_text(text)
            digests.add(Site(tmp_path).digest)
        assert len(digests) == 2

    def test_modules_import_only_what_exists(self):
        """Every relative import of a module leads to a file."""
        static = Site().static
        for path, file in static.items():
            if not path.endswith(".js"):
                continue
            folder = path.rpartition("/")[0]
            for name in re.findall(r'(?:from|import|URL\()\s*"(\.[^"]+)"', file.data.decode()):
                parts = folder.split("/") if folder else []
                for step in name.split("/"):
                    if step == "..":
                        parts.pop()
                    elif step != ".":
                        parts.append(step)
                target = "/".join(parts)
                assert target in static or name.endswith("/"), f"{path} imports {name}"

    def test_no_script_makes_markup_of_text(self):
        """The functions that would are used nowhere in our own modules."""
        sinks = (
            r"\.(innerHTML|outerHTML)\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function"
        )
        for path, file in Site().static.items():
            if path.endswith(".js") and "/vendor/" not in path:
                assert not re.search(sinks, file.data.decode()), path

    def test_modules_stay_readable(self):
        """No script or style sheet of ours is longer than 400 lines."""
        for path, file in Site().static.items():
            if path.endswith((".js", ".css")) and "/vendor/" not in path:
                assert file.data.count(b"\n") <= 400, path


def test_the_pages_know_only_http():
    """Nothing of the service is imported by the pages but its errors."""
    for path in (Path(app.web.__file__).parent).glob("*.py"):
        names = set(re.findall(r"^(?:from|import) (app[\w.]*)", path.read_text(), re.MULTILINE))
        assert names <= {"app.errors", "app.web.files"}, path


def test_pages_can_be_switched_off(tmp_path):
    """Without `web` there is only the API, and / is a problem document."""
    client = TestClient(gateway(tmp_path, web=False))
    response = client.get("/")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
