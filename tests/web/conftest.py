"""One browser and two servers for all pages, a fresh context for each test."""

import pytest
from playwright.sync_api import expect, sync_playwright

from harness.browser import ADMIN_KEY, DESKTOP, chromium_program, launched, listen, serving
from harness.factories import encoded, photo
from tests.missing import needed
from tests.web.admin import MARKUP, Api, truths

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
def browser():
    """Chromium; without one CI fails, and others skip.

    Not for the session: Playwright leaves an event loop running in this thread until it ends, and
    tests of other packages start their own.
    """
    with needed():
        chromium_program()
    with sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The address of a real `trustscale serve` with the embedded upscaler and an open API."""
    with serving(tmp_path_factory.mktemp("site")) as url:
        yield url


@pytest.fixture(scope="session")
def admin_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("admin-site")


@pytest.fixture(scope="session")
def admin_site(admin_folder):
    """The address of a server with upscalers that need no model, for the admin's pages."""
    with serving(admin_folder, command=("-m", "tests.web.admin_gateway")) as url:
        yield url


@pytest.fixture(scope="session")
def api(admin_site):
    with Api(admin_site) as api:
        yield api


@pytest.fixture(scope="session")
def made(api):
    files = truths(19, first=200)
    files[f"y/{MARKUP}.png"] = encoded(photo(299, 48, 48))
    return api.made(files, name=f"{MARKUP} streets")


@pytest.fixture
def complaints():
    """What the consoles of the test's pages have complained of: nothing, in the end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_page(browser, complaints, request):
    """Opens a path in a context of its own: open_page("/", viewport=PHONE, color_scheme="dark")."""
    contexts = []

    def open_page(path, *, url="", **options):
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
def as_admin(open_page, admin_site):
    """Opens a path of `admin_site` in a tab that has the admin's key already."""

    def as_admin(path, **options):
        page = open_page("about:blank", url=admin_site, **options)
        page.add_init_script(f"sessionStorage.setItem('trustscale.key.admin', '{ADMIN_KEY}')")
        page.goto(path)
        return page

    return as_admin
