"""How quick the page is in headless Chromium: first view; frames and tasks of each gesture.

    python -m benchmarks.page

A `trustscale serve` on loopback with synthetic results in its store. Without a GPU. A frame of the
slider is one change of α with its drawing; the browser draws at most 60 a second. Where other
programs run beside it, tasks wait for a processor: their own processor time says what they cost.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.table import print_table
from harness.browser import DESKTOP, launched, serving
from trustscale_server.images.encoding.png import to_png
from trustscale_server.serving.document import Result
from trustscale_server.serving.file_names import MASK, TRUST
from trustscale_server.stores.opened import open_stores

SECONDS = 3
BOUND = 0.5
IMAGE = "image.png"
READY = "html[data-ready] label#drop"

# Drives one gesture per frame and notes when frames began.
DRIVE = """
([gesture, seconds]) => new Promise((resolve) => {
  const canvas = document.querySelector("#canvas");
  const slider = document.querySelector("#alpha-slider");
  const box = canvas.getBoundingClientRect();
  const middle = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
  const act = {
    slider(n) {
      slider.value = Math.round(500 + 499 * Math.sin(n / 20));
      slider.dispatchEvent(new Event("input"));
    },
    pan(n) {
      const key = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"][Math.floor(n / 15) % 4];
      canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    },
    divider(n) {
      const divider = document.querySelector(".divider input");
      divider.value = 50 + 45 * Math.sin(n / 20);
      divider.dispatchEvent(new Event("input"));
    },
    zoom(n) {
      const deltaY = Math.floor(n / 60) % 2 ? 60 : -60;
      canvas.dispatchEvent(new WheelEvent("wheel", { ...middle, deltaY, cancelable: true }));
    },
  }[gesture];
  const starts = [];
  const tasks = [0];
  const watch = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) tasks.push(duration);
  });
  watch.observe({ entryTypes: ["longtask"] });
  const step = (now) => {
    starts.push(now);
    act(starts.length);
    if (now - starts[0] < 1000 * seconds) requestAnimationFrame(step);
    else setTimeout(() => resolve([starts, Math.max(...tasks)]), 100);
  };
  requestAnimationFrame(step);
})
"""


def store_result(folder: Path, result_id: str, side: int, *, alpha: float = 0.1) -> None:
    """Store a synthetic result of side × side pixels in the data folder of `serving(folder)`."""
    codes = trust_codes(side)
    mask = codes <= int(alpha / BOUND * 65534)
    files = {
        IMAGE: to_png(blobs(6, side, (24, 24, 3))),
        MASK: to_png(mask),
        TRUST: to_png(codes),
    }
    document = _document(result_id, side, alpha, float(mask.mean()))

    async def put() -> None:
        stores = open_stores(
            "sqlite:///", folder / "data", result_ttl_s=3600, max_result_bytes=10**10
        )
        await stores.probe()
        await stores.results.put(result_id, document.model_dump_json().encode(), files)
        await stores.close()

    # Playwright's event loop lives in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, put()).result()


def trust_codes(side: int) -> NDArray[np.uint16]:
    """Blobs of trust levels, uint16 [side, side], between α = 0.01 and 1, as large σ maps are."""
    codes = np.ceil(np.geomspace(0.01, 1.0, 256) / BOUND * 65534).astype(np.uint16)
    return codes[blobs(5, side, (33, 33))]


def blobs(seed: int, side: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Smooth noise, uint8 [side, side] or [side, side, 3], from a coarse one of this shape."""
    coarse = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def _document(result_id: str, side: int, alpha: float, share: float) -> Result:
    base = f"/v1/results/{result_id}"
    parts = ("mask", "trust", "overlay", "believed")
    links = {"self": base} | {part: f"{base}/{part}.png" for part in parts}
    guarantee = {"metric": "neighborhood", "alpha": alpha, "bound": BOUND, "n": 243}
    guarantee |= {"theorem": "A synthetic result, about which nothing is promised."}
    guarantee |= {"kind": "post_hoc", "between": (0.05, 0.15), "max_alpha": 0.15}
    guarantee |= {"void_if": ["that it is synthetic"]}
    made = {"upscaler": "span-x4", "calibration": "cal-synthetic", "scale": 4, "samples": 8}
    made |= {"seed": 1, "prediction": "first", "width": side, "height": side, "alpha": alpha}
    found = {"threshold": 0.001, "trusted_fraction": share, "warnings": []}
    return Result.model_validate(
        {
            "id": result_id,
            **made,
            **found,
            "promised": True,
            "plain": "A synthetic result.",
            "guarantee": {**guarantee, "lab_psnr_lower_bound_db": None},
            "believed": {"statement": "Nothing.", "is_sent": False},
            "timings_ms": {"samples": 1.0},
            "links": {**links, "image": f"{base}/{IMAGE}"},
        }
    )


SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.shift += one.hadRecentInput ? 0 : one.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def first_view(browser: Browser, url: str) -> list[tuple[int, int, float, float]]:
    """(bytes, requests, ms until ready, layout shift) of first visits with an empty cache."""
    found = []
    for _ in range(5):
        context = browser.new_context(viewport=DESKTOP)
        page = context.new_page()
        page.add_init_script(SHIFTS)
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        sizes: list[int] = []
        session.on(
            "Network.loadingFinished",
            lambda event, sizes=sizes: sizes.append(int(event["encodedDataLength"])),
        )
        page.goto(url, wait_until="commit")
        page.wait_for_selector(READY, state="attached")
        ready = page.evaluate("performance.now()")
        page.wait_for_load_state("networkidle")
        found.append((sum(sizes), len(sizes), ready, page.evaluate("window.shift")))
        context.close()
    return found


def opened(browser: Browser, url: str, result_id: str) -> tuple[Page, float]:
    """The result, marked, and the seconds until it was seen."""
    page = browser.new_context(viewport=DESKTOP).new_page()
    # Another α needs a calibration, which a synthetic result lacks.
    soft = to_png(blobs(6, 512, (24, 24, 3)))
    page.route("**/believed.png?*", lambda route: route.fulfill(body=soft))
    page.goto(f"{url}/r/{result_id}")
    page.wait_for_selector(f"#canvas[data-shown={result_id}]", timeout=60_000)
    seconds = page.evaluate("performance.now()") / 1e3
    page.click("#views [data-value=marked]")
    return page, seconds


def processor_ms(trace: bytes) -> float:
    """Most processor time that one task of the page took: milliseconds of its main thread."""
    events = json.loads(trace)["traceEvents"]
    names = [event for event in events if event.get("name") == "thread_name"]
    main = {(e["pid"], e["tid"]) for e in names if e["args"]["name"] == "CrRendererMain"}
    tasks = [e for e in events if e["name"] == "ThreadControllerImpl::RunTask"]
    return max(e.get("tdur", 0) for e in tasks if (e["pid"], e["tid"]) in main) / 1e3


def frames(browser: Browser, page: Page, gesture: str) -> dict[str, float]:
    """Frames per second, milliseconds between frames, and those of the longest task above 50."""
    page.evaluate(DRIVE, [gesture, 0.3])
    browser.start_tracing(page=page, categories=["toplevel"])
    starts, longest = page.evaluate(DRIVE, [gesture, SECONDS])
    processor = processor_ms(browser.stop_tracing())
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    return {
        "rate": 1e3 / statistics.mean(gaps),
        "median": statistics.median(gaps),
        "p95": statistics.quantiles(gaps, n=20)[-1],
        "longest": longest,
        "processor": processor,
    }


def row(browser: Browser, url: str, side: int, gesture: str, prepare: Any = None) -> list[str]:
    page, seconds = opened(browser, url, f"res-{side}")
    if prepare:
        prepare(page)
    found = frames(browser, page, gesture)
    size = page.evaluate("[canvas.width, canvas.height]")
    page.context.close()
    return [
        f"{side} × {side}",
        gesture,
        f"{size[0]} × {size[1]}",
        f"{seconds:.2f}",
        f"{found['rate']:.0f}",
        f"{found['median']:.1f}",
        f"{found['p95']:.1f}",
        f"{found['longest']:.0f}" if found["longest"] else "below 50",
        f"{found['processor']:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with (
        tempfile.TemporaryDirectory() as name,
        serving(Path(name)) as url,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        visits = first_view(browser, url)
        size, requests, _, shift = visits[-1]
        ready = statistics.median(ms for *_, ms, _ in visits)
        print(f"first view: {size / 1e3:.0f} kB in {requests} requests, ready after {ready:.0f} ms")
        print(f"layout shift: {shift:.3f}")
        for side in (2048, 4096):
            store_result(Path(name), f"res-{side}", side)
        rows = [
            row(browser, url, side, gesture, prepare)
            for side in (2048, 4096)
            for gesture, prepare in (
                ("slider", None),
                ("zoom", None),
                ("divider", lambda page: page.click("#compare")),
                ("pan", lambda page: page.click("#zoom-one")),
            )
        ]
        heads = ["result", "gesture", "canvas", "open, s", "frames/s", "median, ms", "p95, ms"]
        print_table([*heads, "longest task, ms", "most of the processor, ms"], rows)


if __name__ == "__main__":
    main()
