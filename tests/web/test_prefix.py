"""The service below a path of another site, `/trust/`: a real Caddy strips it, or keeps it."""

import re
import shutil

import httpx
import pytest
from playwright.sync_api import expect

from harness.browser import serving
from harness.servers import ProcessGroup, free_port
from harness.waiting import PATIENCE_S
from tests.missing import not_here
from tests.web.pictures import crop, open_result
from trustscale import Trustscale
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.platform.errors import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.servers]

BELOW = {"TRUSTSCALE_PATH_PREFIX": "/trust"}
CADDYFILE = """{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  {handle} /trust/* {{
    reverse_proxy {upstream}
  }}
  respond "another site" 404
}}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """The address of a service that is told of the path."""
    with serving(tmp_path_factory.mktemp("below"), settings=BELOW) as url:
        yield url


@pytest.fixture(scope="module", params=["handle", "handle_path"], ids=["kept", "stripped"])
def below(request, gateway, tmp_path_factory):
    """The address of the path, which the proxy keeps or strips."""
    if (program := shutil.which("caddy")) is None:
        not_here("caddy is not installed")
    folder, port = tmp_path_factory.mktemp("caddy"), free_port()
    upstream = gateway.removeprefix("http://").rstrip("/")
    text = CADDYFILE.format(port=port, handle=request.param, upstream=upstream)
    (folder / "Caddyfile").write_text(text)
    command = [program, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    environment = {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with ProcessGroup(command, log=folder / "log", env=environment) as group:
        url = f"http://127.0.0.1:{port}/trust"
        group.wait_for(f"{url}/readyz", "caddy")
        yield url


def test_every_address_is_below_it(below):
    """Links, `Location` and what a document refers to are found where they say; so is a job's."""
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        files = {"image": crop()}
        answer = client.post(f"{below}/v1/upscale", files=files)
        links = answer.json()["links"]
        assert links["self"] == answer.headers["content-location"]
        assert len(links) > 4
        for link in links.values():
            assert link.startswith("/trust/v1/results/")
            assert client.get(httpx.URL(below).join(link)).status_code == 200, link

        shared = client.put(httpx.URL(below).join(f"{links['self']}/share"), json={"name": "one"})
        assert shared.json()["path"] == f"/trust/r/{answer.json()['id']}"
        page = client.get(httpx.URL(below).join(shared.json()["path"]))
        preview = re.findall(r'property="og:image" content="([^"]+)"', page.text)[0]
        assert preview.startswith(f"{below}/v1/results/")
        assert client.get(preview).status_code == 200

        headers = {"Prefer": "respond-async"}
        job = client.post(f"{below}/v1/upscale", files=files, headers=headers)
        place = httpx.URL(below).join(job.headers["location"])
        assert place.path.startswith("/trust/v1/jobs/")
        assert client.get(place).json()["id"] == job.json()["id"]

        assert client.get(f"{below}/openapi.json").json()["servers"] == [{"url": "/trust"}]
        for path in ("/", "/wall", "/docs", "/none"):
            page = client.get(f"{below}{path}", headers={"Accept": "text/html"})
            named = re.findall(r'(?:href|src)="(/[^"]*)"', page.text)
            assert named
            for link in named:
                assert link.startswith("/trust/")
                assert client.get(httpx.URL(below).join(link)).status_code == 200, link
        kept = client.get(httpx.URL(below).join(re.findall(r'src="([^"]+)"', page.text)[0]))
        assert "immutable" in kept.headers["cache-control"]


@pytest.mark.parametrize("prefix", ["/v1", "/static", "/r", "trust", "/trust/", "/a b"])
def test_a_prefix_that_cannot_work(prefix, tmp_path):
    """It would be taken for a path of the service, or is none."""
    with pytest.raises((ConfigError, ValueError), match="path_prefix"):
        create_app(Settings(data_dir=tmp_path, path_prefix=prefix))


def test_the_client(below):
    """The address that the Python client is given ends with the path, and jobs end there."""
    with Trustscale(below) as client:
        picture = crop()
        assert client.upscale(picture).image.size == (192, 192)
        assert client.submit(picture).wait().image.size == (192, 192)


def test_the_pages(open_page, below):
    """A picture is enlarged, its address is that of its result, and the wall leads back."""
    page = open_page("/trust/", url=below)
    shown = open_result(page)
    expect(page).to_have_url(f"{below}/r/{shown}")
    page.reload()
    expect(page.locator(f"#canvas[data-shown={shown}]")).to_be_visible()
    page.get_by_role("link", name="Back to the start").click()
    expect(page).to_have_url(f"{below}/")
    page.goto(f"{below}/calibrations")
    expect(page.get_by_role("dialog")).to_be_visible()  # which asks for the admin's key
