"""The page that upscales, used as a person would, in a real browser on a real server."""

import json
import re
import zipfile

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.web.admin import upload
from tests.web.browser import LOOKS, check_screen
from tests.web.pictures import (
    BOUND,
    SHOWN,
    crop,
    exact,
    finished,
    letters,
    open_result,
    ready,
    served_mask,
    slide,
    take,
    zoom,
)

pytestmark = [pytest.mark.slow, pytest.mark.servers]


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_every_screen(open_page, look):
    """A marked example half the fold high, the drop target beneath; a result fills the window."""
    page, posts = open_page("about:blank", **look), []
    page.on("request", lambda one: one.method == "POST" and posts.append(one.url))
    page.goto("/")
    expect(page.locator("#example[data-shown]")).to_be_visible()
    ready(page)
    height = look["viewport"]["height"]
    frame = page.locator(".example-stage .frame").bounding_box()
    assert frame["height"] > 0.33 * height
    drop = page.locator("#drop").bounding_box()
    assert frame["y"] + frame["height"] < drop["y"]
    assert drop["y"] + drop["height"] < height
    caption = page.locator("figcaption")
    expect(caption).to_contain_text("% of the picture is trusted; the hikers are not")
    caption.get_by_role("button", name="what was sent").click()
    expect(page.locator(".example-stage .divider-side.left")).to_have_text("what was sent")
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 70, y)
    page.mouse.up()
    share = 50 + 70 / frame["width"] * 100
    divider = page.locator(".example-stage .divider input")
    assert float(divider.input_value()) == pytest.approx(share, abs=1)
    expect(page.locator(".choice-words")).to_contain_text(re.compile(r"About \d+ % to \d+ %"))
    expect(page.locator("#drop")).to_contain_text("1 call of the model per picture")
    expect(page.get_by_role("link", name="Monitor")).to_have_count(0)  # until there is a key
    assert posts == []
    check_screen(page, "first", look)

    open_result(page)
    download = page.locator("#download").bounding_box()
    frame = page.locator(".stage .frame").bounding_box()
    assert download["y"] + download["height"] < height
    assert frame["width"] * frame["height"] > 0.55 * height * look["viewport"]["width"]
    expect(page.locator(".stage .divider")).to_be_visible()
    expect(page.locator("#looks [aria-pressed=true]")).to_have_text("Contour")
    expect(page.locator(".stage .legend")).to_have_text("errors may be larger")
    expect(page.get_by_role("heading", level=1)).to_have_text("piece.png")
    if "has_touch" in look:
        expect(page.locator("#promise")).to_be_hidden()
        expect(page.locator("#alpha-slider")).to_be_visible()
        page.click(".sheet-handle")
        assert page.locator(".panel").bounding_box()["y"] > frame["y"] + 100  # some of it is seen
    expect(page.locator("#promise")).to_be_visible()
    check_screen(page, "result", look)


def as_if_covered(route):
    """A result as if scenes of its size had been calibrated: pieces this small are quick."""
    found = route.fetch().json()
    found["guarantee"]["applicability"] = "exact"
    route.fulfill(json=found)


