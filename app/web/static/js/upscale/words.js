// What the page says about a result: the promise, its limits, the unusual.

import { count, level, percent } from "../lib/format.js";

export const UNUSUAL = 0.02; // typicality below which the service warns

/** α as it is shown: three digits. The exact number is in the details and in every link. */
export const shown = (alpha) => level(Number(alpha.toPrecision(3)));

/** The promise in one sentence that can be read without knowing the method. */
export function promise(guarantee, alpha) {
  const error = guarantee.metric === "semantic" ? "error of meaning" : "colour error";
  const where =
    guarantee.applicability === "per_window"
      ? "inside the mask, in any one window of the calibrated size,"
      : "inside the mask";
  const scope =
    guarantee.applicability === "unknown" ? "Not known for images of this size: on" : "On";
  const average =
    ` average over images like the ${count(guarantee.n)} it was calibrated with, the largest ` +
    `${error} ${where} is at most α = ${shown(alpha)}.`;
  if (guarantee.kind !== "high_probability") return scope + average;
  const sure = percent(1 - guarantee.delta, 0);
  return `With a probability of ${sure} over the draw of the calibration images: ${scope}${average}`;
}

/** What an α of this size means for the eye; "" where colours are not measured. */
export function sizeOfError(guarantee, alpha) {
  if (guarantee.metric === "semantic") return "";
  const steps = Number((100 * alpha).toPrecision(2));
  return `As large as ${level(steps)} of the 100 steps of lightness from black to white.`;
}

/** Whether the promise is about an image of this size. */
export const APPLICABILITY = {
  exact: "The image is of a size that was calibrated.",
  per_window:
    "The image is larger than those of the calibration, so the promise is about any one window of their size, chosen without looking.",
  unknown: "The image is not of a size that was calibrated: whether the promise holds is not known.",
};

/** Typicality in words. */
export function typicality(value) {
  if (value < UNUSUAL) return "Unlike the calibration images. The promise may not be about it.";
  if (value < 0.1) return "Rather unusual among the calibration images.";
  return "Like the calibration images, as far as the disagreement of the samples shows.";
}

/** A pixel's trust level in words. `found`: {x, y, code} or null. */
export function pixel(found, { alpha, limit, levelOf }) {
  if (!found) return "";
  const where = `Pixel ${count(found.x)}, ${count(found.y)}`;
  const least = levelOf(found.code);
  const state = found.code <= limit ? "trusted" : "not trusted";
  if (least === null) return `${where}: never trusted.`;
  return `${where}: ${state} at α = ${shown(alpha)}; trusted from α = ${shown(least)}.`;
}

/** The slider's value for screen readers. */
export function sliderValue(alpha, share) {
  return `α ${shown(alpha)}, ${percent(share)} trusted`;
}

/** The request behind a result, for a shell. The file name is quoted for curl and for the shell. */
export function curl({ origin, name, result, alpha, needsKey }) {
  const inner = name.replace(/["\\]/g, "\\$&");
  const fields = [
    `image=@"${inner}"`,
    `upscaler=${result.upscaler}`,
    ...(result.group ? [`group=${result.group}`] : []),
    `alpha=${alpha}`,
    `seed=${result.seed}`,
  ];
  return [
    "curl",
    ...(needsKey ? ['-H "Authorization: Bearer $TRUSTSCALE_KEY"'] : []),
    ...fields.map((field) => `-F ${quoted(field)}`),
    "-H 'Accept: application/zip' -o result.zip",
    `${origin}/v1/upscale`,
  ].join(" \\\n  ");
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
