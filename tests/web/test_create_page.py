"""A new calibration: four steps, from pictures to its use; and a new upscaler."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from harness.browser import ADMIN_KEY, AXED, LOOKS, barriers, check_screen
from harness.factories import encoded, photo
from harness.gateway import gateway
from tests.live import serving
from tests.upscalers.test_connect import answering
from tests.web.admin import BASE, MARKUP, Api, originals, truths, upload
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.upscalers.base import image_digest
from trustscale_server.upscalers.supplied import SuppliedConfig, SuppliedUpscaler

pytestmark = [pytest.mark.slow, pytest.mark.servers]


START = "Upload and measure"


def insist(page, done):
    """The service may advise against a switch, and asks once more."""
    anyway = page.get_by_role("button", name="Use it anyway")
    expect(anyway.or_(done)).to_be_visible()
    if anyway.is_visible():
        anyway.click()
    expect(done).to_be_visible()


def test_from_the_key_to_its_use(open_page, admin_site, api):
    """Key, pictures with mistakes, check, run, before and after, its use, and the way back."""
    page = open_page("/calibrations", url=admin_site)
    page.get_by_role("dialog").get_by_label("Admin key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Use this key").click()
    page.get_by_role("link", name="New calibration").click()
    assert page.evaluate("Object.keys(localStorage)") == []

    twin = upload(encoded(photo(0, 48, 48)), "twin.png")
    field = page.locator("input[data-role=y]")
    field.set_input_files([*originals(1), twin, upload(b"no image", f"{MARKUP}.png")])
    refused = page.locator(".callout.warn .items")
    expect(refused).to_contain_text("twin: the same image as 000")
    expect(refused).to_contain_text(f"{MARKUP}: not a PNG, JPEG or WebP image")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("[aria-current=step]")).to_have_text("Check")
    page.get_by_text("More settings").click()
    page.locator("[name=default_alpha]").fill("0.07")
    expect(page.locator("[data-verdict=few]")).to_contain_text("2 more are needed")
    page.get_by_role("button", name="Back").click()
    field.set_input_files(originals(2, first=10))
    page.get_by_role("button", name="Next").click()
    expect(page.locator("[data-verdict=enough]")).to_contain_text("3 pictures are enough")
    page.get_by_label("Name", exact=True).fill(f"{MARKUP} clicked")
    page.get_by_label("Calls of the model per picture").fill("2")
    kinds = api.get("/v1/admin/options")["usual_kinds"]
    expect(page.locator("#cost")).to_contain_text(
        f"{3 * kinds * 2:,} calls of the model now, each original as {kinds} kinds of upload"
    )
    assert barriers(page) == []
    before = api.active()
    page.get_by_role("button", name=START).click()

    expect(page.get_by_role("heading", level=1)).to_have_text(f"{MARKUP} clicked")
    expect(page.locator("[aria-current=step]")).to_have_text("Run")
    expect(page.locator(".side canvas").first).to_be_visible()  # what it got most wrong so far
    page.wait_for_url("**/calibrations?id=cal-*&try")
    made = re.findall("id=([^&]+)", page.url)[0]
    found = api.get(f"{BASE}/{made}")
    assert (found["n"], found["pipeline"]["samples"]) == (3, 2)
    assert api.active() == before  # nothing is used by itself
    expect(page.locator("#changes")).to_contain_text(
        re.compile("error of 0.07.*% → .* %.*Smallest error.* → ", re.DOTALL)
    )
    page.get_by_text("Kinds of upload").click()
    expect(page.locator("#coverage")).to_contain_text("that it adds")
    expect(page.get_by_role("link", name="Keep the old one")).to_be_visible()
    page.get_by_label(re.compile("Only this one")).check()
    page.get_by_role("button", name="Use it").click()
    insist(page, page.locator(".page-head .badge.trust", has_text="active"))
    assert api.active() == made
    page.get_by_role("link", name="Back to", exact=False).click()
    page.get_by_role("button", name="Use it").click()
    insist(page, page.locator(".page-head .badge.trust", has_text="active"))
    assert api.active() == before


def test_what_was_used_already(as_admin):
    """Photographs that the score was fitted on are named and left out before any is sent."""
    page = as_admin("/calibrations?new")
    names = []

    def with_used(route):
        answer = route.fetch()
        found = answer.json()
        pixels = json.loads(str(route.request.post_data))["pixels"]
        digest = image_digest(photo(0, 48, 48))
        names.extend(path for path, one in pixels.items() if one == digest)
        route.fulfill(json={**found, "used": [pair["name"] for pair in found["pairs"][:1]]})

    page.route("**/pairs/check", with_used)
    page.locator("input[data-role=y]").set_input_files(originals(3))
    used = page.locator("#used")
    expect(used).to_contain_text("One photograph was already used to build the score")
    assert names == ["y/000.png"]  # the page digests pixels as the service does
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("button", name=START)).to_be_disabled()
    used.get_by_role("button", name="Leave these out").click()
    expect(page.locator(".tally")).to_contain_text("2 originals")
    expect(page.get_by_role("button", name=START)).to_be_enabled()


def test_cancelled_while_it_runs(as_admin, api):
    job = api.create(truths(3), upscaler="stuck", samples=1, name=MARKUP)
    page = as_admin("/calibrations")
    card = page.locator(f".job[data-id='{job}']")
    expect(card).to_contain_text(MARKUP)
    expect(card).to_contain_text("running")
    expect(card).to_contain_text("2 of 3 pairs")
    card.get_by_role("link", name=MARKUP).click()
    expect(page.locator("[aria-current=step]")).to_have_text("Run")
    for look in AXED:
        page.set_viewport_size(look["viewport"])
        page.emulate_media(color_scheme=look["color_scheme"])
        check_screen(page, "studio-run", look)
    page.go_back()
    card.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    expect(card).to_have_count(0)
    assert api.ended(job)["state"] == "cancelled"


def test_your_upscaler(as_admin):
    """From an address over what the model needs to an entry; the key stays nowhere."""
    page = as_admin("/calibrations?connect")
    page.get_by_label("Address").fill("model.onnx")
    page.get_by_role("button", name="Ask what it is").click()
    expect(page.get_by_role("alert")).to_contain_text("trustscale connect FILE")
    with serving(answering(prompt={"type": "string"})) as address:
        page.get_by_label("Address").fill(f"http://{address}/enhance")  # that of a call
        page.get_by_label("Key", exact=False).first.fill("secret-key")
        page.get_by_label("Price of a call").fill("0.5")
        page.get_by_role("button", name="Ask what it is").click()
        form = page.locator("form")
        expect(form).to_contain_text("It is an HTTP API with an OpenAPI description.")
        calls = 100 * len(TYPICAL_UPLOADS.variants()) + 8  # and the canaries
        expect(form).to_contain_text(f"{calls:,} calls, for {calls // 2} at your price")
        page.get_by_label("request.json.prompt").fill("sharp")
        page.get_by_role("button", name="Make the one call").click()
        expect(form).to_contain_text("It works: ×2")
    expect(page.locator("pre")).to_contain_text('prompt = "sharp"')
    expect(page.locator("pre")).to_contain_text('token_env = "UPSCALER_TOKEN"')
    stored = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
    assert "secret-key" not in page.content() + stored
    assert barriers(page) == []
    check_screen(page, "connect", LOOKS[0])


def enlarged(data):
    """What a program makes of a small version, ×2."""
    with Image.open(io.BytesIO(data)) as small:
        size = 2 * small.width, 2 * small.height
        return encoded(np.asarray(small.convert("RGB").resize(size, Image.Resampling.LANCZOS)))


def test_a_program_without_an_address(open_page, tmp_path):
    """Small versions are made for it; its results are checked by name and size, then measured."""
    entry = SuppliedConfig(kind="supplied", name="topaz", scale=2, program="Topaz", version="4")
    with (
        serving(gateway(tmp_path, SuppliedUpscaler(entry), admin_keys=[ADMIN_KEY])) as address,
        Api(f"http://{address}") as api,
    ):
        page = open_page("about:blank", url=f"http://{address}")
        page.add_init_script(f"sessionStorage.setItem('trustscale.key.admin', '{ADMIN_KEY}')")
        page.goto("/calibrations?new")
        tiny = upload(encoded(photo(50, 40, 96)), "tiny.png")
        page.locator("input[data-role=y]").set_input_files(
            [upload(data, name[2:]) for name, data in truths(11, height=97, width=96).items()]
            + [tiny]
        )
        with page.expect_download() as made:
            page.get_by_role("button", name="Download 12 small versions").click()
        expect(page.locator(".toast")).to_contain_text("tiny.png")
        with zipfile.ZipFile(made.value.path()) as archive:
            small = {name[2:]: archive.read(name) for name in archive.namelist()}
        assert sorted(small) == [f"{k:03}.png" for k in range(11)]
        with Image.open(io.BytesIO(small["000.png"])) as image:
            reduced = Image.fromarray(photo(0, 97, 96)[:96]).reduce(2)
            difference = np.asarray(image.convert("RGB"), float) - np.asarray(reduced)
            assert np.abs(difference).max() < 16
        following = page.get_by_role("button", name="Next")
        expect(page.locator("#elsewhere")).to_contain_text("Results of 11 of 11 are not here yet.")
        expect(following).to_be_disabled()

        results = {name.replace(".png", "-2x.png"): enlarged(data) for name, data in small.items()}
        results["004-2x.png"] = small["004.png"]
        results["other.png"] = results.pop("007-2x.png")
        field = page.locator("input[data-role=enlarged]")
        field.set_input_files([upload(data, name) for name, data in results.items()])
        refused = page.locator(".callout.warn .items")
        expect(refused).to_contain_text("004-2x.png is 48×48, but 2× its small version is 96×96")
        expect(refused).to_contain_text("007: enlarged/ has no image of this name")
        expect(refused).to_contain_text("other: y/ has no image of this name")
        expect(refused).not_to_contain_text("tiny")
        assert barriers(page) == []
        check_screen(page, "studio-elsewhere", LOOKS[0])
        following.click()
        page.get_by_text("More settings").click()
        page.get_by_label("All others").fill('{"fidelity": {"spot": 48}}')
        expect(page.locator("#cost")).to_have_count(0)
        page.get_by_role("button", name=START).click()
        page.wait_for_url("**/calibrations?id=cal-*&try")
        expect(page.get_by_text("can be relied on")).to_have_count(3)
        (calibration,) = api.get(BASE)
        assert calibration["n"] == 9
