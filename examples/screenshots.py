"""The screenshots of README and docs: `python -m examples.screenshots`.

Starts a server on an empty data folder and headless Chromium, and writes to `docs/images`.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from examples import admin_scenes
from tests.web.browser import PHONE, launched, serving

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDE = {"width": 1360, "height": 850}
PATIENCE_MS = 120_000


def ready(page: Page) -> None:
    """The first screen, its example shown."""
    page.goto("/")
    page.wait_for_selector("#example[data-shown]")
    page.wait_for_selector(".choices button")


def upscaled(page: Page) -> None:
    """The example photograph of the bridge."""
    ready(page)
    page.click(".example[data-name=bridge]")
    page.wait_for_selector("#canvas[data-shown]", timeout=PATIENCE_MS)


def pixels(page: Page) -> None:
    """The same close up, hatched, with an α that was chosen after looking."""
    upscaled(page)
    page.click("#looks [data-value=hatch]")
    page.locator("#alpha-slider").fill("560")
    for _ in range(3):
        page.click("#zoom-in")
    page.focus("#alpha-slider")


SCENES: dict[str, tuple[Callable[[Page], None], dict]] = {
    "page-upscale": (upscaled, {"viewport": WIDE}),
    "page-pixels": (pixels, {"viewport": WIDE, "color_scheme": "dark"}),
    "page-intake": (ready, {"viewport": WIDE}),
    "page-phone": (upscaled, {"viewport": PHONE, "device_scale_factor": 2}),
    **{name: (scene, {"viewport": WIDE}) for name, scene in admin_scenes.SCENES.items()},
}


def picture(
    browser: Browser, url: str, scene: Callable[[Page], None], options: dict
) -> Image.Image:
    """A screenshot of a scene in a fresh context."""
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
    wanted = sys.argv[1:] or list(SCENES)
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
