"""The page for drawing labels, used by one annotator and by two."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.factories import encoded, photo
from tests.web.admin import BASE, MARKUP, Api, signed_in, truths
from tests.web.browser import LOOKS, PHONE, Watched, barriers, check_screen, touch

pytestmark = [pytest.mark.slow, pytest.mark.servers]

HEIGHT, WIDTH = 96, 128


def waiting(api: Api, pairs: int) -> str:
    """The id of a job that waits for the labels of its pairs."""
    files = truths(pairs - 1, height=HEIGHT, width=WIDTH)
    files[f"y/{MARKUP}.png"] = encoded(photo(99, HEIGHT, WIDTH))
    job = api.create(files, name=MARKUP, fidelity={"metric": "semantic"})
    assert api.ended(job)["state"] == "awaiting_labels"
    return job


@pytest.fixture
def job(api) -> str:
    """A job of three pairs that waits for its labels."""
    return waiting(api, 3)


def desk(open_page, url: str, job: str, **options) -> Watched:
    """The page of a job, with its first pair on it."""
    watched = signed_in(open_page, url, f"/annotate?id={job}", **options)
    expect(watched.page.locator(".items-list [aria-current]")).to_be_visible()
    expect(watched.page.locator(".zoom")).not_to_be_empty()
    return watched


def draw(page: Page, *places: tuple[float, float], part: str = "prediction") -> None:
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


def look_away(page: Page) -> None:
    """The page takes itself for hidden, and does not see by itself what others draw."""
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true })")


def saved(page: Page) -> None:
    expect(page.locator(".save-state")).to_have_text("Saved")


def disk(x: float, y: float, size: float) -> np.ndarray:
    """The pixels whose centres lie within a round brush."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (rows - y) ** 2 + (columns - x) ** 2 <= (size / 2) ** 2


