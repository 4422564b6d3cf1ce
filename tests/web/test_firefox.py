"""The same page in Firefox: another engine for canvas, workers, storage and trusted types."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.missing import not_here
from tests.servers import ServerMissing
from tests.web.firefox import firefox, firefox_program
from tests.web.pictures import crop

pytestmark = [pytest.mark.slow, pytest.mark.servers]

SEEN = """
const seen = async (selector) => {
  for (;;) {
    const found = document.querySelector(selector);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
"""

UPSCALE = (
    SEEN
    + """
await seen("html[data-ready]");
await seen(".choices button");
const data = new DataTransfer();
data.items.add(new File([new Uint8Array(given[0])], "piece.png", { type: "image/png" }));
const input = document.querySelector("#files");
input.files = data.files;
input.dispatchEvent(new Event("change"));
return (await seen("#canvas[data-shown]")).dataset.shown;
"""
)

AFTERWARDS = (
    SEEN
    + """
const canvas = await seen("#canvas[data-shown]");
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "1", bubbles: true }));
document.querySelector("#looks [data-value=mask]").click();
await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)));
const side = given[0];
const own = new OffscreenCanvas(side, side).getContext("2d");
const [x, y] = [(canvas.width - side) / 2, (canvas.height - side) / 2].map(Math.round);
own.drawImage(canvas, -x, -y);
const pixels = own.getImageData(0, 0, side, side).data;
return {
  shown: canvas.dataset.shown,
  compares: !document.querySelector(".stage .divider").hidden,
  mask: Array.from({ length: side * side }, (_, k) => pixels[4 * k]),
};
"""
)


def test_a_picture_in_firefox(site, tmp_path):
    """Upscaled, kept through a reload with its input, its mask that of the server."""
    try:
        firefox_program()
    except ServerMissing as missing:
        not_here(missing)
    side = 192
    with firefox(tmp_path) as browser:
        browser.go(f"{site}/")
        result = browser.run(UPSCALE, list(crop(side=side // 4)))
        browser.go(f"{site}/r/{result}")
        found = browser.run(AFTERWARDS, side)
    assert found["shown"] == result
    assert found["compares"]  # the input came back from IndexedDB
    served = httpx.get(f"{site}/v1/results/{result}/mask.png")
    mask = np.asarray(Image.open(io.BytesIO(served.content)))
    assert np.array_equal(np.reshape(found["mask"], (side, side)) > 0, mask)
