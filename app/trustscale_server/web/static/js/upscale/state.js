// The state of the page. Views are drawn from it; only functions of the page change it.

import { Pace } from "../lib/jobs.js";
import { Store } from "../lib/store.js";

/**
 * @typedef {object} Picture one image on its way or done; what is listed first is kept in the browser
 * @property {string} id
 * @property {string} name
 * @property {Blob} file
 * @property {number} created
 * @property {Record<string, string>} settings what it is sent with
 * @property {"waiting" | "asking" | "sending" | "full" | "away" | "queued" | "running" | "done" | "failed" | "cancelled" | "expired"} state
 * @property {string | null} job
 * @property {any} result the document of the answer
 * @property {{message: string, slug: string, status: number} | null} error
 * @property {{done: number, total: number, unit: string} | null} progress
 * @property {Pace} pace of its samples
 * @property {string | null} draft the first sample, for an <img>: nothing of it is checked
 * @property {number} left seconds until a service that is full or away is asked again, or share that is sent
 * @property {{seconds: number, width: number, height: number} | null} plan what it would take, where that is much
 * @property {boolean} isSure whether it is sent though it takes long
 * @property {boolean} isLost whether the connection that tells of its progress is broken
 * @property {boolean} isAway whether the model cannot be reached
 * @property {number} cold seconds that the model takes at most if it has to be started first
 * @property {number | null} estimate seconds of all samples, by the service
 * @property {string} url of the file, for an <img>
 * @property {AbortController | null} abort
 * @property {boolean} [isSaving] on its way into what this browser keeps, so that other tabs may not know it
 */

export const store = new Store({
  /** @type {any[]} */
  upscalers: [],
  /** @type {string | null} what keeps the service from being used */
  problem: null,
  upscaler: "",
  group: "",
  level: "balanced", // how strict results are first shown
  words: false, // whether a text reader says which words can be believed
  keeps: false, // whether faces and letters are trusted, too, where their colours are
  metadata: "", // of the upload, that the result keeps; "": none
  size: "", // of the results, as people say it (words.js); "": what the model makes
  /** @type {Picture[]} */
  pictures: [],
  /** @type {string | null} */
  selected: null,
  /** @type {{result: any, name: string, expires?: Date} | null} what the viewer holds */
  shown: null,
  /** @type {any} a linked result that cannot be shown: {title, text, again} */
  lost: null,
  isOpening: false,
  /** @type {string | null} address of a picture whose trust is not decoded yet */
  early: null,
  view: "checked",
  compares: false,
  /** @type {any} a spot of the picture that is looked into */
  spot: null,
  left: "", // of the divider: id of a picture that another model has made of the same file, "": the upload
  isDrawer: false, // whether the promise and the details are shown
  isFull: false,
  isDropping: false,
  isWall: false, // all pictures at once
  /** @type {Set<string>} of the wall */
  filters: new Set(),
  /** @type {Set<string>} ids of pictures on the wall */
  chosen: new Set(),
});

export const state = store.state;

export const pages = {
  /** Show the screen of an address: that of the start, or of the wall. @param {string} _path */
  open: (_path) => {},
};

export const upscalerOf = ({ upscalers, upscaler }) => upscalers.find(({ name }) => name === upscaler);

/** The name of a model for people. */
export const modelOf = ({ upscalers }, name) => upscalers.find((one) => one.name === name)?.title ?? name;

/** @returns {Picture | undefined} */
export const selectedOf = ({ pictures, selected }) => pictures.find(({ id }) => id === selected);

export const isBusy = ({ state: now }) => ["sending", "full", "away", "queued", "running"].includes(now);
export const isEnded = ({ state: now }) => ["done", "failed", "cancelled", "expired"].includes(now);

const done = ({ pictures }) => pictures.filter((one) => one.state === "done" && one.result.timings_ms);
const total = (times) => Object.values(times).reduce((sum, ms) => sum + ms, 0);

const LARGE = 0.05; // megapixels of an upload from which its time tells that of others

/** Seconds that a megapixel of upload took last, by model: all of it, the mask included. */
export const paces = (now) =>
  Object.fromEntries(
    done(now)
      .map(({ result: { upscaler, scale, width, height, timings_ms } }) => {
        const megapixels = (width * height) / scale ** 2 / 1e6;
        return { upscaler, megapixels, pace: total(timings_ms) / 1000 / megapixels };
      })
      .filter(({ megapixels }) => megapixels >= LARGE)
      .map(({ upscaler, pace }) => [upscaler, pace]),
  );

const USUAL_RATIO = 1.5;

/** All of the time as a multiple of the model's own, as the last results had it. */
export function ratio(now) {
  const { samples, wait = 0, ...rest } = done(now).at(-1)?.result.timings_ms ?? {};
  return samples ? Math.min(4, 1 + total(rest) / samples) : USUAL_RATIO;
}

/** Milliseconds left, the mask included, by the picture's own pace or else the service's estimate; null: unknown. */
export function remaining({ state: now, progress, pace, estimate, isLost }) {
  if (now !== "running" || !progress?.total || isLost) return null;
  const usual = estimate ? (1000 * estimate) / progress.total : null;
  return pace.left(progress.total * ratio(state), usual);
}
