// The settings of a calibration as a form: three sketches of errors, the rest folded.

import { level } from "../lib/format.js";
import { documentOf } from "../lib/dom.js";
import { html, live } from "../lib/html.js";
import { check, field, number, select } from "../lib/widgets.js";
import { PROMISES, metricOf, options, riskOfDraw } from "./service.js";

const WAYS = {
  neighborhood: {
    words: "Colour around a spot",
    about: "Off where the colours nearby are off on average. Good for photographs.",
    sketch: html`<svg viewBox="0 0 64 40" aria-hidden="true"><circle class="soft" cx="32" cy="20" r="16" /><circle cx="32" cy="20" r="3" /></svg>`,
  },
  pointwise: {
    words: "Colour of each pixel",
    about: "Off where a single pixel is off. Strict: little is trusted.",
    sketch: html`<svg viewBox="0 0 64 40" aria-hidden="true">
      <path class="line" d="M12 4v32M22 4v32M32 4v32M42 4v32M52 4v32M8 8h48M8 18h48M8 28h48" />
      <rect x="32" y="18" width="10" height="10" />
    </svg>`,
  },
  semantic: {
    words: "Meaning",
    about: "Off where people mark that it shows something else.",
    sketch: html`<svg viewBox="0 0 64 40" aria-hidden="true">
      <path class="line" d="M8 34V18l10-10 10 10v16zM36 34V18l10-10 10 10v16z" />
      <rect x="14" y="24" width="7" height="10" class="soft" /><circle cx="46" cy="26" r="5" />
    </svg>`,
  },
};

const KERNELS = Object.entries({ box: "Box", gaussian: "Gaussian" });
const PREDICTIONS = Object.entries({ first: "The first answer", mean: "The mean of the answers" });
const BAD_PAIRS = Object.entries({ fail: "Stop and name them", skip: "Leave them out and list them" });
const MADE = Object.entries({
  usual: "As uploads usually are: reduced, and saved in several ways",
  own: "In one way of your own",
});

export const boundOf = ({ metric, bound }) => bound ?? metricOf(metric).loss_clipped_at;

/** state: {upscalers, upscaler, metric}; set(changes) when one of those is chosen. */
export function settingsFields({ upscalers, upscaler, metric, isCamera }, set) {
  const live_ = upscalers.find(({ name }) => name === upscaler);
  const listed = upscalers.map(({ name, scale }) => [name, scale ? `${name} (×${scale})` : name]);
  const way = (name, { words, about, sketch }) =>
    html`<label class="way">
      <input type="radio" name="way" .checked=${live(metric === name)} @change=${() => set({ metric: name })} />
      ${sketch}<b>${words}</b><small>${about}</small>
    </label>`;
  const ways = Object.entries(WAYS).filter(([name]) => metricOf(name));
  return html`<fieldset class="ways" role="radiogroup" aria-label="What counts as an error">
      <legend>What counts as an error</legend>
      ${ways.map(([name, one]) => way(name, one))}
    </fieldset>
    <div class="form-grid">
      ${field("Name", html`<input name="name" maxlength="200" placeholder="such as: street photographs" value=${isCamera ? "My camera" : ""} />`)}
      ${select("upscaler", "Upscaler", listed, { chosen: upscaler, run: (chosen) => set({ upscaler: chosen }) })}
      ${number("default_alpha", "Accepted error", 0.1, { min: 0.0001, max: 3, term: "default risk level α", hint: "The default for users: 0.1 is about 10 of 100 steps of lightness." })}
      ${number("samples", "Calls of the model per picture", live_?.samples ?? 1, { min: 1, max: 1024, step: "1", hint: "For this calibration and every later picture. One is enough for most models." })}
    </div>
    ${check("activate", "Activate it as soon as it is finished", isCamera)}
    <details>
      <summary>Advanced settings</summary>
      ${advanced(metric, set)} ${degradations()}
    </details>`;
}

