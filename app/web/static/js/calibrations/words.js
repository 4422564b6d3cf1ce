// Facts about calibrations in words, for several views.

import { certainty, level, plural } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { estimatorOf, metricOf } from "./service.js";

const FIELD_WORDS = {
  fingerprint: "the model itself",
  scale: "the scale",
  samples: "the number of calls",
  color_space: "the colour space",
  trust_layer: "the version of this software",
};

export const above = html`<p class="hint"><a href="/calibrations">Calibrations</a></p>`;

export const metricWords = (metric) => metricOf(metric)?.summary ?? metric;

export const howSure = ({ kind, delta }) =>
  kind === "high_probability" ? `with probability ${certainty(delta ?? 0.1)}` : "";

export function promiseWords({ metric, guarantee, delta }) {
  const how = howSure({ kind: guarantee, delta });
  return [metricWords(metric), how].filter(Boolean).join(", ");
}

/** The pipeline for people. */
export function pipelineWords({ samples, scale, prediction, indecision }) {
  const isLearned = indecision.estimator === "fitted";
  const parts = [
    `×${scale}`,
    `${plural(samples, "call")} per picture`,
    prediction === "mean" && "the mean of the answers is returned",
    isLearned ? "a learned score" : samples > 1 ? "how far the answers disagree" : "a fixed score",
  ];
  return parts.filter(Boolean).join(" · ");
}

/** M, σ and D of a pipeline. */
export function pipelineTerms({ samples, scale, prediction, indecision, fidelity }) {
  const parts = [
    `M = ${samples}`,
    `×${scale}`,
    prediction === "mean" && "mean of the samples",
    estimatorOf(indecision.estimator)?.smooths === false
      ? `σ ${indecision.fit?.name ?? indecision.estimator}`
      : `σ ${indecision.estimator} ${indecision.kernel} ${indecision.size}, blur ${indecision.blur}`,
    `D ${metricWords(fidelity.metric)}`,
    metricOf(fidelity.metric)?.blurs && `blur ${fidelity.blur}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

export function trustsNothing({ thresholds = [], default_alpha: alpha, min_alpha: least }) {
  const own = thresholds.find((row) => row.alpha === alpha);
  if (!own || own.trusted_fraction > 0) return nothing;
  return html`<p class="callout warn nothing-trusted">
    It trusts nothing at the error that it accepts, ${level(alpha)}: the smallest that it can promise is ${level(least)}.
  </p>`;
}

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
