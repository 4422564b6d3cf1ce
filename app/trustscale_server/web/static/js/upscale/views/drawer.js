// Beside the picture. The reader's question: what is promised, and under which conditions?

import { count, duration, level, percent, size, threshold, time } from "../../lib/format.js";
import { html, nothing, render } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { button, facts, items } from "../../lib/widgets.js";
import { counted, leftOutOf } from "../left-out.js";
import { said } from "../lettering.js";
import { codeOf } from "../levels.js";
import { alphaNow, dial, isMoved, shareAt } from "../stage.js";
import { modelOf, state, store } from "../state.js";
import * as words from "../words.js";
import { swatches } from "./swatches.js";

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

/** The words of the picture, as far as there is room for them nowhere else. */
const READ = document.createElement("p");
READ.id = "read";

function drawSentence() {
  if (!state.shown) return;
  const { words: read } = state.shown.result;
  render(read ? said(read, alphaNow()) : nothing, READ);
  READ.hidden = !read;
  const { text, error } = words.promise(state.shown.result, alphaNow(), isMoved());
  render(error === null ? text : html`${text}: ${swatches(error)}`, sentence);
}
dial.watch(drawSentence);

export function drawer(now) {
  const { result } = now.shown;
  drawSentence();
  return html`<aside class="drawer ${now.isDrawer ? "open" : ""}" id="drawer" aria-label="The promise and details" ?inert=${!now.isDrawer}>
    ${button(icon("close"), () => store.set({ isDrawer: false }), { kind: "quiet icon close", label: "Close" })}
    ${alerts(result)}
    <section id="promise" aria-labelledby="promise-title">
      <h2 id="promise-title">The promise</h2>
      ${addedWords(result)} ${sentence}
      ${words.hasPromise(result) ? html`<p class="hint">Fine detail may still be invented.</p>` : nothing} ${READ} ${leftOut(result)}
      ${now.left ? CHOOSING : nothing} ${exactly(result)}
    </section>
    ${details(now, result)} ${KEYS}
  </aside>`;
}

/** What the service says of added detail. */
const addedWords = ({ added }) =>
  added?.held != null ? html`<p id="added-words">${added.plain}</p>` : nothing;

/** What was left out. The frames are no part of what a screen reader reads. */
function leftOut(result) {
  const things = leftOutOf(result);
  if (!things.length) return nothing;
  return html`<p id="left-out">Left out: ${counted(things)}. ${[...new Set(things.map(({ why }) => why))].join(" ")}</p>`;
}

const CHOOSING = html`<p class="callout warn" id="choosing">
  You may compare the two, but no promise covers choosing the nicer one after looking: each is about one model that was chosen before.
</p>`;

const KEYS = html`<details>
  <summary>Shortcuts</summary>
  <p class="hint" id="canvas-keys">
    Hold the picture or <kbd>h</kbd> to see it as it was sent; under all doubts, without the hatching. <kbd>v</kbd> next view <kbd>n</kbd> next doubt
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
    now.shown.expires && ["Kept until", time(now.shown.expires)],
  ];
  return html`<details><summary>Details of this result</summary>${facts(rows, "facts")}</details>`;
}
