// The keyboard of the page, and the list of its keys.

import { openDialog } from "../lib/dialog.js";
import { html } from "../lib/html.js";
import { facts } from "../lib/widgets.js";

const LIST = [
  ["B", "Brush"],
  ["E", "Eraser"],
  ["L", "Lasso: draw around an area"],
  ["[ ]", "Smaller or larger brush"],
  ["Z, Shift Z", "Undo, redo"],
  ["Alt", "Held while drawing: erase"],
  ["Shift", "Held while dragging: move the picture"],
  ["Wheel, + −", "Zoom"],
  ["0", "Show the whole picture"],
  ["M", "Hide or show the marks"],
  ["F", "Side by side, or flicker"],
  ["Space", "In flicker: swap truth and prediction"],
  ["X", "Nothing differs, and on"],
  ["N", "Next pair without a label"],
  ["J, K", "Next pair, pair before"],
  ["Arrows, Enter", "With a picture in focus: move the brush, draw"],
  ["?", "This list"],
];

/** Call actions[key] for single keys, outside of fields and dialogs. */
export function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const inField = target.closest("input:not([type=range], [type=checkbox]), select, textarea, dialog");
    if (inField || document.querySelector("dialog[open]") || event.defaultPrevented) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.altKey || (command && key !== "z" && key !== "y")) return;
    // A button in focus takes the space bar itself.
    if (key === " " && target.closest("button, a, summary, input")) return;
    const name = key === "z" && event.shiftKey ? "redo" : command && key === "y" ? "redo" : key;
    if (!actions[name]) return;
    event.preventDefault();
    actions[name]();
  });
}

/** Show the list of the keys. */
export function showKeys() {
  return openDialog({
    title: "Keys",
    body: facts(LIST.map(([keys, words]) => [html`<kbd>${keys}</kbd>`, words])),
    actions: [{ label: "Close", value: null }],
  });
}
