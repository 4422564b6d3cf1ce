// The desk. The reader's question: where does the prediction mean something else? The main action: mark it.

import { openDialog } from "../lib/dialog.js";
import { onKey } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { html, live, nothing, repeat } from "../lib/html.js";
import { at } from "../lib/place.js";
import { button, facts, pageHead, segments } from "../lib/widgets.js";
import { tinted } from "./view.js";

const STATES = {
  clean: ["good", "Saved"],
  dirty: ["", "Not saved yet"],
  saving: ["", "Saving…"],
  offline: ["bad", "Offline: kept in this tab, retrying"],
  conflict: ["bad", "Somebody else was first"],
  refused: ["bad", "Not accepted"],
};
const TOOLS = [
  ["brush", "Brush", "Key B"],
  ["eraser", "Eraser", "Key E"],
  ["lasso", "Lasso", "Key L"],
];
const MODES = [
  ["side", "Side by side", "Key F"],
  ["flicker", "Flicker", "Key F"],
];

export function desk(state, act, view, tools) {
  const { job, session } = state;
  const { rows, labelled, current } = session;
  const isComplete = rows.length > 0 && labelled >= rows.length;
  const above = html`<p class="hint"><a href=${at("annotate")}>Annotate</a></p>`;
  const finish = () => button("Finish…", act.finish, { kind: isComplete ? "primary" : "", off: !isComplete });
  const progress = html`<div class="total">
      <p class="tally">${count(labelled)} of ${count(rows.length)} labelled</p>
      <progress max="1" .value=${rows.length ? labelled / rows.length : 0} aria-label="Labelled"></progress>
    </div>
    ${state.ended ? nothing : finish()}`;
  return html`<div class="desk">
    ${pageHead(`Labels for ${job.name || job.id}`, { above, tools: progress })}
    <div class="bench">
      ${toolRow(state, act, view, tools)} ${head(state, act, current)} ${notices(state)} ${panes(state, view)}
      <div class="onward">
        ${button("Previous", act.previous, { title: "Key K" })} ${button("Next", act.next, { title: "Key J" })}
        <span class="grow"></span>
        ${button("Nothing differs", act.nothing, { title: "Key X" })}
        ${button("Next without a label", act.onward, { title: "Key N", kind: "primary" })}
      </div>
    </div>
    <nav class="list card" aria-label="Pairs">${list(session, act)}</nav>
  </div>`;
}

function toolRow({ session: { current }, zoom }, act, view, { tool, size }) {
  const key = (name, words, run, /** @type {any} */ { kind = "", ...more } = {}) =>
    button(words, run, { title: `Key ${name}`, kind: `small ${kind}`, ...more });
  return html`<div class="tool-row" role="group" aria-label="Tools">
    ${segments("Tool", TOOLS, tool, act.tool)}
    <label class="brush-size">
      <span class="hint">Size</span>
      <input type="range" min="1" max="200" aria-label="Brush size in pixels" .value=${live(String(size))}
        @input=${({ target }) => act.size(Number(target.value))} />
      <output class="size">${size} px</output>
    </label>
    <div class="button-row">
      ${key("Z", "Undo", act.undo, { off: !current?.mask.past.length })} ${key("Shift Z", "Redo", act.redo, { off: !current?.mask.future.length })}
      ${button("Clear", act.clear, { kind: "small" })}
    </div>
    ${segments("View", MODES, view.mode, act.mode)} ${view.mode === "flicker" ? key("Space", "Swap", () => view.swap()) : nothing}
    ${key("M", "Marks", act.marks, { kind: "marks", pressed: view.showsMarks })}
    <div class="button-row">
      ${button("−", () => view.viewport.zoom(0.8), { kind: "small icon", label: "Zoom out" })}
      <output class="zoom">${zoom}</output>
      ${button("+", () => view.viewport.zoom(1.25), { kind: "small icon", label: "Zoom in" })} ${key("0", "Whole", () => view.viewport.fit())}
    </div>
    ${key("?", "Shortcuts", showKeys, { kind: "quiet" })}
  </div>`;
}

function head(state, act, item) {
  const isBare = item?.state === "clean" && !item.isLabelled;
  const [tone, words] = item ? STATES[item.state] : ["", ""];
  const problem = item?.problem && item.state !== "clean" ? item.problem.message : "";
  return html`<div class="item-head">
    <h2 class="item-name">${item?.name ?? ""}</h2>
    <span class="save-state badge ${isBare ? "" : tone}" role="status" title=${problem}>${isBare ? "No label yet" : words}</span>
    ${item?.state === "conflict" ? button("Choose…", act.resolve, { kind: "small" }) : nothing}
    <output class="place hint">${state.place}</output>
  </div>`;
}

