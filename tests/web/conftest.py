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
from tests.web.admin import MARKUP, Api, module, truths
from tests.web.browser import DESKTOP, Watched, chromium_program, launched, serving

# A busy machine makes a page slow, not wrong; nothing waits longer than it must.
expect.set_options(timeout=60_000)


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
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server of `site` lives in."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="session")
def site(site_folder: Path) -> Iterator[str]:
    """The address of a real `trustscale serve` with the embedded upscaler and an open API."""
    with serving(site_folder) as url:
        yield url


@pytest.fixture(scope="session")
def admin_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with upscalers that need no model, for the admin's pages."""
    folder = tmp_path_factory.mktemp("admin-site")
    with serving(folder, command=("-m", "tests.web.admin_gateway")) as url:
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


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[..., Watched]]:
    """Opens a path in a context of its own: open_page("/", viewport=PHONE, color_scheme="dark").

    At the end of the test no page may have complained in its console.
    """
    opened: list[Watched] = []

    def open_page(path: str, *, url: str = site, **options) -> Watched:
        still = {"viewport": DESKTOP, "base_url": url, "reduced_motion": "reduce"}
        context = browser.new_context(**{**still, **options})
        context.set_default_timeout(60_000)
        watched = Watched(context.new_page())
        opened.append(watched)
        watched.page.goto(path)
        return watched

    yield open_page
    for watched in opened:
        watched.page.context.close()
    assert not [complaint for watched in opened for complaint in watched.complaints]


@pytest.fixture(scope="package")
def modules(browser: Browser, admin_site: str) -> Iterator[Page]:
    """A page whose modules tests import; what they leave behind is of no consequence."""
    context = browser.new_context(base_url=admin_site)
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()


@pytest.fixture
def run(modules: Page):
    """Runs a function's body in a page: `at(path)` imports a module, `given` is what it got."""

    def run(body: str, *given: object) -> Any:
        address = module(modules)
        script = f"async ([base, given]) => {{ const at = (path) => import(base + path); {body} }}"
        return modules.evaluate(script, [address, list(given)])

    return run


@pytest.fixture
def call(run):
    """Calls a function of a module in a page; what comes back is what JSON can hold."""

    def call(path: str, name: str, *given: object) -> object:
        body = f"return JSON.parse(JSON.stringify(await (await at('{path}')).{name}(...given)));"
        return run(body, *given)

    return call
