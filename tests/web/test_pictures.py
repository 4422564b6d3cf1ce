"""Pictures on the page that upscales: kept, waited for, refused, linked; nothing is ever lost."""

import re
import zipfile

import httpx
import pytest
from playwright.sync_api import expect

from tests.factories import encoded, photo
from tests.waiting import block_until
from tests.web.admin import upload
from tests.web.browser import ADMIN_KEY, BRING, TOUCH, fits, touch
from tests.web.pictures import EVIL, choose, crop, finished, open_result, ready, take, zoom

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def test_reload_back_and_undo(open_page):
    """Dropped, pasted: names are text. Reload and back keep it all; a removal is taken back."""
    page = open_page("/")
    ready(page)
    for event, x, name in (("dragover", 0, EVIL), ("drop", 96, EVIL), ("paste", 40, "two.png")):
        page.locator("body").evaluate(BRING, [event, name, list(crop(x))])
        expect(page.locator(".drop-veil")).to_have_count(int(event == "dragover"))
    finished(page, 2)
    page.locator(".item-open").first.click()
    title = page.get_by_role("heading", level=1)
    expect(title).to_have_text(EVIL)
    first = page.get_attribute("#canvas", "data-shown")
    page.locator(".item-open").nth(1).click()
    expect(page.locator("#canvas")).not_to_have_attribute("data-shown", first)
    second = page.get_attribute("#canvas", "data-shown")
    page.goto("/readyz")
    page.go_back()
    expect(page.locator(f"#canvas[data-shown={second}]")).to_be_visible()
    expect(page.locator(".stage .divider")).to_be_visible()  # the input is still there
    assert page.url.endswith(f"/r/{second}")
    page.go_back()
    expect(page.locator(f"#canvas[data-shown={first}]")).to_be_visible()
    expect(title).to_have_text(EVIL)
    assert page.locator("img[src=x]").count() == 0
    page.get_by_role("button", name=f"Remove {EVIL}").press("Enter")
    expect(title).to_have_text("two.png")
    page.get_by_role("button", name="Undo").click()
    expect(title).to_have_text(EVIL)
    finished(page, 2)
    page.reload()
    finished(page, 2)


