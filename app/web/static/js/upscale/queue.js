// The pictures of this browser: each is sent, followed while its samples come, kept, and can be had again.

import { getBlob, getJson, problem, request, upload } from "../lib/api.js";
import { announce } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { Pace } from "../lib/pace.js";
import { pause, watchJob } from "../lib/sse.js";
import { toast } from "../lib/toast.js";
import { forget, keep, kept } from "./keep.js";
import { isBusy, state, store } from "./state.js";
import { alertsOf } from "./words.js";

const AT_ONCE = 3; // pictures that are sent or followed; the others wait here

/** @typedef {import("./state.js").Picture} Picture */

/** What happens elsewhere when a picture is done or gone. */
export const events = {
  /** @param {Picture} _ */
  onEnded: (_) => {},
  onGone: () => {},
};

const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");

const aborted = () => new DOMException("Aborted", "AbortError");

/** A picture as the page has it: what is kept, and what lives as long as the page. */
function built(facts) {
  const now = { progress: null, pace: new Pace(), draft: null, left: 0, abort: null, wake: null };
  return { ...facts, ...now, url: URL.createObjectURL(facts.file) };
}

const FRESH = { state: "waiting", job: null, result: null, error: null, pixels: 0 };

/** Keep a picture as it is now. */
function save(picture) {
  const facts = ["id", "name", "file", "created", "settings", ...Object.keys(FRESH)];
  return keep(Object.fromEntries(facts.map((fact) => [fact, picture[fact]])));
}

/** Add files with the settings they are to be upscaled with; the pictures. */
export function add(files, settings) {
  const fresh = files.map((file, k) => {
    const own = { id: newId(), name: file.name || "pasted image", file, created: Date.now() + k };
    return built({ ...FRESH, ...own, settings: { ...settings } });
  });
  fresh.forEach(save);
  store.set({ pictures: [...state.pictures, ...fresh] });
  pump();
  return fresh;
}

/** Bring back what was kept; jobs go on where they are. */
export async function restore() {
  const known = new Set(state.pictures.map(({ id }) => id));
  const before = (await kept()).filter(({ id }) => !known.has(id)).map(built);
  for (const picture of before.filter(isBusy)) picture.state = "waiting";
  store.set({ pictures: [...before, ...state.pictures] });
  pump();
}

/** Whether leaving the page would lose something: what is sent just now is sent again otherwise. */
export const isSending = () => state.pictures.some((one) => one.state === "sending");

function pump() {
  const free = AT_ONCE - state.pictures.filter(isBusy).length;
  const waiting = state.pictures.filter((one) => one.state === "waiting");
  waiting.slice(0, Math.max(0, free)).forEach(run);
}

function change(picture, changes) {
  Object.assign(picture, changes);
  store.tell();
}

async function run(picture) {
  const abort = new AbortController();
  change(picture, { state: "sending", left: 0, abort, error: null, pace: new Pace(), progress: null });
  try {
    if (!picture.job) {
      const { id } = await send(picture);
      if (abort.signal.aborted) {
        // Given up while the answer was on its way: the job is there, and would be paid for.
        await giveUp(id);
        throw aborted();
      }
      change(picture, { job: id });
      save(picture);
    }
    change(picture, { state: "queued" });
    const last = await watchJob(picture.job, { signal: abort.signal, onJob: (job) => follow(picture, job) });
    if (last.state === "cancelled") throw aborted();
    if (last.state === "failed") throw problem(last.error, "The job has failed.");
    if (last.state === "expired") throw problem(null, "The result was removed before it was fetched.");
    const result = await getJson(last.result, { signal: abort.signal });
    change(picture, { state: "done", result, job: null });
    const lines = alertsOf(result).lines.length ? " Read the warnings." : "";
    announce(`${picture.name} is ready: ${percent(result.trusted_fraction)} is trusted.${lines}`);
  } catch (error) {
    const { name, message, slug = "", status = 0 } = error;
    const isFault = name !== "AbortError";
    const found = isFault ? { state: "failed", error: { message, slug, status } } : { state: "cancelled" };
    change(picture, { ...found, job: null });
    if (isFault) announce(`${picture.name} failed: ${message}`);
  }
  if (picture.draft) URL.revokeObjectURL(picture.draft);
  picture.draft = null;
  if (state.pictures.includes(picture)) await save(picture);
  pump();
  events.onEnded(picture);
}

