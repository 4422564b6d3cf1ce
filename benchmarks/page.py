"""How quick the page is in headless Chromium: first view, and frames of slider, pan and zoom.

    python -m benchmarks.page

A real `trustscale serve` on loopback; the results that are looked at are synthetic and lie in its
store. No GPU is used, so every pixel is drawn by the CPU. A frame of the slider is one change of α
and what the browser draws of it; the browser draws at most 60 a second.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.results import store_result
from benchmarks.table import print_table
from tests.web.browser import DESKTOP, launched, serving

SECONDS = 3
READY = "html[data-ready] #drop:not(.off) .hint"

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
    zoom(n) {
      const deltaY = Math.floor(n / 60) % 2 ? 60 : -60;
      canvas.dispatchEvent(new WheelEvent("wheel", { ...middle, deltaY, cancelable: true }));
    },
  }[gesture];
  const starts = [];
  const step = (now) => {
    starts.push(now);
    act(starts.length);
    if (now - starts[0] < 1000 * seconds) requestAnimationFrame(step);
    else resolve(starts);
  };
  requestAnimationFrame(step);
})
"""


def first_view(browser: Browser, url: str) -> list[tuple[int, int, float]]:
    """(bytes, requests, ms until ready) of first visits with an empty cache."""
    found = []
    for _ in range(5):
        context = browser.new_context(viewport=DESKTOP)
        page = context.new_page()
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
        found.append((sum(sizes), len(sizes), ready))
        context.close()
    return found


def opened(browser: Browser, url: str, result_id: str) -> tuple[Page, float]:
    """A page that shows a result, and the seconds that it took."""
    page = browser.new_context(viewport=DESKTOP).new_page()
    page.goto(f"{url}/r/{result_id}")
    page.wait_for_selector(f"#canvas[data-shown={result_id}]", timeout=60_000)
    return page, page.evaluate("performance.now()") / 1e3


def frames(page: Page, gesture: str) -> dict[str, float]:
    """Frames per second, and milliseconds between frames."""
    page.evaluate(DRIVE, [gesture, 0.3])
    starts: list[float] = page.evaluate(DRIVE, [gesture, SECONDS])
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    return {
        "rate": 1e3 / statistics.mean(gaps),
        "median": statistics.median(gaps),
        "p95": statistics.quantiles(gaps, n=20)[-1],
    }


def row(browser: Browser, url: str, side: int, gesture: str, prepare: Any = None) -> list[str]:
    page, seconds = opened(browser, url, f"res-{side}")
    if prepare:
        prepare(page)
    found = frames(page, gesture)
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
        size, requests, _ = visits[-1]
        ready = statistics.median(ms for *_, ms in visits)
        print(f"first view: {size / 1e3:.0f} kB in {requests} requests, ready after {ready:.0f} ms")
        for side in (2048, 4096):
            store_result(Path(name), f"res-{side}", side)
        rows = [
            row(browser, url, side, gesture, prepare)
            for side in (2048, 4096)
            for gesture, prepare in (
                ("slider", None),
                ("zoom", None),
                ("pan", lambda page: page.click("#zoom-one")),
            )
        ]
        print_table(
            ["result", "gesture", "canvas", "open, s", "frames/s", "median, ms", "p95, ms"], rows
        )


if __name__ == "__main__":
    main()
