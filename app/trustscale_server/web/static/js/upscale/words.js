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

const ABOUT = {
  ssim: "for structure",
  stretch: "for its values",
  label: "by people’s judgement",
  words: "for its words",
};

/** A share with what it is about: "62 % of it can be relied on for colour". */
export const reliedOn = (share, { guarantee: { error_unit: unit } }) =>
  `${percent(share, 0)} of it ${about(unit)}`;

export const about = (unit) => `can be relied on ${ABOUT[unit] ?? "for colour"}`;

const LITTLE = 0.05; // of what was added: less is nothing to rely on

/** What the number about a result says: of what was added, or else of the trusted `share` of the picture. */
export function gist(result, share = result.trusted_fraction) {
  const held = result.added?.held ?? null;
  if (held === null) return reliedOn(share, result);
  return held < LITTLE
    ? "Nothing here can be relied on beyond your own file"
    : `${percent(held, 0)} of the added detail holds up`;
}

/** Pictures by that number: first those without a promise, unfinished ones last. */
export function leastRealFirst(pictures) {
  const rank = ({ result }) => result?.added?.held ?? (result ? -1 : 2);
  const trusted = ({ result }) => result?.trusted_fraction ?? 0;
  return [...pictures].sort((a, b) => rank(a) - rank(b) || trusted(a) - trusted(b));
}

/** Whether anything is promised of this picture; otherwise `plain` says why not. */
export const hasPromise = ({ guarantee }) => guarantee.promised;

/** What a photographer need not know is said under Details only. */
export const isPlain = (text) => !/σ|α|\b(alpha|masks?|scores?|pairs?|windows?)\b|calibrat/i.test(text);

const STEPS = /^(In \d+ of \d+|In [\d.]+ %|On average).* (\d+(?:\.\d+)?) of 100 steps of lightness/;

/**
 * The promise in words, for the α on the screen: {text, error}. error: as lightness, of 0 … 100, to be shown as two greys;
 * null: text says all.
 */
export function promise(result, alpha, isMoved) {
  const { plain, unit, alpha: asked } = result.guarantee;
  const [missing] = /, even without the easiest .+? of them/.exec(plain) ?? [""];
  const such = `${unit === "spot" ? "spots of " : ""}pictures like those measured${missing}`;
  const [, share, steps] = STEPS.exec(plain) ?? [];
  if (!hasPromise(result)) return { text: noPromise(result), error: null };
  if (!steps) return { text: plain.replace(/, even if .*? after looking/, ""), error: null };
  const points = share === "On average" ? "the worst trusted point" : "trusted points";
  const text = `${share}${share === "On average" ? " over" : ""} ${such}, mean colours around ${points} are right within this`;
  // After looking, the error that few exceed is one multiple of every α that may be chosen.
  const [, most] = promised(result) ?? [];
  const moved = isMoved && most ? Math.min(alpha, most) / Math.min(asked, most) : 1;
  return { text, error: Number(steps) * moved };
}

function noPromise({ input_class: kind, guarantee: { plain } }) {
  if (kind?.n === 0) return `Too few files like this one were measured: ${kind.title}.`;
  return isPlain(plain) ? plain : "Nothing is promised of pictures like this one.";
}

/** Warnings as {lines, grave}; grave: the promise may not hold, or says nothing. */
export function alertsOf({ warnings, guarantee, trusted_fraction: share }) {
  const lines = [...warnings];
  if (share === 0 && !lines.length) {
    lines.push("Nothing in this picture can be relied on at this strictness.");
  }
  const grave = !hasPromise({ guarantee }) || guarantee.alpha >= guarantee.bound || share === 0;
  return { lines, grave: grave && lines.length > 0 };
}

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
 * {seconds, width, height, longest} of a result with these settings, all included, by the slowest model that may answer, from
 * an upload with this longest side; `most`: the longest side that the service takes, if it takes no more. null: unknown.
 * seen: {paces, ratio} of earlier results (state.js).
 */
export function planOf(upscalers, seen, width, height, { fit = "", to = "", scale = "" } = {}) {
  const longest = Math.max(width, height);
  const shrink = Math.min(1, (Number(fit) || Infinity) / longest);
  const limit = Math.min(...upscalers.map((one) => one.max_pixels ?? Infinity));
  const limitSide = Math.floor((longest * Math.sqrt(limit / (width * height))) / 100) * 100;
  const isLarge = width * height * shrink * shrink > limit;
  const times = upscalers.map(
    ({ name, seconds_per_megapixel: pace, samples }) =>
      seen.paces[name] ?? (pace && pace * samples * seen.ratio),
  );
  const isUnknown = !times.length || times.some((time) => !time);
  if (isUnknown && !isLarge) return null;
  const seconds = isUnknown ? 0 : (Math.max(...times) * width * height * shrink * shrink) / 1e6;
  const maxScale = Math.max(...upscalers.map((upscaler) => upscaler.scale ?? 1));
  const growth = Math.min(shrink * maxScale, (Number(to) || Infinity) / longest, Number(scale) || Infinity);
  const size = { width: Math.round(width * growth), height: Math.round(height * growth) };
  return { seconds, longest, ...size, ...(isLarge ? { most: limitSide } : {}) };
}

export const planWords = ({ seconds, width, height }) =>
  `It takes about ${duration(1000 * seconds)}, and gives ${size(width, height)} pixels`;

const tooLarge = ({ most }) => `This picture is larger than the service takes: at most ${count(most)} px`;

/**
 * {fit, seconds, side}: to which longest side an upload may be reduced first, what that takes, and how long the longest side
 * of the result is: `wanted` seconds, but more where the result would be no larger than the upload. null: no such size.
 */
export function reduced({ seconds, width, height, longest, most }, scale, wanted) {
  const sent = Math.min(longest, Math.max(width, height) / scale);
  const hundreds = (side) => Math.max(100, Math.floor(side / 100) * 100);
  const quick = seconds ? hundreds(sent * Math.sqrt(wanted / seconds)) : Infinity;
  const gains = quick * scale > longest;
  const fit = Math.min(gains ? quick : hundreds(longest / 2), most ?? Infinity);
  if (fit >= sent || fit * scale <= longest) return null;
  return { fit, seconds: seconds * (fit / sent) ** 2, side: fit * scale };
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
  if (state === "done") return hasPromise(result) ? gist(result) : "No promise";
  if (state === "failed") return faultOf(error);
  if (state === "sending") return left > 0 && left < 1 ? `Sending, ${percent(left, 0)}` : "Sending";
  if (state === "full") return `Busy. Retrying in ${left} s`;
  if (state === "away") return `Offline. Retrying in ${left} s`;
  if (state === "asking") return picture.plan.most ? tooLarge(picture.plan) : planWords(picture.plan);
  if (picture.isAway) return "The model cannot be reached; the service tries again";
  if (state !== "running")
    return { waiting: "Waiting", queued: "In the queue", cancelled: "Cancelled", expired: "Expired" }[state];
  if (picture.isLost) return "The connection is lost; the page reconnects automatically";
  if (picture.cold && !progress?.done)
    return `Waiting for the model; a cold start takes up to ${duration(1000 * picture.cold)}`;
  if (!progress?.total) return "Starting";
  const rest = timeLeft(remaining(picture));
  if (progress.done === progress.total) return `Checking what can be relied on${rest}`;
  const steps = progress.unit === "tiles" ? "parts of the picture" : "answers of the model";
  return `${progress.done} of ${progress.total} ${steps}${rest}`;
}
