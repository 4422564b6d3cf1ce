// A result in words: the promise, its limits, the unusual.

import { count, duration, level, percent, size, timeLeft } from "../lib/format.js";
import { remaining } from "./state.js";

/** α with three digits. */
export const shown = (alpha) => level(Number(alpha.toPrecision(3)));

/** Two α with as many digits as distinguish them. */
export function apart(a, b) {
  for (let digits = 3; digits < 8; digits += 1) {
    const [x, y] = [a, b].map((alpha) => String(Number(alpha.toPrecision(digits))));
    if (x !== y || a === b) return [x, y];
  }
  return [String(a), String(b)];
}

export const steps = (alpha) => level(Number((100 * alpha).toPrecision(2)));

/** Whether the promise holds for any α, chosen after looking. */
export const isFree = ({ guarantee: { kind, applicability } }) =>
  kind === "post_hoc" && applicability !== "unknown";

/** The promise for the α on the screen: the service's sentence, until another α is chosen. */
export function promise({ guarantee }, alpha, isMoved) {
  if (!isMoved || guarantee.kind !== "post_hoc" || guarantee.applicability === "unknown")
    return guarantee.sentence;
  const chosen = Math.min(alpha, (guarantee.between ?? guarantee.menu).at(-1));
  const where = guarantee.applicability === "per_window" ? " of a window placed at random" : "";
  return (
    `Whatever level you end with, the largest error in the trusted part${where} is on average over such ` +
    `pictures at most that level, here ${shown(chosen)}.`
  );
}

export const APPLICABILITY = {
  exact: "The size of the image was calibrated.",
  whole: "The promise covers the whole image: its calibration pictures are at least as large.",
  per_window:
    "The image is larger than those of the calibration, so the promise is about a window of their size placed at random, and holds approximately.",
  unknown: "Whether the promise holds for this image is not known; the warnings say why.",
};

/** Warnings as {lines, grave}; grave: the promise may not hold, or says nothing. */
export function alertsOf({ warnings, guarantee, unusual, trusted_fraction: share }) {
  const lines = [...warnings];
  if (share === 0 && !lines.length) {
    lines.push(`For an accepted error of ${shown(guarantee.alpha)} no pixel of this image is trusted.`);
  }
  const grave =
    unusual || guarantee.applicability === "unknown" || guarantee.alpha >= guarantee.bound || share === 0;
  return { lines, grave: grave && lines.length > 0 };
}

export function typicality({ typicality: value, unusual }) {
  const share = percent(value, 0);
  if (unusual) return `Unlike the calibration images: ${share} of them are as unusual.`;
  return `Not conspicuous in detail, noise, contrast, light, colour and disagreement: ${share} of the calibration images are at least as unusual.`;
}

/** `found`: {x, y, code} or null. */
export function pixel(found, { limit, levelOf }) {
  if (!found) return "";
  const where = `Pixel ${count(found.x)}, ${count(found.y)}`;
  if (found.isClear) return `${where}: transparent, so it has no trust level.`;
  const least = levelOf(found.code);
  const trusted = found.code <= limit ? "trusted" : "not trusted";
  if (least === null) return `${where}: never trusted.`;
  return `${where}: ${trusted}; it would be from an accepted error of ${shown(least)}.`;
}

export function sliderValue(alpha, share, isVoid) {
  return `error ${shown(alpha)}, ${percent(share)} ${isVoid ? "would be marked, without a promise" : "trusted"}`;
}

export const done = ({ scale }) => (scale === 1 ? "restored" : "upscaled");

/** The range of α after looking that a request can ask for. */
const AFTER_LOOKING = [0.05, 0.15];

/** Whether every class of uploads has a promise for any α in that range; false without classes. */
export const looksFirst = ({ classes = [], calibrations = [] }) =>
  classes.length > 0 &&
  calibrations.every((one) => !one.classes.includes("*")) &&
  classes.every(({ tables }) => tables.post_hoc?.some(({ threshold }) => threshold !== "-inf"));

/** The guarantee to ask for at this α (null: the calibration's own); "": the calibration's. */
export function guaranteeFor(upscaler, alpha, group) {
  const value = alpha ?? upscaler.default_alpha;
  const [low, high] = AFTER_LOOKING;
  return upscaler.looksFirst && !group && value >= low && value <= high ? "post_hoc" : "";
}

/**
 * Three α from the calibration's tables: [{name, alpha, low, high}], with the trusted area of the hardest and of the
 * easiest class of uploads. Balanced is the default; Strict about half of it, Lenient half as much again, as near as the
 * tables allow.
 */
