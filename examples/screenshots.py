"""The screenshots of README and docs: `python -m examples.screenshots`.

Starts a server on an empty data folder and headless Chromium, and writes to `docs/images`.
`--all FOLDER` writes every view at three sizes, light and dark, to a folder instead: made of two
commits, they show before and after.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from harness.browser import ADMIN_KEY, PHONE, launched, serving
from trustscale import Tar, Trustscale

EXAMPLES = Path(__file__).parent
SIDE = 128


def crops() -> dict[str, bytes]:
    """The example photographs in overlapping squares, as PNG files by name."""
    files = {}
    for path in sorted(EXAMPLES.glob("*.png")):
        photograph = Image.open(path).convert("RGB")
        for top in range(0, photograph.height - SIDE + 1, SIDE // 2):
            for left in range(0, photograph.width - SIDE + 1, SIDE // 2):
                out = io.BytesIO()
                photograph.crop((left, top, left + SIDE, top + SIDE)).save(out, "PNG")
                files[f"{path.stem}-{left}-{top}"] = out.getvalue()
    return files


def service_of(page: Page) -> Trustscale:
    """A client of the service of these pages, as admin."""
    page.goto("/healthz")
    return Trustscale(page.evaluate("location.origin"), ADMIN_KEY)


def job(page: Page, files: Mapping[str, bytes], **config: Any) -> dict[str, Any]:
    """An ended calibration job of these truths."""
    with service_of(page) as service:
        found = service.calibrate(Tar({f"y/{name}.png": files[name] for name in files}), **config)
        found.watch()
        return found.document


def signed_in(page: Page, path: str) -> None:
    """Open a page with the admin's key."""
    page.goto("/healthz")
    page.evaluate(f"sessionStorage.setItem('trustscale.key.admin', '{ADMIN_KEY}')")
    page.goto(path)


def made(page: Page) -> str:
    """The id of a calibration of 27 crops, each reduced in one way, which is not used yet."""
    found = job(page, crops(), name="example photographs", degradation={})
    return str(found["result"]).rpartition("/")[2]


def studio(page: Page) -> None:
    """Home, with a calibration that is not used yet."""
    made(page)
    signed_in(page, "/calibrations")
    page.wait_for_selector(".pipeline:not(:empty) >> nth=1")
    page.click(".sentence >> nth=1")


def trial(page: Page) -> None:
    """Before and after, on own photographs."""
    signed_in(page, f"/calibrations?id={made(page)}&try")
    page.wait_for_selector(".side canvas >> nth=8")


def calibration(page: Page) -> None:
    """A calibration of 27 crops in detail."""
    signed_in(page, f"/calibrations?id={made(page)}")
    page.wait_for_selector(".picture img")


def annotate(page: Page) -> None:
    """A pair of a semantic calibration, half labelled."""
    few = dict(list(crops().items())[::4])
    waiting = job(page, few, name="street scenes", fidelity={"metric": "semantic"})
    signed_in(page, f"/annotate?id={waiting['id']}")
    page.wait_for_selector(".items-list [aria-current]")
    page.keyboard.press("x")
    page.wait_for_selector(".dot.done")
    page.wait_for_timeout(500)
    canvas = page.locator("[data-part=prediction] canvas")
    left, top, width, height = canvas.evaluate(
        "(one) => { const box = one.getBoundingClientRect();"
        " return [box.x, box.y, box.width, box.height]; }"
    )
    places = [(0.45, 0.35), (0.5, 0.45), (0.58, 0.52)]
    at = [(left + x * width, top + y * height) for x, y in places]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()
    page.wait_for_selector(".save-state.good")


IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDE = {"width": 1360, "height": 850}
PATIENCE_MS = 300_000


def ready(page: Page) -> None:
    """The first screen, its example marked."""
    page.goto("/")
    page.wait_for_selector(".lie .panel")
    page.wait_for_selector("html[data-ready]")


