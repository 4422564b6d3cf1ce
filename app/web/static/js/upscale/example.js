// A result that was made before, for whoever has brought no picture yet.

import { decodeResult } from "./decode.js";
import { Viewer } from "./viewer.js";

export const example = new Viewer({ id: "example", marksInput: false });

const SWEEP_MS = 1600;
let loading = null;

/** Load and show it, once; the page works without it. */
export const loadExample = () => (loading ??= show().catch(() => example.element.remove()));

async function show() {
  const get = async (name) => (await fetch(new URL(`../../img/first/${name}`, import.meta.url))).blob();
  const [input, image, trust, facts] = await Promise.all(
    ["input.webp", "image.webp", "trust.png", "facts.json"].map(get),
  );
  const { width, height, limit } = JSON.parse(await facts.text());
  const [decoded, before] = await Promise.all([decodeResult(image, trust), createImageBitmap(input)]);
  example.setLimit(limit);
  example.canvas.ariaLabel = "Example: a photograph and what the model made of it, the guessed parts marked";
  example.show({ width, height, before, covers: true, isOpaque: true, ...decoded });
  example.canvas.dataset.shown = "example";
  sweep();
}

/** The divider comes in from the right, once, so that it is seen to move; whoever takes it has it. */
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
