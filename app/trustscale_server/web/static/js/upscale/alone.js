// The viewer of the page that people share: its text, with that of the modules named here, is the script of one HTML file.

import { masked } from "./masked.js";
import { drawRings } from "./doubts.js";
import { CpuPainter, LEGENDS } from "./paint.js";
import { Viewport } from "../viewport/viewport.js";

const get = (selector) => /** @type {any} */ (document.querySelector(selector));

async function start() {
  const bitmapOf = async (name) => {
    const image = get(`#${name}`);
    await image?.decode();
    return image && createImageBitmap(image);
  };
  const [made, mask, soft] = await Promise.all(["made", "mask", "soft"].map(bitmapOf));
  const layer = masked(mask, made, soft);
  const canvas = get("canvas");
  const painter = new CpuPainter(canvas);
  const rings = JSON.parse(get(".stage").dataset.rings);
  let mode = "checked";
  let isHeld = false;
  let frame = 0;
  const draw = () => {
    frame = 0;
    const { view, screen, density } = viewport;
    const current = !isHeld ? mode : mode === "checked" && soft ? "original" : "plain";
    get("#legend").textContent = LEGENDS[current];
    get(".stage").dataset.shown = current;
    // Rings move with the picture, whose pixels the painter would otherwise keep.
    if (mode === "checked") painter.last = null;
    painter.draw({ view, screen, density, parts: [{ layer, mode: current, left: 0, right: screen.width }] });
    if (current === "checked") drawRings(canvas.getContext("2d"), rings, view, density);
  };
  const request = () => (frame ||= requestAnimationFrame(draw));
  const hold = (held) => {
    isHeld = held;
    request();
  };
  const viewport = new Viewport([canvas], { onView: request, onHold: hold }, 1_500_000);
  viewport.setInset({ left: 16, top: 16, right: 16, bottom: 16 });
  viewport.show(layer);
  for (const button of document.querySelectorAll("button[data-view]"))
    button.addEventListener("click", () => {
      mode = /** @type {HTMLElement} */ (button).dataset.view;
      for (const other of document.querySelectorAll("button[data-view]"))
        other.ariaPressed = String(other === button);
      request();
    });
  canvas.addEventListener("keydown", (event) => viewport.key(event) && event.preventDefault());
  document.documentElement.dataset.ready = "true";
}

start();