export function choices(upscaler) {
  const { looksFirst: isFree, classes = [], table = [], default_alpha: own, min_alpha: least } = upscaler;
  const tables = isFree ? classes.map((one) => one.tables.post_hoc) : [table];
  const [from, to] = isFree ? AFTER_LOOKING : [least, Infinity];
  const all = (tables[0] ?? []).map(({ alpha }) => {
    const areas = tables.flatMap((rows) => rows.filter((row) => row.alpha === alpha));
    const shares = areas.map((row) => row.trusted_fraction);
    return { alpha, low: Math.min(...shares), high: Math.max(...shares) };
  });
  const rows = all.filter(({ alpha, high }) => alpha >= from && alpha <= to && high > 0);
  const { low = null, high = null } = all.find(({ alpha }) => alpha === own) ?? {};
  const strict = rows.findLast(({ alpha }) => alpha <= own / 2) ?? rows.find(({ alpha }) => alpha < own);
  const lenient = rows.find((row) => row.alpha >= 1.4 * own && row.low + row.high > low + high);
  return [
    strict && { name: "Strict", ...strict },
    own !== null && { name: "Balanced", alpha: own, low, high },
    lenient && { name: "Lenient", ...lenient },
  ].filter(Boolean);
}

/** {seconds, width, height} of a result with these settings. */
export function planOf(upscaler, width, height, { fit = "", to = "" } = {}) {
  const { seconds_per_megapixel: pace, samples, scale } = upscaler;
  if (!pace) return null;
  const longest = Math.max(width, height);
  const part = Math.min(1, (Number(fit) || Infinity) / longest);
  const seconds = (pace * samples * width * height * part * part) / 1e6;
  const made = Math.min(part * (scale ?? 1), (Number(to) || Infinity) / longest);
  return { seconds, width: Math.round(width * made), height: Math.round(height * made) };
}

export const planWords = ({ seconds, width, height }) =>
  `It takes about ${duration(1000 * seconds)}, and gives ${size(width, height)} pixels, ` +
  `${level(Number(((width * height) / 1e6).toPrecision(2)))} megapixels`;

/** The longest side of an input, in whole hundreds, that takes about `wanted` seconds. */
export function fitFor({ seconds, width, height }, scale, wanted) {
  const side = (Math.max(width, height) / scale) * Math.sqrt(wanted / seconds);
  return Math.max(100, Math.floor(side / 100) * 100);
}

/** The usual trusted share of this kind of upload at the α of a result, or null. */
export function usualShare(upscaler, { input_class: kind, alpha, guarantee }) {
  const tables = upscaler?.classes?.find(({ name }) => name === kind?.name)?.tables;
  const rows = tables?.[guarantee.kind] ?? (kind ? null : upscaler?.table);
  return rows?.findLast((row) => row.alpha <= alpha + 1e-4)?.trusted_fraction ?? null;
}

/** Whether a repeated request may succeed: the fault is not in the image or its settings. */
export const mayHelp = ({ status = 0 }) => status < 400 || status >= 500 || [401, 409, 429].includes(status);

export function stateWords(picture) {
  const { state, progress, left, result, error } = picture;
  if (state === "done") return `${percent(result.trusted_fraction)} trusted`;
  if (state === "failed") return error.message;
  if (state === "sending") return left > 0 && left < 1 ? `Sending, ${percent(left, 0)}` : "Sending";
  if (state === "full") return `The service is busy; again in ${left} s`;
  if (state === "away") return `The service cannot be reached; again in ${left} s, or once it is back`;
  if (state === "asking") return planWords(picture.plan);
  if (picture.isAway) return "The model cannot be reached; the service tries again";
  if (state !== "running")
    return { waiting: "Waiting", queued: "In the queue", cancelled: "Cancelled", expired: "Expired" }[state];
  if (picture.isLost) return "The connection is lost; the page reconnects automatically";
  if (picture.cold && !progress?.done)
    return `Waiting for the model; a cold start takes up to ${duration(1000 * picture.cold)}`;
  if (!progress?.total) return "Starting";
  if (progress.done === progress.total) return "Making the mask";
  const steps = progress.unit === "tiles" ? "parts of the picture" : "answers of the model";
  return `${progress.done} of ${progress.total} ${steps}${timeLeft(remaining(picture))}`;
}

/**
 * The request behind a result for a shell, with the α that was asked for: one chosen after looking must not look like
 * one chosen before. `name`: null if the input is unknown; quoted for curl and for the shell.
 */
export function curl({ origin, name, settings = /** @type {any} */ ({}), result, needsKey }) {
  const inner = (name ?? "YOUR-IMAGE.png").replace(/["\\]/g, "\\$&");
  const fields = [
    `image=@"${inner}"`,
    `upscaler=${result.upscaler}`,
    ...(result.group ? [`group=${result.group}`] : []),
    `alpha=${result.alpha}`,
    ...(result.guarantee.kind === "post_hoc" ? ["guarantee=post_hoc"] : []),
    `seed=${result.seed}`,
    ...["metadata", "fit", "to"].filter((name) => settings[name]).map((name) => `${name}=${settings[name]}`),
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