function advanced(metric, set) {
  const bounds = [...new Set(options.metrics.map((row) => level(row.loss_clipped_at)))].join(" or ");
  const metrics = options.metrics.map(({ metric, title }) => [metric, title]);
  return html`<div class="form-grid">
    ${select("metric", "What counts as an error", metrics, { term: "metric D", chosen: metric, run: (chosen) => set({ metric: chosen }) })}
    ${select("guarantee.kind", "Promise", PROMISES, { hint: "The second needs more pairs for the same error." })}
    ${number("fidelity.bound", "Errors count up to", "", { min: 0.0001, placeholder: "natural", term: "bound B", hint: `Empty: the default of the error, ${bounds}.` })}
    ${number("fit_indecision", "Share of scenes that fit the score", "", { term: "fit of σ", min: 0, max: 0.9, placeholder: "automatic", hint: "They take no part in the promise. Automatic: 0.3 with 40 scenes or more." })}
    ${select("indecision.estimator", "Score", sigmas(), { term: "indecision σ, its estimator", hint: "Predicts where an error is likely. Window and blur apply to scores that smooth." })}
    ${number("indecision.size", "Window of the score", 7, { min: 1, max: 511, step: "1", hint: "Pixels." })}
    ${select("indecision.kernel", "Window shape", KERNELS, { term: "kernel" })}
    ${number("indecision.blur", "Blur of the score", 4, { min: 0, max: 256, hint: "Standard deviation in pixels; 0 for none." })}
    ${number("indecision.clip_quantile", "Cut of the score", "", { term: "quantile of σ", min: 0.0001, max: 1, placeholder: "none", hint: "It is cut at this quantile before the blur." })}
    ${number("fidelity.blur", "Width of the neighbourhood", 4, { min: 0, max: 256, term: "blur of D", hint: "Pixels over which an error is averaged." })}
    ${select("prediction", "What is returned", PREDICTIONS, { term: "prediction" })} ${riskOfDraw()}
    ${field("Stretch of 16-bit data", html`<input name="stretch" placeholder="none: 8 bits" spellcheck="false" />`, "LOW,HIGH or p1,p99, with intensity as the error. Send TIFF files as an archive.", "the values that become the darkest and the lightest")}
    ${number("seed", "Seed", 0, { min: 0, step: "1" })}
    ${select("on_bad_pair", "Unusable pairs", BAD_PAIRS)}
  </div>`;
}

/** Estimators that need no weights. */
function sigmas() {
  const words = ({ title, least_samples: least }) => (least > 1 ? `${title} (from ${least} calls)` : title);
  const free = options.estimators.filter((row) => !row.takes_fit);
  return [["", "Chosen for the upscaler"], ...free.map((row) => [row.estimator, words(row)])];
}

const degradations = () =>
  html`<fieldset class="degradation">
    <legend>How the small versions are made when only originals are given</legend>
    <div class="form-grid">
      ${select("made", "Method", MADE, { hint: "The promise covers inputs made in the same way. Each kind of upload gets a separate curve." })}
    </div>
    <p class="hint">Your own way reduces them bicubically, with:</p>
    <div class="form-grid">
      ${number("degradation.blur", "Blur before", 0, { min: 0, max: 64, hint: "Standard deviation in pixels of the original." })}
      ${number("degradation.noise", "Noise after", 0, { min: 0, max: 128, hint: "Standard deviation in grey levels of 255." })}
      ${number("degradation.jpeg", "JPEG quality", "", { min: 1, max: 100, step: "1", placeholder: "none" })}
      ${check("degradation.grey", "Drop the colour")}
    </div>
  </fieldset>`;

/**
 * The `config` of a filled form. `given`: small versions were given, so there is no degradation; for an archive the
 * service decides. @returns {any}
 */
export function configOf(form, given) {
  const { metric, made, fidelity, guarantee, indecision, degradation, ...rest } = documentOf(form);
  return {
    ...rest,
    fidelity: { ...fidelity, metric },
    ...(indecision.estimator && { indecision }),
    ...(guarantee.kind === "high_probability" && { guarantee }),
    ...(!given && made === "own" && { degradation }),
  };
}
