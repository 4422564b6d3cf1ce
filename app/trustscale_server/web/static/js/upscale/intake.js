// Pictures come in: dropped, pasted, chosen, or an example; and their settings.

import { getJson } from "../lib/api.js";
import { droppedFiles } from "../lib/files.js";
import { at } from "../lib/place.js";
import { toast } from "../lib/toast.js";
import { state, store, upscalerOf } from "./state.js";
import { SIZES, levelFields } from "./words.js";

export const events = {
  /** @param {File[]} _files @param {Record<string, string>} _settings */
  onFiles: (_files, _settings) => {},
};

let loading = null;

/** Read the upscalers, one call at a time. `ask`: for a key, if one is needed. */
export const load = (ask = true) => (loading ??= read(ask).finally(() => (loading = null)));

async function read(ask) {
  try {
    const answer = await getJson(at("v1/upscalers"), { ask });
    const upscalers = withAuto(answer);
    if (state.problem) store.set({ problem: null });
    if (JSON.stringify(upscalers) === JSON.stringify(state.upscalers)) return;
    const chosen =
      upscalerOf({ ...state, upscalers }) ?? upscalers.find((one) => one.default) ?? upscalers[0];
    store.set({ upscalers });
    if (chosen) choose(chosen.name);
  } catch (error) {
    // Old knowledge is better than none.
    if (!state.upscalers.length) store.set({ problem: error.message });
  }
}

/** The upscalers, after the automatic one if the service can choose by the class of a file. */
function withAuto(upscalers) {
  const able = upscalers.filter((one) => one.default);
  if (able.length < 2) return upscalers;
  const first = able.find((one) => one.calibration) ?? able[0];
  const auto = { name: "auto", title: "Best model for each picture" };
  // A level that one of them lacks cannot be asked for.
  const has = ({ name }) => able.every(({ levels }) => levels.some((one) => one.name === name));
  return [{ ...first, ...auto, levels: first.levels.filter(has) }, ...upscalers];
}

export function choose(name) {
  const { groups = {} } = state.upscalers.find((one) => one.name === name);
  store.set({ upscaler: name, group: state.group in groups ? state.group : "" });
}

const MARK = new TextEncoder().encode("urn:trustscale:mark:");

/** Whether a file holds a mark of ours, so that its owner may want to know what it says. */
async function isMarked(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  for (let at = bytes.indexOf(MARK[0]); at >= 0; at = bytes.indexOf(MARK[0], at + 1))
    if (MARK.every((byte, k) => bytes[at + k] === byte)) return true;
  return false;
}

/** Take files, unless the service cannot use them now. */
export async function take(files) {
  const usable = files.filter((file) => file.size > 0);
  if (usable.length < files.length) toast("Empty files are left out.");
  if (!usable.length) return;
  if (usable.length === 2) {
    const { checkedAsPair } = await import("./views/pair.js");
    if (await checkedAsPair(usable)) return;
  }
  if (usable.length === 1 && (await isMarked(usable[0]))) {
    const { openCheck } = await import("./views/check.js");
    if (!(await openCheck(usable[0]))) return;
  }
  const settings = await settingsNow();
  if (settings) events.onFiles(usable, settings);
}

/** The fields of the next requests; null: none can be made. */
async function settingsNow() {
  await loading;
  const { upscaler, group, metadata, size, level, keeps } = state;
  const model = upscalerOf(state);
  if (model?.calibration === null) {
    toast(`Nothing is promised of ${model.title} yet, so it cannot be used.`, { kind: "error" });
    return null;
  }
  // A calibration for text has a level and a promise of its own.
  const asksWords = state.words && model?.words;
  const strictness = asksWords ? { words: "true" } : levelFields(model ?? {}, level, group);
  const kept = keeps ? { faces: "keep", letters: "keep" } : {};
  return { upscaler, group, ...strictness, ...kept, metadata, ...SIZES[size][1] };
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
  const missing = async () => {
    await loading; // what is under way may have begun while the service was away
    if (!state.upscalers.length) await load();
  };
  document.addEventListener("keys", missing);
  addEventListener("online", missing);
  // Another calibration may have become active since.
  document.addEventListener("visibilitychange", () => document.hidden || load(false));
}

/** Leaving the window for another of its parts is not leaving. */
async function dragged(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  store.set({ isDropping: event.type === "dragover" || Boolean(event.relatedTarget) });
  if (event.type !== "drop") return;
  const files = await droppedFiles(event.dataTransfer);
  // Folders hold other things, too.
  const isPicture = ({ file, path }) => !path.includes("/") || file.type.startsWith("image/");
  take(files.filter(isPicture).map(({ file }) => file));
}
