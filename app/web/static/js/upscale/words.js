// A result in words: the promise, its limits, the unusual.

import { duration, level, percent, size, timeLeft } from "../lib/format.js";
import { remaining } from "./state.js";

/** α with three digits. */
export const shown = (alpha) => level(Number(alpha.toPrecision(3)));

/** The α between which the promise lets one choose after looking: [from, to]; null: it is for one α alone. */
export function promised({ guarantee: { kind, between, menu } }) {
  if (kind !== "post_hoc") return null;
  return between ?? [menu[0], menu.at(-1)];
}

/** Whether anything is promised of this picture; otherwise `plain` says why not. */
export const hasPromise = ({ guarantee }) => guarantee.promised;

/** What a photographer need not know is said under Details only. */
export const isPlain = (text) => !/σ|α|\b(alpha|masks?|scores?|pairs?|windows?)\b|calibrat/i.test(text);

const STEPS = /^(In \d+ of \d+|In [\d.]+ %|On average).* (\d+(?:\.\d+)?) of the 100 steps of lightness/;

/**
 * The promise in words, for the α on the screen: {text, error}. error: as lightness, of 0 … 100, to be shown as two greys;
 * null: text says all.
 */
export function promise(result, alpha, isMoved) {
  const { plain, unit, error_unit: measure } = result.guarantee;
  const such = unit === "spot" ? "spots of such pictures" : "such pictures";
  const onAverage = `On average over ${such}, the colours around the worst trusted point are off by at most this`;
  const [, share, steps] = STEPS.exec(plain) ?? [];
  if (!hasPromise(result)) return { text: noPromise(result), error: null };
  if (!steps) return { text: plain.replace(", though α is chosen after looking", ""), error: null };
  if (isMoved && measure === "lab") return { text: onAverage, error: 100 * alpha };
  const text =
    share === "On average"
      ? onAverage
      : `${share} ${such}, the colours around every trusted point are right within this`;
  return { text, error: Number(steps) };
}

function noPromise({ out_of_distribution: unusual, input_class: kind, guarantee: { plain } }) {
  if (unusual) return "It is unlike the pictures that the promise was measured on.";
  if (kind?.n === 0) return `Too few files like this one were measured: ${kind.title}.`;
  return isPlain(plain) ? plain : "Nothing is promised of pictures like this one.";
}

/** Warnings as {lines, grave}; grave: the promise may not hold, or says nothing. */
export function alertsOf({ warnings, guarantee, out_of_distribution: unusual, trusted_fraction: share }) {
  const lines = [...warnings];
  if (share === 0 && !lines.length) {
    lines.push("Nothing in this picture can be trusted at this strictness.");
  }
  const grave = unusual || !hasPromise({ guarantee }) || guarantee.alpha >= guarantee.bound || share === 0;
  return { lines, grave: grave && lines.length > 0 };
}

export const sliderValue = (share, isPromised) =>
  isPromised ? `${percent(share, 0)} trusted` : `${percent(share, 0)} would be trusted, without a promise`;

export const done = ({ scale }) => (scale === 1 ? "restored" : "upscaled");

/** The fields of a request that ask for a level by its name, to be changed after looking where that may be. */
export function levelFields({ levels = [] }, name, group) {
  const { alpha } = levels.find((one) => one.name === name) ?? {};
  return {
    alpha: alpha === undefined || name === "balanced" ? "" : String(alpha),
    guarantee: levels.length > 1 && !group ? "post_hoc" : "",
  };
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

/** Whether a repeated request may succeed: the fault is not in the image or its settings. */
export const mayHelp = ({ status = 0 }) => status < 400 || status >= 500 || [401, 409, 429].includes(status);

/** What is wrong, for people: of a file that cannot be read the details say no more. */
export function faultOf({ message, slug }) {
  const isBroken =
    slug === "bad-image" && /cannot be decoded|damaged or incomplete|header is damaged:/.test(message);
  return isBroken ? "This file is damaged or incomplete." : message;
}

export function stateWords(picture) {
  const { state, progress, left, result, error } = picture;
  if (state === "done")
    return hasPromise(result) ? `${percent(result.trusted_fraction, 0)} trusted` : "No promise";
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
