// Helpers for the document: finding, announcing, keys, forms, downloads.

/** The first match; an error if there is none. @returns {any} */
export function $(selector) {
  const element = document.querySelector(selector);
  if (!element) throw new Error(`no element ${selector}`);
  return element;
}

/** All matches below `root`. @returns {NodeListOf<any>} */
export const $$ = (selector, /** @type {ParentNode} */ root = document) => root.querySelectorAll(selector);

/** Have screen readers read a text. */
export function announce(text) {
  const place = $("#announcer");
  place.textContent = "";
  // A change in a later task is noticed even if the text is the same.
  setTimeout(() => {
    place.textContent = text;
  }, 50);
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * The filled fields of a form as a document. A name `part.field` nests; numbers and boxes keep their type; empty
 * fields are left out. @returns {any}
 */
export function documentOf(form) {
  const fields = {};
  for (const { name, type, value = "", checked } of form.elements) {
    const text = value.trim();
    if (!name || !text || type === "radio") continue;
    const [field, part] = name.split(".").reverse();
    const place = part ? (fields[part] ??= {}) : fields;
    place[field] = type === "checkbox" ? checked : type === "number" ? Number(text) : text;
  }
  return fields;
}

/** Call run(key, event) for keys outside fields and dialogs, letters in lower case; a true answer takes the key. */
export function onKey(run) {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const inField = target.closest(
      "input:not([type=range], [type=checkbox], [type=file]), select, textarea, dialog",
    );
    if (inField || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (run(event.key.length === 1 ? event.key.toLowerCase() : event.key, event)) event.preventDefault();
  });
}

/** Change the document, and let the browser lead over from what was shown, where people want motion. */
export function transition(change) {
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (document.startViewTransition && !isStill && !document.hidden) document.startViewTransition(change);
  else change();
}