def upscaled(page: Page, name: str = "bridge") -> None:
    """An example photograph as its result is first seen."""
    ready(page)
    page.click(f".example[data-name={name}]")
    page.wait_for_selector("#canvas[data-shown]")


def marked(page: Page) -> None:
    """The same with its doubts, and one of them asked about."""
    upscaled(page)
    page.click("#views [data-value=marked]")
    page.click("#next-doubt")


def wall(page: Page) -> None:
    """The three photographs of the examples, and one of the repainted ones."""
    ready(page)
    files = [EXAMPLES / f"{name}.png" for name in ("bridge", "coast", "dog")]
    page.set_input_files("#files", [*files, EXAMPLES / "repainted" / "astronaut.webp"])
    page.wait_for_selector("[data-state=done] >> nth=3")
    page.wait_for_timeout(1000)


SCENES: dict[str, tuple[Callable[[Page], None], dict]] = {
    "page-upscale": (upscaled, {"viewport": WIDE}),
    "page-marked": (marked, {"viewport": WIDE}),
    "page-wall": (wall, {"viewport": WIDE}),
    "page-intake": (ready, {"viewport": WIDE}),
    "page-phone": (marked, {"viewport": PHONE, "device_scale_factor": 2}),
    "page-studio": (studio, {"viewport": WIDE}),
    "page-trial": (trial, {"viewport": WIDE}),
    "page-calibration": (calibration, {"viewport": WIDE}),
    "page-annotate": (annotate, {"viewport": WIDE}),
}


def picture(
    browser: Browser, url: str, scene: Callable[[Page], None], options: dict
) -> Image.Image:
    """Return a screenshot of a scene, in a fresh context."""
    context = browser.new_context(base_url=url, reduced_motion="reduce", **options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    scene(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return shot


def promise(page: Page) -> None:
    """A result with its promise beside it."""
    upscaled(page)
    page.click("#open-drawer")


def downloads(page: Page) -> None:
    """What can be taken away."""
    upscaled(page)
    page.click("#download")


def settings(page: Page) -> None:
    """What can be asked for before."""
    ready(page)
    page.click("#open-settings")
    page.get_by_role("dialog").get_by_text("More options").click()


def wizard(page: Page) -> None:
    """The second step of a new calibration."""
    signed_in(page, "/calibrations?new")
    files = [{"name": f"{k}.png", "mimeType": "image/png", "buffer": one} for k, one in named()]
    page.set_input_files("input[data-role=y]", files)
    page.get_by_role("button", name="Next").click()


def named() -> list[tuple[str, bytes]]:
    """The first crops, by name."""
    return [*crops().items()][:12]


def connect(page: Page) -> None:
    """A model is asked what it is."""
    signed_in(page, "/calibrations?connect")


VIEWS: dict[str, Callable[[Page], None]] = {
    **{name.removeprefix("page-"): scene for name, (scene, _) in SCENES.items()},
    **{one.__name__: one for one in (promise, downloads, settings, wizard, connect)},
}
SIZES = [WIDE, {"width": 820, "height": 1180}, PHONE]


def look_at_all(browser: Browser, url: str, folder: Path) -> None:
    """Every view at three sizes, light and dark, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scene in VIEWS.items():
        context = browser.new_context(base_url=url, reduced_motion="reduce", viewport=WIDE)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        scene(page)
        page.mouse.move(0, 0)
        for size in SIZES:
            page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.wait_for_timeout(300)
                page.screenshot(path=folder / f"{name}-{size['width']}-{scheme}.png")
        context.close()


def main() -> int:
    """Make all pictures, or those that are named."""
    is_look = sys.argv[1:2] == ["--all"]
    wanted = sys.argv[1:] or [*SCENES]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        if is_look:
            look_at_all(browser, url, Path(sys.argv[2]))
            return 0
        for name in wanted:
            path = IMAGES / f"{name}.webp"
            picture(browser, url, *SCENES[name]).save(path, quality=84, method=6)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")  # noqa: T201 - a report
    return 0


if __name__ == "__main__":
    sys.exit(main())
