"""Scenes of the admin's pages for `examples.screenshots`: crops of the example photographs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from tests.web.browser import ADMIN_KEY
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


SCENES = {"page-calibration": calibration, "page-annotate": annotate, "page-monitor": monitor}
