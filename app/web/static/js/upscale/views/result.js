// One picture. The reader's question: what of it can I believe? The main action: download it.

import { html, nothing } from "../../lib/html.js";
import { count, size } from "../../lib/format.js";
import { button, segments } from "../../lib/widgets.js";
import { copyLink, formsOf, savePage, savePart, savePicture, saveZip } from "../downloads.js";
import { LOOKS } from "../paint.js";
import { add, again, cancel, confirm, remove } from "../queue.js";
import { compareWith, held, setFull, setView, viewer } from "../stage.js";
import { state, upscalerOf } from "../state.js";
import { fitFor, mayHelp, stateWords } from "../words.js";
import { panel } from "./panel.js";
import { whyCard } from "./why.js";

export function picked(picture, state) {
  if (["failed", "cancelled", "expired"].includes(picture.state)) return ended(picture);
  if (picture.state !== "done") return waiting(picture, state);
  return state.shown ? result(state) : opening;
}

export const opening = html`<p class="hint busy-first" role="status">Opening the result …</p>`;

export function result(state) {
  const { result: found, name } = state.shown;
  return html`<section class="result" aria-labelledby="result-title" aria-busy=${state.isOpening}>
    <div class="stage-head">
      <h1 id="result-title" tabindex="-1">${name}</h1>
      <span class="hint">${size(found.width, found.height)} px, ${found.upscaler} ×${found.scale}</span>
    </div>
    ${toolbar(state)} ${downloads(state)}
    <div class="stage">${viewer.element}${whyCard(state)}</div>
    ${panel(state)}
  </section>`;
}

function downloads({ shown }) {
  const item = (words, run) => {
    const act = ({ currentTarget }) => {
      currentTarget.closest("details").open = false;
      run();
    };
    return html`<button type="button" role="menuitem" @click=${act}>${words}</button>`;
  };
  const forms = formsOf(shown.result);
  const as = (form) => item(form.toUpperCase(), () => savePicture(form));
  return html`<div class="take">
    <button type="button" class="primary" id="download" @click=${() => savePicture()}>Download</button>
    <details class="menu">
      <summary class="button primary" aria-label="More to download and copy">▾</summary>
      <div role="menu">
        ${forms.length > 1 ? html`<div class="forms" role="group" aria-label="The picture as">${forms.map(as)}</div>` : nothing}
        ${item("Everything, as zip", saveZip)} ${item("Mask", () => savePart("mask"))} ${item("Marked picture", () => savePart("overlay"))}
        ${"believed" in shown.result.links ? item("Only what can be believed", () => savePart("believed")) : nothing}
        ${item("Page for others, without the input", () => savePage(null))}
        ${shown.isOwn ? item("Page for others, with the input", () => savePage(held.input)) : nothing} ${item("Copy link", copyLink)}
      </div>
    </details>
  </div>`;
}

/** Left of the divider: the input, or the result of another model. */
function leftOf({ pictures, selected, left, upscalers }) {
  const own = pictures.find(({ id }) => id === selected);
  if (!own) return nothing;
  const others = pictures.filter((one) => isTwin(one, own));
  const made = new Set([own, ...others].map(({ result: made }) => made.upscaler));
  const more = upscalers.filter(
    ({ name, calibration, scale }) =>
      calibration && scale === own.result.scale && !made.has(name) && name !== "auto",
  );
  if (!others.length && !more.length) return nothing;
  const entries = [["", "input"], ...others.map(({ id, result: { upscaler } }) => [id, upscaler])];
  const run = (chosen) => {
    if (chosen.startsWith("+"))
      add([new File([own.file], own.name, { type: own.file.type })], {
        ...own.settings,
        upscaler: chosen.slice(1),
      });
    else compareWith(pictures.find(({ id }) => id === chosen));
  };
  const wanted = more.map(({ name }) => [`+${name}`, `make by ${name}…`]);
  return html`<select aria-label="Left of the divider" id="left" @change=${({ target }) => run(target.value)}>
    ${[...entries, ...wanted].map(([value, words]) => html`<option value=${value} .selected=${value === left}>${words}</option>`)}
  </select>`;
}

/** Whether two models have made these of one file. */
const isTwin = (one, own) =>
  one !== own &&
  one.state === "done" &&
  one.name === own.name &&
  one.file.size === own.file.size &&
  one.result.width === own.result.width &&
  one.result.height === own.result.height;

