// Decodes a result in a worker.

const base = new URL("../../bundle/", import.meta.url).href;

// The only script address that trusted types allow: workers from our own files.
const policy = globalThis.trustedTypes?.createPolicy("trustscale", {
  createScriptURL(text) {
    if (text.startsWith(base)) return text;
    throw new TypeError("not a script of these pages");
  },
});

/**
 * {pictures, levels, counts, colour}. pictures: ImageBitmaps, halves of halves. levels: the codes likewise. counts: how
 * many pixels have a code of at most i. colour: [r, g, b] that stands out from the picture.
 */
export async function decodeResult(image, trust) {
  const bytes = await trust.arrayBuffer();
  const { href } = new URL("worker.js", base);
  const worker = new Worker(policy?.createScriptURL(href) ?? href, { type: "module" });
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
