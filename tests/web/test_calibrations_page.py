"""Finished calibrations: the list, one in detail, used as an admin uses them."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.web.admin import MARKUP, truths
from tests.web.browser import AXED, barriers, check_screen

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def test_charts_and_pictures(as_admin, api, made):
    """Curves are read by pointer, keys and table; pairs have pictures."""
    page = as_admin(f"/calibrations?id={made}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{MARKUP} streets")
    expect(page.locator(".dominant")).to_have_count(5)
    expect(page.locator(".picture img")).to_have_count(15)
    risk = page.locator("figure.chart", has_text="Error by score")
    risk.locator("svg").hover(position={"x": 200, "y": 100})
    expect(risk.locator(".chart-readout")).to_contain_text("Largest error, on average: 0.")
    risk.locator("svg").press("End")
    expect(risk.get_by_role("status")).to_contain_text("Largest error, on average")
    backtest = page.locator("figure.chart", has_text="Tried out")
    backtest.get_by_role("button", name="Table").click()
    # All tabled α, none of them below B/(n+1) = 0.024; and the origin of the dashed line.
    expect(backtest.locator("tbody tr")).to_have_count(10)
    expect(page.locator(".tile", has_text="Calls per picture")).to_contain_text("4")

    page.get_by_text("20 pairs by name").click()
    expect(page.get_by_role("rowheader", name=MARKUP, exact=True)).to_be_visible()
    page.locator(".picture button").first.click()
    expect(page.get_by_role("dialog").locator("img")).to_be_visible()
    page.keyboard.press("Escape")
    assert barriers(page) == []


@pytest.mark.parametrize("look", AXED, ids=str)
def test_every_screen(as_admin, api, made, look):
    """List, form and detail fit every screen, and ask for nothing in vain."""
    page, missing = as_admin("/healthz", **look), []
    page.on("response", lambda one: one.status == 404 and missing.append(one.url))
    for name, query, seen in (
        ("list", "", ".pipeline:not(:empty)"),
        ("new", "?new", "#cost"),
        ("detail", f"?id={made}", "figure.chart svg"),
    ):
        page.goto(f"/calibrations{query}")
        expect(page.locator(seen).first).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        check_screen(page, f"calibrations-{name}", look)
    assert missing == []


def test_worse_needs_force(as_admin, small):
    """Worse is said in amber, trusting nothing beside the button; a refusal is insisted on."""
    page = as_admin(f"/calibrations?id={small}")
    expect(page.locator(".nothing-trusted")).to_contain_text("trusts nothing at the error")
    asked = []

    def refuse(route):
        asked.append(route.request.post_data)
        conflict = {"type": "/problems/conflict", "detail": "It trusts 0 % instead of 50 %."}
        if "force" in str(route.request.post_data):
            route.fulfill(json={"upscaler": "fast", "calibration": small, "previous": None})
        else:
            route.fulfill(status=409, json=conflict)

    page.route("**/activate", refuse)
    page.get_by_role("button", name="Activate").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#changes.warn")).to_contain_text("Trusted at an error of 0.1")
    dialog.get_by_role("button", name="Activate").click()
    expect(dialog).to_contain_text("It trusts 0 % instead of 50 %.")
    dialog.get_by_role("button", name="Activate anyway").click()
    expect(page.locator(".toast")).to_contain_text("is active now")
    assert json.loads(asked[1]) == {"force": True}


def test_exported_deleted_imported(as_admin, api):
    """A calibration leaves as a file and comes back as the same; its pictures do not."""
    made = api.made(truths(3, first=400), default_alpha=0.8)
    page = as_admin(f"/calibrations?id={made}")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export").click()
    assert saved.value.suggested_filename == f"{made}.calibration"
    kept = saved.value.path()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/calibrations")
    expect(page.locator("tr[data-id]").first).to_be_visible()
    expect(page.locator(f"tr[data-id='{made}']")).to_have_count(0)
    page.get_by_label("Calibration file").set_input_files(kept)
    expect(page.locator(f"tr[data-id='{made}']")).to_be_visible()
    page.goto(f"/calibrations?id={made}")
    expect(page.get_by_text("Pictures of the pairs are not kept")).to_be_visible()

    page.goto(f"/calibrations?id={api.active()}")
    delete = page.get_by_role("button", name="Delete")
    expect(delete).to_be_disabled()
    expect(delete).to_have_accessible_description(re.compile("activate another one first"))
