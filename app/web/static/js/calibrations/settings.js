// The settings of a calibration as a form: what counts as an error in three sketches, the rest folded.

import { level } from "../lib/format.js";
import { html, live } from "../lib/html.js";
import { check, field, number, select } from "../lib/widgets.js";
import { PROMISES } from "./service.js";
import { metricOf, options } from "./options.js";

/** Ways to say what counts as an error, in people's words; all others are in the folded part. */
const WAYS = [
  [
    "neighborhood",
    "Colour around a spot",
    "Off where the colours nearby are off on average. Good for photographs.",
    "around",
  ],
  [
    "pointwise",
    "Colour of each pixel",
    "Off where a single pixel is off. Strict; gives a bound on PSNR.",
    "pixel",
  ],
  [
    "semantic",
    "Meaning",
    "Off where people say that it shows something else. They mark the differences.",
    "meaning",
  ],
];

/** B of the settings of a metric, given or its own. @param {{metric: string, labels: string, bound?: number}} fidelity */
export const boundOf = ({ metric, labels, bound }) => bound ?? metricOf(metric, labels).counted_up_to;

/** The form's fields. state: {upscalers, upscaler, metric}; set(changes) when one of those is chosen. */
export function settingsFields({ upscalers, upscaler, metric }, set) {
  const live_ = upscalers.find(({ name }) => name === upscaler);
  return html`<fieldset class="ways" role="radiogroup" aria-label="What counts as an error">
      <legend>What counts as an error</legend>
      ${WAYS.filter(([listed]) => metricOf(listed)).map(
        ([listed, words, about, kind]) =>
          html`<label class="way">
            <input type="radio" name="way" .checked=${live(metric === listed)} @change=${() => set({ metric: listed })} />
            ${sketch(kind)}<b>${words}</b><small>${about}</small>
          </label>`,
      )}
    </fieldset>
    <div class="form-grid">
      ${field("Name", html`<input name="name" maxlength="200" placeholder="such as: street photographs" />`)}
      ${select(
        "upscaler",
        "Upscaler",
        upscalers.map(({ name, scale }) => [name, scale ? `${name} (×${scale})` : name]),
        { chosen: upscaler, run: (chosen) => set({ upscaler: chosen }) },
      )}
      ${number("default_alpha", "Accepted error α", 0.1, { min: 0.0001, max: 3, hint: "What users get who choose nothing: 0.1 is about 10 of 100 steps of lightness." })}
      ${number("samples", "Calls of the model per picture", live_?.samples ?? 8, { min: 1, max: 1024, step: "1", hint: "Now, and for every picture later. More make a larger mask and cost more." })}
    </div>
    ${check("activate", "Activate it as soon as it is finished")}
    <details>
      <summary>Advanced settings</summary>
      ${advanced(metric, set)} ${degradations()}
    </details>`;
}

function advanced(metric, set) {
  const bounds = [...new Set(options.metrics.map((row) => level(row.counted_up_to)))].join(" or ");
  return html`<div class="form-grid">
    ${field(
      "Error D",
      html`<select name="metric" .value=${live(metric)} @change=${({ target }) => set({ metric: target.value })}>
        ${options.metrics.map(({ listed, title }) => html`<option value=${listed} ?selected=${listed === metric}>${title}</option>`)}
      </select>`,
    )}
    ${select("guarantee", "Promise", PROMISES, { hint: "The second needs more pairs for the same α." })}
    ${number("bound", "Errors count up to", "", { min: 0.0001, placeholder: "natural", hint: `Bound B; empty: what is usual for the error, ${bounds}.` })}
    ${number("fit_indecision", "Share of scenes to fit σ with", "", { min: 0, max: 0.9, placeholder: "none", hint: "They take no part in the promise." })}
    ${select("estimator", "Indecision σ", sigmas(), { hint: "What says where an error is likely. Window and blur count where one is chosen that smooths." })}
    ${number("size", "Window of σ", 7, { min: 1, max: 511, step: "1", hint: "Pixels." })}
    ${select("kernel", "Window shape", [
      ["box", "Box"],
      ["gaussian", "Gaussian"],
    ])}
    ${number("sigma_blur", "Blur of σ", 4, { min: 0, max: 256, hint: "Standard deviation in pixels; 0 for none." })}
    ${number("clip", "Cut of σ", "", { min: 0.0001, max: 1, placeholder: "none", hint: "Quantile above which σ is cut before the blur." })}
    ${number("error_blur", "Blur of D", 4, { min: 0, max: 256, hint: "Width of the neighbourhood in pixels." })}
    ${select(
      "prediction",
      "Prediction",
      [
        ["first", "The first sample"],
        ["mean", "The mean of the samples"],
      ],
      { hint: "The image that is returned." },
    )}
    ${number("delta", "Risk of a bad draw δ", 0.1, { min: 0.0001, max: 0.5, hint: "For the promise with high probability only." })}
    ${number("seed", "Seed", 0, { min: 0, step: "1" })}
    ${select("on_bad_pair", "Unusable pairs", [
      ["fail", "Stop and name them"],
      ["skip", "Leave them out and list them"],
    ])}
  </div>`;
}

