"""Pictures on the page that upscales: kept, waited for, refused, linked; nothing is ever lost."""

import re
import zipfile

import httpx
import pytest
from playwright.sync_api import expect

from harness.browser import ADMIN_KEY, BRING, TOUCH, barriers, fits, jargon, touch
from harness.factories import encoded, photo
from harness.waiting import block_until
from tests.web.admin import upload
from tests.web.pictures import EVIL, add, choose, crop, finished, open_result, ready, take, zoom

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def test_reload_back_and_undo(open_page):
    """Dropped, pasted: names are text. Reload and back keep it all; a removal is taken back."""
    page = open_page("/")
    ready(page)
    title = page.get_by_role("heading", level=1)
    ids = []
    for event, x, name in (("dragover", 0, EVIL), ("drop", 96, EVIL), ("paste", 40, "two.png")):
        page.locator("body").evaluate(BRING, [event, name, list(crop(x))])
        expect(page.locator(".drop-veil")).to_have_count(int(event == "dragover"))
        if event != "dragover":  # what comes while another one is open is shown
            expect(title).to_have_text(name)
            finished(page, len(ids) + 1)
            expect(page).to_have_url(re.compile("/r/res-"))
            ids.append(page.url.rpartition("/")[2])
    first, second = ids
    page.locator(".item-open").first.click()
    expect(page.locator(f"#canvas[data-shown={first}]")).to_be_visible()
    page.locator(".item-open").nth(1).click()
    expect(page.locator(f"#canvas[data-shown={second}]")).to_be_visible()
    page.goto("/readyz")
    page.go_back()
    expect(page.locator(f"#canvas[data-shown={second}]")).to_be_visible()
    expect(page.locator("#compare")).to_be_enabled()  # the input is still there
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


def without_promise(route):
    """A result as if nothing were promised of it."""
    found = route.fetch().json()
    found["guarantee"] |= {"promised": False}
    route.fulfill(json=found)


FOLDER = """(names) => {
  const png = (name) => new File(["x"], name, { type: "image/png" });
  const file = (name) => ({ isFile: true, file: (done) => done(png(name)) });
  const parts = [names.map(file), []];
  const reader = { readEntries: (done) => done(parts.shift()) };
  const folder = { isDirectory: true, createReader: () => reader };
  const event = new DragEvent("drop", { bubbles: true, cancelable: true });
  const items = [{ webkitGetAsEntry: () => folder }];
  Object.defineProperty(event, "dataTransfer", { value: { types: ["Files"], items, files: [] } });
  document.body.dispatchEvent(event);
}"""


