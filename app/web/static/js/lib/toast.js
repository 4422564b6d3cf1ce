// Short notices at the edge of the page.

import { $, h } from "./dom.js";

/**
 * Show a notice. kind: "info", "success" or "error"; errors stay until they are closed.
 *
 * action: {label, run} adds a button.
 */
export function toast(message, { kind = "info", action = null } = {}) {
  const close = () => notice.remove();
  const notice = h(
    "div",
    { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" },
    h("p", {}, message),
    action &&
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            close();
            action.run();
          },
        },
        action.label,
      ),
    h("button", { type: "button", class: "quiet icon", "aria-label": "Close", onclick: close }, "×"),
  );
  $("#toasts").append(notice);
  if (kind !== "error") setTimeout(close, 6000);
  return notice;
}

/** Show an error of any sort; an abort is nobody's news. */
export function toastError(error) {
  if (error?.name === "AbortError") return;
  toast(error?.message ?? String(error), { kind: "error" });
}