/** The estimators that can be chosen without weights of one's own. */
const sigmas = () => [
  ["", "What suits the upscaler"],
  ...options.estimators
    .filter((row) => !row.takes_fit)
    .map(({ estimator, title, least_samples: least }) => [
      estimator,
      least > 1 ? `${title} (from ${least} calls)` : title,
    ]),
];

const degradations = () =>
  html`<fieldset class="degradation">
    <legend>How the small versions are made when only originals are given</legend>
    <div class="form-grid">
      ${select(
        "made",
        "They are made",
        [
          ["usual", "As uploads usually are: reduced, and saved in several ways"],
          ["own", "By one way of your own"],
        ],
        {
          hint: "The promise speaks about inputs made in the same way. Kinds of upload get curves of their own.",
        },
      )}
    </div>
    <p class="hint">A way of your own reduces them bicubically, and does what you add:</p>
    <div class="form-grid">
      ${number("d_blur", "Blur before", 0, { min: 0, max: 64, hint: "Standard deviation in pixels of the original." })}
      ${number("d_noise", "Noise after", 0, { min: 0, max: 128, hint: "Standard deviation in grey levels of 255." })}
      ${number("d_jpeg", "JPEG quality", "", { min: 1, max: 100, step: "1", placeholder: "none" })}
      ${check("d_grey", "Drop the colour")}
    </div>
  </fieldset>`;

/** What is looked at: a spot with its surroundings, a pixel, a thing. */
function sketch(kind) {
  const marks = {
    around: html`<svg viewBox="0 0 64 40" aria-hidden="true"><circle class="soft" cx="32" cy="20" r="16" /><circle cx="32" cy="20" r="3" /></svg>`,
    pixel: html`<svg viewBox="0 0 64 40" aria-hidden="true">
      <path class="line" d="M12 4v32M22 4v32M32 4v32M42 4v32M52 4v32M8 8h48M8 18h48M8 28h48" />
      <rect x="32" y="18" width="10" height="10" />
    </svg>`,
    meaning: html`<svg viewBox="0 0 64 40" aria-hidden="true">
      <path class="line" d="M8 34V18l10-10 10 10v16zM36 34V18l10-10 10 10v16z" />
      <rect x="14" y="24" width="7" height="10" class="soft" /><circle cx="46" cy="26" r="5" />
    </svg>`,
  };
  return marks[kind];
}

/**
 * The `config` document of a filled form; `given`: small versions were given, so there is no degradation.
 *
 * Of an archive nobody knows yet whether it holds them; the service leaves the degradation out then.
 */
export function configOf(form, given) {
  const data = new FormData(form);
  const text = (name) => String(data.get(name) ?? "").trim() || null;
  const value = (name) => (text(name) === null ? null : Number(text(name)));
  const { metric, labels } = metricOf(text("metric"));
  const [bound, fit, kind] = [value("bound"), value("fit_indecision"), text("guarantee")];
  const indecision = text("estimator") !== null && {
    estimator: text("estimator"),
    kernel: text("kernel"),
    size: value("size"),
    blur: value("sigma_blur"),
    clip_quantile: value("clip"),
  };
  const degradation = !given &&
    text("made") !== "usual" && {
      grey: data.has("d_grey"),
      blur: value("d_blur") ?? 0,
      noise: value("d_noise") ?? 0,
      jpeg: value("d_jpeg"),
    };
  return {
    name: text("name"),
    upscaler: text("upscaler"),
    samples: value("samples"),
    prediction: text("prediction"),
    ...(indecision && { indecision }),
    fidelity: { metric, labels, blur: value("error_blur"), ...(bound !== null && { bound }) },
    default_alpha: value("default_alpha"),
    activate: data.has("activate"),
    seed: value("seed") ?? 0,
    on_bad_pair: text("on_bad_pair"),
    ...(fit !== null && { fit_indecision: fit }),
    ...(kind === "high_probability" && { guarantee: { kind, delta: value("delta") } }),
    ...(degradation && { degradation }),
  };
}