function toolbar(state) {
  const { shown, look, compares, isSquare, zoom } = state;
  const hasInput = shown.isOwn;
  const { viewport } = viewer;
  const looks = LOOKS.map((one) => [one, one[0].toUpperCase() + one.slice(1)]);
  const squares = { id: "squares", kind: "small toggle wide", pressed: isSquare };
  return html`<div class="toolbar" role="toolbar" aria-label="View">
    ${segments("How untrusted regions are shown", looks, look, (chosen) => setView({ look: chosen }), { id: "looks" })}
    ${button("Compare", () => setView({ compares: !compares }), {
      id: "compare",
      kind: "small toggle",
      pressed: compares && hasInput,
      off: !hasInput,
      title: hasInput ? "" : "The input is not stored by the service, only the result is.",
    })}
    ${compares && hasInput ? leftOf(state) : nothing} ${compares && hasInput ? button("Pixels", () => setView({ isSquare: !isSquare }), squares) : nothing}
    <div class="zoom" role="group" aria-label="Zoom">
      <output class="hint" id="zoom-value" aria-label="Zoom">${zoom}</output>
      ${button("−", () => viewport.zoom(1 / 1.5), { id: "zoom-out", kind: "icon small", label: "Zoom out" })}
      ${button("Fit", () => viewport.fit(), { id: "zoom-fit", kind: "small" })}
      ${button("1 : 1", () => viewport.zoomTo(viewport.density), { id: "zoom-one", kind: "small" })}
      ${button("+", () => viewport.zoom(1.5), { id: "zoom-in", kind: "icon small", label: "Zoom in" })}
      ${button("Full", () => setFull(true), { id: "full", kind: "small", label: "Full screen", title: "Key F" })}
    </div>
  </div>`;
}

/** The input is shown while the model works, then its first answer. */
function waiting(picture, { pictures }) {
  const { state, url, draft, name } = picture;
  const canWake = ["full", "away"].includes(state);
  return html`<section class="waiting" id="waiting" aria-label="At work">
    <h1>${name}</h1>
    <div class="frame">
      <img src=${url} alt="" />
      ${draft ? html`<img class="draft" src=${draft} alt="" />` : nothing}
      <p class="legend">${draft ? "Draft: the model’s first answer. Nothing of it is checked yet." : "Your picture, enlarged"}</p>
    </div>
    <div class="waiting-words">
      <p id="waiting-state" role="status">${stateWords(picture)}</p>
      ${canWake ? button("Try now", () => picture.wake(), { kind: "small" }) : nothing}
      ${state === "asking" ? ways(picture, pictures) : nothing} ${button("Cancel", () => cancel(picture), { kind: "small" })}
    </div>
    <p class="hint">Errors are likely where answers of the model disagree, or add to what it was given.</p>
  </section>`;
}

const QUICK_S = 30;

/** A picture that takes long is not sent before the person decides. */
function ways({ plan, ...picture }, pictures) {
  const own = pictures.find(({ id }) => id === picture.id);
  const upscaler = upscalerOf({ ...state, upscaler: picture.settings.upscaler });
  const fit = fitFor(plan, upscaler?.scale ?? 1, QUICK_S);
  const asked = pictures.filter((one) => one.state === "asking");
  const small = (words, run, title) => button(words, run, { kind: "small", title });
  return html`${small("Send it anyway", () => confirm(own), "You can continue meanwhile.")}
  ${small(`Reduce it to ${count(fit)} px before`, () => confirm(own, { fit: String(fit) }), "Its longest side; about half a minute")}
  ${asked.length > 1 ? small(`Send all ${asked.length}`, () => asked.forEach((one) => confirm(one)), "") : nothing}`;
}

function ended(picture) {
  const { state, error, result: before, name } = picture;
  const [title, text] = {
    expired: [
      "The result has expired",
      "The service keeps results for a limited time. The page still has your picture: the same seed gives the same result, as long as model and calibration are the same.",
    ],
    cancelled: ["Cancelled", "Nothing was kept."],
    failed: ["This picture was not upscaled", error?.message],
  }[state];
  const way = (words, settings) => button(words, () => again(picture, settings), { kind: "primary" });
  const onward = () => {
    if (state === "expired") {
      return way("Again with the same seed", { seed: String(before.seed), alpha: String(before.alpha) });
    }
    const fit = /\bfit=(\d+)/.exec(error?.message ?? "")?.[1]; // the way out that the service names
    if (fit) return way(`Reduce it to ${count(fit)} px before`, { fit });
    return !error || mayHelp(error) ? way("Try again", {}) : nothing;
  };
  return html`<section class="ended">
    <h1>${name}</h1>
    <div class="callout ${state === "failed" ? "bad" : "warn"}" role="alert">
      <strong>${title}</strong>
      <p>${text}</p>
      <div class="button-row">${onward()} ${button("Remove", () => remove([picture]))}</div>
    </div>
  </section>`;
}