const notices = ({ ended }) =>
  ended
    ? html`<div role="alert" class="callout warn">
        <strong>Labels are closed</strong>${ended.words} <a href=${ended.href}>See the calibration</a>
      </div>`
    : nothing;

function panes(state, view) {
  const [truth, prediction] = view.canvases;
  const isFlicker = view.mode === "flicker";
  const words = isFlicker && view.shown === "truth" ? "Truth" : "Prediction";
  return html`<div class="panes ${isFlicker ? "single" : ""}" aria-busy=${state.isBusy}>
    <figure class="pane" data-part="truth"><figcaption>Truth</figcaption><div class="pane-stage">${truth}</div></figure>
    <figure class="pane" data-part="prediction"><figcaption>${words}</figcaption><div class="pane-stage">${prediction}</div></figure>
  </div>`;
}

function list(session, act) {
  const entry = (row) => {
    const isLabelled = session.isLabelled(row);
    const isUnsaved = session.items.get(row.name)?.isUnsaved;
    const words = isUnsaved ? ", not saved" : isLabelled ? ", labelled" : ", no label";
    return html`<li>
      <button type="button" class="quiet" aria-current=${row.name === session.current?.name ? "true" : nothing}
        @click=${() => act.open(row.name)}>
        <span class="dot ${isLabelled ? "done" : ""} ${isUnsaved ? "unsaved" : ""}" aria-hidden="true"></span>
        <span class="label">${row.name}</span><span class="visually-hidden">${words}</span>
      </button>
    </li>`;
  };
  return html`<ol class="items-list">${repeat(session.rows, ({ name }) => name, entry)}</ol>`;
}

/** Scroll the list to the present pair, without moving the page. */
export function revealCurrent(root) {
  const box = root.querySelector(".items-list");
  const current = box?.querySelector("[aria-current]");
  if (!current) return;
  const [outer, inner] = [box.getBoundingClientRect(), current.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top;
  if (inner.left < outer.left || inner.right > outer.right) box.scrollLeft += inner.left - outer.left;
}

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
  ["X", "Nothing differs; next pair"],
  ["N", "Next pair without a label"],
  ["J, K", "Next pair, previous pair"],
  ["Arrows, Enter", "With a picture in focus: move the brush, draw"],
  ["?", "This list"],
];

export const listenToKeys = (actions) =>
  onKey((key, { target, ctrlKey, metaKey, shiftKey }) => {
    const command = ctrlKey || metaKey;
    if (command && key !== "z" && key !== "y") return false;
    // A focused button takes the space bar itself.
    if (key === " " && /** @type {HTMLElement} */ (target).closest("button, a, summary, input")) return false;
    const name = (key === "z" && shiftKey) || (command && key === "y") ? "redo" : key;
    actions[name]?.();
    return name in actions;
  });

export function showKeys() {
  return openDialog({
    title: "Shortcuts",
    body: facts(LIST.map(([keys, words]) => [html`<kbd>${keys}</kbd>`, words])),
  });
}

/** The marks of the choice, or null to decide later. */
export async function askWhich(item, theirs) {
  const { mask, name } = item;
  const both = mask.data.map((mark, k) => mark | theirs.marks[k]);
  const answer = await openDialog({
    title: "Somebody else has labelled this pair",
    body: html`<p><strong>${name}</strong>: version ${theirs.version} was saved after you began. Nothing of yours is lost yet.</p>
      <div class="versions">
        ${preview(item, mask.data, "Yours")} ${preview(item, theirs.marks, "Theirs")} ${preview(item, both, "Both together")}
      </div>`,
    actions: [
      { label: "Decide later", value: null },
      { label: "Take theirs", value: "theirs" },
      { label: "Both together", value: "both" },
      { label: "Keep mine", value: "mine", primary: true },
    ],
    wide: true,
  });
  if (answer === null) return null;
  return { mine: mask.data.slice(), theirs: theirs.marks, both }[answer];
}

function preview({ prediction, mask: { width, height } }, marks, words) {
  const marked = marks.reduce((sum, mark) => sum + mark, 0);
  const ariaLabel = `${words}: ${count(marked)} pixels marked`;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height, role: "img", ariaLabel });
  const context = canvas.getContext("2d");
  const tint = new OffscreenCanvas(width, height);
  tint.getContext("2d").putImageData(tinted(marks, width), 0, 0);
  context.drawImage(prediction, 0, 0);
  context.drawImage(tint, 0, 0);
  return html`<figure>${canvas}<figcaption><b>${words}</b> · ${count(marked)} pixels marked</figcaption></figure>`;
}
