// What every page has: the masthead's buttons, its view, and errors that nobody caught.

import { ApiError } from "./api.js";
import { key, manageKeys } from "./auth.js";
import { $, $$, announce } from "./dom.js";
import { html, render } from "./html.js";
import { toastError } from "./toast.js";
import { button } from "./widgets.js";

/** Where a page draws. */
export const root = $("#view");
root.replaceChildren();

/** Show what a page is about; where the service refuses it, why, and the way `elsewhere`. */
export async function begin(show, elsewhere) {
  root.setAttribute("aria-busy", "true");
  try {
    await show();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    render(
      html`<h1>${error.status === 404 ? "Not here" : "This did not work"}</h1>
        <p class="callout bad" role="alert">${error.message}</p>
        <p class="button-row">${button("Try again", () => begin(show, elsewhere))} ${elsewhere}</p>`,
      root,
    );
  } finally {
    root.removeAttribute("aria-busy");
  }
}

const THEMES = ["auto", "light", "dark"];
const SIGNS = { auto: "◐", light: "☀", dark: "☾" };

function theme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function showTheme() {
  const button = $("#theme-button");
  button.textContent = SIGNS[theme()];
  button.title = `Colour theme: ${theme()}`;
  button.setAttribute("aria-label", `Colour theme: ${theme()}`);
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  const root = document.documentElement;
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    if (next === "auto") localStorage.removeItem("trustscale.theme");
    else localStorage.setItem("trustscale.theme", next);
  } catch {
    // Not kept for the next visit, then.
  }
  showTheme();
  announce(`Colour theme: ${next}`);
  document.dispatchEvent(new CustomEvent("themechange"));
}

/** The pages of admins are offered once there is a key that opens them. */
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
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.dispatchEvent(new CustomEvent("themechange")),
);
