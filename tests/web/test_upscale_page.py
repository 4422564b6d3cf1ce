"""The page that upscales, used as a person would, in a real browser on a real server."""

import base64
import io
import json
import re
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from harness.browser import LOOKS, check_screen, fits, jargon
from tests.web.admin import upload
from tests.web.pictures import (
    SHOWN,
    add,
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
    """The first screen shows a lie beside the truth, and what to do; a result fills the window."""
    page, posts = open_page("about:blank", **look), []
    page.on("request", lambda one: one.method == "POST" and posts.append(one.url))
    page.goto("/")
    ready(page)
    expect(page.locator(".lie .panel")).to_have_count(3)
    height = look["viewport"]["height"]
    for part in (*(f".lie .crop >> nth={k}" for k in range(3)), "#drop", "h1"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] < height
    assert posts == []
    assert jargon(page) == []
    check_screen(page, "first", look)
    page.click("#open-settings")
    page.get_by_role("dialog").get_by_text("More options").click()
    assert jargon(page) == []
    check_screen(page, "settings", look)
    page.get_by_role("button", name="Done").click()

    open_result(page)
    download = page.locator("#download").bounding_box()
    frame = page.locator(".frame").bounding_box()
    assert download["y"] + download["height"] < height
    assert frame["width"] == look["viewport"]["width"]
    assert frame["height"] > 0.7 * height
    expect(page.locator("#views [aria-pressed=true]")).to_have_text("Checked")
    expect(page.locator(".numbered")).not_to_have_count(0)
    for view, legend in (
        ("marked", "Hatched"),
        ("original", "that was sent"),
        ("checked", "gravest doubts"),
    ):
        page.click(f"#views [data-value={view}]")
        expect(page.locator(".frame .legend")).to_contain_text(legend)
        legends = page.locator(".frame .legend").bounding_box()
        assert legends["y"] + legends["height"] <= page.locator(".dock").bounding_box()["y"]
        if view == "marked":
            check_screen(page, view, look)
    expect(page.get_by_role("heading", level=1)).to_have_text("piece.png")
    expect(page.locator("#promise")).to_be_hidden()
    check_screen(page, "result", look)
    page.click("#open-drawer")
    expect(page.locator("#promise")).to_be_visible()
    assert jargon(page) == []
    # The picture goes beside the drawer, or above it.
    expect(page.locator("#alpha-slider")).to_be_in_viewport()
    page.wait_for_function(BESIDE)
    check_screen(page, "promise", look)
    page.keyboard.press("Escape")
    expect(page.locator("#promise")).to_be_hidden()
    page.keyboard.press("n")
    expect(page.locator(".why")).to_be_focused()
    expect(page.locator(".why canvas")).to_have_count(3)
    assert jargon(page) == []
    page.wait_for_function(FREE)
    check_screen(page, "why", look)
    page.keyboard.press("Escape")
    page.click("#download")
    assert jargon(page) == []
    check_screen(page, "download", look)
    page.keyboard.press("Escape")
    page.set_input_files("#files", [upload(b"no picture", "no.png"), upload(crop(40), "b.png")])
    expect(page.locator("[data-state=done]")).to_have_count(2)
    expect(page.locator(".wall-picture canvas")).to_have_count(2)
    assert jargon(page) == []
    check_screen(page, "wall", look)


WRITTEN = """
const write = CanvasRenderingContext2D.prototype.fillText;
window.written = [];
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  if (!this.canvas.isConnected) window.written.push(text);
  return write.call(this, text, ...place);
};
"""


def test_print(open_page, site):
    """On paper there is the picture with its numbered rings, what is promised, and nothing else."""
    page = open_page("about:blank", color_scheme="dark")
    page.add_init_script(WRITTEN)
    page.goto("/")
    result = open_result(page)
    rings = page.locator(".numbered").count()
    assert rings > 0
    page.evaluate("window.written = []")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    sheet = page.locator(".print-sheet")
    expect(sheet.get_by_role("heading")).to_have_text("piece.png")
    expect(sheet).to_contain_text("of it holds up")
    expect(sheet).to_contain_text("right within this: ")
    expect(sheet).to_contain_text(result)
    assert page.evaluate("window.written") == [str(k + 1) for k in range(rings)]
    for gone in (".masthead", ".stage", ".dock", ".strip"):
        expect(page.locator(gone).first).to_be_hidden()
    url = sheet.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    drawn = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    assert max(drawn.size) == 2000
    served = Image.open(io.BytesIO(httpx.get(f"{site}/v1/results/{result}/image.png").content))
    small = np.asarray(drawn.resize(served.size, Image.Resampling.BOX), float)
    assert np.median(np.abs(small - np.asarray(served.convert("RGB"), float))) < 2
    paper = sheet.evaluate("one => getComputedStyle(one).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    expect(sheet).to_be_hidden()
    expect(page.locator("#canvas")).to_be_visible()


BESIDE = """() => {
  const stage = document.querySelector(".frame");
  const edge = (name) => parseFloat(stage.style.getPropertyValue(name));
  const [frame, drawer] = [stage, document.querySelector(".drawer")].map((one) =>
    one.getBoundingClientRect());
  const [right, bottom] = [frame.right - edge("--right"), frame.bottom - edge("--bottom")];
  return right <= drawer.left + 1 || bottom <= drawer.top + 1;
}"""
# The spot that is asked about is seen beside its card.
FREE = """() => {
  const [spot, card, frame] = [".spot", ".why", ".frame"].map((one) =>
    document.querySelector(one).getBoundingClientRect());
  const [x, y] = [(spot.left + spot.right) / 2, (spot.top + spot.bottom) / 2];
  const isUnder = x > card.left && x < card.right && y > card.top && y < card.bottom;
  return !isUnder && x > frame.left && x < frame.right && y > frame.top && y < frame.bottom;
}"""
SIZES = [(320, 568), (720, 450), (820, 1180), (844, 390), (3840, 2160)]


def test_every_size(open_page):
    """From a small phone, a phone on its side and 200 % zoom to 4K nothing is cut off."""
    page = open_page("/")
    open_result(page)
    why = page.locator(".why")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert fits(page)
        for part in ("#views", "#download", "#alpha-slider", "#compare"):
            box = page.locator(part).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
        page.focus("#canvas")
        page.keyboard.press("0")
        page.keyboard.press("Enter")  # about the middle, which is hardest not to cover
        expect(why).to_be_visible()
        assert why.bounding_box()["x"] >= 0
        assert why.bounding_box()["x"] + why.bounding_box()["width"] <= width
        page.wait_for_function(FREE)
        page.keyboard.press("Escape")
        expect(why).to_have_count(0)
    page.goto("/wall")
    finished(page, 1)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert fits(page)


SENTENCE = (
    "In 9 of 10 spots of pictures like those measured, mean colours around trusted points are "
    "right within 16 of 100 steps of lightness, even if this α was chosen after looking."
)
PROMISED = {"promised": True, "plain": SENTENCE, "unit": "spot", "error_unit": "lab"}
WARNING = "No pixel has a score of that calibration."


def answering(guarantee, **more):
    """Answers results as if their promise were this one."""

    def answer(route):
        found = route.fetch().json()
        found["guarantee"] |= guarantee
        found["warnings"] += [WARNING]
        route.fulfill(json=found | more)

    return answer


def test_what_is_left_out(open_page):
    """A face has a frame in every view, says why by a tap, and is counted; a switch keeps it."""
    corners = [[40, 40], [150, 40], [150, 150], [40, 150]]
    face = {"kind": "face", "box": corners, "why": "A face. Nobody can promise who this is."}
    page = open_page("/")
    page.route("**/v1/results/res-*", answering(PROMISED, left_out=[face]))
    result_id = open_result(page)
    page.goto(f"/r/{result_id}")
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    frame = page.locator(".lettering .left-out polygon").first
    for view in ("All doubts", "Original", "Checked"):
        page.get_by_role("button", name=view, exact=True).click()
        expect(frame).to_be_visible()
    place = frame.bounding_box()
    middle = (place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.click(*middle)
    expect(page.locator(".why h2")).to_have_text("A face")
    expect(page.locator(".why")).to_contain_text(face["why"])
    page.mouse.click(place["x"] - 6, middle[1])
    expect(page.locator(".why h2")).not_to_have_text("A face")
    page.click("#open-drawer")
    expect(page.locator("#left-out")).to_have_text(f"Left out: 1 face. {face['why']}")

    page.goto("/")
    page.click("#open-settings")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("More options").click()
    dialog.get_by_label("Never trust faces and unread text").uncheck()
    dialog.get_by_role("button", name="Done").click()
    with page.expect_request(lambda request: request.method == "POST") as asked:
        page.locator("#files").first.set_input_files([upload(crop(), "kept.png")])
    sent = asked.value.post_data
    for field in ("faces", "letters"):
        assert f'name="{field}"\r\n\r\nkeep' in sent


def test_the_promise(open_page, site):
    """α may be chosen after looking, between those of the promise; it is said in words."""
    page = open_page("/")
    page.route("**/v1/results/res-*", answering(PROMISED))
    result_id = open_result(page, upload(crop(), "a 'quoted' name.png"))
    url = f"{site}/v1/results/{result_id}"
    result = httpx.get(url, params={"detail": "full"}).json()
    assert page.url == f"{site}/r/{result_id}"
    assert result["guarantee"]["kind"] == "post_hoc"
    share = 100 * result["trusted_fraction"]  # only nothing at all is shown as 0 %
    said = f"{max(share, min(1, 1e9 * share)):.0f} % can be relied on for colour"
    expect(page.locator("#share")).to_have_text(said)
    page.keyboard.press("i")
    promise = page.locator("#promise")
    expect(promise.locator(".swatches + b")).to_have_text("16 %")
    expect(promise.locator(".plain")).to_contain_text(
        "mean colours around trusted points are right within this"
    )
    expect(promise.get_by_role("img")).to_have_attribute(
        "aria-label", "16 of 100 steps of lightness"
    )
    expect(promise.get_by_text(result["guarantee"]["theorem"])).to_be_hidden()
    promise.get_by_text("How exactly?").click()
    alerts = page.locator("#alerts")
    expect(alerts.get_by_text(WARNING)).to_be_hidden()  # it has a statistician's words
    alerts.get_by_text("In full").click()
    expect(alerts.get_by_text(WARNING)).to_be_visible()
    said = [SENTENCE, result["guarantee"]["theorem"]]
    for part, sentences in (
        (promise, [*said, *result["guarantee"]["void_if"]]),
        (alerts, result["warnings"]),
    ):
        for sentence in sentences:
            expect(part).to_contain_text(sentence)

    requests = []
    page.on("request", lambda request: requests.append(request.url))
    step = result["guarantee"]["bound"] / 65534
    for place, alpha in zip((0, 1000), result["guarantee"]["between"], strict=True):
        slide(page, place)
        assert abs(float(exact(page)) - alpha) <= step  # exactly what is promised
        expect(promise.locator(".plain")).to_contain_text("In 9 of 10 spots")
        steps = round(16 * alpha / result["guarantee"]["alpha"])
        expect(promise.get_by_role("img")).to_have_attribute(
            "aria-label", f"{steps} of 100 steps of lightness"
        )
    assert requests == []
    alpha = exact(page)
    taken = take(page, re.compile("^Mask$"))
    assert taken.suggested_filename.startswith("a 'quoted' name.mask.alpha-")
    mask = taken.path().read_bytes()
    assert mask == httpx.get(f"{url}/mask.png", params={"alpha": alpha}).content
    safe = take(page, re.compile("^Safe copy")).path().read_bytes()
    assert safe == httpx.get(f"{url}/safe.png").content
    with zipfile.ZipFile(take(page, "Everything, as zip").path()) as archive:
        assert archive.testzip() is None
        assert archive.read("image.png") == httpx.get(f"{url}/image.png").content
        inside = [archive.read(name) for name in archive.namelist()]
        assert mask in inside
        assert safe in inside
        believed = httpx.get(f"{url}/believed.png", params={"alpha": alpha}).content
        assert believed in inside
        assert json.loads(archive.read("result.json"))["id"] == result_id

    # Another level begins there, at another size; a promise for one level alone has no slider.
    page.click("#open-settings")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("More options").click()
    expect(dialog.locator(".choice-words")).to_contain_text("after looking at the result")
    dialog.get_by_role("button", name="Strict").click()
    dialog.get_by_label("Size of the result").select_option("x2")
    dialog.get_by_role("button", name="Done").click()
    add(page, "second.png", x=0)
    taken = take(page, "WEBP")
    assert taken.suggested_filename == "second.upscaled.webp"
    with Image.open(taken.path()) as image:
        assert (image.format, image.size) == ("WEBP", (96, 96))
    [model] = httpx.get(f"{site}/v1/upscalers").json()
    assert float(exact(page)) == pytest.approx(model["levels"][0]["alpha"], abs=step)

    alone = open_page("about:blank")
    alone.route("**/v1/results/res-*", answering({**PROMISED, "kind": "expectation"}))
    alone.goto(f"{site}/r/{result_id}")
    expect(alone.locator("#alpha-slider")).to_have_count(0)
    expect(alone.locator(".strictness")).to_contain_text("Strictness is fixed")
    nothing = {"promised": False, "plain": "No promise. Calibrate."}
    alone.unroute("**/v1/results/res-*")
    alone.route("**/v1/results/res-*", answering(nothing))
    alone.reload()
    alone.click("#no-promise")
    expect(alone.locator("#promise .plain")).to_contain_text("Nothing is promised")
    # Another screen: no figure, no slider, no doubts among others, and the words on the picture.
    for part in ("#share", "#alpha-slider", "#next-doubt", ".numbered"):
        expect(alone.locator(part)).to_have_count(0)
    expect(alone.locator("#views button")).to_have_text(["Plain", "Not checked"])
    expect(alone.locator(".frame[data-unchecked]")).to_be_visible()
    assert "%" not in alone.inner_text(".stage").replace(alone.inner_text("#zoom-value"), "")
    assert jargon(alone) == []
    burned = take(alone, re.compile("^Not checked"))
    assert burned.suggested_filename.endswith(".not-checked.png")
    pictures = [burned.path().read_bytes(), httpx.get(f"{url}/image.png").content]
    ours, theirs = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), int) for one in pictures)
    assert (np.abs(ours - theirs).max(axis=2) > 20).mean() > 0.02


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
    page.keyboard.press("v")
    expect(page.locator("#views [data-value=marked]")).to_have_attribute("aria-pressed", "true")
    divider = page.locator(".divider")
    expect(divider).to_be_hidden()
    page.keyboard.press("c")
    divider.locator("input").focus()
    before = float(divider.locator("input").input_value())
    page.keyboard.press("ArrowRight")
    assert float(divider.locator("input").input_value()) > before
    page.keyboard.press("c")
    page.keyboard.down("h")
    expect(page.locator(".frame .legend")).to_contain_text("nothing marked")
    page.keyboard.up("h")
    expect(page.locator(".frame .legend")).to_contain_text("Hatched")
    page.focus("#canvas")
    page.keyboard.press("1")
    assert zoom(page) == 100
    page.keyboard.press("+")
    assert zoom(page) == 125
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_contain_text(re.compile("added little|made this up"))
    expect(page.locator(".why")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#canvas")).to_be_focused()
    page.keyboard.press("n")
    expect(page.locator("#announcer")).to_contain_text("Doubt 1 of")
    expect(page.locator(".why")).to_contain_text("may have made this up")
    expect(page.locator(".why")).to_be_focused()
    page.keyboard.press("Tab")  # forwards, to the buttons of the card
    expect(page.locator(".why button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#canvas")).to_be_focused()
    page.keyboard.press("v")
    page.keyboard.press("v")
    page.keyboard.press("Tab")  # and from the picture to its doubts
    expect(page.locator(".numbered").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".why")).to_be_focused()
    page.keyboard.press("Escape")
    page.focus("#alpha-slider")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#alpha-slider")).to_have_attribute(
        "aria-valuetext", re.compile("% of it can be relied on for colour")
    )


