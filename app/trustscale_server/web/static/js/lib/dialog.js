// Modal dialogs on the <dialog> element: focus stays inside, Escape closes, focus returns.

import { html, render } from "./html.js";

const CLOSE = { label: "Close", value: null };
export const CANCEL = { label: "Cancel", value: null };

/**
 * Show a dialog; the value of the chosen action, or null after Escape. A value that is a function gets the form.
 *
 * @param {{title: string, body: unknown, actions?: any[], wide?: boolean}} options actions: {label, value, primary, danger}
 */
export function openDialog({ title, body, actions = [CLOSE], wide = false }) {
  const own = { className: wide ? "wide" : "", ariaLabel: title };
  const dialog = Object.assign(document.createElement("dialog"), own);
  return new Promise((resolve) => {
    let chosen = null;
    const act = (event, { value }) => {
      event.preventDefault();
      const { form } = event.currentTarget;
      if (value !== null && !form.reportValidity()) return;
      chosen = typeof value === "function" ? value(form) : value;
      dialog.close();
    };
    const button = (action) =>
      html`<button type=${action.primary || action.danger ? "submit" : "button"}
        class=${action.danger ? "danger" : action.primary ? "primary" : ""} @click=${(event) => act(event, action)}>
        ${action.label}
      </button>`;
    render(
      html`<form method="dialog">
        <h2>${title}</h2>
        <div class="dialog-body">${body}</div>
        <div class="dialog-actions">${actions.map(button)}</div>
      </form>`,
      dialog,
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(chosen);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export async function confirmDialog({ title, body, confirm, danger = false }) {
  const actions = [CANCEL, { label: confirm, value: true, primary: !danger, danger }];
  return (await openDialog({ title, body, actions })) === true;
}