def test_many(open_page):
    """Several come on a wall: filtered, chosen, walked by arrows, in one zip; so do folders."""
    page = open_page("/")
    page.route("**/v1/results/res-*", without_promise)
    ready(page)
    more = [upload(crop(40), "b.png"), upload(b"text", "no.png"), upload(crop(20), "a.png")]
    page.set_input_files("#files", [upload(crop(), "a.png"), *more])
    expect(page).to_have_url(re.compile("/wall$"))
    finished(page, 3)
    expect(page.locator("#tally")).to_have_text("3 of 4 done, 1 failed")
    expect(page.locator(".wall-picture canvas")).to_have_count(3)
    page.get_by_role("button", name="Failed 1").click()
    expect(page.locator(".wall-tile")).to_have_count(1)
    page.get_by_role("button", name="Failed 1").click()
    page.get_by_role("button", name="No promise 3").click()
    expect(page.locator(".wall-tile")).to_have_count(3)
    page.reload()
    finished(page, 3)
    tiles = page.locator(".wall-tile")
    tiles.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tiles.nth(1)).to_be_focused()
    with page.expect_download() as found:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(found.value.path()) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    assert folders == {"a", "b", "a-2"}
    page.get_by_label("Choose b.png").check(force=True)
    with page.expect_download() as found:
        page.get_by_role("button", name="Download 1").click()
    with zipfile.ZipFile(found.value.path()) as archive:
        assert all(name.startswith("b/") for name in archive.namelist())

    page.get_by_role("button", name=re.compile("^b.png:")).click()
    title = page.get_by_role("heading", level=1)
    expect(title).to_have_text("b.png")
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    page.click("#zoom-one")
    before = zoom(page)
    page.locator(".item.selected .item-open").focus()
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_text("a.png")
    expect(page.locator("#zoom-value")).to_have_text(f"{before:g} %")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("alert")).to_contain_text("is not a PNG")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("link", name="Back to all pictures").click()
    expect(page.get_by_label("Choose b.png")).to_be_checked()
    page.get_by_label("Choose b.png").uncheck(force=True)
    page.get_by_role("button", name="Clear done").click()
    expect(page.locator(".wall-tile")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    finished(page, 3)
    page.evaluate(FOLDER, ["one.png", "two.png"])
    for name in ("one.png", "two.png"):
        expect(page.get_by_role("button", name=re.compile(f"^{name}:"))).to_be_visible()


def test_what_is_made_is_shown(open_page, admin_site):
    """While a model works its own pixels lie over the upload, and what is not made yet shimmers."""
    page = open_page("/", url=admin_site)
    ready(page)
    page.click("#open-settings")
    page.select_option("[name=upscaler]", "growing")
    page.get_by_role("button", name="Done").click()
    choose(page, upload(crop()))
    draft = page.locator("#waiting .draft")
    expect(draft).to_be_visible()
    expect(page.locator("#waiting .shimmer")).to_be_visible()
    expect(page.locator("#waiting .legend")).to_contain_text("not checked yet")
    upper, lower = draft.evaluate(ALPHAS)
    assert (upper, lower) == (255, 0)
    page.locator("#waiting").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("Cancelled")


ALPHAS = """async (image) => {
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", {
    willReadFrequently: true,
  });
  context.drawImage(image, 0, 0);
  return [1, height - 2].map((y) => context.getImageData(width >> 1, y, 1, 1).data[3]);
}"""


def test_waiting(open_page, admin_site, admin_folder):
    """A full service is asked again; the first sample is a draft; one can always cancel."""
    page = open_page("/", url=admin_site)
    ready(page)
    page.click("#open-settings")
    page.select_option("[name=upscaler]", "stuck")
    page.get_by_role("button", name="Done").click()
    full = {"status": 503, "headers": {"Retry-After": "900"}}
    problem = {"type": "/problems/overloaded", "detail": "Full."}
    page.route(
        re.compile(r"/v1/upscale(\?|$)"), lambda route: route.fulfill(**full, json=problem), times=1
    )
    choose(page, upload(crop()))
    state = page.locator("#waiting-state")
    expect(state).to_contain_text("Busy. Retrying in")
    page.get_by_role("button", name="Try now").click()
    expect(state).to_contain_text("2 of 4 answers of the model")
    expect(page.locator("#waiting .draft")).to_be_visible()
    expect(page.locator("#waiting .legend")).to_contain_text("not checked yet")
    assert barriers(page) == []
    assert jargon(page) == []
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
    page.get_by_role("button", name="b.png: Offline. Retrying in").click()
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
    slow = {**fast, "scale": 4, "seconds_per_megapixel": 600 / (fast["samples"] * 0.12)}
    page.route("**/v1/upscalers", lambda route: route.fulfill(json=[slow, *rest]))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    sent = []
    page.on("request", lambda one: one.method == "POST" and sent.append(one.url))
    choose(page, upload(encoded(photo(1, 300, 400)), "long.png"))
    page.get_by_role(
        "button", name=re.compile(r"long.png: It takes about \d+ min, and gives 1,600 × 1,200")
    ).click()
    assert sent == []
    # Half a minute would give less than was sent.
    page.get_by_role("button", name="Reduce it to 200 px first").click()
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    page.click("#open-drawer")
    page.get_by_text("Details of this result").click()
    expect(page.locator("#facts")).to_contain_text("400 × 300")


def test_the_page_that_people_share(open_page, tmp_path):
    """One file, without a service: the three views, holding, and the promise."""
    page = open_page("/")
    open_result(page)
    file = tmp_path / "proof.html"
    file.write_bytes(take(page, re.compile("^Proof page")).path().read_bytes())
    page.goto(f"file://{file}")
    expect(page.locator("html[data-ready]")).to_be_attached()
    expect(page.locator("#legend")).to_contain_text("gravest doubts")
    expect(page.locator(".legend i")).to_be_hidden()  # nothing is hatched
    page.get_by_role("button", name="All doubts").click()
    expect(page.locator("#legend")).to_contain_text("Hatched: don’t rely on it")
    expect(page.locator(".legend i")).to_be_visible()
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    expect(page.locator("#legend")).to_contain_text("As the model made it")
    page.mouse.up()
    expect(page.locator("footer")).to_contain_text(re.compile(r"\d % of it can be relied on"))


def test_touch(open_page):
    """A tap asks why, two zoom, a long one reveals, two fingers zoom the picture; one swipes on."""
    page = open_page("about:blank", **TOUCH)
    page.clock.install(time=0)
    page.goto("/")
    open_result(page)
    canvas = page.locator("#canvas")
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    at = {"position": {"x": box["width"] / 4, "y": box["height"] / 2}}
    page.clock.pause_at(1_000_000)
    before = zoom(page)
    canvas.tap(**at)
    page.clock.run_for(400)
    why = page.locator(".why")
    expect(why.locator("canvas")).to_have_count(3)  # sent, made, and the difference
    why.get_by_role("button", name="Close").click()
    page.clock.run_for(50)
    assert zoom(page) == before  # it went above the card, and is back
    canvas.tap(**at)
    canvas.tap(**at)
    page.clock.run_for(400)
    expect(why).to_have_count(0)
    assert zoom(page) == pytest.approx(2.5 * before, rel=0.1)
    page.click("#zoom-fit")
    page.clock.run_for(50)
    touch(page, *([(x + side * (20 + 5 * k), y) for k in range(9)] for side in (-1, 1)))
    page.clock.run_for(50)
    assert zoom(page) == pytest.approx(3 * before, rel=0.25)
    assert page.evaluate("visualViewport.scale") == 1
    page.click("#zoom-fit")
    page.clock.resume()
    small = """() => [...document.querySelectorAll("button, summary, select, main a, [type=range]")]
        .filter((one) => one.checkVisibility())
        .map((one) => [one.ariaLabel ?? one.textContent.trim(), one.getBoundingClientRect()])
        .filter(([, { width, height }]) => width < 40 || height < 39.9)
        .map(([text]) => text)"""
    assert page.evaluate(small) == []
    page.click("#open-drawer")
    assert page.evaluate(small) == []
    page.click("#open-drawer")
    add(page, "second.png", x=0)
    expect(page.locator(".item")).to_have_count(2)
    touch(page, [(box["x"] + 60 + 25 * k, y) for k in range(9)])
    expect(page.get_by_role("heading", level=1)).to_have_text("piece.png")
    page.set_viewport_size({"width": 360, "height": 700})
    assert fits(page)


def test_links_and_expiry(open_page, site):
    """A result is seen by a link alone; of one that is gone only its owner has the picture."""
    page = open_page("/")
    first = open_result(page)
    alone = open_page(f"/?result={first}")
    expect(alone.locator("#share")).to_have_text(page.inner_text("#share"))
    alone.click("#views [data-value=original]")
    expect(alone.locator(".frame .legend")).to_contain_text("was sent")  # as the service kept it
    away = {"status": 503, "json": {"detail": "Not now."}}
    alone.route("**/v1/results/res-none*", lambda route: route.fulfill(**away), times=1)
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
    page.click("#keys-button")
    page.get_by_label("API key").fill("another")
    page.click("dialog >> text=Save")
    key = "sessionStorage.getItem('trustscale.key.client')"
    block_until(lambda: page.evaluate(key) == "another")
    page.click("#keys-button")
    page.click("dialog >> text=Forget all")
    block_until(lambda: page.evaluate("sessionStorage.length") == 0)
