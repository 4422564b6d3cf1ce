"""The page that upscales, used as a person would, in a real browser on a real server."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import expect

from tests.web.browser import LOOKS, check_screen
from tests.web.pictures import crop, exact, open_result, ready, slide, upload, zoom
from tests.web.results import BOUND

pytestmark = [pytest.mark.slow, pytest.mark.servers]


class TestTheIdea:
    @pytest.mark.parametrize("look", LOOKS, ids=str)
    def test_first_screen(self, open_page, site, look):
        """A marked example half the fold high, without an upload; beneath it the drop target."""
        watched = open_page("about:blank", **look)
        page, posts = watched.page, []
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
        expect(page.locator("figcaption")).to_contain_text("Pink: the model is guessing")
        x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 70, y)
        page.mouse.up()
        divider = page.locator(".example-stage .divider input")
        share = 50 + 70 / frame["width"] * 100
        assert float(divider.input_value()) == pytest.approx(share, abs=1)
        [upscaler] = httpx.get(f"{site}/v1/upscalers").json()
        own = upscaler["default_alpha"]
        [share] = [row["trusted_fraction"] for row in upscaler["table"] if row["alpha"] == own]
        expect(page.locator(".choice-words")).to_contain_text(
            f"{100 * share:.0f} % of a typical photo is trusted"
        )
        calls = upscaler["samples"]
        expect(page.locator("#drop")).to_contain_text(f"{calls} call{'s' if calls > 1 else ''} of")
        expect(page.get_by_role("link", name="Monitor")).to_have_count(0)  # until there is a key
        assert posts == []
        check_screen(watched, "first", look)

    def test_the_divider_comes_in(self, open_page):
        """It is seen to move, once, unless somebody wants things to be still."""
        page = open_page("about:blank", reduced_motion="no-preference").page
        page.clock.install(time=0)
        page.clock.pause_at(1)
        page.goto("/")
        expect(page.locator("#example[data-shown]")).to_be_attached()
        divider = page.locator(".example-stage .divider input")
        assert float(divider.input_value()) == pytest.approx(95)
        page.clock.run_for(2000)
        expect(divider).to_have_value("50")

    @pytest.mark.parametrize("look", LOOKS, ids=str)
    def test_result(self, open_page, look):
        """Compare is on, the picture fills its frame, and the download lies above the fold."""
        watched = open_page("/", **look)
        page = watched.page
        open_result(page)
        height = look["viewport"]["height"]
        download = page.locator("#download").bounding_box()
        frame = page.locator(".stage .frame").bounding_box()
        assert download["y"] + download["height"] < height
        assert frame["y"] < 0.45 * height
        assert 0.75 < frame["width"] / frame["height"] < 1.35  # of a square picture
        expect(page.locator(".stage .divider")).to_be_visible()
        expect(page.locator("#looks [data-value=contour]")).to_have_attribute(
            "aria-pressed", "true"
        )
        expect(page.locator(".stage .legend")).to_have_text("the model is guessing")
        expect(page.get_by_role("heading", level=1)).to_have_text("piece.png")
        if "has_touch" in look:
            expect(page.locator("#promise")).to_be_hidden()
            page.click(".sheet-handle")
        expect(page.locator("#promise")).to_be_visible()
        check_screen(watched, "result", look)

    def test_the_promise(self, open_page, site):
        """Strict is an α of the calibration's own table; the answer is said in words."""
        page = open_page("/").page
        ready(page)
        page.get_by_role("button", name="Strict").click()
        result_id = open_result(page, upload(crop(), "a 'quoted' name.png"))
        url = f"{site}/v1/results/{result_id}"
        result = httpx.get(url).json()
        assert page.url == f"{site}/r/{result_id}"
        assert result["alpha"] == pytest.approx(0.05, abs=BOUND / 65534)
        assert result["alpha"] <= 0.05
        share = float(page.inner_text("#share").removesuffix(" %"))
        assert share == pytest.approx(100 * result["trusted_fraction"], abs=0.051)
        promise = page.locator("#promise")
        expect(promise).to_contain_text("at most about 5 of the 100 steps of lightness")
        page.get_by_text("Conditions, and what voids it").click()
        for sentence in (result["guarantee"]["statement"], *result["guarantee"]["voids"]):
            expect(promise).to_contain_text(sentence)
        assert result["warnings"]
        for warning in result["warnings"]:
            expect(page.locator("#alerts")).to_contain_text(warning)

        requests = []
        page.on("request", lambda request: requests.append(request.url))
        slide(page, 420)
        expect(page.locator("#moved")).to_contain_text(f"Exploring {page.input_value('#alpha')}.")
        expect(page.locator("#share-label")).to_contain_text("without a promise")
        assert requests == []
        alpha = exact(page)
        with page.expect_download() as found:
            page.click("summary[aria-label^=More]")
            page.get_by_role("menuitem", name="Mask").click()
        mask = Path(found.value.path()).read_bytes()
        assert found.value.suggested_filename.startswith("a 'quoted' name.mask.alpha-")
        assert mask == httpx.get(f"{url}/mask.png", params={"alpha": alpha}).content
        with page.expect_download() as found:
            page.click("summary[aria-label^=More]")
            page.get_by_role("menuitem", name="Everything").click()
        with zipfile.ZipFile(found.value.path()) as archive:
            assert archive.testzip() is None
            assert archive.read("image.png") == httpx.get(f"{url}/image.png").content
            assert mask in [archive.read(name) for name in archive.namelist()]
            assert json.loads(archive.read("result.json"))["id"] == result_id
            assert b"chosen after looking" in archive.read("NOTE.txt")
        page.get_by_text("The same by command line").click()
        command = page.inner_text("#curl")
        assert "'image=@\"a '\\''quoted'\\'' name.png\"'" in command
        assert f"'alpha={result['alpha']}'" in command  # one chosen after looking is not laundered
        assert alpha not in command

        page.fill("#alpha", "0,06")
        page.press("#alpha", "Enter")
        assert page.input_value("#alpha") == "0.06"
        for wrong, said in (("-3", "at least 0"), ("much", "at least 0")):
            page.fill("#alpha", wrong)
            page.press("#alpha", "Enter")
            expect(page.locator(".toast.error").last).to_contain_text(said)
            assert page.input_value("#alpha") == "0.06"
        page.get_by_role("button", name=re.compile("Use 0.06")).click()
        page.click("#back")
        page.keyboard.press("ArrowLeft")  # one step is told apart from where it began
        here, served = re.findall(r"0\.\d+", page.inner_text("#moved p"))
        assert here != served
        page.click("#open-settings")
        expect(page.get_by_role("dialog").locator("#next-alpha")).to_have_value("0.06")
        page.get_by_role("dialog").locator("summary").click()
        for typed, said in (("−3", "at least 0"), (".001", "Nothing can be trusted below")):
            page.get_by_role("dialog").locator("#next-alpha").fill(typed)
            expect(page.get_by_role("dialog")).to_contain_text(said)
        page.get_by_role("dialog").get_by_role("button", name="Done").click()

        [found] = httpx.get(f"{site}/v1/upscalers").json()
        newer = [{**found, "calibration": "cal-newer"}]
        page.route("**/v1/upscalers", lambda route: route.fulfill(json=newer))
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#outdated")).to_contain_text("served from cal-newer")

    def test_the_forms_of_a_download(self, open_page):
        """Each form opens elsewhere, as large, with what the camera wrote, but for the place."""
        camera = Image.Exif()
        camera[ExifTags.Base.Artist] = "Ada"
        camera.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
        photograph = io.BytesIO()
        Image.open(io.BytesIO(crop())).save(photograph, "JPEG", exif=camera)
        page = open_page("/").page
        ready(page)
        page.get_by_text("Exact value and more").click()
        page.select_option("[name=metadata]", "keep")
        open_result(page, upload(photograph.getvalue(), "piece.jpg", "image/jpeg"))
        for form in ("png", "webp"):
            page.click("summary[aria-label^=More]")
            with page.expect_download() as found:
                page.get_by_role("menuitem", name=form.upper(), exact=True).click()
            assert found.value.suggested_filename == f"piece.upscaled.{form}"
            with Image.open(found.value.path()) as image:
                image.load()
                assert (image.format, image.size) == (form.upper(), (192, 192))
                exif = image.getexif()
            assert exif[ExifTags.Base.Artist] == "Ada"
            assert not exif.get_ifd(ExifTags.IFD.GPSInfo)
        expect(page.locator(".toast")).to_contain_text("It is compressed")

    def test_the_keyboard_alone(self, open_page):
        """An example is upscaled, looked at, compared and left, with keys that work everywhere."""
        page = open_page("/").page
        ready(page)
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
        page.keyboard.press("ArrowRight")
        expect(divider.locator("input")).to_have_value("51")
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
        expect(page.locator("#announcer")).to_contain_text("from α")
        page.focus("#alpha-slider")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#alpha-slider")).to_have_attribute(
            "aria-valuetext", re.compile("% would be marked, without a promise")
        )
