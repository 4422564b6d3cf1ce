"""The page that upscales, used as a person would, in a real browser on a real server."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.factories import encoded, photo
from tests.web.browser import ADMIN_KEY, PHONE, barriers, serving
from tests.web.results import BOUND

pytestmark = [pytest.mark.slow, pytest.mark.servers]

EXAMPLE = Path(__file__).parents[2] / "examples" / "bridge.png"
EVIL = "<img src=x onerror=alert(1)>.png"


def crop(x: int = 96, y: int = 64, side: int = 48) -> bytes:
    """A piece of a real photograph: small, so that it is upscaled in a moment."""
    return encoded(Image.open(EXAMPLE).convert("RGB").crop((x, y, x + side, y + side)))


def upload(data: bytes, name: str = "piece.png", kind: str = "image/png") -> dict:
    return {"name": name, "mimeType": kind, "buffer": data}


def open_result(page: Page, *uploads: dict) -> None:
    """Choose files and wait until the first one is shown."""
    expect(page.locator("#upscaler option")).not_to_have_count(0)
    page.set_input_files("#files", list(uploads) or [upload(crop())])
    expect(page.locator("#canvas[data-shown]")).to_be_attached()


def slide(page: Page, place: int) -> None:
    """Move the slider of α, in thousandths of its axis."""
    page.locator("#alpha-slider").fill(str(place))


def zoom(page: Page) -> float:
    """Screen pixels per picture pixel, in percent."""
    return float(page.inner_text("#zoom-value").removesuffix(" %"))


def pinch(page: Page, factor: float) -> None:
    """Two fingers on the picture move apart."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    spreads = [40 * factor ** (step / 8) for step in range(9)]
    for number, spread in enumerate(spreads):
        points = [{"x": x - spread, "y": y, "id": 0}, {"x": x + spread, "y": y, "id": 1}]
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