def test_the_promise(open_page, site):
    """α may be chosen after looking, between those of the promise; it is said in words."""
    page = open_page("/")
    page.route("**/v1/results/res-*", as_if_covered)
    ready(page)
    page.get_by_role("button", name="Strict").click()
    result_id = open_result(page, upload(crop(), "a 'quoted' name.png"))
    url = f"{site}/v1/results/{result_id}"
    result = httpx.get(url).json()
    assert page.url == f"{site}/r/{result_id}"
    assert 0.05 - BOUND / 65534 <= result["alpha"] <= 0.05
    assert result["guarantee"]["kind"] == "post_hoc"
    share = float(page.inner_text("#share").removesuffix(" %"))
    assert share == pytest.approx(100 * result["trusted_fraction"], abs=0.051)
    promise = page.locator("#promise")
    expect(promise.locator("p").first).to_have_text(result["guarantee"]["sentence"])
    expect(promise.get_by_text(result["guarantee"]["statement"])).to_be_hidden()
    page.get_by_text("Conditions, and what voids it").click()
    expect(promise.get_by_text(result["guarantee"]["statement"])).to_be_visible()
    alerts = page.locator("#alerts")
    for part, sentences in ((promise, result["guarantee"]["voids"]), (alerts, result["warnings"])):
        assert sentences
        for sentence in sentences:
            expect(part).to_contain_text(sentence)
    page.keyboard.press("i")  # folded away, the panel keeps the first of them
    expect(page.locator("#promise")).to_be_hidden()
    expect(page.locator("#alerts p").first).to_be_visible()
    page.keyboard.press("i")

    requests = []
    page.on("request", lambda request: requests.append(request.url))
    slide(page, 420)
    expect(page.locator("#moved")).to_contain_text("holds for the level that you end with")
    expect(page.locator("#share-label")).to_have_text("of this picture is trusted")
    expect(promise.locator("p").first).to_contain_text("Whatever level you end with")
    assert requests == []
    alpha = exact(page)
    taken = take(page, "Mask")
    assert taken.suggested_filename.startswith("a 'quoted' name.mask.alpha-")
    mask = taken.path().read_bytes()
    assert mask == httpx.get(f"{url}/mask.png", params={"alpha": alpha}).content
    with zipfile.ZipFile(take(page, "Everything, as zip").path()) as archive:
        assert archive.testzip() is None
        assert archive.read("image.png") == httpx.get(f"{url}/image.png").content
        assert mask in [archive.read(name) for name in archive.namelist()]
        assert json.loads(archive.read("result.json"))["id"] == result_id
        assert "NOTE.txt" not in archive.namelist()
    for typed in ("0,06", "much"):  # the second one is no number
        page.fill("#alpha", typed)
        page.press("#alpha", "Enter")
        assert page.input_value("#alpha") == "0.06"
    page.get_by_role("button", name=re.compile("Use 0.06")).click()
    page.click("#back")
    page.click("#open-settings")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#next-alpha")).to_have_value("0.06")
    dialog.get_by_text("Exact value and more").click()
    # For one beyond those that may be chosen after looking the promise is the sharper one.
    dialog.locator("#next-alpha").fill("0.2")
    dialog.get_by_role("button", name="Done").click()
    page.set_input_files("#files", [upload(crop(x=0), "second.png")])
    finished(page, 2)
    page.locator(".item-open").nth(1).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("second.png")
    expect(page.locator(f"#canvas[data-shown={result_id}]")).to_have_count(0)
    slide(page, 420)
    expect(page.locator("#moved")).to_contain_text(f"Exploring {page.input_value('#alpha')}.")
    expect(page.locator("#share-label")).to_contain_text("without a promise")
    for _ in range(page.locator(".toast").count()):  # they lie over the menu
        page.locator(".toast").first.get_by_label("Close").click()
    with zipfile.ZipFile(take(page, "Everything, as zip").path()) as archive:
        assert b"chosen after looking" in archive.read("NOTE.txt")

    alone = open_page(f"/r/{result_id}")  # no scene is as small, and the page says so first
    expect(alone.locator("#no-promise")).to_be_visible()
    expect(alone.locator("#share-label")).to_have_text("would be marked")
    expect(alone.locator("#promise p").first).to_contain_text("No promise")

    [found] = httpx.get(f"{site}/v1/upscalers").json()
    newer = [{**found, "calibration": "cal-newer"}]
    page.route("**/v1/upscalers", lambda route: route.fulfill(json=newer))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#outdated")).to_contain_text("served from cal-newer")


def test_the_longest_side(open_page):
    """The result is as large as was asked for, in any form; its name says which."""
    page = open_page("/")
    ready(page)
    page.get_by_text("Exact value and more").click()
    page.get_by_label("Longest side of the result").fill("120")
    open_result(page)
    taken = take(page, "WEBP")
    assert taken.suggested_filename == "piece.upscaled.webp"
    with Image.open(taken.path()) as image:
        assert (image.format, image.size) == ("WEBP", (120, 120))


