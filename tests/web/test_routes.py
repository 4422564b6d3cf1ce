"""What is served of the pages, and the tests of their scripts."""

import re
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.web.files import PAGES, Site
from tests.api.gateway import gateway
from tests.missing import not_here
from tests.servers import ran

PATHS = [(path.replace("{result_id}", "x"), page.name) for page in PAGES for path in page.paths]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a gateway with pages; nothing of it needs the lifespan."""
    return TestClient(gateway(tmp_path_factory.mktemp("web")))


@pytest.mark.parametrize(("path", "name"), PATHS)
def test_every_page_is_served_without_a_key(client, path, name):
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

    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', response.text)
    assert any(link.endswith(f"bundle/{name}.js") for link in links)
    for link in links:
        named = client.get(link)
        assert named.status_code == 200, link
        assert "immutable" in named.headers["cache-control"]


def test_what_browsers_keep(client):
    """304 with the policy again; texts packed, under a tag of their own; old files still served."""
    first = client.get("/")
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    packed = client.get("/", headers={"Accept-Encoding": "gzip, br"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"

    response = client.get("/static/0123/css/base.css")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["css/none.css", "../files.py", "%2e%2e/files.py", ""])
def test_nothing_else_can_be_reached(client, path):
    response = client.get(f"/static/{Site().digest}/{path}")
    assert response.status_code in {404, 405}
    assert response.headers["content-type"] == "application/problem+json"


def test_scripts_are_few_and_readable():
    """All that the first view is sent is below 200 kB; no file of ours is longer than 400 lines."""
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
    response = client.get("/calibrationz", headers={"Accept": accept})
    assert response.status_code == 404
    wanted = "text/html; charset=utf-8" if "html" in accept else "application/problem+json"
    assert response.headers["content-type"] == wanted


def test_pages_can_be_switched_off(tmp_path):
    response = TestClient(gateway(tmp_path, web=False)).get("/")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


UNIT = Path(__file__).parent / "unit"


def test_modules():
    """All of `tests/web/unit`, which `node --test tests/web/unit` runs by itself."""
    node = shutil.which("node")
    if node is None:
        not_here("no node in PATH")
    done = ran(node, "--test", *sorted(UNIT.glob("*.test.js")))
    assert done.returncode == 0, done.stdout[-4000:]
