// Decodes a result in a worker.

const base = new URL("./", import.meta.url).href;

// The only script address that trusted types allow: workers from our own files.
const policy = globalThis.trustedTypes?.createPolicy("trustscale", {
  createScriptURL(text) {
    if (text.startsWith(base)) return text;
    throw new TypeError("not a script of these pages");
  },
});

/**
 * What a viewer draws, but for its limit: {width, height, pictures, soft, codes, marks, strength}, and counts: how many
 * pixels have a code of at most i. soft: the upload enlarged, or null where the browser cannot read it; then so is strength.
 *
 * @param {Blob} image @param {Blob} trust @param {Blob | null} upload
 */
export async function decodeResult(image, trust, upload) {
  const bytes = await trust.arrayBuffer();
  const { href } = new URL("worker.js", base);
  const worker = new Worker(policy?.createScriptURL(href) ?? href, { type: "module" });
  const refused = (reason) => new Error(`The result cannot be shown: ${reason}.`);
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data: { error, ...decoded } }) =>
        error ? reject(refused(error)) : resolve(decoded);
      worker.onerror = () => reject(refused("its decoder did not start"));
      worker.postMessage({ image, trust: bytes, upload }, [bytes]);
    });
  } finally {
    worker.terminate();
  }
}
