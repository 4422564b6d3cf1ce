// A precomputed result on the first screen.

import { Store } from "../lib/store.js";
import { decodeResult } from "./decode.js";
import { Viewer } from "./viewer.js";

export const example = new Viewer({ id: "example", marksInput: false });

/** Left of the divider: the photograph, or the small version that was sent. */
export const SIDES = { truth: "the photograph", input: "what was sent" };
export const shown = new Store({ side: "truth", facts: /** @type {any} */ (null) });
const pictures = {};

export function setSide(side) {
  shown.set({ side });
  if (!example.result) return;
  example.result.before = pictures[side];
  example.element.querySelector(".divider-side.left").textContent = SIDES[side];
  example.request("view");
}

const SWEEP_MS = 1600;
let loading = null;

/** Load and show it once; the page works without it. */
export const loadExample = () => (loading ??= show().catch(() => example.element.remove()));

async function show() {
  const get = async (name) => (await fetch(new URL(`../../img/first/${name}`, import.meta.url))).blob();
  const [input, truth, image, trust, facts] = await Promise.all(
    ["input.webp", "truth.webp", "image.webp", "trust.png", "facts.json"].map(get),
  );
  const { width, height, limit, look, ...more } = JSON.parse(await facts.text());
  const bitmaps = Promise.all([input, truth].map((blob) => createImageBitmap(blob)));
  const [decoded, [small, whole]] = await Promise.all([decodeResult(image, trust), bitmaps]);
  Object.assign(pictures, { input: small, truth: whole });
  example.setLimit(limit);
  example.smooths = true;
  example.canvas.ariaLabel =
    "Example: a photograph and the model’s version of its small copy, the untrusted parts marked";
  example.element.querySelector(".divider-side.right").textContent = "the model";
  example.show({ width, height, look, before: whole, isOpaque: true, ...decoded });
  shown.set({ facts: more });
  setSide(shown.state.side);
  example.canvas.dataset.shown = "example";
  sweep();
}

/** The divider comes in from the right once, so that people see it move; a person's hand stops it. */
function sweep() {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (still || document.hidden) return;
  const began = performance.now();
  let isOurs = true;
  example.element.addEventListener("input", () => (isOurs = false), { once: true });
  const step = (now) => {
    const left = Math.max(0, 1 - (now - began) / SWEEP_MS);
    if (!isOurs) return;
    example.setShare(0.5 + 0.45 * left ** 3);
    if (left) requestAnimationFrame(step);
  };
  step(began);
}
