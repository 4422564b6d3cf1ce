"""The viewer's pixels: the page's mask is the server's, for every α, and large results stay smooth.

Modules of the page are imported inside the browser, at the address that the page loads them from.
"""

from __future__ import annotations

import io
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from app.images.encode import png_grey16
from tests.web.pictures import crop, open_result, slide, upload
from tests.web.results import BOUND, store_result

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def filtered(values: np.ndarray, filters: list[int]) -> bytes:
    """A 16-bit grey PNG whose rows use these filters in turn."""
    height, width = values.shape
    rows = values.astype(">u2").view(np.uint8).reshape(height, 2 * width).astype(int)
    above = np.zeros(2 * width, int)
    packed = b""
    for y, row in enumerate(rows):
        left = np.concatenate([[0, 0], row[:-2]])
        corner = np.concatenate([[0, 0], above[:-2]])
        guess = left + above - corner
        far = np.abs([guess - left, guess - above, guess - corner])
        paeth = np.choose(np.argmin(far, axis=0), [left, above, corner])
        kind = filters[y % len(filters)]
        base = [0, left, above, (left + above) // 2, paeth][kind]
        packed += bytes([kind]) + ((row - base) % 256).astype(np.uint8).tobytes()
        above = row

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    stream = zlib.compress(packed)
    middle = len(stream) // 2  # in two parts, as files may be
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
        + chunk(b"IDAT", stream[:middle])
        + chunk(b"IDAT", stream[middle:])
        + chunk(b"IEND", b"")
    )


DECODE = """
const { decodeGrey16 } = await at("upscale/png16.js");
try {
  const { width, height, data } = await decodeGrey16(new Uint8Array(given[0]).buffer);
  return { width, height, data: [...data] };
} catch (error) {
  return { error: error.message };
}
"""


def decode(run, data: bytes) -> dict:
    return run(DECODE, list(data))


class TestDecoder:
    @pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 3, 2, 1, 0]])
    def test_every_filter(self, run, filters):
        """All 16 bits come back, whatever filter a row was packed with."""
        values = np.random.default_rng(7).integers(0, 65536, (6, 5), np.uint16)
        found = decode(run, filtered(values, filters))
        assert found["data"] == values.reshape(-1).tolist()
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(filtered(values, filters)))), values)

    def test_the_service_s_own_encoder(self, run):
        """Smooth values, for which the encoder chooses its filters."""
        values = np.add.outer(np.arange(40) * 321, np.arange(33) * 57).astype(np.uint16)
        found = decode(run, png_grey16(values, {"Software": "test"}))
        assert (found["width"], found["height"]) == (33, 40)
        assert found["data"] == values.reshape(-1).tolist()

    def test_damaged_files(self, run):
        """A file that is cut off or of another kind is refused, not shown."""
        good = png_grey16(np.zeros((9, 9), np.uint16))
        eight = io.BytesIO()
        Image.new("L", (9, 9)).save(eight, "PNG")
        for data in (b"", b"text" * 20, good[:-20], eight.getvalue()):
            assert "error" in decode(run, data)


def test_codes_round_as_the_contract_says(run):
    """⌊α/B·65534⌋ for any α, and the code of a multiple of B/65534 is that multiple's."""
    alphas = np.random.default_rng(1).uniform(0, BOUND, 500).tolist()
    for bound in (BOUND, 3.0, 1.0):
        found = run(
            """
            const [alphas, bound] = given;
            const { codeOf, alphaOf } = await at("upscale/levels.js");
            const all = Array.from({ length: 65535 }, (_, code) => code);
            const wrong = all.filter((code) => codeOf(alphaOf(code, bound), bound) !== code);
            return { wrong, codes: alphas.map((alpha) => codeOf(alpha, bound)) };
            """,
            alphas,
            bound,
        )
        assert found["wrong"] == []
        assert found["codes"] == [min(int(alpha / bound * 65534), 65534) for alpha in alphas]


SIDE = 256

