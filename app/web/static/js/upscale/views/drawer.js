// Beside the picture. The reader's question: what is promised, and under which conditions?

import { duration, count, level, percent, size, threshold } from "../../lib/format.js";
import { html, nothing, render } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { button, facts, items } from "../../lib/widgets.js";
import { codeOf } from "../levels.js";
import { alphaNow, dial, isMoved, shareAt } from "../stage.js";
import { modelOf, state, store } from "../state.js";
import * as words from "../words.js";

const MIDDLE = 42; // lightness around which the two greys lie

function alerts(result) {
  const { lines, grave } = words.alertsOf(result);
  if (!lines.length) return nothing;
  const [plain, others] = [lines.filter(words.isPlain), lines.filter((line) => !words.isPlain(line))];
  return html`<div class="alerts callout ${grave ? "warn" : ""}" id="alerts" role="alert">
    <strong>${words.hasPromise(result) ? "Read this first" : "No promise for this picture"}</strong>${plain.map((line) => html`<p>${line}</p>`)}
    ${others.length ? html`<details><summary>In full</summary>${others.map((line) => html`<p>${line}</p>`)}</details>` : nothing}
  </div>`;
}

/** Follows the slider, and is drawn separately from the page. */
const sentence = document.createElement("p");
sentence.className = "plain";

function drawSentence() {
  if (!state.shown) return;
  const { text, error } = words.promise(state.shown.result, alphaNow(), isMoved());
  render(error === null ? text : html`${text}: ${swatches(error)}`, sentence);
}
dial.watch(drawSentence);

/** Two greys that differ by so many steps of lightness. */
function swatches(error) {
  const grey = (lightness) => html`<i .style=${`background: lab(${lightness}% 0 0)`}></i>`;
  const said = `${Math.round(error)} of 100 steps of lightness`;
  return html`<span class="swatches" role="img" aria-label=${said} title=${said}>${grey(MIDDLE)}${grey(MIDDLE + error)}</span>`;
}

export function drawer(now) {
  const { result } = now.shown;
  drawSentence();
  return html`<aside class="drawer ${now.isDrawer ? "open" : ""}" id="drawer" aria-label="The promise and details" ?inert=${!now.isDrawer}>
    ${button(icon("close"), () => store.set({ isDrawer: false }), { kind: "quiet icon close", label: "Close" })}
    ${alerts(result)}
    <section id="promise" aria-labelledby="promise-title">
      <h2 id="promise-title">The promise</h2>
      ${sentence}
      ${words.hasPromise(result) ? html`<p class="hint" id="typicality">No sign that it is unlike the pictures that were measured. Fine detail may still be invented.</p>` : nothing}
      ${now.left ? CHOOSING : nothing} ${exactly(result)}
    </section>
    ${details(now, result)} ${KEYS}
  </aside>`;
}

const CHOOSING = html`<p class="callout warn" id="choosing">
  You may compare the two, but no promise covers choosing the nicer one after looking: each is about one model that was chosen before.
</p>`;

const KEYS = html`<details>
  <summary>Shortcuts</summary>
  <p class="hint" id="canvas-keys">
    Hold the picture or <kbd>h</kbd> to see it as the model made it. <kbd>v</kbd> next view <kbd>n</kbd> or <kbd>Tab</kbd> on the picture: next doubt
    <kbd>c</kbd> compare <kbd>i</kbd> promise <kbd>f</kbd> full screen <kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> <kbd>1</kbd> zoom <kbd>Enter</kbd> why
    <kbd>←</kbd> <kbd>→</kbd> picture before, next
  </p>
</details>`;

function exactly({ guarantee }) {
  const { plain, theorem, void_if, lab_psnr_lower_bound_db: psnr } = guarantee;
  return html`<details class="conditions">
    <summary>How exactly?</summary>
    <p>${plain}</p>
    <p>${theorem}</p>
    <p>The promise is void with:</p>
    ${items(void_if)}
    ${psnr === null ? nothing : html`<p>PSNR in CIELAB inside the mask: at least ${level(psnr)} dB.</p>`}
  </details>`;
}

function details(now, result) {
  const { guarantee } = result;
  const { error, bound, n, pairs } = guarantee;
  const kind = result.input_class;
  const rows = [
    ["Model", `${modelOf(now, result.upscaler)} (${result.upscaler}), ×${result.scale}`],
    ["Size", `${size(result.width, result.height)} px`],
    ["Accepted error α", level(result.alpha)],
    ["Trusted up to a score of", threshold(result.threshold)],
    ["Share that is trusted", percent(shareAt(codeOf(result.alpha, bound)))],
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
  return html`<details><summary>Details of this result</summary>${facts(rows, "facts")}</details>`;
}
