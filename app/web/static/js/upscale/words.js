// What the page says about a result: the promise, its limits, the unusual.

import { certainty, count, level, percent } from "../lib/format.js";

export const UNUSUAL = 0.02; // typicality below which the service warns

/** α as it is shown: three digits. The exact number is in the details and in every link. */
export const shown = (alpha) => level(Number(alpha.toPrecision(3)));

/** Why nothing is promised at all by a result; "" if something is. */
function empty({ guarantee, alpha, threshold }) {
  if (threshold === "-inf") return "Nothing is trusted, so nothing is promised.";
  if (alpha < guarantee.bound) return "";
  return `This α promises nothing: no error is larger than B = ${level(guarantee.bound)}.`;
}

/** The promise of a result in one sentence that can be read without knowing the method. */
export function promise(result) {
  if (empty(result)) return empty(result);
  const { guarantee, alpha } = result;
  const where =
    guarantee.applicability === "per_window"
      ? "inside the mask, in a window of the calibrated size picked without looking,"
      : "inside the mask";
  const scope =
    guarantee.applicability === "unknown" ? "Not known for images of this size: on" : "On";
  const average =
    ` average over images like the ${count(guarantee.n)} it was calibrated with, the largest ` +
    `${guarantee.error} ${where} is at most α = ${shown(alpha)}.`;
  if (guarantee.kind !== "high_probability") return scope + average;
  const sure = certainty(guarantee.delta);
  return `With a probability of at least ${sure} over the draw of the calibration images: ${scope}${average}`;
}

/** What an α of this size means for the eye; "" where colours are not measured, or nothing is promised. */
export function sizeOfError(result) {
  if (result.guarantee.unit !== "lab" || empty(result)) return "";
  const steps = Number((100 * result.alpha).toPrecision(2));
  return `As large as ${level(steps)} of the 100 steps of lightness from black to white.`;
}

/** Whether the promise is about an image of this size. */
export const APPLICABILITY = {
  exact: "The image is of a size that was calibrated.",
  per_window:
    "The image is larger than those of the calibration, so the promise is about any one window of their size, chosen without looking.",
  unknown: "The image is not of a size that was calibrated: whether the promise holds is not known.",
};

/** What the service warns of, as {lines, grave}; grave: the promise may not hold, or says nothing. */
export function alertsOf({ warnings, guarantee, typicality: value, trusted_fraction: share }) {
  const lines = [...warnings];
  if (share === 0 && !lines.length) {
    lines.push(`At α = ${shown(guarantee.alpha)} no pixel of this image is trusted.`);
  }
  const grave =
    value < UNUSUAL ||
    guarantee.applicability === "unknown" ||
    guarantee.alpha >= guarantee.bound ||
    share === 0;
  return { lines, grave: grave && lines.length > 0 };
}

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
export function sliderValue(alpha, share, isMoved) {
  return `α ${shown(alpha)}, ${percent(share)} ${isMoved ? "would be marked, without a promise" : "trusted"}`;
}

/** What was done with the image. */
export const done = ({ scale }) => (scale === 1 ? "restored" : "upscaled");

/**
 * The request behind a result, for a shell, with the α that was asked for and no other: one chosen
 * after looking must not look like one chosen before. `name` is null where the input is not known;
 * it is quoted for curl and for the shell.
 */
export function curl({ origin, name, background, result, needsKey }) {
  const inner = (name ?? "YOUR-IMAGE.png").replace(/["\\]/g, "\\$&");
  const fields = [
    `image=@"${inner}"`,
    `upscaler=${result.upscaler}`,
    ...(result.group ? [`group=${result.group}`] : []),
    `alpha=${result.alpha}`,
    `seed=${result.seed}`,
    ...(background ? [`background=${background}`] : []),
  ];
  return [
    "curl --fail-with-body",
    ...(needsKey ? ['-H "Authorization: Bearer $TRUSTSCALE_KEY"'] : []),
    ...fields.map((field) => `-F ${quoted(field)}`),
    "-H 'Accept: application/zip' -o result.zip",
    `${origin}/v1/upscale`,
  ].join(" \\\n  ");
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
