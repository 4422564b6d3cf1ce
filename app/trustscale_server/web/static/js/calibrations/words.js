// Facts about calibrations in words, for several views.

import { certainty, count, level, percent, plural } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { at } from "../lib/place.js";
import { estimatorOf, metricOf } from "./service.js";

const FIELD_WORDS = {
  fingerprint: "the model itself",
  scale: "the scale",
  samples: "the number of calls",
  color_space: "the colour space",
  trust_layer: "the version of this software",
};
const NUMBERS = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];

export const above = html`<p class="hint"><a href=${at("calibrations")}>Studio</a></p>`;

const number = (value) => NUMBERS[value] ?? count(value);

const listed = (names) => new Intl.ListFormat("en").format(names);

/**
 * Who answers: [tone, words, facts behind]. all: of GET /v1/upscalers.
 * @returns {[string, string, any[]]}
 */
export function answers(all) {
  const isTwin = (one) => all.some((other) => other !== one && other.title === one.title);
  const titleOf = (one) => (isTwin(one) ? one.name : one.title);
  const bare = all.filter(({ calibration }) => !calibration).map(titleOf);
  const facts = all.map((one) => [
    titleOf(one),
    listed(one.calibrations.map(({ name, id }) => name || id)) || "no calibration",
  ]);
  const able = all.length - bare.length;
  if (!bare.length)
    return ["good", `${number(able)} ${able === 1 ? "model answers" : "models answer"}.`, facts];
  const words = `${number(able)} of ${plural(all.length, "model")} ${able === 1 ? "answers" : "answer"}: nothing is promised of ${listed(bare)} yet.`;
  return ["warn", words, facts];
}

export const metricWords = (metric) => metricOf(metric)?.summary ?? metric;

export const howSure = ({ kind, delta }) =>
  kind === "high_probability" ? `with probability ${certainty(delta ?? 0.1)}` : "";

/** The pipeline for people. */
export function pipelineWords({ samples, scale, prediction, indecision }) {
  const isLearned = indecision.estimator === "fitted";
  const parts = [
    `×${scale}`,
    `${plural(samples, "call")} per picture`,
    prediction === "mean" && "the mean of the answers is returned",
    isLearned ? "a learned score" : (estimatorOf(indecision.estimator)?.title ?? indecision.estimator),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** The row of a table of thresholds at the default level. */
export const ownRow = ({ thresholds = [], default_alpha: alpha }) =>
  thresholds.find((row) => row.alpha === alpha);

export function trustsNothing(found) {
  const own = ownRow(found);
  if (!own || own.trusted_fraction > 0) return nothing;
  return html`<p class="callout warn nothing-trusted">
    It trusts nothing at the error that it accepts, ${level(found.default_alpha)}: the smallest that it can promise is ${level(found.min_alpha)}.
  </p>`;
}

export const areaWords = (found) => {
  const own = ownRow(found);
  return own ? `${percent(own.trusted_fraction)} at ${level(found.default_alpha)}` : "…";
};

export const activeBadge = (row) =>
  row?.active ? html`<span class="badge trust">active</span>` : html`<span class="badge">ready</span>`;

export function mismatch({ differences }) {
  if (differences === null)
    return html`<span class="badge warn" title="The upscaler cannot be reached, or is not configured.">upscaler away</span>`;
  if (!differences?.length) return nothing;
  return html`<span class="badge bad" title=${mismatchWords(differences)}>made for another model</span>`;
}

export const mismatchWords = (differences) =>
  `The running pipeline differs from the calibrated one: ${differences.map(({ field }) => FIELD_WORDS[field] ?? field).join(", ")}.`;
