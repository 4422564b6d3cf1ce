// The pictures of this browser: each is sent, followed, and kept.

import { getBlob, getJson, problem, request, upload } from "../lib/api.js";
import { announce } from "../lib/dom.js";
import { Pace, pause, watchJob } from "../lib/jobs.js";
import { at } from "../lib/place.js";
import { toast } from "../lib/toast.js";
import { bytes } from "../lib/format.js";
import { isBusy, isEnded, paces, ratio, state, store, upscalerOf } from "./state.js";
import { alertsOf, answering, planOf, stateWords } from "./words.js";

const AT_ONCE = 3; // pictures that are sent or followed; the others wait here
const LONG_S = 60; // what takes longer is asked about before it is sent
const LONGEST_PAUSE_S = 30; // between two attempts to reach a service that is away
const GIVEN_UP_S = 16; // pause after which a service that is not away is taken to refuse
const LOOK_MS = 2000; // between two looks at what the model has made so far
const KEPT_MS = 7 * 86_400_000;
const PICTURES = "pictures";

/** @typedef {import("./state.js").Picture} Picture */

export const events = {
  /** @param {Picture} _ */
  onEnded: (_) => {},
  onGone: () => {},
};

const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");

const aborted = () => new DOMException("Aborted", "AbortError");

/** A picture on the page: what is kept, and what lives as long as the page. */
function built(facts) {
  const now = {
    progress: null,
    pace: new Pace(),
    draft: null,
    lookedAt: -LOOK_MS,
    left: 0,
    abort: null,
    wake: null,
  };
  const asked = {
    plan: null,
    isSure: false,
    isLost: false,
    isAway: false,
    cold: 0,
    estimate: null,
  };
  return { ...facts, ...now, ...asked, url: URL.createObjectURL(facts.file) };
}

const FRESH = { state: "waiting", job: null, result: null, error: null };
const FACTS = ["id", "name", "file", "created", "settings", ...Object.keys(FRESH)];

// Other tabs show the same pictures: each tab reports what it keeps or forgets.
const tabs = new BroadcastChannel("trustscale.pictures");
tabs.onmessage = () => learn();
const share = (answer) => answer === null || tabs.postMessage(null); // where nothing is kept nothing is shared

const removed = new Set(); // ids, so that what was read before a removal does not bring a picture back

async function save(picture) {
  removed.delete(picture.id);
  picture.isSaving = true;
  share(await keep(Object.fromEntries(FACTS.map((fact) => [fact, picture[fact]]))));
  picture.isSaving = false;
}

function drop(picture) {
  removed.add(picture.id);
  forget(picture.id).then(share);
}

/** Take over what other tabs have kept, ended or removed. */
async function learn() {
  const all = await kept();
  const ids = new Set(all.map(({ id }) => id));
  const mine = new Map(state.pictures.map((picture) => [picture.id, picture]));
  for (const picture of all) adopt(mine.get(picture.id), picture);
  const fresh = all.filter(({ id }) => !mine.has(id) && !removed.has(id)).map(restored);
  const rest = state.pictures.filter((picture) => ids.has(picture.id) || picture.isSaving);
  const isGone = state.selected && !rest.some(({ id }) => id === state.selected);
  const pictures = [...rest, ...fresh].sort((a, b) => a.created - b.created);
  if (fresh.length || rest.length < state.pictures.length)
    store.set({ pictures, selected: isGone ? (pictures[0]?.id ?? null) : state.selected });
  if (isGone) events.onGone();
  pump();
}

/** A picture of this tab has ended in another tab. */
function adopt(own, kept) {
  if (!own || !isEnded(kept) || isEnded(own)) return;
  change(own, kept);
  events.onEnded(own);
}

function restored(facts) {
  return built(isBusy(facts) ? { ...facts, state: "waiting" } : facts);
}

/** One tab at a time runs a picture. */
const exclusively = (picture, run) =>
  navigator.locks ? navigator.locks.request(`trustscale.${picture.id}`, run) : run();

/** settings: form fields of the request; The new pictures. */
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

export async function restore() {
  const known = new Set(state.pictures.map(({ id }) => id));
  const before = (await kept()).filter(({ id }) => !known.has(id)).map(restored);
  store.set({ pictures: [...before, ...state.pictures] });
  pump();
}

/** Whether leaving the page would interrupt an upload. */
export const isSending = () => state.pictures.some((picture) => picture.state === "sending");

function pump() {
  const free = AT_ONCE - state.pictures.filter(isBusy).length;
  const waiting = state.pictures.filter((picture) => picture.state === "waiting");
  for (const picture of waiting.slice(0, Math.max(0, free))) {
    change(picture, { state: "queued" });
    exclusively(picture, async () => {
      const before = (await kept()).find(({ id }) => id === picture.id);
      if (before) adopt(picture, before); // another tab may have made it since
      if (picture.state === "queued") await run(picture);
    });
  }
}