def test_the_keyboard_alone(open_page):
    """An example is upscaled, looked at, compared and left, with keys that work everywhere."""
    page = open_page("/")
    ready(page)
    # A smaller one is upscaled in a moment.
    page.route("**/examples/dog.webp", lambda route: route.fulfill(body=crop()))
    page.focus(".example[data-name=dog]")
    page.keyboard.press("Enter")
    expect(page.locator(".item.selected .item-open")).to_be_focused()
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    page.focus("#alpha-slider")
    page.keyboard.press("o")
    expect(page.locator("#looks [data-value=tint]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("c")
    divider = page.locator(".stage .divider")
    expect(divider).to_be_hidden()
    page.keyboard.press("c")
    divider.locator("input").focus()
    before = float(divider.locator("input").input_value())
    page.keyboard.press("ArrowRight")
    assert float(divider.locator("input").input_value()) > before
    page.keyboard.down("h")
    expect(page.locator(".stage .frame")).to_have_attribute("data-look", "off")
    page.keyboard.up("h")
    expect(page.locator(".stage .frame")).to_have_attribute("data-look", "tint")
    page.focus("#canvas")
    page.keyboard.press("1")
    assert zoom(page) == 100
    page.keyboard.press("+")
    assert zoom(page) == 125
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_contain_text("from an accepted error")
    page.focus("#alpha-slider")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#alpha-slider")).to_have_attribute(
        "aria-valuetext", re.compile("% would be marked, without a promise")
    )


SIDE = 256


def test_the_mask_is_the_server_s_at_every_alpha(open_page, site):
    """At ten places of the slider the canvas shows, pixel by pixel, mask.png?alpha=."""
    page = open_page("/")
    result = open_result(page, upload(crop(side=SIDE // 4)))
    page.click("#looks [data-value=mask]")
    page.click("#compare")  # of the input nothing is claimed
    page.click("#zoom-one")
    shares = []
    for place in (0, 120, 300, 400, 480, 560, 640, 720, 850, 1000):
        slide(page, place)
        mask = served_mask(site, result, alpha=exact(page))
        assert page.evaluate(SHOWN, SIDE) == letters(mask)
        shares.append(mask.mean())
        percent = float(page.inner_text("#share").removesuffix(" %"))
        assert percent == pytest.approx(100 * mask.mean(), abs=0.11)
    assert shares[0] == 0
    assert shares[-1] == max(shares)
    assert len(set(shares)) > 5


COUNT_DRAWING = """
const put = CanvasRenderingContext2D.prototype.putImageData;
window.drawn = [];
CanvasRenderingContext2D.prototype.putImageData = function (image, ...place) {
  window.drawn.push(image.width * image.height);
  return put.call(this, image, ...place);
};
"""

GESTURES = """() => {
  const slider = document.querySelector("#alpha-slider");
  const canvas = document.querySelector("#canvas");
  for (let step = 0; step < 30; step += 1) {
    slider.value = 30 * step;
    slider.dispatchEvent(new Event("input"));
    const place = { clientX: 300, clientY: 500, cancelable: true };
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: step < 20 ? -60 : 60, ...place }));
  }
}"""


def test_a_large_result_stays_responsive(open_page):
    """It is decoded beside the page; slider, pan and zoom draw once in a frame, what is seen.

    How many frames that are in a second is measured by benchmarks/page.py.
    """
    page, held = open_page("/"), []
    result = open_result(page, upload(crop(side=200)))

    def hold(route):
        held.append(route)

    page.add_init_script(COUNT_DRAWING)
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.route("**/bundle/worker.js", hold)
    with page.expect_request("**/bundle/worker.js"):
        page.reload()
    page.click("#keys-button")  # the page is alive
    page.get_by_role("button", name="Cancel").click()
    shown = page.locator(f"#canvas[data-shown={result}]")
    expect(shown).to_have_count(0)
    page.route("**/bundle/worker.js", lambda route: route.continue_())  # from now on
    for route in held:
        route.continue_()
    expect(shown).to_be_attached()
    page.click("#zoom-one")
    page.click("#zoom-in")
    page.clock.run_for(20)
    for _ in range(3):
        before = page.evaluate("window.drawn.length")
        page.evaluate(GESTURES)
        page.clock.run_for(16)
        drawn = page.evaluate("window.drawn")
        assert len(drawn) == before + 1
        assert drawn[-1] <= shown.evaluate("one => one.width * one.height") < 1360 * 850
    page.mouse.move(420, 560)
    expect(page.locator(".stage .readout")).to_contain_text("Pixel")
