// One picture. Its question: what of it can I believe? Its one thing to do: download it.

import { html, nothing } from "../../lib/html.js";
import { size } from "../../lib/format.js";
import { copyCommand, copyLink, save } from "../downloads.js";
import { LOOKS } from "../paint.js";
import { again, cancel, remove } from "../queue.js";
import { setCompares, setLook, setSquare, viewer } from "../stage.js";
import { isTransparent, mayHelp, refusal, stateWords } from "../words.js";
import { alerts, panel } from "./panel.js";

const LOOK_WORDS = { contour: "Contour", tint: "Tint", hatch: "Hatch", mask: "Mask", off: "Off" };

/** The picture that is picked, whatever state it is in. */
export function picked(picture, state) {
  if (["failed", "cancelled", "expired"].includes(picture.state)) return ended(picture);
  if (picture.state !== "done") return waiting(picture, state);
  return state.shown
    ? result(state)
    : html`<p class="hint busy-first" role="status">Opening the result …</p>`;
}

/** A result with its viewer and panel. */
export function result(state) {
  const { result: found, name } = state.shown;
  return html`<section class="result" aria-labelledby="result-title" aria-busy=${state.isOpening}>
    <div class="stage-head">
      <h1 id="result-title" tabindex="-1">${name}</h1>
      <span class="hint">${size(found.width, found.height)} px, ${found.upscaler} ×${found.scale}</span>
      ${downloads()}
    </div>
    ${toolbar(state)}
    <div class="stage">
      ${viewer.element}
      <p class="hint" id="canvas-keys">
        Hold the picture or <kbd>h</kbd> to see it without marks. <kbd>o</kbd> marking <kbd>c</kbd> compare <kbd>+</kbd> <kbd>−</kbd>
        <kbd>0</kbd> <kbd>1</kbd> zoom <kbd>←</kbd> <kbd>→</kbd> picture before, next
      </p>
    </div>
    ${alerts(found)} ${panel(state)}
  </section>`;
}

function downloads() {
  const item = (label, run) =>
    html`<button
      type="button"
      role="menuitem"
      @click=${({ currentTarget }) => {
        currentTarget.closest("details").open = false;
        run();
      }}
    >
      ${label}
    </button>`;
  return html`<div class="take">
    <button type="button" class="primary" id="download" @click=${() => save("image")}>Download</button>
    <details class="menu">
      <summary class="button primary" aria-label="More to download and copy">▾</summary>
      <div role="menu">
        ${item("Everything, as zip", () => save("zip"))} ${item("Mask", () => save("mask"))} ${item("Marked picture", () => save("overlay"))}
        ${item("Copy link", copyLink)} ${item("Copy as curl", copyCommand)}
      </div>
    </details>
  </div>`;
}

function toolbar(state) {
  const hasInput = state.shown.isOwn;
  const reason = hasInput ? "" : "The input is not stored by the service, only the result is.";
  const { viewport } = viewer;
  return html`<div class="toolbar" role="toolbar" aria-label="View">
    <div class="segments" id="looks" role="group" aria-label="How untrusted regions are shown">
      ${LOOKS.map(
        (look) =>
          html`<button type="button" data-look=${look} aria-pressed=${state.look === look} @click=${() => setLook(look)}>${LOOK_WORDS[look]}</button>`,
      )}
    </div>
    <button
      type="button"
      class="small toggle"
      id="compare"
      aria-pressed=${state.compares && hasInput}
      ?disabled=${!hasInput}
      title=${reason}
      @click=${() => setCompares(!state.compares)}
    >
      Compare
    </button>
    ${
      state.compares && hasInput
        ? html`<button type="button" class="small toggle wide" id="squares" aria-pressed=${state.isSquare} @click=${() => setSquare(!state.isSquare)}>
            Pixels
          </button>`
        : nothing
    }
    <div class="zoom" role="group" aria-label="Zoom">
      <output class="hint" id="zoom-value" aria-label="Zoom">${state.zoom}</output>
      <button type="button" class="icon small" id="zoom-out" aria-label="Zoom out" @click=${() => viewport.zoom(1 / 1.5)}>−</button>
      <button type="button" class="small" id="zoom-fit" @click=${() => viewport.fit()}>Fit</button>
      <button type="button" class="small" id="zoom-one" @click=${() => viewport.zoomTo(viewport.density)}>1 : 1</button>
      <button type="button" class="icon small" id="zoom-in" aria-label="Zoom in" @click=${() => viewport.zoom(1.5)}>+</button>
    </div>
  </div>`;
}

/** The input is seen while the model is asked, and gets sharper with every answer. */
function waiting(picture, { pictures }) {
  const { progress, state } = picture;
  const share = state === "running" && progress?.total ? progress.done / progress.total : 0;
  return html`<section class="waiting" id="waiting" aria-label="At work">
    <h1>${picture.name}</h1>
    <div class="frame" .style=${`--rest: ${(1 - share).toFixed(3)}`}><img src=${picture.url} alt="" /></div>
    <div class="waiting-words">
      <p id="waiting-state" role="status">${stateWords(picture, pictures)}</p>
      ${state === "full" ? html`<button type="button" class="small" @click=${() => picture.wake()}>Try now</button>` : nothing}
      <button type="button" class="small" @click=${() => cancel(picture)}>Cancel</button>
    </div>
    <p class="hint">The model is asked more than once, or compared with what it was given: where that disagrees, it is guessing.</p>
  </section>`;
}

/** A picture without a result, and what can be done about it. */
function ended(picture) {
  const { state, error, result: before, name } = picture;
  const isExpired = state === "expired";
  const title = isExpired
    ? "The result has expired"
    : state === "cancelled"
      ? "Cancelled"
      : "This picture was not upscaled";
  const text = isExpired
    ? "The service keeps results for a limited time only. The page still has your picture: the same seed gives the same result, as long as model and calibration are the same."
    : error
      ? refusal(error)
      : "Nothing was kept of it.";
  return html`<section class="ended">
    <h1>${name}</h1>
    <div class="callout ${state === "failed" ? "bad" : "warn"}" role="alert">
      <strong>${title}</strong>
      <p>${text}</p>
      <div class="button-row">
        ${
          isExpired
            ? html`<button type="button" class="primary" @click=${() => again(picture, { seed: String(before.seed), alpha: String(before.alpha) })}>
                Again with the same seed
              </button>`
            : nothing
        }
        ${
          error && isTransparent(error)
            ? html`<button type="button" class="primary" @click=${() => again(picture, { background: "white" })}>Put it on white</button>`
            : nothing
        }
        ${!isExpired && (!error || (mayHelp(error) && !isTransparent(error))) ? html`<button type="button" @click=${() => again(picture)}>Try again</button>` : nothing}
        <button type="button" @click=${() => remove([picture])}>Remove</button>
      </div>
    </div>
  </section>`;
}
