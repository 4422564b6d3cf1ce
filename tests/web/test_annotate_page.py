"""The page for drawing labels, used as an annotator does."""

import re

import pytest
from playwright.sync_api import expect

from harness.browser import AXED, check_screen, fits, touch
from harness.factories import encoded, photo
from tests.web.admin import BASE, MARKUP, truths

pytestmark = [pytest.mark.slow, pytest.mark.servers]

HEIGHT, WIDTH = 96, 126  # the rows of a label do not fill their last byte


def waiting(api, pairs):
    files = truths(pairs - 1, height=HEIGHT, width=WIDTH)
    files[f"y/{MARKUP}.png"] = encoded(photo(99, HEIGHT, WIDTH))
    job = api.create(files, name=MARKUP, fidelity={"metric": "semantic"})
    assert api.ended(job)["state"] == "awaiting_labels"
    return job


@pytest.fixture(scope="module")
def job(api):
    """A job that waits for more labels than the tests draw, each on a pair of its own."""
    return waiting(api, 16)


def desk(as_admin, job, name="", **options):
    """The page of a job, with a pair on it: of this name, or one without a label."""
    page = as_admin(f"/annotate?id={job}", **options)
    expect(page.locator(".items-list [aria-current]")).to_be_visible()
    expect(page.locator(".zoom")).not_to_be_empty()
    if name:
        page.get_by_role("button", name=name, exact=False).click()
        expect(page.locator(".item-name")).to_have_text(name)
    return page


def draw(page, *places, part="prediction"):
    """Drag through places, given as shares of the picture's width and height."""
    canvas = page.locator(f"[data-part={part}] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    left = box["x"] + (box["width"] - scale * WIDTH) / 2
    top = box["y"] + (box["height"] - scale * HEIGHT) / 2
    at = [(left + x * scale * WIDTH, top + y * scale * HEIGHT) for x, y in places]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def saved(page):
    expect(page.locator(".save-state")).to_have_text("Saved")


def test_to_the_end(as_admin, api):
    """Brush, eraser, lasso, undo, keys: what is drawn is what is stored; then a calibration."""
    job = waiting(api, 3)
    page = desk(as_admin, job, "000")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Labels for {MARKUP}")
    expect(page.locator(".items-list li").last).to_contain_text(MARKUP)

    draw(page, (0.25, 0.25), (0.5, 0.5))
    saved(page)
    stroke = api.label(job, "000")
    assert stroke[HEIGHT // 4, WIDTH // 4]
    assert stroke[HEIGHT // 2, WIDTH // 2]
    assert not stroke[: HEIGHT // 8].any()
    assert not stroke[:, 3 * WIDTH // 4 :].any()

    page.keyboard.press("z")
    saved(page)
    assert not api.label(job, "000").any()
    page.keyboard.press("Shift+Z")
    page.keyboard.press("l")
    draw(page, (0.6, 0.1), (0.9, 0.1), (0.9, 0.3), (0.6, 0.3), part="truth")
    saved(page)
    both = api.label(job, "000")
    assert both[stroke].all()
    assert both[
        int(0.12 * HEIGHT) : int(0.28 * HEIGHT), int(0.62 * WIDTH) : int(0.88 * WIDTH)
    ].all()
    page.keyboard.press("e")
    draw(page, (0.75, 0.2))
    saved(page)
    assert not api.label(job, "000")[int(0.2 * HEIGHT), int(0.75 * WIDTH)]

    page.keyboard.press("n")
    expect(page.locator(".item-name")).to_have_text("001")
    page.keyboard.press("x")
    expect(page.locator(".item-name")).to_have_text(MARKUP)
    assert not api.label(job, "001").any()
    expect(page.get_by_role("button", name="Finish…")).to_be_disabled()
    page.get_by_role("button", name="Nothing differs").click()
    expect(page.locator(".tally")).to_have_text("3 of 3 labelled")
    page.get_by_role("button", name="Finish…").click()
    page.get_by_role("dialog").get_by_role("button", name="Make the calibration").click()
    page.wait_for_url("**/calibrations?id=cal-*")
    made = api.get(f"{BASE}/{page.url.partition('id=')[2].partition('&')[0]}")
    assert (made["n"], made["pipeline"]["fidelity"]["metric"]) == (3, "semantic")


@pytest.mark.parametrize("look", AXED, ids=str)
def test_every_screen(as_admin, api, job, look):
    """The desk fits every screen; a stroke moves nothing but the marks, by finger too."""
    page = desk(as_admin, job, **look)
    asked = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    assert [url for url in asked if "prediction.png" in url]
    assert not [url for url in asked if "label.png" in url]
    is_pressed = str("has_touch" in look).lower()
    flicker = page.get_by_role("button", name="Flicker")
    expect(flicker).to_have_attribute("aria-pressed", is_pressed)
    canvas = page.locator("[data-part=prediction] canvas")
    canvas.scroll_into_view_if_needed()
    name = page.locator(".item-name").inner_text()
    before = page.evaluate("scrollY")
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    if "has_touch" in look:
        touch(page, [(x + 3 * k, y + 3 * k) for k in range(8)])
    else:
        draw(page, (0.4, 0.4), (0.6, 0.6))
    saved(page)
    assert page.evaluate("scrollY") == before
    assert api.label(job, name).any()
    check_screen(page, "annotate", look)
    flicker.click()
    caption = page.locator("[data-part=prediction] figcaption")
    expect(page.locator("[data-part=truth]")).to_be_hidden()
    expect(caption).to_have_text("Prediction")
    page.get_by_role("button", name="Swap").click()
    expect(caption).to_have_text("Truth")
    page.keyboard.press("Space")
    expect(caption).to_have_text("Prediction")
    assert fits(page)


def test_nothing_drawn_is_lost(as_admin, api, job, complaints):
    """Going on ends a stroke and keeps it; without a connection marks are kept and saved later."""
    page = desk(as_admin, job)
    name = page.locator(".item-name").inner_text()
    box = page.locator("[data-part=prediction] canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.keyboard.press("j")
    expect(page.locator(".item-name")).not_to_have_text(name)
    page.mouse.up()
    expect(page.locator(".items-list li", has_text=f"{name}, labelled")).to_be_visible()
    assert api.label(job, name).any()

    name = page.locator(".item-name").inner_text()
    page.context.set_offline(True)
    draw(page, (0.5, 0.5))
    expect(page.locator(".save-state")).to_have_text(re.compile("Offline"))
    page.context.set_offline(False)
    saved(page)
    assert api.label(job, name).any()
    assert all("ERR_INTERNET_DISCONNECTED" in text for text in complaints)
    complaints.clear()
