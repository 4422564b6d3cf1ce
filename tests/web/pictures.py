"""The page that upscales, as its tests use it: pictures, and what a person does with them."""

import io
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import expect

from harness.factories import encoded
from tests.web.admin import MARKUP, upload

EXAMPLE = Path(__file__).parents[2] / "examples" / "bridge.png"
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
    """Choose a file and wait until it is shown; the id of its result."""
    choose(page, *(uploads or [upload(crop())]))
    expect(page.locator("#canvas[data-shown]")).to_be_visible()
    return str(page.get_attribute("#canvas", "data-shown"))


def add(page, name, **place):
    """One more picture, and wait until it is shown."""
    page.set_input_files("#files", [upload(crop(**place), name)])
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.locator("#canvas[data-shown]")).to_be_visible()


def finished(page, number):
    expect(page.locator("li[data-state=done]")).to_have_count(number)


def slide(page, place):
    """Move the slider of α, in thousandths of its axis."""
    page.locator("#alpha-slider").fill(str(place))


def take(page, name):
    """The file of a choice of the sheet for downloads, or of what is under *More* there."""
    page.click("#download")
    sheet = page.get_by_role("dialog")
    wanted = sheet.get_by_role("button", name=name)
    if not wanted.is_visible():
        sheet.get_by_text("More", exact=True).click()
    with page.expect_download() as found:
        wanted.click()
    return found.value


def exact(page):
    return str(page.get_attribute("#share", "data-alpha"))


def zoom(page):
    """Screen pixels per picture pixel, in percent."""
    return float(page.locator("#zoom-value").text_content().removesuffix(" %"))


# A result of `side` pixels that is so near that its mask is drawn exactly: one letter per pixel,
# black where the marking changes anything of what is seen without it.
SHOWN = """
async (side) => {
  const canvas = document.querySelector("#canvas");
  const read = async () => {
    await new Promise((resolve) => setTimeout(resolve, 400)); // until it is drawn finely
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const own = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    own.drawImage(canvas, 0, 0);
    return new Uint32Array(own.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  };
  const init = { key: "h", bubbles: true };
  const key = (type) => document.body.dispatchEvent(new KeyboardEvent(type, init));
  const marked = await read();
  key("keydown");
  const plain = await read();
  key("keyup");
  const edge = (name) => parseFloat(canvas.parentElement.style.getPropertyValue(name));
  const [left, top] = [edge("--left"), edge("--top")];
  const scale = (canvas.width - left - edge("--right")) / side;
  const letters = Array(side * side).fill(" ");
  for (let y = 0; y < canvas.height; y += 1)
    for (let x = 0; x < canvas.width; x += 1) {
      const at = y * canvas.width + x;
      if (marked[at] === plain[at]) continue;
      const [px, py] = [Math.floor((x + 0.5 - left) / scale), Math.floor((y + 0.5 - top) / scale)];
      letters[py * side + px] = "#";
    }
  return letters.join("");
}
"""


def served_mask(site, result, **query):
    served = httpx.get(f"{site}/v1/results/{result}/mask.png", params=query)
    return np.asarray(Image.open(io.BytesIO(served.content)))


def letters(mask):
    """A mask as SHOWN gives it."""
    return "".join(np.where(mask, " ", "#").ravel())
