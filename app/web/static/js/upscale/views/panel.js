// Beside the picture: the trusted share, the promise, and the masks of other α.

import { $ } from "../../lib/dom.js";
import { count, duration, level, percent, size, threshold } from "../../lib/format.js";
import { html, live, nothing, render, svg } from "../../lib/html.js";
import { toast, toastSuccess } from "../../lib/toast.js";
import { button, facts, items, segments } from "../../lib/widgets.js";
import { command } from "../downloads.js";
import { fault, numberOf, setAlpha } from "../intake.js";
import { alphaOf, codeAt, codeOf, placeOf } from "../levels.js";
import { alphaNow, dial, held, isMoved, isVoid, setCode, shareAt } from "../stage.js";
import { state, store } from "../state.js";
import * as words from "../words.js";

const PLACES = 1000; // of the slider
const CURVE_POINTS = 160;
const LITTLE = 0.05; // of a picture

function alerts(found) {
  const { lines, grave } = words.alertsOf(found);
  if (!lines.length) return nothing;
  return html`<div class="alerts callout ${grave ? "bad" : "warn"}" id="alerts" role="alert">
    <strong>Read this first</strong>${lines.map((line) => html`<p>${line}</p>`)}
  </div>`;
}

/** Follows the slider, and is drawn separately from the page. */
const card = document.createElement("section");
Object.assign(card, { className: "card level", ariaLabel: "Trusted area" });
const handle = document.createElement("span");
const sentence = document.createElement("p");
sentence.className = "plain";

function drawLevel() {
  if (!state.shown) return;
  const { result } = state.shown;
  const trusted = percent(shareAt(dial.state.code));
  render(html`${share(result, trusted)} ${slider()} ${exploring(result)}`, card);
  const isTrusted = hasPromise(result) && !isVoid();
  render(html`<b>${trusted}</b> ${isTrusted ? "trusted" : "would be marked"}`, handle);
  render(words.promise(result, alphaNow(), isMoved()), sentence);
}
dial.watch(drawLevel);

export function panel(now) {
  const { result } = now.shown;
  drawLevel();
  return html`<div class="panel ${now.isSheetOpen ? "open" : ""}">
    <button type="button" class="sheet-handle" aria-label="Panel: share, promise, details" title="Key I"
      aria-expanded=${now.isSheetOpen} @click=${() => store.set({ isSheetOpen: !now.isSheetOpen })}>
      ${handle}
    </button>
    ${alerts(result)} ${outdated(now, result)} ${card}
    <section class="card promise" id="promise" aria-labelledby="promise-title">
      <h2 id="promise-title">The promise</h2>
      ${sentence}
      ${now.left ? CHOOSING : nothing}
      <p class="hint" id="typicality">${words.typicality(result)}</p>
      ${conditions(result)}
    </section>
    ${details(result)} ${KEYS}
  </div>`;
}

const CHOOSING = html`<p class="callout warn" id="choosing">
  You may compare them, but no promise covers choosing the nicer one after looking: each promise is about one model that was chosen before.
</p>`;

const KEYS = html`<p class="hint" id="canvas-keys">
  Hold the picture or <kbd>h</kbd> to see it without marks. <kbd>o</kbd> marking <kbd>c</kbd> compare <kbd>p</kbd> pixels <kbd>i</kbd> panel
  <kbd>f</kbd> full screen <kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> <kbd>1</kbd> zoom <kbd>←</kbd> <kbd>→</kbd> picture before, next
</p>`;

/** A result keeps the promise of its own calibration. */
function outdated({ upscalers }, result) {
  const now = upscalers.find(({ name }) => name === result.upscaler);
  if (!now?.calibration || now.calibration === result.calibration) return nothing;
  return html`<p class="callout warn" id="outdated">
    <strong>Another calibration is active now</strong>
    This result and its promise come from ${result.calibration}; new pictures are served from ${now.calibration}.
  </p>`;
}

