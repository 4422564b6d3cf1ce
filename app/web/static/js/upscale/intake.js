// Pictures come in: dropped, pasted, chosen, or an example; and their settings.

import { getJson } from "../lib/api.js";
import { toast } from "../lib/toast.js";
import { codeOf, snap } from "./levels.js";
import { state, store, upscalerOf } from "./state.js";
import { SIZES, guaranteeFor, looksFirst } from "./words.js";

export const events = {
  /** @param {File[]} _files @param {Record<string, string>} _settings */
  onFiles: (_files, _settings) => {},
};

let loading = null;
let isWhole = false; // whether what calibrations promise is read, too, which the first view does not need

/** Read the upscalers, one call at a time. `ask`: for a key, if one is needed. */
export const load = (ask = true) => (loading ??= read(ask).finally(() => (loading = null)));

/** The same with all that their calibrations promise. */
export async function loadWhole() {
  await loading;
  if (isWhole) return;
  isWhole = true;
  await load();
}

async function read(ask) {
  try {
    const answer = await getJson(`/v1/upscalers${isWhole ? "" : "?brief=true"}`, { ask });
    const found = withAuto(answer.map(seen));
    if (state.problem) store.set({ problem: null });
    if (JSON.stringify(found) === JSON.stringify(state.upscalers)) return;
    const chosen = upscalerOf({ ...state, upscalers: found }) ?? found.find((one) => one.default) ?? found[0];
    store.set({ upscalers: found });
    if (chosen) choose(chosen.name);
  } catch (error) {
    // Old knowledge is better than none.
    if (!state.upscalers.length) store.set({ problem: error.message });
    isWhole = false; // the next one asks again
  }
}

/** An upscaler, and whether it can promise for an α after looking. */
const seen = (one) => ({ ...one, looksFirst: looksFirst(one) });

/** The upscalers, after the automatic one if the service can choose by the class of a file. */
function withAuto(found) {
  const able = found.filter((one) => one.default);
  if (able.length < 2) return found;
  const first = able.find((one) => one.calibration) ?? able[0];
  const auto = { name: "auto", title: "Best model for each picture" };
  return [{ ...first, ...auto, looksFirst: able.every((one) => one.looksFirst) }, ...found];
}

export function choose(name) {
  const { groups = {} } = state.upscalers.find((one) => one.name === name);
  store.set({ upscaler: name, group: state.group in groups ? state.group : "" });
}

/** @param {string} text */
export const setAlpha = (text) => store.set({ alpha: text, isTyped: text.trim() !== "" });

/** A typed α as a number; null for an empty text, NaN for a wrong one. */
export function numberOf(text) {
  const clean = text.trim().replace(",", ".").replace("−", "-");
  return clean === "" ? null : Number(clean);
}

export function fault(text) {
  const value = numberOf(text);
  return value === null || value >= 0 ? "" : "The error must be a number of at least 0.";
}

/** α on the grid of trust.png, as text; "" for the calibration's own. */
function alphaToSend() {
  const value = numberOf(state.alpha);
  if (!state.isTyped || value === null) return "";
  const bound = upscalerOf(state)?.bound;
  return String(bound && codeOf(value, bound) > 0 && value < bound ? snap(value, bound) : value);
}

/** Take files, unless the service cannot use them now. */
export async function take(files) {
  const usable = files.filter((file) => file.size > 0);
  if (usable.length < files.length) toast("Empty files are left out.");
  if (!usable.length) return;
  await loadWhole();
  const { upscaler, group, metadata, size, alpha } = state;
  const isBare = upscalerOf(state)?.calibration === null;
  const words = `${upscaler} is not calibrated, so nothing can be marked as trusted. Calibrate it first.`;
  const wrong = isBare ? words : fault(alpha);
  if (wrong) return toast(wrong, { kind: "error" });
  const guarantee = guaranteeFor(upscalerOf(state) ?? {}, numberOf(alpha), group);
  events.onFiles(usable, { upscaler, group, alpha: alphaToSend(), guarantee, metadata, ...SIZES[size][1] });
}

/** The second of two clicks is the same wish. */
export async function takeExample(name, event) {
  if (event.detail > 1) return;
  const response = await fetch(new URL(`../../img/examples/${name}`, import.meta.url));
  await take([new File([await response.blob()], name, { type: "image/webp" })]);
}

export function listen() {
  for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, dragged);
  addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (!pasted.length) return;
    event.preventDefault();
    take(pasted);
  });
  // By the time that a file is chosen the answer is there.
  for (const name of ["pointerdown", "keydown", "dragenter"])
    addEventListener(name, () => loadWhole(), { once: true });
  const missing = async () => {
    await loading; // what is under way may have begun while the service was away
    if (!state.upscalers.length) await load();
  };
  document.addEventListener("keys", missing);
  addEventListener("online", missing);
  // Another calibration may have become active meanwhile.
  document.addEventListener("visibilitychange", () => document.hidden || load(false));
}

/** Leaving the window for another of its parts is not leaving. */
async function dragged(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  store.set({ isDropping: event.type === "dragover" || Boolean(event.relatedTarget) });
  if (event.type === "drop") take(await dropped(event.dataTransfer));
}

/** The files that were dropped, those of folders among them. */
async function dropped({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...files];
  return (await Promise.all(entries.map(inside))).flat().filter(({ type }) => type.startsWith("image/"));
}

/** @returns {Promise<File[]>} */
async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  // A folder tells of a hundred entries at a time.
  for (let some = null; some?.length !== 0;) {
    some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    found.push(...(await Promise.all(some.map(inside))).flat());
  }
  return found;
}