function change(picture, changes) {
  Object.assign(picture, changes);
  store.notify();
}

async function run(picture) {
  const abort = new AbortController();
  const cold = upscalerOf({ ...state, upscaler: picture.settings.upscaler })?.cold_start_s ?? 0;
  const fresh = { error: null, pace: new Pace(), progress: null, plan: null, isLost: false, isAway: false };
  const begun = { left: 0, abort, cold, ...fresh };
  change(picture, { state: "sending", ...begun });
  const limit = largest(picture);
  if (!picture.job && picture.file.size > limit) {
    const error = {
      message: `This file is too large (at most ${bytes(limit)}).`,
      slug: "image-too-large",
      status: 413,
    };
    change(picture, { state: "failed", error });
    await save(picture);
    pump();
    return events.onEnded(picture);
  }
  if (!picture.job && !picture.isSure) {
    const plan = await planned(picture);
    if (plan && (plan.most || plan.seconds > LONG_S)) {
      change(picture, { state: "asking", plan });
      return pump();
    }
  }
  for (let pause_s = 2; ; pause_s = Math.min(2 * pause_s, LONGEST_PAUSE_S)) {
    try {
      await made(picture, abort);
      break;
    } catch (error) {
      // A service that answers, and breaks off this upload again and again, refuses it.
      const mayReturn = isAway(error) && (pause_s < GIVEN_UP_S || !(await answers()));
      if (mayReturn && !abort.signal.aborted) {
        await held(picture, "away", pause_s).catch(() => {});
        if (!abort.signal.aborted) continue;
      }
      const { name, message, slug = "", status = 0 } = error;
      const isFault = name !== "AbortError" && !abort.signal.aborted;
      const outcome = isFault
        ? { state: "failed", error: { message, slug, status } }
        : { state: "cancelled" };
      change(picture, { ...outcome, job: null });
      if (isFault) announce(`${picture.name} failed: ${message}`);
      break;
    }
  }
  if (picture.draft) URL.revokeObjectURL(picture.draft);
  picture.draft = null;
  if (state.pictures.includes(picture)) await save(picture);
  pump();
  events.onEnded(picture);
}

async function made(picture, abort) {
  if (!picture.job) {
    const { id } = await send(picture);
    if (abort.signal.aborted) {
      // Cancelled before the answer came: the job exists, and would be paid for.
      await giveUp(id);
      throw aborted();
    }
    change(picture, { job: id });
    save(picture);
  }
  change(picture, { state: "queued" });
  const last = await watchJob(picture.job, {
    signal: abort.signal,
    onJob: (job) => follow(picture, job),
    onLost: () => change(picture, { isLost: true }),
  });
  if (last.state === "cancelled") throw aborted();
  if (last.state === "failed") throw problem(last.error, "The job has failed.");
  if (last.state === "expired") throw problem(null, "The result was removed before it was fetched.");
  const result = await getJson(`${last.result}?detail=full`, { signal: abort.signal });
  change(picture, { state: "done", result, job: null });
  const lines = alertsOf(result).lines.length ? " Read the warnings." : "";
  announce(`${picture.name} is ready. ${stateWords(picture)}.${lines}`);
}

/** Bytes that a model takes of it at most. */
const largest = ({ settings }) =>
  Math.min(
    ...answering(state.upscalers, settings.upscaler).map((upscaler) => upscaler.max_bytes ?? Infinity),
  );

/** Whether the service is away for now, and nothing is wrong with the picture. */
const isAway = ({ status, slug, name }) =>
  name !== "AbortError" && (status === 0 || ([502, 503, 504].includes(status) && !slug));

const answers = () =>
  fetch("/healthz", { cache: "no-store" })
    .then(({ ok }) => ok)
    .catch(() => false);

/** Estimates, as far as the browser can read the file: {seconds, width, height}, or null. */
async function planned({ url, settings }) {
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => {});
  const { naturalWidth: width, naturalHeight: height } = image; // 0 if it cannot be read
  const models = answering(state.upscalers, settings.upscaler);
  return width ? planOf(models, { paces: paces(state), ratio: ratio(state) }, width, height, settings) : null;
}

export function confirm(picture, settings = {}) {
  Object.assign(picture.settings, settings);
  change(picture, { state: "waiting", isSure: true, abort: null });
  save(picture);
  pump();
}