class TestOneAnnotator:
    def test_to_the_end(self, open_page, admin_site, api: Api, job):
        """Brush, eraser, lasso, undo, keys: what is drawn is what is stored; then a calibration."""
        watched = desk(open_page, admin_site, job)
        page = watched.page
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Labels for {MARKUP}")
        expect(page.locator(".items-list li").last).to_contain_text(MARKUP)
        page.get_by_role("button", name="000", exact=False).click()
        expect(page.locator(".item-name")).to_have_text("000")

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
        corners = [(0.6, 0.1), (0.9, 0.1), (0.9, 0.3), (0.6, 0.3)]
        draw(page, *corners, part="truth")
        saved(page)
        both = api.label(job, "000")
        assert both[stroke].all()
        area = np.mgrid[:HEIGHT, :WIDTH]
        inside = (area[0] > 0.12 * HEIGHT) & (area[0] < 0.28 * HEIGHT)
        inside &= (area[1] > 0.62 * WIDTH) & (area[1] < 0.88 * WIDTH)
        assert both[inside].all()
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
        made = api.get(f"{BASE}/{page.url.rpartition('=')[2]}")
        assert (made["n"], made["pipeline"]["fidelity"]["metric"]) == (3, "semantic")

    def test_keyboard_alone(self, open_page, admin_site, api: Api, job):
        """The brush is moved by the arrow keys and draws a disk exactly where it stands."""
        page = desk(open_page, admin_site, job).page
        page.get_by_role("button", name="000", exact=False).press("Enter")
        expect(page.locator(".item-name")).to_have_text("000")
        page.get_by_label("Brush size in pixels").fill("10")
        canvas = page.locator("[data-part=prediction] canvas")
        canvas.focus()
        for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "Enter"):
            page.keyboard.press(key)
        saved(page)
        expected = disk(WIDTH / 2 - 10, HEIGHT / 2 - 5, 10)
        assert np.array_equal(api.label(job, "000"), expected)

    def test_zoom_is_shared(self, open_page, admin_site, api: Api, job):
        """Zoomed and moved on one picture, a mark lands at the same pixels on both."""
        watched = desk(open_page, admin_site, job)
        page = watched.page
        page.get_by_role("button", name="001", exact=False).click()
        expect(page.locator(".item-name")).to_have_text("001")
        page.get_by_label("Brush size in pixels").fill("1")
        truth, prediction = (
            page.locator(f"[data-part={part}] canvas") for part in ("truth", "prediction")
        )
        truth.hover(position={"x": 100, "y": 120})
        for _ in range(6):
            page.mouse.wheel(0, -300)
        place = page.locator(".place")
        truth.hover(position={"x": 140, "y": 130})
        expect(place).not_to_be_empty()
        there = place.inner_text()
        prediction.hover(position={"x": 140, "y": 130})
        expect(place).to_have_text(there)
        prediction.click(position={"x": 140, "y": 130})
        saved(page)
        x, y = map(int, there.split(", "))
        assert np.argwhere(api.label(job, "001")).tolist() == [[y, x]]

    @pytest.mark.parametrize("look", LOOKS, ids=str)
    def test_every_screen(self, open_page, admin_site, api: Api, job, look):
        """The desk fits every screen; a stroke moves nothing but the marks, by finger too."""
        watched = desk(open_page, admin_site, job, **look)
        page = watched.page
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
        check_screen(watched, "annotate", look)

    def test_flicker_on_a_phone(self, open_page, admin_site, api: Api):
        """On a phone the two pictures can take turns in one place; nothing is cut off."""
        watched = desk(open_page, admin_site, waiting(api, 12), viewport=PHONE, color_scheme="dark")
        page = watched.page
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.get_by_role("button", name="Flicker").click()
        caption = page.locator("[data-part=prediction] figcaption")
        expect(page.locator("[data-part=truth]")).to_be_hidden()
        expect(caption).to_have_text("Prediction")
        page.get_by_role("button", name="Swap").click()
        expect(caption).to_have_text("Truth")
        page.get_by_label("by itself").check()
        expect(caption).to_have_text("Prediction")
        expect(caption).to_have_text("Truth")
        page.get_by_label("by itself").uncheck()

    def test_a_stroke_outlives_its_pair(self, open_page, admin_site, api: Api, job):
        """Going on to the next pair while drawing ends the stroke and keeps it."""
        page = desk(open_page, admin_site, job).page
        name = page.locator(".item-name").inner_text()
        box = page.locator("[data-part=prediction] canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.keyboard.press("j")
        expect(page.locator(".item-name")).not_to_have_text(name)
        page.mouse.up()
        expect(page.locator(".tally")).to_have_text("1 of 3 labelled")
        assert api.label(job, name).any()

        api.client.delete(f"/v1/jobs/{job}")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.get_by_role("alert")).to_contain_text("Somebody has cancelled")

    def test_offline(self, open_page, admin_site, api: Api, job):
        """Without a connection the marks are kept, the page says so, and saves them later."""
        watched = desk(open_page, admin_site, job)
        page = watched.page
        name = page.locator(".item-name").inner_text()
        page.context.set_offline(True)
        draw(page, (0.5, 0.5))
        expect(page.locator(".save-state")).to_have_text(re.compile("Offline"))
        page.context.set_offline(False)
        saved(page)
        assert api.label(job, name).any()
        assert all("ERR_INTERNET_DISCONNECTED" in text for text in watched.complaints)
        watched.complaints.clear()


