// A result that was made before, for whoever has brought no picture yet.

import { decodeResult } from "./decode.js";
import { Viewer } from "./viewer.js";

export const example = new Viewer({ id: "example", marksInput: false });

let loading = null;

/** Load and show it, once; the page works without it. */
export function loadExample() {
  loading ??= show().catch(() => example.element.remove());
  return loading;
}

async function show() {
  const get = async (name) => (await fetch(new URL(`../../img/first/${name}`, import.meta.url))).blob();
  const [input, image, trust, facts] = await Promise.all(
    ["input.webp", "image.webp", "trust.png", "facts.json"].map(get),
  );
  const { width, height, limit } = JSON.parse(await facts.text());
  const [decoded, before] = await Promise.all([decodeResult(image, trust), createImageBitmap(input)]);
  example.setLimit(limit);
  example.canvas.setAttribute(
    "aria-label",
    "Example: a photograph and what the model made of it, the guessed parts marked",
  );
  example.show({ width, height, before, covers: true, ...decoded });
  example.canvas.dataset.shown = "example";
}
