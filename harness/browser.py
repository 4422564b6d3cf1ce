"""A real browser in front of a real server, and what every page must stand.

Nothing here needs pytest, so the benchmark and the screenshots use it too.
"""

import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe

from harness.servers import ProcessGroup, ServerMissing, free_port

ADMIN_KEY = "page-admin-key"
ARTEFACTS = Path(__file__).parents[1] / "test-artefacts"
DESKTOP, LAPTOP = {"width": 1360, "height": 850}, {"width": 1280, "height": 640}
PHONE = {"width": 390, "height": 844}
TOUCH = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
LOOKS = [
    {"viewport": DESKTOP, "color_scheme": "light"},
    {"viewport": LAPTOP, "color_scheme": "dark"},
    {**TOUCH, "color_scheme": "dark"},
]
"""How the screens are looked at: three sizes, light and dark."""
AXED = [LOOKS[0], LOOKS[2]]
"""The looks that axe is shown: both layouts and both themes; it takes longer than all else."""
NOTHING_OUTSIDE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def chromium_program():
    """Chromium on the PATH. Raises ServerMissing."""
    for name in ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise ServerMissing("no chromium in PATH")


@contextmanager
def launched(playwright):
    """The browser, without a window and without a way out of this machine."""
    browser = playwright.chromium.launch(executable_path=chromium_program(), args=NOTHING_OUTSIDE)
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def serving(folder, *, command=("-m", "trustscale_server", "serve", "--port"), settings=None):
    """The address of `trustscale serve` with a data folder of its own.

    `command` is what Python runs; it gets the port as its last argument.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {
        "TRUSTSCALE_DATA_DIR": str(folder / "data"),
        "TRUSTSCALE_ADMIN_KEYS": ADMIN_KEY,
        "TRUSTSCALE_UPSCALERS": '[{"name": "span-x4", "kind": "embedded"}]',
        **(settings or {}),
    }
    program = [sys.executable, *command, str(port)]
    with ProcessGroup(program, log=folder / "server.log", env=env) as server:
        server.wait_for(f"{url}/healthz", "the server")
        yield url


def listen(page, complaints):
    """Collect what a page's console and network complain of, from now on."""

    def said(message):
        # A refused request is shown to the person by the page; the browser repeats it here.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            complaints.append(f"{message.type}: {message.text}")

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # what the page itself has given up
            complaints.append(f"{request.failure}: {request.url}")

    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("requestfailed", failed)


# A file comes to an element by an event: drop, dragover or paste; false if the page takes it.
BRING = """(place, [event, name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const init = { dataTransfer: data, clipboardData: data, bubbles: true, cancelable: true };
  const Kind = event === "paste" ? ClipboardEvent : DragEvent;
  return place.dispatchEvent(new Kind(event, init));
}"""


# What is said anywhere on the page, but where the statistics are told.
SAID = """() => {
  const copy = document.body.cloneNode(true);
  for (const one of copy.querySelectorAll("details")) {
    const name = one.querySelector("summary").textContent.trim();
    if (["How exactly?", "Details of this result", "In full"].includes(name)) one.remove();
  }
  for (const one of copy.querySelectorAll("button"))
    if (one.textContent.trim() === "Mask") one.remove();
  const all = [...copy.querySelectorAll("*")];
  const named = ["title", "aria-label", "alt", "placeholder", "aria-valuetext"];
  return [copy.textContent, ...all.flatMap((one) => named.map((name) => one.getAttribute(name)))]
    .filter(Boolean)
    .join(" | ");
}"""
# A button may be named "Mask", which is a photographer's word for a file.
JARGON = re.compile(
    r"σ|α|\b(sigma|alpha|masks?|scores?|pairs?|windows?)\b|calibrat\w*", re.IGNORECASE
)


def jargon(page):
    """The statistician's words that a photographer meets on this page, with what is around them."""
    said = page.evaluate(SAID)
    return [said[max(0, found.start() - 40) : found.end() + 40] for found in JARGON.finditer(said)]


def fits(page):
    # What is too wide for a phone zooms it out, so that its own width says nothing.
    wide = page.evaluate("Math.max(document.documentElement.scrollWidth, innerWidth)")
    return bool(wide <= (page.viewport_size or DESKTOP)["width"])


def check_screen(page, name, look):
    """Keep a picture of a screen in one of `LOOKS`; nothing is cut off, nobody is barred."""
    assert fits(page)
    found = barriers(page) if look in AXED else []
    assert found == [], found
    ARTEFACTS.mkdir(exist_ok=True)
    name = f"{name}-{look['viewport']['width']}-{look['color_scheme']}.png"
    page.screenshot(path=ARTEFACTS / name, full_page=True)


def touch(page, *paths):
    """Fingers that go along paths of the same length."""
    session = page.context.new_cdp_session(page)
    for number, places in enumerate(zip(*paths, strict=True)):
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def barriers(page):
    """What axe finds serious or critical: rule and the elements at fault."""
    # Its look into style sheets makes inline styles of its own, which the pages' policy refuses.
    results = Axe().run(page, options={"preload": False}).response
    return [
        f"{found['id']}: {[node['target'] for node in found['nodes']]}"
        for found in results["violations"]
        if found["impact"] in {"serious", "critical"}
    ]
