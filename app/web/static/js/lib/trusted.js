// The one door that trusted types leave open: workers from our own files.

const policy = globalThis.trustedTypes?.createPolicy("trustscale", {
  createScriptURL(text) {
    const base = new URL("../", import.meta.url).href;
    if (text.startsWith(base)) return text;
    throw new TypeError("not a script of these pages");
  },
});

/** The address of a worker's module, which must lie below static/js/. */
export function workerUrl(url) {
  return policy ? policy.createScriptURL(url.href) : url;
}