/** Upload; a service that is full is asked again after the time that it names, or when the person says so. */
async function send(picture) {
  const form = new FormData();
  form.append("image", picture.file, picture.name);
  for (const [field, value] of Object.entries(picture.settings)) {
    if (value) form.append(field, value);
  }
  for (;;) {
    try {
      change(picture, { state: "sending", left: 0 });
      return await upload("/v1/upscale", form, {
        // The key makes a repeated request after a crash the same request, which costs once.
        headers: { Prefer: "respond-async", "Idempotency-Key": picture.id },
        signal: picture.abort.signal,
        whole: true,
        onProgress: (sent, total) => change(picture, { left: total ? sent / total : 0 }),
      });
    } catch (error) {
      if (error.slug !== "overloaded" || !error.retryAfter) throw error;
      const woken = new AbortController();
      change(picture, { state: "full", wake: () => woken.abort() });
      const either = AbortSignal.any([picture.abort.signal, woken.signal]);
      for (let left = Math.ceil(error.retryAfter); left > 0 && !woken.signal.aborted; left -= 1) {
        change(picture, { left });
        await pause(1000, either).catch(() => {});
        picture.abort.signal.throwIfAborted();
      }
    }
  }
}

function follow(picture, { state: now, progress, draft }) {
  if (now !== "running") return;
  picture.pace.saw(progress.done);
  change(picture, { state: "running", progress });
  if (draft && picture.draft === null) look(picture, draft);
}

/** Fetch the first sample, which is seen until the result is there. */
async function look(picture, path) {
  picture.draft = ""; // on its way
  const found = await getBlob(path, { ask: false, signal: picture.abort.signal }).catch(() => null);
  if (found && picture.state === "running") change(picture, { draft: URL.createObjectURL(found) });
}

// The time that is left grows shorter between the answers, too.
setInterval(() => document.hidden || !state.pictures.some(isBusy) || store.tell(), 1000);

/** Send a picture again, with other settings on top. */
export function again(picture, settings = {}) {
  Object.assign(picture.settings, settings);
  // Another request than the one before, which must not be answered from memory.
  const fresh = { ...picture, id: newId(), state: "waiting", result: null, error: null, job: null };
  forget(picture.id);
  save(fresh);
  const selected = state.selected === picture.id ? fresh.id : state.selected;
  store.set({ pictures: state.pictures.map((one) => (one === picture ? fresh : one)), selected });
  pump();
  return fresh;
}

/** Give up what is under way. */
export function cancel(picture) {
  if (picture.state === "waiting") {
    change(picture, { state: "cancelled" });
    save(picture);
    return;
  }
  if (picture.job) giveUp(picture.job);
  picture.abort?.abort();
}

const giveUp = (job) => request(`/v1/jobs/${job}`, { method: "DELETE" }).catch(() => {});

/** Take pictures off the list; they can be had back for a while. */
export function remove(gone) {
  const before = state.pictures;
  const rest = before.filter((one) => !gone.includes(one));
  for (const picture of gone) {
    if (isBusy(picture) || picture.state === "waiting") cancel(picture);
    forget(picture.id);
  }
  const isSelected = gone.some(({ id }) => id === state.selected);
  const next = rest[Math.min(before.indexOf(gone[0]), rest.length - 1)];
  store.set({ pictures: rest, selected: isSelected ? (next?.id ?? null) : state.selected });
  const { selected } = state;
  const run = () => {
    gone.forEach(save);
    const pictures = [...state.pictures, ...gone].sort((a, b) => a.created - b.created);
    const isBack = isSelected && state.selected === selected;
    store.set({ pictures, selected: isBack ? gone[0].id : state.selected });
    events.onGone();
  };
  const words = gone.length === 1 ? `${gone[0].name} is removed.` : `${gone.length} pictures are removed.`;
  toast(words, { action: { label: "Undo", run } });
  if (isSelected) events.onGone();
}
