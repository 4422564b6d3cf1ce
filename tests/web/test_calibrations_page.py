"""The studio and a finished calibration in detail, used as an admin does."""

import pytest
from playwright.sync_api import expect

from harness.browser import AXED, barriers, check_screen
from tests.web.admin import MARKUP

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def test_charts_and_pictures(as_admin, api, made):
    """Curves have their figures as tables; photographs with the largest errors are seen."""
    page = as_admin(f"/calibrations?id={made}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{MARKUP} streets")
    expect(page.locator(".dominant")).to_have_count(5)
    expect(page.locator(".picture img")).to_have_count(15)
    backtest = page.locator("figure.chart", has_text="Tried out")
    backtest.get_by_text("Figures").click()
    found = api.get(f"/v1/admin/calibrations/{made}")
    rows = [row for row in found["report"]["rows"] if row["alpha"] >= found["min_alpha"]]
    expect(backtest.locator("tbody tr")).to_have_count(len(rows))
    expect(page.locator(".tile", has_text="Calls per picture")).to_contain_text("4")
    large = page.locator(".picture a").first
    assert str(large.get_attribute("href")).startswith("blob:")
    assert barriers(page) == []


@pytest.mark.parametrize("look", AXED, ids=str)
def test_every_screen(as_admin, api, made, look):
    """Home, wizard, detail, before and after fit every screen, and ask for nothing in vain."""
    page, missing = as_admin("/healthz", **look), []
    page.on("response", lambda one: one.status == 404 and missing.append(one.url))
    for name, query, seen in (
        ("home", "", ".pipeline:not(:empty)"),
        ("new", "?new", ".drop-zone"),
        ("detail", f"?id={made}", "figure.chart svg"),
        ("trial", f"?id={made}&try", ".side canvas >> nth=2"),
    ):
        page.goto(f"/calibrations{query}")
        expect(page.locator(seen).first).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        check_screen(page, f"studio-{name}", look)
    assert missing == []