class TestTwoAnnotators:
    def test_neither_overwrites_the_other(self, open_page, admin_site, api: Api, job):
        """Whoever saves second sees both labels and chooses; here both together."""
        first, second = (desk(open_page, admin_site, job).page for _ in range(2))
        for page in (first, second):
            page.get_by_role("button", name="000", exact=False).click()
            expect(page.locator(".item-name")).to_have_text("000")
        look_away(second)
        draw(first, (0.2, 0.3))
        saved(first)
        of_first = api.label(job, "000")
        draw(second, (0.8, 0.7))
        expect(second.locator(".save-state")).to_have_text("Somebody else was first")
        assert np.array_equal(api.label(job, "000"), of_first)
        second.get_by_role("button", name="Choose…").click()
        dialog = second.get_by_role("dialog")
        expect(dialog.get_by_role("img")).to_have_count(3)
        assert barriers(second) == []
        dialog.get_by_role("button", name="Both together").click()
        saved(second)
        both = api.label(job, "000")
        assert both[of_first].all()
        assert both.sum() > 1.9 * of_first.sum()
        # The first one sees it without asking.
        expect(first.locator(".callout.warn")).to_contain_text("Somebody else is drawing")
        first.keyboard.press("z")
        expect(first.get_by_role("button", name="Undo")).to_be_disabled()

    @pytest.mark.parametrize("choice", ["Keep mine", "Take theirs"])
    def test_one_of_the_two(self, open_page, admin_site, api: Api, job, choice):
        """One's own label can be kept, or the other's taken."""
        page = desk(open_page, admin_site, job).page
        page.get_by_role("button", name="001", exact=False).click()
        expect(page.locator(".item-name")).to_have_text("001")
        look_away(page)
        theirs = np.zeros((HEIGHT, WIDTH), np.uint8)
        theirs[:4] = 255
        api.client.put(f"{BASE}/{job}/pairs/001/label.png", content=encoded(theirs))
        draw(page, (0.5, 0.6))
        page.get_by_role("button", name="Choose…").click()
        page.get_by_role("dialog").get_by_role("button", name=choice).click()
        saved(page)
        label = api.label(job, "001")
        assert label[:4].all() == (choice == "Take theirs")
        assert label[int(0.6 * HEIGHT), WIDTH // 2] == (choice == "Keep mine")


class TestMask:
    def test_png(self, run):
        """The file of a label is a 1-bit PNG with exactly the marks, at any width."""
        files = run(
            """
            const { encoded } = await at("annotate/png.js");
            const { decoded } = await at("annotate/mask.js");
            const out = [];
            for (const [width, height] of [[1, 1], [8, 2], [13, 7], [64, 3]]) {
                const data = new Uint8Array(width * height).map((_, k) => (k * k) % 3 % 2);
                const file = await encoded({ width, height, data });
                const again = await decoded(file);
                const bytes = new Uint8Array(await file.arrayBuffer());
                const lists = { data: [...data], again: [...again], bytes: [...bytes] };
                out.push({ width, height, ...lists });
            }
            return out;
            """
        )
        for file in files:
            image = Image.open(io.BytesIO(bytes(file["bytes"])))
            assert (image.mode, image.size) == ("1", (file["width"], file["height"]))
            marks = np.asarray(image).astype(int).ravel().tolist()
            assert marks == file["data"] == file["again"]

    def test_shapes(self, run):
        """Strokes and polygons set the pixels whose centres they cover, and are undone exactly."""
        found = run(
            """
            const { Mask } = await at("annotate/mask.js");
            const mask = new Mask(40, 30);
            const step = (change) => {
                mask.begin();
                change();
                mask.end();
                return [...mask.data];
            };
            const corners = [[2, 20], [36, 22], [15, 45]].map(([x, y]) => ({ x, y }));
            const empty = [...mask.data];
            const stroke = step(() => mask.line({ x: 10, y: 10 }, { x: 25, y: 18 }, 6.9, 1));
            const triangle = step(() => mask.polygon(corners, 1));
            mask.undo();
            const once = [...mask.data];
            mask.undo();
            const twice = [...mask.data];
            mask.redo();
            return { empty, stroke, triangle, once, twice, redone: [...mask.data] };
            """
        )
        rows, columns = np.mgrid[:30, :40] + 0.5
        way = np.clip(((columns - 10) * 15 + (rows - 10) * 8) / (15**2 + 8**2), 0, 1)
        far = (columns - 10 - 15 * way) ** 2 + (rows - 10 - 8 * way) ** 2
        assert np.array_equal(np.reshape(found["stroke"], (30, 40)), far <= 3.45**2)
        corners = [(2, 20), (36, 22), (15, 45)]
        sides = [
            (bx - ax) * (rows - ay) - (by - ay) * (columns - ax)
            for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True)
        ]
        inside = np.all([side > 0 for side in sides], axis=0)
        added = np.reshape(found["triangle"], (30, 40)) & ~(far <= 3.45**2)
        assert np.array_equal(added, inside & ~(far <= 3.45**2))
        assert found["once"] == found["stroke"] == found["redone"]
        assert found["twice"] == found["empty"]


class TestWithoutAJob:
    def test_choice(self, open_page, admin_site, job):
        """Without an id the page lists what waits for labels."""
        page = signed_in(open_page, admin_site, "/annotate").page
        card = page.locator(f".job[data-id='{job}']")
        expect(card).to_contain_text(MARKUP)
        card.get_by_role("link", name="Draw the labels").click()
        expect(page.locator(".items-list [aria-current]")).to_be_visible()
        page.goto("/annotate?id=job-none")
        expect(page.get_by_role("alert")).to_contain_text("job-none")
