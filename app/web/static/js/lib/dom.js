// Elements from code. Strings become text nodes, never markup.

const FORBIDDEN = /^(on.*|style|srcdoc|innerHTML|outerHTML)$/i;

/**
 * An element: h("button", {class: "primary", onclick: f, "aria-pressed": "true"}, "Text", child).
 *
 * Functions named on… become listeners, `dataset` an object of data attributes, true an empty
 * attribute; null, undefined and false are left out, among children too.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** As `h`, for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function" && name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (name === "dataset") {
      Object.assign(element.dataset, value);
    } else if (FORBIDDEN.test(name)) {
      throw new Error(`${name} cannot be set as an attribute`);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false);
}

/** The first match below `root`; an error if there is none, since then page and code differ. */
export function $(selector, root = document) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`no element ${selector}`);
  return found;
}

/** All matches below `root`, as an array. */
export function $$(selector, root = document) {
  return [...root.querySelectorAll(selector)];
}

/** Put children in the place of whatever an element holds. */
export function replace(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
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
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Copy text; false if the browser does not allow it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
