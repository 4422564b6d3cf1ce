"""One browser per module, one server for most tests, a fresh context for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.missing import not_here
from tests.servers import ServerMissing
from tests.web.admin import Api, module
from tests.web.browser import DESKTOP, Watched, chromium_program, launched, serving

# A busy machine makes a page slow, not wrong; nothing waits longer than it must.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without one CI fails, and others skip.

    Not for the session: Playwright leaves an event loop running in this thread until it ends, and
    tests of other modules start their own.
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


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[..., Watched]]:
    """Opens a path in a context of its own: open_page("/", viewport=PHONE, color_scheme="dark").

    At the end of the test no page may have complained in its console.
    """
    opened: list[Watched] = []

    def open_page(path: str, *, url: str = site, **options) -> Watched:
        context = browser.new_context(**{"viewport": DESKTOP, "base_url": url, **options})
        context.set_default_timeout(60_000)
        watched = Watched(context.new_page())
        opened.append(watched)
        watched.page.goto(path)
        return watched

    yield open_page
    for watched in opened:
        watched.page.context.close()
    assert not [complaint for watched in opened for complaint in watched.complaints]


@pytest.fixture
def call(open_page, admin_site):
    """Calls a function of a module in a page; what comes back is what JSON can hold."""
    watched = open_page("/", url=admin_site)

    def call(path: str, name: str, *arguments: object) -> object:
        return watched.page.evaluate(
            """async ([address, name, given]) =>
                JSON.parse(JSON.stringify(await (await import(address))[name](...given)))""",
            [module(watched, path), name, list(arguments)],
        )

    call.page = watched.page
    call.address = lambda path: module(watched, path)
    return call
