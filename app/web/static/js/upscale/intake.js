// Where pictures come in: dropped anywhere, pasted, chosen, or one of the examples; and their settings.

import { getJson } from "../lib/api.js";
import { toast } from "../lib/toast.js";
import { codeOf, snap } from "./levels.js";
import { state, store, upscalerOf } from "./state.js";
import { guaranteeFor, looksFirst } from "./words.js";

/** What happens with pictures that came in. */
export const events = {
  /** @param {File[]} _files @param {Record<string, string>} _settings */
  onFiles: (_files, _settings) => {},
};

let loading = null;

/** Read which upscalers there are; one call at a time. `ask`: for a key, if one is needed. */
export const load = (ask = true) => (loading ??= read(ask).finally(() => (loading = null)));

async function read(ask) {
  try {
    const found = withAuto((await getJson("/v1/upscalers", { ask })).map(seen));
    if (state.problem) store.set({ problem: null });
    if (JSON.stringify(found) === JSON.stringify(state.upscalers)) return;
    const chosen = upscalerOf({ ...state, upscalers: found }) ?? found.find((one) => one.default) ?? found[0];
    store.set({ upscalers: found });
    if (chosen) choose(chosen.name);
  } catch (error) {
    // What is known is better than nothing.
    if (!state.upscalers.length) store.set({ problem: error.message });
  }
}

/** An upscaler, and whether the promise can be one for an α that is chosen after looking. */
const seen = (one) => ({ ...one, looksFirst: looksFirst(one) });

/** The upscalers, before them the automatic one where the service chooses by the class of a file. */
function withAuto(found) {
  const able = found.filter((one) => one.default);
  if (able.length < 2) return found;
  const first = able.find((one) => one.calibration) ?? able[0];
  const auto = { name: "auto", title: "Automatic: what suits the file" };
  return [{ ...first, ...auto, looksFirst: able.every((one) => one.looksFirst) }, ...found];
}

/** An upscaler was chosen: its calibration says which α and kinds of picture there are. */
export function choose(name) {
  const { groups = {} } = state.upscalers.find((one) => one.name === name);
  store.set({ upscaler: name, group: state.group in groups ? state.group : "" });
}

/** @param {string} text */
export const setAlpha = (text) => store.set({ alpha: text, isTyped: text.trim() !== "" });

/** A typed α as a number, null for none; NaN for what is none. */
export function numberOf(text) {
  const clean = text.trim().replace(",", ".").replace("−", "-");
  return clean === "" ? null : Number(clean);
}

/** What is wrong with a typed α; "" if nothing is. */
export function fault(text) {
  const value = numberOf(text);
  return value === null || value >= 0 ? "" : "The error must be a number of at least 0.";
}

/** α for the next pictures on the grid of trust.png, as text; "" for the calibration's own. */
function alphaToSend() {
  const value = numberOf(state.alpha);
  if (!state.isTyped || value === null) return "";
  const bound = upscalerOf(state)?.bound;
  return String(bound && codeOf(value, bound) > 0 && value < bound ? snap(value, bound) : value);
}

/** Take files, if the service can do anything with them now. */
export async function take(files) {
  const usable = files.filter((file) => file.size > 0);
  if (usable.length < files.length) toast("Empty files and folders are left out.");
  if (!usable.length) return;
  if (!state.upscalers.length) await load();
  const { upscaler, group, metadata, to, alpha } = state;
  const isBare = upscalerOf(state)?.calibration === null;
  const words = `${upscaler} is not calibrated, so nothing can be marked as trusted. Calibrate it first.`;
  const wrong = isBare ? words : fault(alpha);
  if (wrong) toast(wrong, { kind: "error" });
  else {
    const guarantee = guaranteeFor(upscalerOf(state) ?? {}, numberOf(alpha), group);
    events.onFiles(usable, { upscaler, group, alpha: alphaToSend(), guarantee, metadata, to });
  }
}

/** One of the photographs that come with the page; the second click of two is the same wish. */
export async function takeExample(name, event) {
  if (event.detail > 1) return;
  const response = await fetch(new URL(`../../img/examples/${name}`, import.meta.url));
  await take([new File([await response.blob()], name, { type: "image/webp" })]);
}

/** The whole window is a drop target, and takes what is pasted. */
export function listen() {
  for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, dragged);
  addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (!pasted.length) return;
    event.preventDefault();
    take(pasted);
  });
  const missing = async () => {
    await loading; // what is under way may have begun while the service was away
    if (!state.upscalers.length) await load();
  };
  document.addEventListener("keys", missing);
  addEventListener("online", missing);
  // Another calibration may have become active while nobody looked.
  document.addEventListener("visibilitychange", () => document.hidden || load(false));
}

/** Files over the window; to leave it for another of its parts is not to leave. */
function dragged(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  store.set({ isDropping: event.type === "dragover" || Boolean(event.relatedTarget) });
  if (event.type === "drop") take([...event.dataTransfer.files]);
}
