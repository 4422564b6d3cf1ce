// Single keys that mean something on a page.

/**
 * Call run(key, event) for keys outside of fields, dialogs and commands of the browser; letters in lower
 * case. What it answers true to is taken.
 */
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
