// The settings of a calibration as a form: sensible defaults, each with what it decides.

import { h } from "../lib/dom.js";
import { level } from "../lib/format.js";
import { estimators, metricOf, metrics } from "./options.js";

/** B of the settings of a metric, given or its own. */
export const boundOf = ({ metric, labels, bound }) => bound ?? metricOf(metric, labels).bound;

/** The form's fields; `upscalers` as the service lists them. Fires `input` events as forms do. */
export function settingsFields(upscalers) {
  const chosen = upscalers.find((one) => one.default) ?? upscalers[0];
  return [
    h(
      "div",
      { class: "form-grid" },
      field("Name", h("input", { name: "name", maxlength: 200, placeholder: "such as: street photographs" })),
      field(
        "Upscaler",
        select(
          "upscaler",
          upscalers.map(({ name, scale }) => [name, scale ? `${name} (×${scale})` : name]),
          chosen?.name,
        ),
      ),
      field(
        "Default α",
        number("default_alpha", 0.1, { min: 0.0001, max: 3, step: "any" }),
        "The largest expected error inside the mask, for requests that name none.",
      ),
      field(
        "Samples M",
        number("samples", chosen?.samples ?? 8, { min: 1, max: 1024 }),
        "Generations per image, here and in every request. More make a better mask and cost more.",
      ),
      field(
        "Fidelity error D",
        select(
          "metric",
          metrics().map(({ listed, title }) => [listed, title]),
        ),
        "What counts as an error. Meaning needs a person who marks the differences.",
      ),
      field(
        "Promise",
        select("guarantee", [
          ["expectation", "On average over images and calibrations"],
          ["high_probability", "For this calibration, with high probability"],
        ]),
        "The second needs more pairs for the same α.",
      ),
    ),
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", name: "activate" }),
      h("span", {}, "Activate it as soon as it is finished"),
    ),
    h(
      "details",
      {},
      h("summary", {}, "More settings"),
      h(
        "div",
        { class: "form-grid" },
        field(
          "Indecision σ",
          select(
            "estimator",
            estimators()
              .filter((row) => !row.takes_fit)
              .map(({ estimator, title, least_samples: least }) => [
                estimator,
                least > 1 ? `${title} (M ≥ ${least})` : title,
              ]),
          ),
          "What says where an error is likely. Window and blur do not touch the fitted ones.",
        ),
        field("Window of σ", number("size", 7, { min: 1, max: 511 }), "Pixels."),
        field(
          "Window shape",
          select("kernel", [
            ["box", "Box"],
            ["gaussian", "Gaussian"],
          ]),
        ),
        field(
          "Blur of σ",
          number("sigma_blur", 4, { min: 0, max: 256, step: "any" }),
          "Standard deviation in pixels; 0 for none.",
        ),
        field(
          "Cut of σ",
          number("clip", "", { min: 0.0001, max: 1, step: "any", placeholder: "none" }),
          "Quantile above which σ is cut before the blur.",
        ),
        field(
          "Blur of D",
          number("error_blur", 4, { min: 0, max: 256, step: "any" }),
          "Width of the neighbourhood in pixels.",
        ),
        field(
          "Bound B",
          number("bound", "", { min: 0.0001, step: "any", placeholder: "natural" }),
          `Empty: the metric's own, ${ownBounds()}.`,
        ),
        field(
          "Prediction",
          select("prediction", [
            ["first", "The first sample"],
            ["mean", "The mean of the samples"],
          ]),
          "The image that is returned.",
        ),
        field(
          "Risk of a bad draw δ",
          number("delta", 0.1, { min: 0.0001, max: 0.5, step: "any" }),
          "For the promise with high probability only.",
        ),
        field("Seed", number("seed", 0, { min: 0 })),
        field(
          "Unusable pairs",
          select("on_bad_pair", [
            ["fail", "Stop and name them"],
            ["skip", "Leave them out and list them"],
          ]),
        ),
      ),
      h(
        "fieldset",
        { class: "degradation" },
        h("legend", {}, "Degradation: how X is made when only Y is given"),
        h(
          "p",
          { class: "hint" },
          "Y is reduced bicubically. Add whatever else the real inputs went through: the promise speaks about inputs made in the same way.",
        ),
        h(
          "div",
          { class: "form-grid" },
          field(
            "Blur before",
            number("d_blur", 0, { min: 0, max: 64, step: "any" }),
            "Standard deviation in pixels of Y.",
          ),
          field(
            "Noise after",
            number("d_noise", 0, { min: 0, max: 128, step: "any" }),
            "Standard deviation in grey levels of 255.",
          ),
          field("JPEG quality", number("d_jpeg", "", { min: 1, max: 100, placeholder: "none" })),
          h(
            "label",
            { class: "check" },
            h("input", { type: "checkbox", name: "d_grey" }),
            h("span", {}, "Drop the colour"),
          ),
        ),
      ),
    ),
  ];
}

/**
 * The `config` document of a filled form; `given`: X was given, so there is no degradation.
 *
 * Of an archive nobody knows yet whether it holds X; the service leaves the degradation out then.
 */
export function configOf(form, given) {
  const data = new FormData(form);
  const text = (name) => data.get(name)?.trim() || null;
  const value = (name) => (text(name) === null ? null : Number(text(name)));
  const { metric, labels } = metricOf(text("metric"));
  const fidelity = { metric, labels, blur: value("error_blur") };
  if (value("bound") !== null) fidelity.bound = value("bound");
  const config = {
    name: text("name"),
    upscaler: text("upscaler"),
    samples: value("samples"),
    prediction: text("prediction"),
    indecision: {
      estimator: text("estimator"),
      kernel: text("kernel"),
      size: value("size"),
      blur: value("sigma_blur"),
      clip_quantile: value("clip"),
    },
    fidelity,
    default_alpha: value("default_alpha"),
    activate: data.has("activate"),
    seed: value("seed") ?? 0,
    on_bad_pair: text("on_bad_pair"),
  };
  if (text("guarantee") === "high_probability") {
    config.guarantee = { kind: "high_probability", delta: value("delta") };
  }
  if (!given) {
    config.degradation = {
      grey: data.has("d_grey"),
      blur: value("d_blur") ?? 0,
      noise: value("d_noise") ?? 0,
      jpeg: value("d_jpeg"),
    };
  }
  return config;
}

/** The bounds of all metrics, each once. */
const ownBounds = () => [...new Set(metrics().map(({ bound }) => level(bound)))].join(" or ");

function field(label, input, hint) {
  return h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint));
}

function number(name, value, more = {}) {
  return h("input", {
    type: "number",
    name,
    value,
    inputmode: "decimal",
    required: !("placeholder" in more),
    ...more,
  });
}

function select(name, options, chosen) {
  return h(
    "select",
    { name },
    options.map(([value, label]) => h("option", { value, selected: value === chosen }, label)),
  );
}
