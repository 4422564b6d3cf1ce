// What the viewer needs of a result, decoded in a worker.

import { workerUrl } from "../lib/trusted.js";

/**
 * {pictures, levels, counts, colour} of a result's files.
 *
 * pictures: ImageBitmaps, halves of halves. levels: the codes likewise, {width, height, data}.
 * counts: how many pixels have a code of at most i. colour: [r, g, b] that stands out from the picture.
 */
export async function decodeResult(image, trust) {
  const bytes = await trust.arrayBuffer();
  const worker = new Worker(workerUrl(new URL("./worker.js", import.meta.url)), { type: "module" });
  const refused = (reason) => new Error(`The result cannot be shown: ${reason}.`);
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data: { error, ...decoded } }) =>
        error ? reject(refused(error)) : resolve(decoded);
      worker.onerror = () => reject(refused("its decoder did not start"));
      worker.postMessage({ image, trust: bytes }, [bytes]);
    });
  } finally {
    worker.terminate();
  }
}