class TestUpscaling:
    def test_from_the_file_to_the_promise(self, open_page, site):
        """Choosing a file shows image, share, promise, conditions and a link that works alone."""
        watched = open_page("/")
        page = watched.page
        page.fill("#next-alpha", "0.05")
        open_result(page)
        result_id = page.get_attribute("#canvas", "data-shown")
        result = httpx.get(f"{site}/v1/results/{result_id}").json()

        assert page.url == f"{site}/r/{result_id}"
        assert result["alpha"] == pytest.approx(0.05, abs=BOUND / 65534)
        assert result["alpha"] <= 0.05
        share = page.inner_text("#share").removesuffix(" %")
        assert float(share) == pytest.approx(100 * result["trusted_fraction"], abs=0.051)
        promise = page.locator("#promise")
        expect(promise).to_contain_text("the largest colour error inside the mask")
        expect(promise).to_contain_text("is at most α = 0.05")
        page.click("text=Conditions and what voids it")
        expect(promise).to_contain_text(result["guarantee"]["statement"])
        for void in result["guarantee"]["voids"]:
            expect(promise).to_contain_text(void)
        for warning in result["warnings"]:
            expect(page.locator("#alerts")).to_contain_text(warning)
        assert result["warnings"]
        expect(page.locator(".item-state")).to_contain_text("trusted · read the warnings")
        expect(page.locator("#moved")).to_have_count(0)
        assert barriers(page) == []
        watched.screenshot("upscale-desktop-light")

        alone = open_page(f"/?result={result_id}").page
        expect(alone.locator("#share")).to_have_text(page.inner_text("#share"))
        expect(alone.locator("#compare")).to_be_disabled()
        alone.click("text=The same by command line")
        expect(alone.locator("#curl")).to_contain_text('image=@"YOUR-IMAGE.png"')

    def test_an_alpha_chosen_after_looking_is_called_that(self, open_page):
        """Moving the slider withdraws the promise for the new α, and the way back restores it."""
        page = open_page("/").page
        open_result(page)
        served = page.input_value("#alpha")
        before = page.inner_text("#share")
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        slide(page, 300)
        expect(page.locator("#moved")).to_contain_text("An α chosen after looking voids it")
        expect(page.locator("#moved")).to_contain_text(page.input_value("#alpha"))
        assert page.inner_text("#share") != before
        expect(page.locator("#share-label")).to_contain_text("without a promise")
        expect(page.locator("#share")).to_have_class(re.compile("moved"))
        assert requests == []
        chosen = page.input_value("#alpha")
        page.click("text=Use it for the next images")
        assert page.input_value("#next-alpha") == chosen
        page.click("#back")
        expect(page.locator("#moved")).to_have_count(0)
        assert (page.input_value("#alpha"), page.inner_text("#share")) == (served, before)
        page.fill("#alpha", "0,06")
        page.press("#alpha", "Enter")
        assert page.input_value("#alpha") == "0.06"
        page.fill("#alpha", "much")
        page.press("#alpha", "Enter")
        assert page.input_value("#alpha") == "0.06"
        expect(page.locator("#alpha[aria-invalid=true]")).to_have_count(0)
        expect(page.locator("#announcer")).to_contain_text("must be a number of at least 0")

    def test_downloads_are_at_the_alpha_on_the_screen(self, open_page, site):
        """Mask and zip follow the slider; the mask is the server's own file."""
        page = open_page("/").page
        open_result(page, upload(crop(), "a 'quoted' name.png"))
        result_id = page.get_attribute("#canvas", "data-shown")
        slide(page, 420)
        alpha = float(page.get_attribute("#alpha", "title").removeprefix("exactly "))
        with page.expect_download() as found:
            page.click("[data-part=mask]")
        mask = Path(found.value.path()).read_bytes()
        assert found.value.suggested_filename.startswith("a 'quoted' name.mask.alpha-")
        assert Image.open(io.BytesIO(mask)).text["trustscale:alpha"] == repr(alpha)
        url = f"{site}/v1/results/{result_id}"
        assert mask == httpx.get(f"{url}/mask.png", params={"alpha": alpha}).content

        with page.expect_download() as found:
            page.click("[data-part=zip]")
        with zipfile.ZipFile(found.value.path()) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            assert archive.read("image.png") == httpx.get(f"{url}/image.png").content
            assert archive.read(next(name for name in names if "mask" in name)) == mask
            assert json.loads(archive.read("result.json"))["id"] == result_id
            assert b"chosen after looking" in archive.read("NOTE.txt")
        page.click("text=The same by command line")
        expect(page.locator("#curl")).to_contain_text("curl")
        command = page.inner_text("#curl")
        assert "'image=@\"a '\\''quoted'\\'' name.png\"'" in command
        served = httpx.get(url).json()["alpha"]  # one chosen after looking is not laundered
        assert f"'alpha={served}'" in command
        assert str(alpha) not in command
        assert "--fail-with-body" in command
        assert f"{site}/v1/upscale" in command

        def newer(route):
            [found] = route.fetch().json()
            route.fulfill(json=[{**found, "calibration": "cal-newer"}])

        page.route("**/v1/upscalers", newer)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#outdated")).to_contain_text("served from cal-newer")


