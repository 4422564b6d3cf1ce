// What the viewer needs of a result, decoded in a worker.

import { workerUrl } from "../lib/trusted.js";

let worker = null;
let count = 0;
const waiting = new Map();

/**
 * {pictures, levels, counts, colour} of a result's files.
 *
 * pictures: ImageBitmaps, halves of halves. levels: the codes likewise, {width, height, data}.
 * counts: how many pixels have a code of at most i. colour: [r, g, b] that stands out from the picture.
 */
export async function decodeResult(image, trust) {
  const bytes = await trust.arrayBuffer();
  const id = ++count;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    started().postMessage({ id, image, trust: bytes }, [bytes]);
  });
}

function started() {
  if (worker) return worker;
  worker = new Worker(workerUrl(new URL("./worker.js", import.meta.url)), { type: "module" });
  worker.addEventListener("message", ({ data: { id, error, ...decoded } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(`The result cannot be shown: ${error}.`));
    else resolve(decoded);
  });
  worker.addEventListener("error", () => {
    for (const { reject } of waiting.values()) {
      reject(new Error("The result cannot be shown: its decoder did not start."));
    }
    waiting.clear();
    worker = null;
  });
  return worker;
}
