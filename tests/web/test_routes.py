"""What is served of the pages, and the tests of their scripts."""

import gzip
import re
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from harness.gateway import gateway
from harness.servers import ran
from tests.missing import not_here
from trustscale_server.web.bundle import linked
from trustscale_server.web.files import PAGES, Site

PATHS = [(path.replace("{result_id}", "x"), page.name) for page in PAGES for path in page.paths]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a gateway with pages."""
    with TestClient(gateway(tmp_path_factory.mktemp("web"))) as client:
        yield client


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
    assert any(link.endswith(f"pages/{name}.js") for link in links)
    assert len(set(links)) <= 6  # all modules are one file
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


def test_the_first_view_is_small(client):
    """All of it, in at most twelve answers, is below 200 kB: page, what it names, the example."""
    text = client.get("/", headers={"Accept-Encoding": "gzip"})
    named = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text.text))
    examples = ("img/first/", "img/examples/")
    site = Site()
    shown = [
        path
        for path in site.static
        if path.startswith(examples) and ("small" in path or "first" in path)
    ]
    paths = {path.split("/", 3)[3] for path in named} | {*shown}
    sent = sum(len((site.static[path].packed or site.static[path]).data) for path in paths)
    api = client.get("/v1/upscalers").content
    assert sent + len(gzip.compress(text.content)) + len(api) < 200_000
    assert len(paths) + 2 <= 12


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('import { b } from "./b.js";', "circle"),
        ("export default 1;", "no import or export"),
        ('import "./b.js";', "no import or export"),
        ("export let a = 1;", "no import or export"),
    ],
)
def test_only_modules_that_can_be_linked(text, problem):
    """Circles and forms that are not known are refused, and never served half understood."""
    texts = {"js/a.js": text, "js/b.js": 'import { a } from "./a.js";\nexport const b = a;'}
    with pytest.raises(ValueError, match=problem):
        linked("js/a.js", texts.__getitem__)


def test_a_linked_script_does_what_its_modules_do(tmp_path):
    """Names of modules stay apart; what is imported later is called later, and all only once."""
    texts = {
        "js/a.js": 'import { b as own, twice } from "./lib/b.js";\nimport * as c from "./c.js";\n'
        "const b = 1;\nprocess.stdout.write([b, own, twice(2), c.d].join());\n"
        'const act = async () => (await import("./late.js")).late;\nact().then(console.log);',
        "js/lib/b.js": "export const b = 2;\nexport async function lost() {}\n"
        "export function twice(x) {\n  return needed(x);\n}\nconst needed = (x) => 2 * x;",
        "js/c.js": 'export { b as d } from "./lib/b.js";process.stdout.write("c");',
        "js/late.js": 'import { b } from "./lib/b.js";\nexport const late = `!${b}`;',
    }
    node = shutil.which("node")
    if node is None:
        not_here("no node in PATH")
    (tmp_path / "a.mjs").write_text(linked("js/a.js", texts.__getitem__))
    assert ran(node, tmp_path / "a.mjs").stdout == "c1,2,4,2!2\n"


def test_scripts_have_no_sinks():
    """No text becomes markup or code."""
    sinks = r"\.(innerHTML|outerHTML)\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function"
    for path, file in Site().static.items():
        if path.endswith((".js", ".css")) and not path.startswith(("js/vendor/", "pages/")):
            assert not re.search(sinks, file.data.decode()), path


@pytest.mark.parametrize("accept", ["text/html,*/*;q=0.8", "*/*"])
def test_an_address_that_leads_nowhere(client, accept):
    response = client.get("/calibrationz", headers={"Accept": accept})
    assert response.status_code == 404
    wanted = "text/html; charset=utf-8" if "html" in accept else "application/problem+json"
    assert response.headers["content-type"] == wanted


def test_pages_can_be_switched_off(tmp_path):
    response = TestClient(gateway(tmp_path, pages=False)).get("/")
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
