// The settings of a calibration as a form: what is asked of everybody, the rest folded.

import { documentOf } from "../lib/dom.js";
import { html } from "../lib/html.js";
import { field, number, select } from "../lib/widgets.js";
import { metricOf, options } from "./service.js";

const PROMISES = Object.entries({
  expectation: "On average over images and calibrations",
  high_probability: "For this calibration, with high probability",
});
const MADE = Object.entries({
  usual: "As uploads usually are: reduced, and saved in several ways",
  own: "Reduced bicubically, and nothing else",
});

/** state: {upscalers, upscaler, metric}; set(changes) when one of those is chosen. */
export function settingsFields({ upscalers, upscaler, metric }, set) {
  const live_ = upscalers.find(({ name }) => name === upscaler);
  const listed = upscalers.map(({ name, title }) => [name, title]);
  const metrics = options.metrics.map(({ metric, title }) => [metric, title]);
  const error = { chosen: metric, run: (chosen) => set({ metric: chosen }), hint: metricOf(metric)?.summary };
  return html`<div class="form-grid">
      ${field("Name", html`<input name="name" maxlength="200" placeholder="such as: street photographs" />`)}
      ${select("upscaler", "Model", listed, { chosen: upscaler, run: (chosen) => set({ upscaler: chosen }) })}
      ${select("metric", "What counts as an error", metrics, error)}
    </div>
    <details>
      <summary>More settings</summary>
      <div class="form-grid">
        ${number("default_alpha", "Accepted error", options.default_alpha, { min: 0.0001, max: 3, hint: "The default for users: 0.1 is about 10 of 100 steps of lightness." })}
        ${number("samples", "Calls of the model per picture", live_?.samples ?? 1, { min: 1, max: 1024, step: "1", hint: "One is enough for most models." })}
        ${select("made", "Small versions of originals", MADE)}
        ${select("guarantee.kind", "Promise", PROMISES, { hint: "The second needs more pictures for the same error." })}
        ${field("All others", html`<textarea name="others" rows="2" spellcheck="false" placeholder='{"seed": 1}' @input=${checkJson}></textarea>`, "As JSON, with the names of the command line and the HTTP API.")}
      </div>
    </details>`;
}

function checkJson({ target }) {
  let words = "";
  try {
    if (target.value.trim()) JSON.parse(target.value);
  } catch {
    words = "This is no JSON.";
  }
  target.setCustomValidity(words);
}

/** The `config` of a filled form. `given`: small versions were given, so none are made. @returns {any} */
export function configOf(form, given) {
  const { metric, made, guarantee, others, ...rest } = documentOf(form);
  let more = {};
  try {
    more = JSON.parse(others ?? "{}");
  } catch {
    // The form says so, and is not sent.
  }
  return {
    ...rest,
    ...(guarantee.kind === "high_probability" && { guarantee }),
    ...(!given && made === "own" && { degradation: {} }),
    ...more,
    fidelity: { metric, ...more.fidelity },
  };
}
