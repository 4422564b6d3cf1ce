// A result in words: the promise, its limits, the unusual.

import { count, duration, level, percent, size, timeLeft } from "../lib/format.js";
import { remaining } from "./state.js";

/** α with three digits. */
export const shown = (alpha) => level(Number(alpha.toPrecision(3)));

/** The α between which the promise lets one choose after looking: [from, to]; null: it is for one α alone. */
export function promised({ guarantee: { kind, between, menu } }) {
  if (kind !== "post_hoc") return null;
  return between ?? [menu[0], menu.at(-1)];
}

export const hasPromise = ({ guarantee }) => guarantee.applicability !== "unknown";

/**
 * The promise in words, for the α on the screen: {text, error}. error: as lightness, of 0 … 100, to be shown as two greys;
 * null: text says all.
 */
export function promise({ guarantee, warnings = [] }, alpha, isMoved) {
  const { plain, applicability, unit } = guarantee;
  if (applicability === "unknown") return { text: noPromise(warnings) || plain, error: null };
  const such = applicability === "per_window" ? "such parts of pictures" : "such pictures";
  if (isMoved)
    return {
      text: `On average over ${such}, the worst trusted spot is off by at most this`,
      error: unit === "lab" ? 100 * alpha : null,
    };
  const error = /(\d+(?:\.\d+)?) of the 100 steps of lightness/.exec(plain)?.[1];
  if (!error) return { text: plain, error: null };
  return { text: `In 9 of 10 ${such}, no trusted spot is off by more than this`, error: Number(error) };
}

/** Why there is none, where the service names a size that would have one. */
function noPromise(warnings) {
  const least = /at least (\d+×\d+) pixels/.exec(warnings.join(" "))?.[1];
  return least ? `Too small for a promise: send at least ${least} pixels.` : "";
}

export const APPLICABILITY = {
  exact: "The promise was measured on pictures of this size.",
  whole: "The promise covers the whole picture: it was measured on pictures at least as large.",
  per_window:
    "The picture is larger than those that the promise was measured on, so it is about a part of their size placed at random, and holds approximately.",
  unknown: "Whether the promise holds for this picture is not known; the warnings say why.",
};

/** Warnings as {lines, grave}; grave: the promise may not hold, or says nothing. */
export function alertsOf({ warnings, guarantee, out_of_distribution: unusual, trusted_fraction: share }) {
  const lines = [...warnings];
  if (share === 0 && !lines.length) {
    lines.push("Nothing in this picture can be trusted at this strictness.");
  }
  const grave =
    unusual || guarantee.applicability === "unknown" || guarantee.alpha >= guarantee.bound || share === 0;
  return { lines, grave: grave && lines.length > 0 };
}

export const typicality = ({ out_of_distribution: unusual }) =>
  unusual ? "Unlike the pictures that the promise was measured on." : "A usual picture for this promise.";

/** `found`: {x, y, code, isClear} or null. */
export function pixel(found, { limit }) {
  if (!found) return "";
  const where = `Pixel ${count(found.x)}, ${count(found.y)}`;
  if (found.isClear) return `${where}: transparent, so nothing is said about it.`;
  return `${where}: ${found.code <= limit ? "trusted" : "not trusted"}.`;
}

export const sliderValue = (share, isPromised) =>
  isPromised ? `${percent(share, 0)} trusted` : `${percent(share, 0)} would be trusted, without a promise`;

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

/** Sizes as people ask for them: [words, fields of the request]. A print has 300 points to the inch. */
export const SIZES = {
  "": ["As large as the model makes it", {}],
  x2: ["×2", { scale: "2" }],
  "4k": ["4K screen, 3,840 pixels wide", { to: "3840" }],
  a4: ["A4 print", { to: "3508" }],
  a3: ["A3 print", { to: "4961" }],
};

/** The models that may answer: for "auto" the file decides. */
export const answering = (upscalers, name) =>
  name === "auto"
    ? upscalers.filter((one) => one.default && one.name !== "auto")
    : upscalers.filter((one) => one.name === name);

/**
 * {seconds, width, height} of a result with these settings, mask included, by the slowest model that may answer; null:
 * unknown. seen: {paces, ratio} of earlier results (state.js).
 */
export function planOf(upscalers, seen, width, height, { fit = "", to = "", scale = "" } = {}) {
  const longest = Math.max(width, height);
  const part = Math.min(1, (Number(fit) || Infinity) / longest);
  const times = upscalers.map(
    ({ name, seconds_per_megapixel: pace, samples }) =>
      seen.paces[name] ?? (pace && pace * samples * seen.ratio),
  );
  if (!times.length || times.some((time) => !time)) return null;
  const seconds = (Math.max(...times) * width * height * part * part) / 1e6;
  const most = Math.max(...upscalers.map((one) => one.scale ?? 1));
  const made = Math.min(part * most, (Number(to) || Infinity) / longest, Number(scale) || Infinity);
  return { seconds, width: Math.round(width * made), height: Math.round(height * made) };
}

export const planWords = ({ seconds, width, height }) =>
  `It takes about ${duration(1000 * seconds)}, and gives ${size(width, height)} pixels`;

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

/** What is wrong, for people: of a file that cannot be read the details say no more. */
export function faultOf({ message, slug }) {
  const isBroken = slug === "bad-image" && /cannot be decoded|truncated|not processed/.test(message);
  return isBroken ? "This file is damaged or incomplete." : message;
}

export function stateWords(picture) {
  const { state, progress, left, result, error } = picture;
  if (state === "done") return `${percent(result.trusted_fraction, 0)} trusted`;
  if (state === "failed") return faultOf(error);
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
  const rest = timeLeft(remaining(picture));
  if (progress.done === progress.total) return `Checking what can be trusted${rest}`;
  const steps = progress.unit === "tiles" ? "parts of the picture" : "answers of the model";
  return `${progress.done} of ${progress.total} ${steps}${rest}`;
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
    ...["metadata", "fit", "to", "scale"]
      .filter((name) => settings[name])
      .map((name) => `${name}=${settings[name]}`),
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
