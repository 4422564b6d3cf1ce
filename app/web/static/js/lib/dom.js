// The document: finding, saying, giving away.

/**
 * The first match below `root`; an error if there is none, since then page and code differ.
 *
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {any}
 */
export function $(selector, root = document) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`no element ${selector}`);
  return found;
}

/**
 * All matches below `root`, as an array.
 *
 * @param {string} selector
 * @param {ParentNode} [root]
 * @returns {any[]}
 */
export function $$(selector, root = document) {
  return [...root.querySelectorAll(selector)];
}

/** Have screen readers say something. */
export function announce(text) {
  const place = $("#announcer");
  place.textContent = "";
  // A change in a later task is noticed even if the text is the same again.
  setTimeout(() => {
    place.textContent = text;
  }, 50);
}

/** Offer a blob as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
