// What every page has: the masthead's buttons, its view, and uncaught errors.

import { ApiError } from "./api.js";
import { key, manageKeys } from "./auth.js";
import { $, $$, announce } from "./dom.js";
import { html, render } from "./html.js";
import { icon } from "./icons.js";
import { toastError } from "./toast.js";
import { button } from "./widgets.js";

export const root = $("#view");
root.replaceChildren();

/** Draw a page; an error of the service is shown with a way `elsewhere`. */
export async function begin(show, elsewhere) {
  root.setAttribute("aria-busy", "true");
  try {
    await show();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    render(
      html`<h1>${error.status === 404 ? "Not found" : "This did not work"}</h1>
        <p class="callout bad" role="alert">${error.message}</p>
        <p class="button-row">${button("Try again", () => begin(show, elsewhere))} ${elsewhere}</p>`,
      root,
    );
  } finally {
    root.removeAttribute("aria-busy");
  }
}

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);
const { dataset } = document.documentElement;

function showTheme() {
  const theme = /** @type {typeof THEMES[number]} */ (dataset.theme ?? "auto");
  const words = `Colour theme: ${theme}`;
  render(icon(theme), Object.assign($("#theme-button"), { title: words, ariaLabel: words }));
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(/** @type {any} */ (dataset.theme ?? "auto")) + 1) % THEMES.length];
  if (next === "auto") delete dataset.theme;
  else dataset.theme = next;
  try {
    localStorage.setItem("trustscale.theme", next);
  } catch {
    // Storage is off: the next visit starts with the system's theme.
  }
  showTheme();
  announce(`Colour theme: ${next}`);
}

function showPages() {
  for (const link of $$(".pages [data-admin]")) link.hidden = key("admin") === null;
}

showTheme();
showPages();
document.addEventListener("keys", showPages);
$("#theme-button").addEventListener("click", nextTheme);
$("#keys-button").addEventListener("click", manageKeys);
addEventListener("unhandledrejection", (event) => toastError(event.reason));
addEventListener("error", (event) => toastError(event.error ?? event.message));