def test_many(open_page):
    """A failed one pushes nothing; arrows go on and keep the zoom; all come in one zip."""
    page = open_page("/")
    open_result(page, upload(crop(), "a.png"))
    top = page.locator(".stage .frame").bounding_box()["y"]
    more = [upload(crop(40), "b.png"), upload(b"text", "no.png"), upload(crop(20), "a.png")]
    choose(page, *more)
    finished(page, 3)
    expect(page.locator(".item[data-state=failed]")).to_have_count(1)
    expect(page.locator("#tally")).to_have_text("3 of 4 done, 1 failed")
    assert page.locator(".stage .frame").bounding_box()["y"] - top < 40  # one line
    page.click("#zoom-one")
    before = zoom(page)
    page.locator(".item-open").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text("b.png")
    assert zoom(page) == before
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("alert")).to_contain_text("is not a PNG")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    with page.expect_download() as found:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(found.value.path()) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    assert folders == {"a", "b", "a-2"}
    page.get_by_role("button", name="Clear done").click()
    expect(page.locator(".item")).to_have_count(0)
    expect(page.locator(".example-stage")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    finished(page, 3)


def test_waiting(open_page, admin_site, admin_folder):
    """A full service is asked again; the first sample is a draft; one can always cancel."""
    page = open_page("/", url=admin_site)
    ready(page)
    page.select_option("[name=upscaler]", "stuck")
    full = {"status": 503, "headers": {"Retry-After": "900"}}
    problem = {"type": "/problems/overloaded", "detail": "Full."}
    page.route("**/v1/upscale", lambda route: route.fulfill(**full, json=problem), times=1)
    choose(page, upload(crop()))
    state = page.locator("#waiting-state")
    expect(state).to_contain_text("The service is busy")
    page.get_by_role("button", name="Try now").click()
    expect(state).to_contain_text("2 of 4 answers of the model")
    expect(page.locator("#waiting .draft")).to_be_visible()
    expect(page.locator("#waiting .legend")).to_contain_text("Nothing of it is checked")
    page.reload()
    expect(state).to_contain_text("2 of 4 answers of the model")
    cancel = page.locator("#waiting").get_by_role("button", name="Cancel")
    cancel.click()
    expect(page.get_by_role("alert")).to_contain_text("Cancelled")

    # The upload has arrived, its answer has not: the job is taken back once its name is known.
    hold, held = admin_folder / "data" / "hold", admin_folder / "data" / "held"
    hold.touch()
    page.get_by_role("button", name="Try again").click()
    block_until(held.exists)
    sent = page.locator(".ring:not(.unknown) .done")  # the page knows, too: a quarter is done
    expect(sent).to_have_attribute("stroke-dasharray", re.compile("^25"))
    with page.expect_request(lambda request: request.method == "DELETE") as deleted:
        cancel.click()
        hold.unlink()
    expect(page.get_by_role("alert")).to_contain_text("Cancelled")
    job = deleted.value.url
    block_until(lambda: httpx.get(job).json()["state"] == "cancelled")


def test_nothing_is_lost(open_page, admin_site, complaints):
    """Two clicks are one wish; who is away is waited for; tabs share; what takes long is asked."""
    page = open_page("/", url=admin_site)
    ready(page)
    other = page.context.new_page()
    other.goto("/")
    page.route("**/examples/dog.webp", lambda route: route.fulfill(body=crop()))
    page.dblclick(".example[data-name=dog]")
    finished(page, 1)
    finished(other, 1)
    expect(page.locator(".item")).to_have_count(1)
    page.context.set_offline(True)
    choose(page, upload(crop(40), "b.png"))
    page.get_by_role("button", name="b.png: The service cannot be reached").click()
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    page.context.set_offline(False)  # which the browser says by an event
    finished(page, 2)
    finished(other, 2)
    other.get_by_role("button", name="Remove b.png").press("Enter")
    expect(page.locator(".item")).to_have_count(1)
    assert all("DISCONNECTED" in text for text in complaints)
    complaints.clear()
    other.close()

    [fast, *rest] = httpx.get(f"{admin_site}/v1/upscalers").json()
    slow = {**fast, "seconds_per_megapixel": 600 / (fast["samples"] * 0.12)}
    page.route("**/v1/upscalers", lambda route: route.fulfill(json=[slow, *rest]))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    sent = []
    page.on("request", lambda one: one.method == "POST" and sent.append(one.url))
    choose(page, upload(encoded(photo(1, 300, 400)), "long.png"))
    page.get_by_role(
        "button", name=re.compile("long.png: It takes about 10 min, and gives 800 × 600")
    ).click()
    assert sent == []
    page.get_by_role("button", name="Reduce it to 100 px before").click()
    expect(page.locator(".stage-head .hint")).to_contain_text("200 × 150")


def test_two_results_of_one_file(open_page, admin_site):
    """Both lie under one divider, all on a wall; a page for others has both sides in it."""
    page = open_page("/", url=admin_site)
    open_result(page, upload(crop(), "a.png"))
    choose(page, upload(crop(), "a.png"))
    finished(page, 2)
    page.select_option("#left", label="fast")
    expect(page.locator(".stage .divider-side.left")).to_have_text("fast")
    expect(page.locator("#choosing")).to_contain_text("no promise covers")
    page.click("#looks [data-value=believed]")
    page.get_by_role("button", name="All at once").click()
    expect(page.locator(".wall-picture i")).to_have_count(2)
    page.get_by_role("button", name="Back").click()
    text = take(page, "Page for others, with the input").path().read_text("utf-8")
    assert text.count('src="data:image/png;base64,') == 3  # input, result, marked


def test_touch(open_page):
    """A tap tells of a pixel, one finger scrolls until zoomed in, two zoom; targets are 40 px."""
    page = open_page("about:blank", **TOUCH)
    page.clock.install(time=0)
    page.clock.pause_at(1)  # a finger that is slow to go up is not taken for held
    page.goto("/")
    open_result(page)
    canvas = page.locator("#canvas")
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    canvas.tap(position={"x": box["width"] / 4, "y": box["height"] / 2})
    expect(page.locator(".stage .readout")).to_contain_text("Pixel")
    why = page.locator(".why")
    expect(why).to_contain_text("It is trusted from an accepted error of")
    expect(why.locator("canvas")).to_have_count(2)  # the input's pixels and the result's
    why.get_by_role("button", name="Close").click()
    action = "one => getComputedStyle(one).touchAction"
    assert canvas.evaluate(action) == "pan-x pan-y"
    before = zoom(page)
    touch(page, *([(x + side * (20 + 5 * k), y) for k in range(9)] for side in (-1, 1)))
    expect(page.locator("#zoom-value")).not_to_have_text(f"{before:g} %")
    assert zoom(page) == pytest.approx(3 * before, rel=0.25)
    assert canvas.evaluate(action) == "none"
    small = """() => [...document.querySelectorAll("button, summary, select, main a, [type=range]")]
        .filter((one) => one.checkVisibility())
        .map((one) => [one.ariaLabel ?? one.textContent.trim(), one.getBoundingClientRect()])
        .filter(([, { width, height }]) => width < 40 || height < 39.9)
        .map(([text]) => text)"""
    assert page.evaluate(small) == []
    page.click(".sheet-handle")
    assert page.evaluate(small) == []
    page.set_viewport_size({"width": 360, "height": 700})
    assert fits(page)


def test_links_and_expiry(open_page, site):
    """A result is seen by a link alone; of one that is gone only its owner has the picture."""
    page = open_page("/")
    first = open_result(page)
    alone = open_page(f"/?result={first}")
    expect(alone.locator("#share")).to_have_text(page.inner_text("#share"))
    expect(alone.locator("#compare")).to_be_disabled()
    away = {"status": 503, "json": {"detail": "Not now."}}
    alone.route("**/v1/results/res-none", lambda route: route.fulfill(**away), times=1)
    alone.goto("/r/res-none")
    notice = alone.get_by_role("alert")
    expect(notice).to_contain_text("Not now.")
    notice.get_by_role("button", name="Try again").click()
    expect(notice).to_contain_text("The result is gone")
    expect(notice).to_contain_text("limited time")

    page.route(f"**/v1/results/{first}/*", lambda route: route.fulfill(status=404, json={}))
    page.reload()
    page.get_by_role("button", name="Again with the same seed").click()
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    second = page.get_attribute("#canvas", "data-shown")
    before, after = (httpx.get(f"{site}/v1/results/{one}").json() for one in (first, second))
    same = ("seed", "alpha", "trusted_fraction")
    assert [after[key] for key in same] == [before[key] for key in same]


def guarded(route):
    """Answer as a service with `client_keys`, of which a client's opens nothing of an admin's."""
    key = route.request.headers.get("authorization", "").removeprefix("Bearer ")
    if key == ADMIN_KEY or (key == "right-key" and "/admin/" not in route.request.url):
        return route.continue_()
    words = {"": "A key is needed.", "right-key": "For this, an admin's key is needed."}
    problem = {"detail": words.get(key, "The key is not valid.")}
    return route.fulfill(status=403 if key == "right-key" else 401, json=problem)


def test_a_key_is_kept_in_the_tab_only(open_page, admin_site):
    """A wrong key is refused in words, the right one opens all; it can be changed and goes."""
    page = open_page("about:blank", url=admin_site)
    page.route("**/v1/**", guarded)
    page.goto("/")

    def enter(key, said):
        expect(page.locator("dialog")).to_contain_text(said)  # one for all requests
        page.fill("dialog input", key)
        page.click("dialog >> text=Use this key")

    enter("wrong-key", "API key needed")
    enter("right-key", "The key is not valid")
    open_result(page, upload(encoded(photo(3, 16, 16))))
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    assert page.evaluate("document.cookie") == ""
    assert "right-key" in page.evaluate("JSON.stringify(sessionStorage)")
    assert "right-key" not in page.content()
    page.goto("/calibrations")
    enter("right-key", "Admin key needed")
    enter(ADMIN_KEY, "an admin's key is needed")
    expect(page.get_by_role("link", name="New calibration")).to_be_visible()
    expect(page.get_by_role("link", name="Monitor")).to_be_visible()
    page.click("#keys-button")
    page.get_by_label("API key").fill("another")
    page.click("dialog >> text=Save")
    key = "sessionStorage.getItem('trustscale.key.client')"
    block_until(lambda: page.evaluate(key) == "another")
    page.click("#keys-button")
    page.click("dialog >> text=Forget all")
    block_until(lambda: page.evaluate("sessionStorage.length") == 0)
