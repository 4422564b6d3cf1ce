// What the page says about a result: the promise, its limits, the unusual.

import { certainty, count, level, percent, timeLeft } from "../lib/format.js";
import { remaining } from "./state.js";

/** α as it is shown: three digits. The exact number is in the details and in every link. */
export const shown = (alpha) => level(Number(alpha.toPrecision(3)));

/** Two α with as many digits as tell them apart. */
export function apart(a, b) {
  for (let digits = 3; digits < 8; digits += 1) {
    const [x, y] = [a, b].map((alpha) => String(Number(alpha.toPrecision(digits))));
    if (x !== y || a === b) return [x, y];
  }
  return [String(a), String(b)];
}

/** Why nothing is promised at all by a result; "" if something is. */
function empty({ guarantee, alpha, threshold }) {
  if (threshold === "-inf") return "Nothing is trusted, so nothing is promised.";
  if (alpha < guarantee.bound) return "";
  return `This α promises nothing: no error is larger than B = ${level(guarantee.bound)}.`;
}

/** α as a number of the 100 steps of lightness. */
export const steps = (alpha) => level(Number((100 * alpha).toPrecision(2)));

/** What it was calibrated with: n is a number of scenes, of which there may be several pictures each. */
function population({ n, pairs }) {
  return pairs && pairs !== n ? `${count(n)} scenes (${count(pairs)} pictures)` : count(n);
}

/** The promise of a result in one sentence that can be read without knowing the method. */
export function promise(result) {
  if (empty(result)) return empty(result);
  const { guarantee } = result;
  const like = `over images like the ${population(guarantee)} it was calibrated with`;
  const isWindow = guarantee.applicability === "per_window";
  const where = isWindow ? ", in a window of the calibrated size placed at random," : "";
  const scope = guarantee.applicability === "unknown" ? "Not known for this image: " : "";
  const sure =
    guarantee.kind === "high_probability"
      ? `With a probability of at least ${certainty(guarantee.delta)} over the draw of the calibration images: `
      : "";
  return `${scope}${sure}On average ${like}, ${bounded(result, where)}.`;
}

/** What is bounded, and by what. */
function bounded({ guarantee, alpha }, where) {
  const { unit, error, counted_up_to: most } = guarantee;
  if (unit === "label")
    return `at most about ${steps(alpha)} of 100 have a ${error} anywhere in the trusted area${where.replace(/,$/, "")}`;
  if (unit !== "lab")
    return `the largest ${error} in the trusted area${where} is at most α = ${shown(alpha)}`;
  return (
    `the worst spot in the trusted area${where} is off by at most about ${steps(alpha)} of the 100 steps of ` +
    `lightness from black to white${most ? ` (an error above ${steps(most)} steps counts as ${steps(most)})` : ""}`
  );
}

/** Whether the promise is about an image of this size. */
export const APPLICABILITY = {
  exact: "The image is of a size that was calibrated.",
  whole: "The promise is about all of the image: it comes from pictures that are at least as large.",
  per_window:
    "The image is larger than those of the calibration, so the promise is about a window of their size that is placed at random, and holds approximately.",
  unknown: "Whether the promise holds for this image is not known; the warnings say why.",
};

/** What the service warns of, as {lines, grave}; grave: the promise may not hold, or says nothing. */
export function alertsOf({ warnings, guarantee, unusual, trusted_fraction: share }) {
  const lines = [...warnings];
  if (share === 0 && !lines.length) {
    lines.push(`At α = ${shown(guarantee.alpha)} no pixel of this image is trusted.`);
  }
  const grave =
    unusual || guarantee.applicability === "unknown" || guarantee.alpha >= guarantee.bound || share === 0;
  return { lines, grave: grave && lines.length > 0 };
}

/** Typicality in one line. */
export function typicality({ typicality: value, unusual }) {
  const share = percent(value, 0);
  if (unusual) return `Unlike the calibration images: ${share} of them are as unusual.`;
  return `Looks like the calibration images: ${share} of them are at least as unusual.`;
}

/** A pixel's trust level in words. `found`: {x, y, code} or null. */
export function pixel(found, { limit, levelOf }) {
  if (!found) return "";
  const where = `Pixel ${count(found.x)}, ${count(found.y)}`;
  const least = levelOf(found.code);
  const trusted = found.code <= limit ? "trusted" : "not trusted";
  if (least === null) return `${where}: never trusted.`;
  return `${where}: ${trusted}; it is from α = ${shown(least)}.`;
}

/** The slider's value for screen readers. */
export function sliderValue(alpha, share, isMoved) {
  return `α ${shown(alpha)}, ${percent(share)} ${isMoved ? "would be marked, without a promise" : "trusted"}`;
}

/** What was done with the image. */
export const done = ({ scale }) => (scale === 1 ? "restored" : "upscaled");

/**
 * Three α to choose from, of the calibration's own table: [{name, alpha, share}].
 *
 * Balanced is the calibration's default. Strict is about half of it, Lenient half as much again, as
 * near as the table has them and something is trusted.
 */
export function choices({ table = [], default_alpha: own, min_alpha: least }) {
  const all = table.map(({ alpha, trusted_fraction: share }) => ({ alpha, share }));
  const rows = all.filter(({ alpha, share }) => alpha >= least && share > 0);
  const share = all.find(({ alpha }) => alpha === own)?.share ?? null;
  const strict = rows.findLast(({ alpha }) => alpha <= own / 2) ?? rows.find(({ alpha }) => alpha < own);
  const lenient = rows.find((row) => row.alpha >= 1.4 * own && row.share > share);
  return [
    strict && { name: "Strict", ...strict },
    own !== null && { name: "Balanced", alpha: own, share },
    lenient && { name: "Lenient", ...lenient },
  ].filter(Boolean);
}

/** Whether the same request may fare better later: the fault is not in the image or its settings. */
export const mayHelp = ({ status = 0 }) => status < 400 || status >= 500 || [401, 409, 429].includes(status);

/** Where a picture is, in a few words. */
export function stateWords(picture, pictures) {
  const { state, progress, left, result, error } = picture;
  if (state === "done") return `${percent(result.trusted_fraction)} trusted`;
  if (state === "failed") return error.message;
  if (state === "sending") return left > 0 && left < 1 ? `Sending, ${percent(left, 0)}` : "Sending";
  if (state === "full") return `The service is busy; again in ${left} s`;
  if (state !== "running")
    return { waiting: "Waiting", queued: "In the queue", cancelled: "Cancelled", expired: "Expired" }[state];
  if (!progress?.total) return "Starting";
  if (progress.done === progress.total) return "Making the mask";
  const steps = progress.unit === "tiles" ? "parts of the picture" : "answers of the model";
  return `${progress.done} of ${progress.total} ${steps}${timeLeft(remaining(picture, pictures))}`;
}

/**
 * The request behind a result, for a shell, with the α that was asked for and no other: one chosen
 * after looking must not look like one chosen before. `name` is null where the input is not known;
 * it is quoted for curl and for the shell.
 */
export function curl({ origin, name, settings = /** @type {any} */ ({}), result, needsKey }) {
  const inner = (name ?? "YOUR-IMAGE.png").replace(/["\\]/g, "\\$&");
  const fields = [
    `image=@"${inner}"`,
    `upscaler=${result.upscaler}`,
    ...(result.group ? [`group=${result.group}`] : []),
    `alpha=${result.alpha}`,
    `seed=${result.seed}`,
    ...(settings.metadata ? [`metadata=${settings.metadata}`] : []),
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