const hasPromise = ({ guarantee }) => guarantee.applicability !== "unknown";

function shareWords(result) {
  if (!hasPromise(result)) return "would be marked";
  if (isVoid()) return "would be marked, without a promise";
  const { opaque_fraction: opaque } = result;
  return opaque < 1
    ? `of the opaque part is trusted, which is ${percent(opaque)} of the picture`
    : "of this picture is trusted";
}

function share(result, trusted) {
  const now = state.upscalers.find(({ name }) => name === result.upscaler);
  const alpha = alphaNow();
  const all = now?.calibration === result.calibration ? words.choices(now) : [];
  const choices = all.map((one) => [codeOf(one.alpha, held.bound), one.name]);
  const exact = html`<label class="alpha-field">
    <span title="risk level α">error</span>
    <input id="alpha" inputmode="decimal" autocomplete="off" aria-label="Accepted error, exactly"
      title="exactly ${alpha}" .value=${live(words.shown(alpha))} @change=${({ target }) => typed(target)} />
  </label>`;
  const none = html`<p class="callout bad" id="no-promise"><strong>No promise applies to this picture</strong></p>`;
  return html`${hasPromise(result) ? nothing : none}
    <div class="share" tabindex="-1">
      <span class="share-value ${isVoid() || !hasPromise(result) ? "moved" : ""}" id="share">${trusted}</span>
      <span id="share-label">${shareWords(result)}</span>
    </div>
    ${segments("How large an error is accepted", choices, dial.state.code, setCode, { kind: "choices", more: exact })}
    ${shareAt(held.served) < LITTLE ? little(result, all, now) : nothing}`;
}

function little(result, choices, upscaler) {
  const { input_class: kind, alpha } = result;
  const others = state.upscalers.filter(
    ({ name, calibration }) => calibration && name !== result.upscaler && name !== "auto",
  );
  const usual = words.usualShare(upscaler, result);
  const levels = choices
    .map((one) => `${one.name} ${percent(shareAt(codeOf(one.alpha, held.bound)))}`)
    .join(", ");
  const helps = [
    kind &&
      !kind.name.startsWith("lossless") &&
      "the original file, not one that was saved again or enlarged",
    others.length > 0 && `another model, such as ${others[0].title}`,
    html`a <a href="/calibrations?new">calibration</a> with pictures like yours`,
  ];
  return html`<div class="callout warn" id="little">
    <strong>Little of it is trusted</strong>
    ${usual === null ? nothing : html`<p>Of such pictures${kind ? ` (${kind.title})` : ""} about ${percent(usual, 0)} is usually trusted at an error of ${words.shown(alpha)}.</p>`}
    ${levels ? html`<p>This one: ${levels}.</p>` : nothing}
    <p>What may help:</p>
    ${items(helps.filter(Boolean))}
  </div>`;
}

function typed(input) {
  const value = numberOf(input.value);
  const wrong = value === null ? "The error must be a number." : fault(input.value);
  if (wrong) toast(`${wrong} It stays ${words.shown(alphaNow())}.`, { kind: "error" });
  else setCode(codeOf(value, held.bound));
  input.value = words.shown(alphaNow());
}

function slider() {
  const place = placeOf(held.axis, dial.state.code);
  const ends = [held.axis.low, held.axis.high].map((code) => words.shown(alphaOf(code, held.bound)));
  return html`<div class="curve" id="curve">${curve(place)}</div>
    <input type="range" id="alpha-slider" min="0" max=${PLACES} step="1" aria-label="Accepted error"
      aria-valuetext=${words.sliderValue(alphaNow(), shareAt(dial.state.code), isVoid() || !hasPromise(state.shown.result))}
      .value=${live(String(Math.round(PLACES * place)))}
      @input=${({ target }) => setCode(codeAt(held.axis, Number(target.value) / PLACES))} />
    <div class="ends"><span>${ends[0]}</span><span>smaller error ← → larger mask</span><span>${ends[1]}</span></div>`;
}

