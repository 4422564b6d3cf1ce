// Modal dialogs on the <dialog> element: focus stays inside, Escape closes, focus returns.

import { h } from "./dom.js";

let count = 0;

/**
 * Show a dialog and wait for a choice.
 *
 * title: text. body: nodes or strings. actions: [{label, value, primary?, danger?}], shown in this
 * order. Resolves to the value of the chosen action, or null after Escape. With an invalid form
 * field inside, actions with a value other than null wait until it is mended.
 */
export function openDialog({ title, body, actions, wide = false }) {
  const id = `dialog-${++count}`;
  return new Promise((resolve) => {
    let chosen = null;
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: `${id}-title` }, title),
      h("div", { class: "dialog-body" }, body),
      h(
        "div",
        { class: "dialog-actions" },
        actions.map((action) =>
          h(
            "button",
            {
              type: action.primary || action.danger ? "submit" : "button",
              class: action.danger ? "danger" : action.primary ? "primary" : "",
              onclick: (event) => {
                if (action.value !== null && event.target.type === "submit") {
                  if (!form.reportValidity()) {
                    event.preventDefault();
                    return;
                  }
                }
                event.preventDefault();
                chosen = action.value;
                dialog.close();
              },
            },
            action.label,
          ),
        ),
      ),
    );
    const dialog = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": `${id}-title` }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(chosen);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask whether to go on. */
export async function confirmDialog({ title, body, confirm, danger = false }) {
  const answer = await openDialog({
    title,
    body,
    actions: [
      { label: "Cancel", value: null },
      { label: confirm, value: true, primary: !danger, danger },
    ],
  });
  return answer === true;
}
