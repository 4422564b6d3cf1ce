"""How the pages and their files are served; no browser needed."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from app.web import bundle
from app.web.files import PAGES, Site
from tests.api.gateway import gateway

PATHS = [path.replace("{result_id}", "res-x") for page in PAGES for path in page.paths]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a gateway with pages; nothing of it needs the lifespan."""
    return TestClient(gateway(tmp_path_factory.mktemp("web")))


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_served_without_a_key(client, path):
    """Revalidated at every visit; own files only: no inline code, nothing from elsewhere."""
    response = client.get(path)
    assert response.status_code == client.head(path).status_code == 200
    headers = response.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    [policy] = headers.get_list("content-security-policy")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy
    inline = r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*src=)"
    assert not re.search(inline, response.text)
    assert response.text.count('aria-current="page"') == 1  # the navigation says where one is


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(client, page):
    """Every file that the HTML links to is served and kept for ever."""
    html = client.get(page.paths[0].replace("{result_id}", "x")).text
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', html)
    assert any(link.endswith(f"bundle/{page.name}.js") for link in links)
    for link in links:
        response = client.get(link)
        assert response.status_code == 200, link
        assert "immutable" in response.headers["cache-control"]


def test_a_browser_that_has_the_page(client):
    """304 without a body, with the policy again."""
    first = client.get("/")
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


def test_a_browser_that_unpacks(client):
    """Texts come packed to whoever takes that, under a tag of their own."""
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    packed = client.get("/", headers={"Accept-Encoding": "gzip, br"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"


def test_under_another_digest(client):
    """A page opened before an upgrade still gets its files, which are not kept."""
    response = client.get("/static/0123/css/base.css")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["css/none.css", "../files.py", "%2e%2e/files.py", ""])
def test_nothing_else_can_be_reached(client, path):
    """Only files that were read at the start exist, whatever the path."""
    response = client.get(f"/static/{Site().digest}/{path}")
    assert response.status_code in {404, 405}
    assert response.headers["content-type"] == "application/problem+json"


def test_the_digest_depends_on_every_byte(tmp_path):
    """Another content gets another address."""
    (tmp_path / "static").mkdir()
    digests = set()
    for text in ("a", "b"):
        (tmp_path / "static" / "x.css").write_text(text)
        digests.add(Site(tmp_path).digest)
    assert len(digests) == 2


def test_scripts_are_few_and_readable():
    """All that the first view is sent is below 200 kB; no file of ours is longer than 400 lines.

    None of our modules makes markup of text.
    """
    sinks = r"\.(innerHTML|outerHTML)\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function"
    sent = 0
    first = ("bundle/upscale", "bundle/worker", "fonts/", "img/first/", "img/icon", "js/theme.js")
    for path, file in Site().static.items():
        if path.startswith(first) and not path.endswith("txt"):
            sent += len((file.packed or file).data)
        if path.endswith((".js", ".css")) and not path.startswith(("bundle/", "js/vendor/")):
            assert file.data.count(b"\n") <= 400, path
            assert not re.search(sinks, file.data.decode()), path
    assert sent < 195_000  # beside it the page itself, three thumbnails and the API's answer


@pytest.mark.parametrize("accept", ["text/html,*/*;q=0.8", "*/*"])
def test_an_address_that_leads_nowhere(client, accept):
    """A person gets a page, a program a problem document."""
    response = client.get("/calibrationz", headers={"Accept": accept})
    assert response.status_code == 404
    wanted = "text/html; charset=utf-8" if "html" in accept else "application/problem+json"
    assert response.headers["content-type"] == wanted


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"a.js": 'import { b } from "./b.js";', "b.js": 'import { a } from "./a.js";'}, "circle"),
        ({"a.js": "export default 1;"}, "export default"),
        ({"a.js": "export let changing = 1;"}, "export let"),
    ],
)
def test_what_cannot_be_bundled(texts, said):
    """A bundle that would mean something else than its modules is not made."""
    with pytest.raises(bundle.NotBundled, match=said):
        bundle.script("a.js", texts)


def test_pages_can_be_switched_off(tmp_path):
    """Without `web` there is only the API, and / is a problem document."""
    response = TestClient(gateway(tmp_path, web=False)).get("/")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