let drawn = { counts: null, path: "" };

function curve(place) {
  if (drawn.counts !== held.counts) {
    const points = Array.from({ length: CURVE_POINTS + 1 }, (_, i) => {
      const at = i / CURVE_POINTS;
      return `${at.toFixed(4)} ${(1 - shareAt(codeAt(held.axis, at))).toFixed(4)}`;
    });
    drawn = { counts: held.counts, path: `M${points.join("L")}` };
  }
  const served = placeOf(held.axis, held.served);
  return html`<svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
    ${svg`<path class="area" d="${drawn.path}L1 1L0 1Z"/><path class="line" d=${drawn.path} />
      <line class="served" x1=${served} x2=${served} y1="0" y2="1"/><line class="now" x1=${place} x2=${place} y1="0" y2="1"/>`}
  </svg>`;
}

/** Whether the promise holds for the explored α depends on its kind. */
function exploring(result) {
  const asYouLike = "Move it as you like: the promise holds for the level that you end with.";
  if (!isMoved())
    return html`<p class="hint moved-place">${held.isFree ? asYouLike : "Move the slider to see what would be marked for other errors."}</p>`;
  const [here, served] = words.apart(alphaNow(), result.alpha);
  const warning = hasPromise(result)
    ? `Exploring ${here}. The promise is for ${served}, which was chosen before looking; an error chosen after looking has none.`
    : `Exploring ${here}. No promise applies to this picture at any error.`;
  return html`<div class="callout ${held.isFree ? "" : "untrust"} moved-place" id="moved">
    <p>${held.isFree ? asYouLike : warning}</p>
    <div class="button-row">
      ${button(`Back to ${served}`, back, { id: "back", kind: "small" })} ${button(`Use ${here} for the next pictures`, useNext, { kind: "small" })}
    </div>
  </div>`;
}

function back() {
  setCode(held.served);
  $("#alpha-slider").focus();
}

function useNext() {
  setAlpha(words.shown(alphaNow()));
  toastSuccess("The next pictures are upscaled for this error, chosen before you see them.");
}

function conditions({ guarantee }) {
  const { statement, applicability, voids, lab_psnr_lower_bound_db: psnr } = guarantee;
  return html`<details class="conditions">
    <summary>Conditions, and what voids it</summary>
    <p>${statement}</p>
    <p>${words.APPLICABILITY[applicability]}</p>
    <p>The promise is void with:</p>
    ${items(voids)}
    ${psnr === null ? nothing : html`<p>PSNR in CIELAB inside the mask: at least ${level(psnr)} dB.</p>`}
  </details>`;
}

function details(result) {
  const { guarantee } = result;
  const { error, bound, n, pairs } = guarantee;
  const kind = result.input_class;
  const rows = [
    ["Upscaler", `${result.upscaler}, ×${result.scale}`],
    ["Size", `${size(result.width, result.height)} px`],
    ["Accepted error", level(result.alpha)],
    ["Trusted up to a score of", threshold(result.threshold)],
    ["Answers of the model", count(result.samples)],
    ["Seed", String(result.seed)],
    ["What is returned", result.prediction === "mean" ? "the mean of the answers" : "the first answer"],
    ["Counts as an error", `${error}, up to ${level(bound)}`],
    ["Kind of picture", result.group ?? "any"],
    kind && ["Kind of upload", `${kind.title}, ${count(kind.n)} scenes of this kind`],
    ["Calibration", `${result.calibration}, ${count(n)} scenes, ${count(pairs)} pairs`],
    ["Time", duration(Object.values(result.timings_ms).reduce((sum, ms) => sum + ms, 0))],
    ["Result", result.id],
  ];
  return html`<details class="card"><summary>Details of this result</summary>
      ${facts(rows, "facts")}
    </details>
    <details class="card" id="curl-details"><summary>The same by command line</summary><pre id="curl" tabindex="0">${command()}</pre></details>`;
}
