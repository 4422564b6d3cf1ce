// Over the foot of the picture: how strict, against what, how near.

import { percent, plural } from "../../lib/format.js";
import { html, live, nothing, render } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { button } from "../../lib/widgets.js";
import { counted, said } from "../lettering.js";
import { codeAt, placeOf } from "../levels.js";
import { add } from "../queue.js";
import * as stage from "../stage.js";
import { modelOf, state } from "../state.js";
import { about, gist, hasPromise, promise, reliedOn, shown } from "../words.js";
import { swatches } from "./swatches.js";

const PLACES = 1000; // of the slider

/** Follows the slider, and is drawn separately from the page. */
const strictness = Object.assign(document.createElement("div"), { className: "strictness" });

function drawStrictness() {
  if (!state.shown) return;
  const { result } = state.shown;
  if (!hasPromise(result)) return render(nothing, strictness);
  const share = stage.shareAt(stage.dial.state.code);
  const words = html`<output id="share" data-alpha=${stage.alphaNow()} ><b>${percent(share, 0)}</b> <small>${about(result.guarantee.error_unit)}</small></output>`;
  const read = result.words
    ? html`<output id="words" title=${said(result.words, stage.alphaNow())}>${counted(result.words, stage.alphaNow())}</output>`
    : nothing;
  render(html`${added(result)} ${slider(share, result)} ${words} ${read}`, strictness);
  const left = stage.shareLeft();
  const side = (place, name, value) => {
    const said = value === null ? name : `${name} · ${percent(value, 0)}`;
    stage.viewer.element.querySelector(`.divider-side.${place}`).textContent = said;
  };
  const other = state.pictures.find(({ id }) => id === state.left);
  side("left", other ? modelOf(state, other.result.upscaler) : "Your picture", left);
  side("right", modelOf(state, result.upscaler), left === null ? null : share);
}
stage.dial.watch(drawStrictness);

/** What was added, and how much of it holds up: one bar, and a number about nothing else. */
function added(result) {
  const { added } = result;
  if (added?.held == null) return nothing;
  const { unchanged, held } = added;
  const parts = [
    ["unchanged", unchanged],
    ["held", (1 - unchanged) * held],
    ["doubtful", (1 - unchanged) * (1 - held)],
  ];
  const said = `${percent(unchanged, 0)} of the picture is unchanged; of what was added ${percent(held, 0)} holds up`;
  const [share, rest] = gist(result).split(/(?<=%)/);
  const words = rest ? html`<b>${share}</b>${rest}` : html`${share}.`;
  return html`<div class="added" title=${said}>
    <output id="added">${words}</output>
    <span class="parts" role="img" aria-label=${said}>${parts.map(([name, part]) => html`<i class=${name} .style=${`flex-grow: ${part}`}></i>`)}</span>
  </div>`;
}

function slider(share, result) {
  const { axis } = stage.held;
  const { error } = promise(result, stage.alphaNow(), stage.isMoved());
  const limit = error === null ? nothing : html`may be off by ${swatches(error)}`;
  if (!axis)
    return html`<span class="ends" title="level ${shown(stage.alphaNow())}">Strictness is fixed${result.words ? " for words" : ""}${error === null ? "" : "; "}${limit}</span>`;
  const place = Math.round(PLACES * placeOf(axis, stage.dial.state.code));
  return html`<label class="slider">
    <input type="range" id="alpha-slider" min="0" max=${PLACES} step="1" aria-label="How strict" aria-valuetext=${reliedOn(share, result)}
      .value=${live(String(place))} @input=${({ target }) => stage.setCode(codeAt(axis, Number(target.value) / PLACES))} />
    <span class="ends" aria-hidden="true">${error === null ? "stricter ← → more counts" : limit}</span>
  </label>`;
}

/** While the dock is away. */
export function atRest(result) {
  if (!hasPromise(result)) return nothing;
  const doubts = stage.held.rings.length;
  const share = gist(result, stage.shareAt(stage.dial.state.code));
  return html`<p class="rest" aria-hidden="true">${share}${doubts ? ` · ${plural(doubts, "doubt")}` : ""}</p>`;
}

export function dock(now) {
  drawStrictness();
  const doubts = stage.held.rings.length;
  const { viewport } = stage.viewer;
  const tool = (name, label, run, more = {}) =>
    button(icon(name), run, { kind: "icon quiet", label, title: label, ...more });
  const { compares } = now;
  const toggle = {
    id: "compare",
    pressed: compares,
    kind: "icon quiet toggle",
    off: !stage.viewer.result?.soft,
  };
  return html`<div class="dock" role="toolbar" aria-label="Strictness, comparison and zoom">
    ${strictness}
    <div class="tools">
      ${doubts ? button("Next doubt", () => stage.nextDoubt(), { id: "next-doubt", kind: "quiet", title: "Key N" }) : nothing}
      ${tool("compare", "Compare", () => stage.setView({ compares: !compares }), toggle)} ${compares ? leftOf(now) : nothing}
      <span class="zoom" role="group" aria-label="Zoom">
        ${tool("less", "Zoom out", () => viewport.zoom(1 / 1.5), { id: "zoom-out" })}
        ${stage.zoomed}
        ${tool("more", "Zoom in", () => viewport.zoom(1.5), { id: "zoom-in" })}
        ${button("1:1", () => viewport.zoomTo(viewport.density), { id: "zoom-one", kind: "quiet icon", label: "Pixel by pixel" })}
        ${tool("fit", now.isFull ? "Leave the full screen" : "Fit", () => (now.isFull ? stage.setFull(false) : viewport.fit()), { id: "zoom-fit" })}
        ${stage.canFill && !now.isFull ? button("Full", () => stage.setFull(true), { id: "full", kind: "quiet", label: "Full screen", title: "Key F" }) : nothing}
      </span>
    </div>
  </div>`;
}

/** Left of the divider: the upload, or the result of another model. */
function leftOf({ pictures, selected, left, upscalers }) {
  const own = pictures.find(({ id }) => id === selected);
  if (!own) return nothing;
  const others = pictures.filter((one) => isTwin(one, own));
  const used = new Set([own, ...others].map(({ result }) => result.upscaler));
  const more = upscalers.filter(
    ({ name, calibration, scale }) =>
      calibration && scale === own.result.scale && !used.has(name) && name !== "auto",
  );
  if (!others.length && !more.length) return nothing;
  const name = (upscaler) => modelOf(state, upscaler);
  const entries = [
    ["", "Your picture"],
    ...others.map(({ id, result: { upscaler } }) => [id, name(upscaler)]),
  ];
  const run = (chosen) => {
    const again = () => new File([own.file], own.name, { type: own.file.type });
    if (chosen.startsWith("+")) add([again()], { ...own.settings, upscaler: chosen.slice(1) });
    else stage.compareWith(pictures.find(({ id }) => id === chosen));
  };
  const wanted = more.map((one) => [`+${one.name}`, `Compare with ${one.title}`]);
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