SIDE = 64


def test_the_mask_is_the_server_s_at_every_alpha(open_page, site):
    """Near by, at ten places of the slider, the canvas marks, pixel by pixel, mask.png?alpha=."""
    page = open_page("/")
    result = open_result(page, upload(crop(60, 90, SIDE // 4)))
    page.click("#views [data-value=marked]")
    shares = []
    for place in (0, 120, 300, 400, 480, 560, 640, 720, 850, 1000):
        slide(page, place)
        mask = served_mask(site, result, alpha=exact(page))
        assert page.evaluate(SHOWN, SIDE) == letters(mask)
        shares.append(mask.mean())
        percent = float(page.locator("#share b").inner_text().removesuffix(" %"))
        assert percent == pytest.approx(100 * mask.mean(), abs=1)
    assert shares == sorted(shares)
    assert len(set(shares)) > 5


AS_IF_A_CARD = """
const getExtension = WebGL2RenderingContext.prototype.getExtension;
WebGL2RenderingContext.prototype.getExtension = function (name) {
  return name === "WEBGL_debug_renderer_info" ? null : getExtension.call(this, name);
};
"""


def test_a_graphics_card_draws_the_same(open_page, complaints):
    """The shader and the other painter show one picture in all views, far and near."""
    drawn = []
    for script in ("", AS_IF_A_CARD):
        page = open_page("about:blank")
        page.add_init_script(script)
        page.goto("/")
        open_result(page, upload(crop(side=64)))
        assert page.locator("canvas.under").count() == bool(script)
        shots = []
        for key in ("0", "1", "+++++++++"):
            for view in ("checked", "marked", "original"):
                page.click(f"#views [data-value={view}]")
                page.focus("#canvas")
                for one in key:
                    page.keyboard.press(one)
                page.mouse.move(2, 300)
                page.wait_for_timeout(400)  # until it is drawn finely
                shot = Image.open(io.BytesIO(page.locator(".frame").screenshot()))
                shots.append(np.asarray(shot.convert("RGB"), float)[80:-160, 160:-160])
        drawn.append(shots)
    complaints[:] = [text for text in complaints if "GPU stall due to ReadPixels" not in text]
    for cpu, card in zip(*drawn, strict=True):
        difference = np.abs(cpu - card)
        assert difference.mean() < 3
        assert np.mean(difference > 64) < 0.03
    assert np.abs(drawn[1][1] - drawn[1][2]).mean() > 3  # marks are seen


COUNT_DRAWING = """
const put = OffscreenCanvasRenderingContext2D.prototype.putImageData;
window.drawn = [];
OffscreenCanvasRenderingContext2D.prototype.putImageData = function (image, ...place) {
  window.drawn.push(image.width * image.height);
  return put.call(this, image, ...place);
};
"""


def canvas_of(page):
    """The pixels of the canvas once it is drawn finely."""
    page.wait_for_timeout(500)
    url = page.locator("#canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))), int)


def test_what_moves_keeps_its_pixels(open_page):
    """After pans and a moved divider only strips were drawn, and all is as if drawn anew."""
    page = open_page("about:blank")
    page.add_init_script(COUNT_DRAWING)
    page.goto("/")
    open_result(page, upload(crop(side=200)))
    page.click("#views [data-value=marked]")
    for control in ("#compare", "#zoom-one", "#zoom-in", "#zoom-in"):
        page.click(control)
    before = canvas_of(page)
    drawn = page.evaluate("window.drawn.length")
    page.focus("#canvas")
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
        page.locator(".divider input").evaluate(MOVE_DIVIDER, 40 if key == "ArrowDown" else 55)
        page.wait_for_timeout(50)
    moved = canvas_of(page)
    strips = page.evaluate("window.drawn")[drawn:]
    for _ in range(3):
        page.keyboard.press("v")
        page.wait_for_timeout(50)
    assert len(strips) >= 5
    assert max(strips) < before.shape[0] * before.shape[1] / 4
    assert np.abs(moved - before).mean() > 1
    assert np.abs(canvas_of(page) - moved).max() <= 3  # a scaled strip may round otherwise


MOVE_DIVIDER = """(divider, share) => {
  divider.value = share;
  divider.dispatchEvent(new Event("input"));
}"""

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

    How long that takes is measured by benchmarks/page.py.
    """
    page, held = open_page("/"), []
    result = open_result(page, upload(crop(side=200)))

    def hold(route):
        held.append(route)

    page.add_init_script(COUNT_DRAWING)
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.route("**/upscale/worker.js", hold)
    with page.expect_request("**/upscale/worker.js"):
        page.reload()
    page.click("#back")  # the page is alive
    page.go_back()
    shown = page.locator(f"#canvas[data-shown={result}]")
    expect(shown).to_have_count(0)
    page.route("**/upscale/worker.js", lambda route: route.continue_())  # from now on
    for route in held:
        route.continue_()
    expect(shown).to_be_attached()
    page.click("#views [data-value=marked]")
    page.click("#zoom-one")
    page.click("#zoom-in")
    page.clock.run_for(20)
    for _ in range(3):
        before = page.evaluate("window.drawn.length")
        page.evaluate(GESTURES)
        page.clock.run_for(16)
        drawn = page.evaluate("window.drawn")
        assert len(drawn) == before + 1
        assert drawn[-1] <= shown.evaluate("one => one.width * one.height") <= 1360 * 850
