// What to take away. The reader's question: which file do I want? The main action: the first one.

import { openDialog } from "../../lib/dialog.js";
import { html, nothing } from "../../lib/html.js";
import { button } from "../../lib/widgets.js";
import { fitted } from "../../viewport/geometry.js";
import * as files from "../downloads.js";
import { CpuPainter } from "../paint.js";
import { viewer } from "../stage.js";
import { state } from "../state.js";
import { hasPromise } from "../words.js";

const THUMBNAIL = { width: 480, height: 320 };

/** The result as one of the views shows it, small. */
function thumbnail(mode) {
  const canvas = Object.assign(document.createElement("canvas"), THUMBNAIL);
  const { result } = viewer;
  const { width, height } = result;
  // The part that fills the thumbnail.
  const [w, h] = [Math.min(width, (1.5 * height) | 0), Math.min(height, (width / 1.5) | 0)];
  const [left, top] = [(width - w) / 2, (height - h) / 2];
  const view = fitted({ left, top, right: left + w, bottom: top + h }, result, THUMBNAIL);
  const parts = [{ layer: result, mode, left: 0, right: THUMBNAIL.width }];
  new CpuPainter(canvas).draw({ view, screen: THUMBNAIL, density: 1.5, parts });
  return canvas;
}

export function openSheet() {
  const { result } = state.shown;
  const forms = files.formsOf(result);
  const isPromised = hasPromise(result);
  const act = (run) => (event) => {
    event.currentTarget.closest("dialog").close();
    run();
  };
  const choice = (id, mode, title, text, run) =>
    html`<button type="button" class="choice" id=${id} @click=${act(run)}>${thumbnail(mode)}<b>${title}</b><span>${text}</span></button>`;
  const small = (words, run) => button(words, act(run), { kind: "small" });
  const card = choice(
    "take-card",
    "checked",
    "Card",
    `With a line below that says ${isPromised ? "what can be relied on" : "that nothing is promised"}. The one to send.`,
    files.saveCard,
  );
  const safe = choice(
    "take-safe",
    "original",
    "Safe copy",
    files.hasSafe(result)
      ? "As much of the detail as is probably real. The one to work with."
      : "What cannot be relied on stays as soft as you sent it. The one to work with.",
    () => (files.hasSafe(result) ? files.saveSafe() : files.savePart("believed")),
  );
  const full = isPromised
    ? choice("take-full", "plain", "Full result", "As the model made it, with what it made up.", () =>
        files.savePicture(),
      )
    : choice(
        "take-full",
        "plain",
        "Not checked",
        "As the model made it, with “not checked” across it.",
        files.saveUnchecked,
      );
  const proof = choice(
    "take-proof",
    "marked",
    "Proof page",
    "Share as a web page: the picture, its doubts and the promise. Works anywhere.",
    files.savePage,
  );
  const hasRest = "believed" in result.links;
  const parts = html`${small("Mask", () => files.savePart("mask"))} ${small("Marked picture", () => files.savePart("overlay"))}`;
  const body = html`<div class="choices-of">
      ${hasRest ? card : nothing} ${hasRest && isPromised ? safe : nothing} ${full} ${isPromised ? proof : nothing}
    </div>
    <details class="more-files">
      <summary>More</summary>
      ${forms.length > 1 ? html`<p class="button-row" role="group" aria-label="The full result as">Full result as ${forms.map((form) => small(form.toUpperCase(), () => files.savePicture(form)))}</p>` : nothing}
      <p class="button-row">${isPromised ? parts : nothing} ${small("Everything, as zip", files.saveZip)} ${small("Copy link", files.copyLink)}</p>
    </details>`;
  return openDialog({ title: "Download", body, wide: true });
}
