// What the page knows and shows. Views are drawn from it; only the functions of the page change it.

import { Store } from "../lib/store.js";

/**
 * @typedef {object} Picture one image on its way or done; what is listed first is kept in the browser
 * @property {string} id
 * @property {string} name
 * @property {Blob} file
 * @property {number} created
 * @property {Record<string, string>} settings what it is sent with
 * @property {"waiting" | "sending" | "full" | "queued" | "running" | "done" | "failed" | "cancelled" | "expired"} state
 * @property {string | null} job
 * @property {any} result the document of the answer
 * @property {{message: string, slug: string, status: number} | null} error
 * @property {number | null} took ms of the job at work
 * @property {{done: number, total: number, unit: string} | null} progress
 * @property {number | null} began when this page saw its samples begin, as performance.now()
 * @property {number} began_at samples that were done then
 * @property {number} left seconds until a full service is asked again, or share that is sent
 * @property {string} url of the file, for an <img>
 * @property {AbortController | null} abort
 */

export const store = new Store({
  /** @type {any[]} */
  upscalers: [],
  /** @type {string | null} what keeps the service from being used */
  problem: null,
  upscaler: "",
  group: "",
  alpha: "", // as it was typed or chosen; "": the calibration's own
  isTyped: false,
  /** @type {Picture[]} */
  pictures: [],
  /** @type {string | null} */
  selected: null,
  /** @type {{result: any, name: string, background: string | null, isOwn: boolean} | null} what the viewer holds */
  shown: null,
  /** @type {any} a linked result that cannot be shown: {title, text, again} */
  lost: null,
  isOpening: false,
  code: 0, // of the α on the screen
  look: "contour",
  compares: true,
  isSquare: false,
  zoom: "",
  isSheetOpen: false,
  isDropping: false,
});

export const { state } = store;

/** The upscaler that the next pictures go to, as the service lists it. */
export const upscalerOf = ({ upscalers, upscaler }) => upscalers.find(({ name }) => name === upscaler);

/** @returns {Picture | undefined} */
export const selectedOf = ({ pictures, selected }) => pictures.find(({ id }) => id === selected);

export const isBusy = ({ state: now }) => ["sending", "full", "queued", "running"].includes(now);

/** Milliseconds that a picture still takes: from its own pace, else from that of pictures before; null: not known. */
export function remaining(picture, pictures) {
  const { progress, began, began_at: before, settings } = picture;
  if (picture.state !== "running" || !progress?.total) return null;
  const left = progress.total - progress.done;
  const made = progress.done - before;
  if (began !== null && made > 0) return ((performance.now() - began) / made) * left;
  const alike = pictures.findLast(
    (one) => one.took && one.settings.upscaler === settings.upscaler && one.result,
  );
  if (!alike || !picture.pixels || !alike.pixels) return null;
  const pace = alike.took / (alike.result.samples * alike.pixels);
  return Math.max(
    0,
    pace * picture.pixels * progress.total - (began === null ? 0 : performance.now() - began),
  );
}
