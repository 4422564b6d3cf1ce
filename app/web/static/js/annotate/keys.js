// The keyboard of the page, and the list of its keys.

import { openDialog } from "../lib/dialog.js";
import { html } from "../lib/html.js";
import { onKey } from "../lib/keys.js";
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

/** Call actions[key] for single keys. */
export const listenToKeys = (actions) =>
  onKey((key, { target, ctrlKey, metaKey, shiftKey }) => {
    const command = ctrlKey || metaKey;
    if (command && key !== "z" && key !== "y") return false;
    // A button in focus takes the space bar itself.
    if (key === " " && /** @type {HTMLElement} */ (target).closest("button, a, summary, input")) return false;
    const name = (key === "z" && shiftKey) || (command && key === "y") ? "redo" : key;
    actions[name]?.();
    return name in actions;
  });

/** Show the list of the keys. */
export function showKeys() {
  return openDialog({
    title: "Keys",
    body: facts(LIST.map(([keys, words]) => [html`<kbd>${keys}</kbd>`, words])),
  });
}
