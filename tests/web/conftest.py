"""One browser and two servers for all pages, a fresh context for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.factories import encoded, photo
from tests.missing import not_here
from tests.servers import ServerMissing
from tests.web.admin import MARKUP, Api, truths
from tests.web.browser import ADMIN_KEY, DESKTOP, chromium_program, launched, listen, serving

# A busy machine makes a page slow, not wrong; nothing waits longer than it must.
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)

# Notices go after seconds, which a stalled machine may take between two steps of a test.
LASTING_NOTICES = """{
  const later = window.setTimeout;
  const isNotice = (wait) => wait === 6000 || wait === 12000;
  window.setTimeout = (run, wait, ...rest) => isNotice(wait) ? 0 : later(run, wait, ...rest);
}"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; without one CI fails, and others skip.

    Not for the session: Playwright leaves an event loop running in this thread until it ends, and
    tests of other packages start their own.
    """
    try:
        chromium_program()
    except ServerMissing as missing:
        not_here(missing)
    with sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `trustscale serve` with the embedded upscaler and an open API."""
    with serving(tmp_path_factory.mktemp("site")) as url:
        yield url


@pytest.fixture(scope="session")
def admin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server of `admin_site` lives in."""
    return tmp_path_factory.mktemp("admin-site")


@pytest.fixture(scope="session")
def admin_site(admin_folder: Path) -> Iterator[str]:
    """The address of a server with upscalers that need no model, for the admin's pages."""
    with serving(admin_folder, command=("-m", "tests.web.admin_gateway")) as url:
        yield url


@pytest.fixture(scope="session")
def api(admin_site: str) -> Iterator[Api]:
    """A client of `admin_site` with the admin's key."""
    with Api(admin_site) as api:
        yield api


@pytest.fixture(scope="session")
def made(api: Api) -> str:
    """The id of a calibration of 20 pairs whose names are nasty."""
    files = truths(19, first=200)
    files[f"y/{MARKUP}.png"] = encoded(photo(299, 48, 48))
    return api.made(files, name=f"{MARKUP} streets")


@pytest.fixture(scope="session")
def small(api: Api) -> str:
    """The id of a calibration of three pairs, which trusts nothing at its α."""
    return api.made(truths(3, first=700))


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the consoles of the test's pages have complained of: nothing, in the end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_page(
    browser: Browser, complaints: list[str], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """Opens a path in a context of its own: open_page("/", viewport=PHONE, color_scheme="dark")."""
    contexts = []

    def open_page(path: str, *, url: str = "", **options: Any) -> Page:
        address = url or request.getfixturevalue("site")
        still = {"viewport": DESKTOP, "base_url": address, "reduced_motion": "reduce"}
        context = browser.new_context(**{**still, **options})
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(LASTING_NOTICES)
        contexts.append(context)
        page = context.new_page()
        listen(page, complaints)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def as_admin(open_page: Callable[..., Page], admin_site: str) -> Callable[..., Page]:
    """Opens a path of `admin_site` in a tab that has the admin's key already."""

    def as_admin(path: str, **options: Any) -> Page:
        page = open_page("about:blank", url=admin_site, **options)
        page.add_init_script(f"sessionStorage.setItem('trustscale.key.admin', '{ADMIN_KEY}')")
        page.goto(path)
        return page

    return as_admin


@pytest.fixture(scope="package")
def modules(browser: Browser, admin_site: str) -> Iterator[Page]:
    """A page whose modules tests import; what they leave behind is of no consequence."""
    context = browser.new_context(base_url=admin_site)
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()


@pytest.fixture
def run(modules: Page) -> Callable[..., Any]:
    """Runs a function's body in a page: `at(path)` imports a module, `given` is what it got."""
    source = str(modules.locator("script[type=module]").first.get_attribute("src"))

    def run(body: str, *given: object) -> Any:
        script = f"async ([base, given]) => {{ const at = (path) => import(base + path); {body} }}"
        return modules.evaluate(script, [f"{source.partition('/bundle/')[0]}/js/", list(given)])

    return run