class TestIntake:
    def test_dropped_and_pasted(self, open_page):
        """Both ways lead into the queue; names are text, whatever they look like."""
        page = open_page("/").page
        expect(page.locator("#upscaler option")).not_to_have_count(0)
        for event in ("drop", "paste"):
            page.evaluate(
                """([event, name, bytes]) => {
                  const data = new DataTransfer();
                  data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
                  const made = event === "drop"
                    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
                  document.body.dispatchEvent(made);
                }""",
                [event, EVIL, list(crop(side=16))],
            )
        expect(page.locator(".item[data-state=done]")).to_have_count(2)
        assert page.locator(".item-name").all_inner_texts() == [EVIL, EVIL]
        expect(page.locator("#result-title")).to_have_text(EVIL)
        assert page.locator("img[src=x]").count() == 0
        page.locator(".item-open").nth(1).click()
        expect(page.locator(".item").nth(1)).to_have_class(re.compile("selected"))
        expect(page.locator("#tally")).to_have_text("0 of 2 at work")
        remove = page.get_by_role("button", name=f"Remove {EVIL}")
        remove.nth(1).press("Enter")
        expect(page.locator(".item")).to_have_class([re.compile("selected")])
        expect(page.locator(".item-open")).to_be_focused()
        remove.press("Enter")
        expect(page.locator("#result")).to_be_hidden()
        expect(page.locator("#files")).to_be_focused()
        assert page.evaluate("location.pathname") == "/"

    def test_a_service_that_was_away(self, open_page):
        """What is read at the start is read again at a click, or when the network is back."""
        page = open_page("about:blank").page
        answers = [{"detail": "Not now."}, {"detail": "Not yet."}]

        def away(route):
            route.fulfill(status=503, json=answers.pop(0))

        page.route("**/v1/upscalers", away, times=2)
        page.goto("/")
        expect(page.locator("#service-notice")).to_contain_text("Not now.")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#service-notice")).to_contain_text("Not yet.")
        page.evaluate("dispatchEvent(new Event('online'))")
        expect(page.locator("#upscaler option")).not_to_have_count(0)
        expect(page.locator("#service-notice")).to_be_empty()

    def test_an_example_shows_its_samples_coming_and_can_be_cancelled(self, open_page, tmp_path):
        """Progress counts samples; after cancelling, the image can be tried again."""
        with serving(tmp_path, command=("-m", "tests.web.stuck_gateway")) as url:
            page = open_page("/", url=url).page
            self.cancel(page)
            page.goto("about:blank")  # before the server goes

    def cancel(self, page):
        expect(page.locator("#upscaler option")).not_to_have_count(0)
        page.click(".example[data-name='dog.webp']")
        expect(page.locator(".item-state")).to_have_text("2 of 4 samples")
        assert float(page.get_attribute(".item progress", "value")) == 0.5
        expect(page.locator("#waiting")).to_contain_text("The model is asked 4 times")
        page.click("[aria-label='Cancel dog.webp']")
        expect(page.locator(".item-state")).to_have_text("Cancelled")
        expect(page.locator("[aria-label='Remove dog.webp']")).to_be_focused()
        expect(page.locator(".item-error button")).to_have_text("Try again")
        expect(page.locator("#waiting")).to_be_hidden()

    def test_what_the_service_refuses_is_said_in_its_words(self, open_page):
        """A file that is no image fails alone; a transparent one can be put on white."""
        page = open_page("/").page
        clear = encoded(Image.new("RGBA", (24, 24), (200, 30, 30, 0)))
        expect(page.locator("#upscaler option")).not_to_have_count(0)
        page.set_input_files("#files", [upload(b"text", "no.png"), upload(clear, "clear.png")])
        first, second = page.locator(".item").nth(0), page.locator(".item").nth(1)
        expect(first).to_contain_text("PNG, JPEG or WebP")
        expect(first.locator("text=Try again")).to_have_count(0)
        expect(second).to_contain_text("transparent")
        second.locator("text=Put it on white").click()
        expect(second).to_have_attribute("data-state", "done")
        expect(page.locator("#canvas[data-shown]")).to_be_attached()
        page.click("text=The same by command line")
        expect(page.locator("#curl")).to_contain_text("background=white")

    def test_no_command_before_there_is_a_result(self, open_page):
        """Details that are opened before anything is shown are empty, and no error."""
        page = open_page("/").page
        page.evaluate("document.querySelector('#curl-details').open = true")
        page.evaluate("new Promise((done) => setTimeout(done))")  # the event comes first
        expect(page.locator("#curl")).to_have_text("")

    def test_groups_are_offered_and_sent(self, open_page):
        """Where the calibration has groups the person says which; names are shown as text."""
        watched = open_page("about:blank")
        page = watched.page
        sent = []

        def upscalers(route):
            [found] = route.fetch().json()
            route.fulfill(json=[{**found, "groups": {EVIL: 20, "faces": 30}}])

        def upscale(route):
            sent.append(route.request.post_data_buffer)
            route.fulfill(status=422, json={"type": "/problems/bad-group", "detail": EVIL})

        page.route("**/v1/upscalers", upscalers)
        page.route("**/v1/upscale", upscale)
        page.goto("/")
        expect(page.locator("#group option")).to_have_text(
            ["any kind", f"{EVIL}, 20 pairs", "faces, 30 pairs"]
        )
        page.select_option("#group", "faces")
        page.set_input_files("#files", [upload(crop())])
        expect(page.locator(".item-error p")).to_have_text(EVIL)
        assert b'name="group"\r\n\r\nfaces\r\n' in sent[0]
        assert page.locator("img[src=x]").count() == 0

    def test_a_wrong_alpha_is_not_sent(self, open_page):
        """The field is marked, and nothing enters the queue."""
        page = open_page("/").page
        expect(page.locator("#upscaler option")).not_to_have_count(0)
        page.fill("#next-alpha", "much")
        page.set_input_files("#files", [upload(crop())])
        expect(page.locator("#next-alpha")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".toast.error")).to_contain_text("number of at least 0")
        assert page.locator(".item").count() == 0


