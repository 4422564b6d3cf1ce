"""The page that upscales, as its tests use it: pictures, and what a person does with them."""

import io
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tests.factories import encoded
from tests.web.admin import MARKUP, upload

EXAMPLE = Path(__file__).parents[2] / "examples" / "bridge.png"
BOUND = 1.9576  # of the error of the shipped calibration
EVIL = f"{MARKUP}.png"


def crop(x=96, y=64, side=48):
    """A piece of a real photograph: small, so that it is upscaled in a moment."""
    return encoded(Image.open(EXAMPLE).convert("RGB").crop((x, y, x + side, y + side)))


def ready(page):
    """The page has come back to what it kept, and knows the service."""
    expect(page.locator("html[data-ready]")).to_be_attached()
    expect(page.locator("#drop")).to_be_visible()


def choose(page, *uploads):
    ready(page)
    page.set_input_files("#files", list(uploads))


def open_result(page, *uploads):
    """Choose files and wait until the first one is shown; the id of its result."""
    choose(page, *(uploads or [upload(crop())]))
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    return str(page.get_attribute("#canvas", "data-shown"))


def finished(page, number):
    expect(page.locator(".item[data-state=done]")).to_have_count(number)


def slide(page, place):
    """Move the slider of α, in thousandths of its axis."""
    page.locator("#alpha-slider").fill(str(place))


def take(page, name):
    """What an entry of the menu beside the download gives."""
    page.click("summary[aria-label^=More]")
    with page.expect_download() as found:
        page.get_by_role("menuitem", name=name, exact=True).click()
    return found.value


def exact(page):
    return str(page.get_attribute("#alpha", "title")).removeprefix("exactly ")


def zoom(page):
    """Screen pixels per picture pixel, in percent."""
    return float(page.locator("#zoom-value").text_content().removesuffix(" %"))


# The middle of what is free of the canvas, as one letter per pixel: black, white or something else.
SHOWN = """
(side) => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
  const canvas = document.querySelector("#canvas");
  const own = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  const over = (selector, size) => {
    const found = document.querySelector(selector);
    return found ? found[size] + 24 : 0;
  };
  const [right, foot] = [over(".panel.open", "offsetWidth"), over(".strip", "offsetHeight")];
  const room = [canvas.width - right, canvas.height - foot];
  const [x, y] = room.map((length) => Math.round((length - side) / 2));
  own.drawImage(canvas, -x, -y);
  const pixels = new Uint32Array(own.getImageData(0, 0, side, side).data.buffer);
  const letters = new Map([[0xff000000, "#"], [0xffffffff, " "]]);
  resolve([...pixels].map((pixel) => letters.get(pixel) ?? "?").join(""));
})))
"""


def served_mask(site, result, **query):
    served = httpx.get(f"{site}/v1/results/{result}/mask.png", params=query)
    return np.asarray(Image.open(io.BytesIO(served.content)))


def letters(mask):
    """A mask as SHOWN gives it."""
    return "".join(np.where(mask, " ", "#").ravel())