# The middle of the canvas, as one letter per pixel: black, white or something else.
SHOWN = """
(side) => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
  const canvas = document.querySelector("#canvas");
  const own = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  const [x, y] = [(canvas.width - side) / 2, (canvas.height - side) / 2].map(Math.round);
  own.drawImage(canvas, -x, -y);
  const pixels = new Uint32Array(own.getImageData(0, 0, side, side).data.buffer);
  const letters = new Map([[0xff000000, "#"], [0xffffffff, " "]]);
  resolve([...pixels].map((pixel) => letters.get(pixel) ?? "?").join(""));
})))
"""


def test_the_mask_is_the_server_s_at_every_alpha(open_page, site):
    """At ten places of the slider the canvas shows, pixel by pixel, mask.png?alpha=."""
    page = open_page("/").page
    open_result(page, upload(crop(side=SIDE // 4)))
    result_id = page.get_attribute("#canvas", "data-shown")
    page.click("#looks [data-value=mask]")
    page.click("#zoom-one")
    shares = []
    for place in (0, 120, 300, 400, 480, 560, 640, 720, 850, 1000):
        slide(page, place)
        alpha = page.get_attribute("#alpha", "title").removeprefix("exactly ")
        pixels = page.evaluate(SHOWN, SIDE)
        served = httpx.get(f"{site}/v1/results/{result_id}/mask.png", params={"alpha": alpha})
        mask = np.asarray(Image.open(io.BytesIO(served.content)))
        shown = np.reshape(list(pixels), mask.shape)
        assert set(np.unique(shown)) <= {"#", " "}
        assert np.array_equal(shown == " ", mask)
        shares.append(mask.mean())
        percent = float(page.inner_text("#share").removesuffix(" %"))
        assert percent == pytest.approx(100 * mask.mean(), abs=0.11)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert len(set(shares)) > 5


COUNT_DRAWING = """
const put = CanvasRenderingContext2D.prototype.putImageData;
window.drawn = window.frames = window.most = 0;
CanvasRenderingContext2D.prototype.putImageData = function (image, ...place) {
  window.drawn += 1;
  window.most = Math.max(window.most, image.width * image.height);
  return put.call(this, image, ...place);
};
const tick = () => { window.frames += 1; requestAnimationFrame(tick); };
requestAnimationFrame(tick);
"""

GESTURES = """
(steps) => new Promise((resolve) => {
  const slider = document.querySelector("#alpha-slider");
  const canvas = document.querySelector("#canvas");
  const before = window.drawn;
  let step = 0;
  const next = () => {
    if (step === steps) return requestAnimationFrame(() => resolve(window.drawn - before));
    for (const turn of [0, 1, 2]) {
      slider.value = (37 * step + turn) % 1000;
      slider.dispatchEvent(new Event("input"));
      const options = { deltaY: step % 40 < 20 ? -60 : 60, clientX: 300, clientY: 500 };
      canvas.dispatchEvent(new WheelEvent("wheel", { ...options, cancelable: true }));
    }
    step += 1;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})
"""


def test_a_large_result_stays_responsive(open_page, site, site_folder):
    """4096 × 4096: it is decoded beside the page; slider, pan and zoom draw once in a frame.

    How many frames that are in a second is measured by benchmarks/page.py.
    """
    store_result(site_folder, "res-large", 4096)
    page = open_page("about:blank").page
    page.add_init_script(COUNT_DRAWING)
    held = []

    def hold(route) -> None:
        held.append(route)

    page.route("**/upscale/worker.js", hold)
    page.goto("/r/res-large")
    while not held:
        page.wait_for_timeout(10)
    frames = page.evaluate("window.frames")
    page.wait_for_function("before => window.frames > before + 10", arg=frames)
    expect(page.locator("#canvas[data-shown=res-large]")).to_have_count(0)
    page.route("**/upscale/worker.js", lambda route: route.continue_())  # from now on
    for route in held:
        route.continue_()
    expect(page.locator("#canvas[data-shown=res-large]")).to_be_attached()
    assert 30 <= page.evaluate(GESTURES, 30) <= 32
    assert page.evaluate("window.most") <= 4_000_000
    page.mouse.move(420, 560)
    expect(page.locator(".stage .readout")).to_contain_text("Pixel")
