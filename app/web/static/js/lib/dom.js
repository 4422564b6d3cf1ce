// The document: finding, saying, giving away.

/** The first match; an error if there is none, since then page and code differ. @returns {any} */
export function $(selector) {
  const found = document.querySelector(selector);
  if (!found) throw new Error(`no element ${selector}`);
  return found;
}

/** All matches below `root`. @returns {NodeListOf<any>} */
export const $$ = (selector, /** @type {ParentNode} */ root = document) => root.querySelectorAll(selector);

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