class TestEverybody:
    def test_a_phone_in_the_dark(self, open_page):
        """Nothing is wider than the screen, nothing serious is found by axe."""
        watched = open_page("/", viewport=PHONE, color_scheme="dark", has_touch=True)
        page = watched.page
        expect(page.locator("#upscaler option")).not_to_have_count(0)
        assert barriers(page) == []
        watched.screenshot("intake-phone-dark")
        open_result(page)
        slide(page, 300)
        assert (
            page.locator("#alerts").bounding_box()["y"]
            < page.locator("#canvas").bounding_box()["y"]
        )
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]
        before = zoom(page)
        pinch(page, 2.0)
        expect(page.locator("#zoom-value")).not_to_have_text(f"{before:g} %")
        assert zoom(page) == pytest.approx(2 * before, rel=0.15)
        assert barriers(page) == []
        watched.screenshot("upscale-phone-dark")
        page.set_viewport_size({"width": 360, "height": 700})
        cut = "nav => nav.scrollWidth - nav.clientWidth"
        assert page.locator(".pages").evaluate(cut) == 0

    def test_the_keyboard_alone(self, open_page):
        """Viewer, look, comparison and slider answer to keys, and say so to screen readers."""
        page = open_page("/").page
        open_result(page)
        page.focus("#canvas")
        page.keyboard.press("1")
        assert zoom(page) == 100
        page.keyboard.press("+")
        assert zoom(page) == 125
        page.keyboard.press("ArrowRight")
        page.keyboard.press("o")
        expect(page.locator("[data-look=hatch]")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Enter")
        expect(page.locator("#readout")).to_contain_text("trusted")
        expect(page.locator("#announcer")).to_contain_text("trusted from α")
        page.keyboard.press("c")
        divider = page.locator("#divider")
        expect(divider).to_be_visible()
        divider.focus()
        page.keyboard.press("ArrowRight")
        expect(divider).to_have_attribute("aria-valuenow", "52")
        page.focus("#alpha-slider")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#alpha-slider")).to_have_attribute(
            "aria-valuetext", re.compile("% would be marked, without a promise")
        )

    def test_a_link_whose_result_is_gone(self, open_page):
        """The page says what happened and what to do."""
        page = open_page("about:blank").page
        away = {"status": 503, "json": {"detail": "Not now."}}
        page.route("**/v1/results/res-none", lambda route: route.fulfill(**away), times=1)
        page.goto("/r/res-none")
        notice = page.locator("#page-notice [role=alert]")
        expect(notice).to_contain_text("Not now.")
        notice.get_by_role("button", name="Try again").click()
        expect(notice).to_contain_text("The result is gone")
        expect(notice).to_contain_text("limited time")
        expect(page.locator("#drop")).to_be_visible()


def test_a_key_is_asked_for_and_kept_in_the_tab_only(open_page, tmp_path):
    """A wrong key is refused in words, the right one opens everything, no other storage has it."""
    with serving(tmp_path, settings={"TRUSTSCALE_CLIENT_KEYS": "right-key"}) as url:
        page = open_page("/", url=url).page
        for key, said in (("wrong-key", ""), ("right-key", "The key is not valid")):
            expect(page.locator("dialog")).to_contain_text(said)
            expect(page.locator("dialog")).to_be_visible()
            page.fill("#key-input", key)
            page.click("dialog >> text=Use this key")
        open_result(page, upload(encoded(photo(3, 16, 16))))
        assert page.evaluate("JSON.stringify(localStorage)") == "{}"
        assert page.evaluate("document.cookie") == ""
        assert "right-key" in page.evaluate("JSON.stringify(sessionStorage)")
        assert "right-key" not in page.content()
        assert ADMIN_KEY not in page.content()

        page.goto("/calibrations")
        page.fill("#key-input", "right-key")
        page.click("dialog >> text=Use this key")
        expect(page.locator("dialog .callout")).to_contain_text("an admin's key is needed")
        assert page.evaluate("sessionStorage.getItem('trustscale.key.admin')") is None
        page.fill("#key-input", ADMIN_KEY)
        page.click("dialog >> text=Use this key")
        expect(page.get_by_role("link", name="New calibration")).to_be_visible()
        page.wait_for_load_state("networkidle")  # before the server goes
