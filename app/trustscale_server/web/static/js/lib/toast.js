// Short notices at the edge of the page.

import { $, announce } from "./dom.js";
import { html, nothing, render } from "./html.js";

const SHORT_MS = 6000;
const TO_ACT_MS = 12_000;

/** kind: "info", "success", or "error", which stays until it is closed; action: a button {label, run}. */
export function toast(message, { kind = "info", action = null } = {}) {
  const notice = document.createElement("div");
  const close = () => notice.remove();
  notice.className = `toast ${kind}`;
  notice.setAttribute("role", kind === "error" ? "alert" : "status");
  const act = () => {
    close();
    action.run();
  };
  render(
    html`<p>${message}</p>
      ${action ? html`<button type="button" @click=${act}>${action.label}</button>` : nothing}
      <button type="button" class="quiet icon" aria-label="Close" @click=${close}>×</button>`,
    notice,
  );
  $("#toasts").append(notice);
  if (kind !== "error") setTimeout(close, action ? TO_ACT_MS : SHORT_MS);
}

export function toastSuccess(message) {
  toast(message, { kind: "success" });
  announce(message);
}

/** Run an action and show its error. */
export async function guarded(action) {
  try {
    await action();
  } catch (error) {
    toastError(error);
  }
}

/** Show any error but an abort. */
export function toastError(error) {
  if (error?.name === "AbortError") return;
  toast(error?.message ?? String(error), { kind: "error" });
}
