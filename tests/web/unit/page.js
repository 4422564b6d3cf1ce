// The modules of the page in Node, which has no document; what draws is tested in a browser.

const nobody = new EventTarget();
const stub = { createTreeWalker: () => ({}), createComment: () => ({}), querySelectorAll: () => [] };
globalThis.document = Object.assign(nobody, stub);
globalThis.sessionStorage = {
  kept: new Map(),
  getItem: (name) => sessionStorage.kept.get(name) ?? null,
  setItem: (name, value) => sessionStorage.kept.set(name, value),
  removeItem: (name) => sessionStorage.kept.delete(name),
};

/** A module of the page. */
export const at = (path) =>
  import(new URL(`../../../app/trustscale_server/web/static/js/${path}`, import.meta.url));

/** The words of a template, its values among them. */
export function textOf(view) {
  if (Array.isArray(view)) return view.map(textOf).join(" ");
  if (view?.strings) return view.strings.flatMap((text, k) => [text, textOf(view.values[k])]).join("");
  return ["string", "number"].includes(typeof view) ? String(view) : "";
}
