"""The viewer's pixels: the page's mask is the server's, for every α, and large results stay smooth.

Modules of the page are imported inside the browser, at the address that the page loads them from.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from app.images.encode import png_grey16
from tests.web.admin import upload
from tests.web.pictures import (
    BOUND,
    SHOWN,
    crop,
    exact,
    letters,
    open_result,
    served_mask,
    slide,
)

pytestmark = [pytest.mark.slow, pytest.mark.servers]

WIDTH, HEIGHT = 7, 10

DECODE = """
const { decodeGrey16 } = await at("upscale/png16.js");
try {
  const { width, height, data } = await decodeGrey16(new Uint8Array(given[0]).buffer);
  return { width, height, data: [...data] };
} catch (error) {
  return { error: error.message };
}
"""


def filtered() -> bytes:
    """A 16-bit grey PNG of noise, each filter in turn, its data in two parts as files may be."""
    rows = np.random.default_rng(7).integers(0, 256, (HEIGHT, 1 + 2 * WIDTH), np.uint8)
    rows[:, 0] = np.arange(HEIGHT) % 5
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 0, 0, 0, 0)
    stream = zlib.compress(rows.tobytes())
    parts = [(b"IHDR", header), (b"IDAT", stream[:50]), (b"IDAT", stream[50:]), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def smooth() -> bytes:
    """What the service writes of smooth values, for which its encoder chooses the filters."""
    values = np.add.outer(np.arange(40) * 321, np.arange(33) * 57).astype(np.uint16)
    return png_grey16(values, {"Software": "test"})


@pytest.mark.parametrize("make", [filtered, smooth])
def test_all_16_bits_come_back(run, make):
    """Whatever filter a row was packed with, the page decodes what Pillow does."""
    found = run(DECODE, list(make()))
    wanted = np.asarray(Image.open(io.BytesIO(make())))
    assert np.array_equal(np.reshape(found["data"], (found["height"], found["width"])), wanted)


def test_damaged_files(run):
    """A file that is cut off or of another kind is refused, not shown."""
    good = png_grey16(np.zeros((9, 9), np.uint16))
    eight = io.BytesIO()
    Image.new("L", (9, 9)).save(eight, "PNG")
    for data in (b"", b"text" * 20, good[:-20], eight.getvalue()):
        assert "error" in run(DECODE, list(data))


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
        codes = [min(int(alpha / bound * 65534), 65534) for alpha in alphas]
        assert found == {"wrong": [], "codes": codes}


SIDE = 256


def test_the_mask_is_the_server_s_at_every_alpha(open_page, site):
    """At ten places of the slider the canvas shows, pixel by pixel, mask.png?alpha=."""
    page = open_page("/")
    result = open_result(page, upload(crop(side=SIDE // 4)))
    page.click("#looks [data-value=mask]")
    page.click("#compare")  # of the input nothing is claimed
    page.click("#zoom-one")
    shares = []
    for place in (0, 120, 300, 400, 480, 560, 640, 720, 850, 1000):
        slide(page, place)
        mask = served_mask(site, result, alpha=exact(page))
        assert page.evaluate(SHOWN, SIDE) == letters(mask)
        shares.append(mask.mean())
        percent = float(page.inner_text("#share").removesuffix(" %"))
        assert percent == pytest.approx(100 * mask.mean(), abs=0.11)
    assert shares[0] == 0
    assert shares[-1] == max(shares)
    assert len(set(shares)) > 5


COUNT_DRAWING = """
const put = CanvasRenderingContext2D.prototype.putImageData;
window.drawn = [];
CanvasRenderingContext2D.prototype.putImageData = function (image, ...place) {
  window.drawn.push(image.width * image.height);
  return put.call(this, image, ...place);
};
"""

GESTURES = """() => {
  const slider = document.querySelector("#alpha-slider");
  const canvas = document.querySelector("#canvas");
  for (let step = 0; step < 30; step += 1) {
    slider.value = 30 * step;
    slider.dispatchEvent(new Event("input"));
    const place = { clientX: 300, clientY: 500, cancelable: true };
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: step < 20 ? -60 : 60, ...place }));
  }
}"""


def test_a_large_result_stays_responsive(open_page):
    """It is decoded beside the page; slider, pan and zoom draw once in a frame, what is seen.

    How many frames that are in a second is measured by benchmarks/page.py.
    """
    page, held = open_page("/"), []
    result = open_result(page, upload(crop(side=200)))

    def hold(route: Route) -> None:
        held.append(route)

    page.add_init_script(COUNT_DRAWING)
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.route("**/bundle/worker.js", hold)
    with page.expect_request("**/bundle/worker.js"):
        page.reload()
    page.click("#keys-button")  # the page is alive
    page.get_by_role("button", name="Cancel").click()
    shown = page.locator(f"#canvas[data-shown={result}]")
    expect(shown).to_have_count(0)
    page.route("**/bundle/worker.js", lambda route: route.continue_())  # from now on
    for route in held:
        route.continue_()
    expect(shown).to_be_attached()
    page.click("#zoom-one")
    page.click("#zoom-in")
    page.clock.run_for(20)
    for _ in range(3):
        before = page.evaluate("window.drawn.length")
        page.evaluate(GESTURES)
        page.clock.run_for(16)
        drawn = page.evaluate("window.drawn")
        assert len(drawn) == before + 1
        assert drawn[-1] <= shown.evaluate("one => one.width * one.height") < 1360 * 850
    page.mouse.move(420, 560)
    expect(page.locator(".stage .readout")).to_contain_text("Pixel")
