"""The screenshots of README and docs: `python -m examples.screenshots`.

Starts a server on an empty data folder and headless Chromium, and writes to `docs/images`.
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

from tests.web.browser import ADMIN_KEY, PHONE, launched, serving
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


def calibration(page: Page) -> None:
    """A calibration of 27 crops, with a value read off its risk curve."""
    made = job(page, crops(), name="example photographs", default_alpha=0.15)
    signed_in(page, f"/calibrations?id={made['result'].rpartition('/')[2]}")
    page.wait_for_selector(".picture img")
    page.locator("figure.chart svg").first.hover(position={"x": 330, "y": 120})


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


def monitor(page: Page) -> None:
    """The monitor after requests for mirrored crops, every second truth known."""
    job(page, crops(), name="example photographs", default_alpha=0.15, activate=True)
    with service_of(page) as service:
        for number, (name, original) in enumerate(crops().items()):
            truth = Image.open(io.BytesIO(original)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            small = truth.resize((SIDE // 4, SIDE // 4), Image.Resampling.BICUBIC)
            answer = service.upscale(small)
            if number % 2:
                mirrored = io.BytesIO()
                truth.save(mirrored, "PNG")
                known = {
                    "name": f"{name}.png",
                    "mimeType": "image/png",
                    "buffer": mirrored.getvalue(),
                }
                page.request.post(f"/v1/results/{answer.id}/truth", multipart={"image": known})
    signed_in(page, "/monitor")
    page.wait_for_selector("[data-chart=feedback] svg")


IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDE = {"width": 1360, "height": 850}
PATIENCE_MS = 120_000


def ready(page: Page) -> None:
    """The first screen, its example marked."""
    page.goto("/")
    page.wait_for_selector(".lie-marks[data-shown]")
    page.wait_for_selector("html[data-ready]")


def upscaled(page: Page, name: str = "bridge") -> None:
    """An example photograph as its result is first seen."""
    ready(page)
    page.click(f".example[data-name={name}]")
    page.wait_for_selector("#canvas[data-shown]", timeout=PATIENCE_MS)


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
    page.wait_for_selector("[data-state=done] >> nth=3", timeout=PATIENCE_MS)
    page.wait_for_timeout(1000)


SCENES: dict[str, tuple[Callable[[Page], None], dict]] = {
    "page-upscale": (upscaled, {"viewport": WIDE}),
    "page-marked": (marked, {"viewport": WIDE}),
    "page-wall": (wall, {"viewport": WIDE}),
    "page-intake": (ready, {"viewport": WIDE}),
    "page-phone": (marked, {"viewport": PHONE, "device_scale_factor": 2}),
    "page-calibration": (calibration, {"viewport": WIDE}),
    "page-annotate": (annotate, {"viewport": WIDE}),
    "page-monitor": (monitor, {"viewport": WIDE}),
}


def picture(
    browser: Browser, url: str, scene: Callable[[Page], None], options: dict
) -> Image.Image:
    """Return a screenshot of a scene, in a fresh context."""
    context = browser.new_context(base_url=url, reduced_motion="reduce", **options)
    page = context.new_page()
    scene(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return shot


def main() -> int:
    """Make all pictures, or those that are named."""
    wanted = sys.argv[1:] or [*SCENES]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        for name in wanted:
            path = IMAGES / f"{name}.webp"
            picture(browser, url, *SCENES[name]).save(path, quality=84, method=6)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")  # noqa: T201 - a report
    return 0


if __name__ == "__main__":
    sys.exit(main())