/** Upload; a full service is asked again after its Retry-After, or when the person says so. */
async function send(picture) {
  const form = new FormData();
  form.append("image", picture.file, picture.name);
  for (const [field, value] of Object.entries(picture.settings)) {
    if (value) form.append(field, value);
  }
  for (;;) {
    try {
      change(picture, { state: "sending", left: 0 });
      return await upload(at("v1/upscale?detail=full"), form, {
        // With this key a repeated request after a crash costs once.
        headers: { Prefer: "respond-async", "Idempotency-Key": picture.id },
        signal: picture.abort.signal,
        whole: true,
        onProgress: (sent, total) => change(picture, { left: total ? sent / total : 0 }),
      });
    } catch (error) {
      const passes = ["overloaded", "store-unavailable"].includes(error.slug);
      if (!passes || !error.retryAfter) throw error;
      await held(picture, "full", error.retryAfter);
    }
  }
}

/** Wait in a state, or until the person or the browser wakes us. */
async function held(picture, now, seconds) {
  const woken = new AbortController();
  const wake = () => woken.abort();
  change(picture, { state: now, wake });
  addEventListener("online", wake, { once: true });
  const either = AbortSignal.any([picture.abort.signal, woken.signal]);
  for (let left = Math.ceil(seconds); left > 0 && !woken.signal.aborted; left -= 1) {
    change(picture, { left });
    await pause(1000, either).catch(() => {});
    picture.abort.signal.throwIfAborted();
  }
  removeEventListener("online", wake);
}

function follow(picture, { state: now, progress, draft, estimate_s: estimate, dependency_down_since: away }) {
  change(picture, { isAway: Boolean(away) });
  if (now !== "running") return;
  picture.pace.saw(progress.done);
  change(picture, { state: "running", progress, estimate, isLost: false });
  const grows = progress.unit === "tiles" || picture.draft === null;
  // The last answer and the result come together: then there is no draft any more.
  if (draft && grows && progress.done < progress.total && performance.now() > picture.lookedAt + LOOK_MS)
    look(picture, draft);
}

/** Fetch the draft, as far as it is made; it is shown until the result is there. */
async function look(picture, path) {
  picture.lookedAt = performance.now();
  const draft = await getBlob(path, { ask: false, signal: picture.abort.signal }).catch(() => null);
  if (!draft || picture.state !== "running") return;
  if (picture.draft) URL.revokeObjectURL(picture.draft);
  change(picture, { draft: URL.createObjectURL(draft) });
}

// The remaining time shrinks between the answers, too.
setInterval(() => document.hidden || !state.pictures.some(isBusy) || store.notify(), 1000);

export function again(picture, settings = {}) {
  Object.assign(picture.settings, settings);
  // A new id: the answer to the old request must not be returned.
  const fresh = { ...picture, ...FRESH, id: newId(), isSure: false, abort: null };
  drop(picture);
  save(fresh);
  const selected = state.selected === picture.id ? fresh.id : state.selected;
  store.set({ pictures: state.pictures.map((present) => (present === picture ? fresh : present)), selected });
  pump();
  return fresh;
}

export function cancel(picture) {
  if (!picture.abort || ["waiting", "asking"].includes(picture.state)) {
    change(picture, { state: "cancelled" });
    save(picture);
    return;
  }
  if (picture.job) giveUp(picture.job);
  picture.abort?.abort();
}

const giveUp = (job) => request(at(`v1/jobs/${job}`), { method: "DELETE" }).catch(() => {});

/** Remove pictures, with an undo. */
export function remove(gone) {
  const before = state.pictures;
  const rest = before.filter((picture) => !gone.includes(picture));
  for (const picture of gone) {
    if (isBusy(picture) || picture.state === "waiting") cancel(picture);
    drop(picture);
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

// Pictures are kept in IndexedDB; without it (some private windows) they last as long as the page.

let opened = null;

const answer = (call) =>
  new Promise((resolve, reject) => {
    call.onsuccess = () => resolve(call.result);
    call.onerror = () => reject(call.error);
  });

function database() {
  const call = indexedDB.open("trustscale", 1);
  call.onupgradeneeded = () => call.result.createObjectStore(PICTURES, { keyPath: "id" });
  return answer(call);
}

/** Run a request on the store of pictures; null where nothing can be kept. */
async function stored(mode, ask) {
  try {
    opened ??= database();
    return await answer(ask((await opened).transaction(PICTURES, mode).objectStore(PICTURES)));
  } catch {
    return null; // switched off or full: then they last as long as the page
  }
}

const keep = (picture) => stored("readwrite", (store) => store.put(picture));

const forget = (id) => stored("readwrite", (store) => store.delete(id));

/** All pictures, the oldest first; after a week they are forgotten. */
async function kept() {
  const all = (await stored("readonly", (store) => store.getAll())) ?? [];
  const isOld = ({ created }) => Date.now() - created > KEPT_MS;
  for (const { id } of all.filter(isOld)) forget(id);
  return all.filter((picture) => !isOld(picture)).sort((a, b) => a.created - b.created);
}
