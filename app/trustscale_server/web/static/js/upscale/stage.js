// One result on the screen: its files, its viewer, and the chosen α.

import { getBlob } from "../lib/api.js";
import { $$, announce } from "../lib/dom.js";
import { Store } from "../lib/store.js";
import { decodeResult } from "./decode.js";
import { leftOutOf } from "./left-out.js";
import { gravest } from "./doubts.js";
import { alphaOf, axis, codeOf } from "./levels.js";
import { modelOf, state, store } from "./state.js";
import { Viewer } from "./viewer.js";
import { done, hasPromise, promised } from "./words.js";

/** The code of the chosen α. A store of its own: the slider changes it with every frame. */
export const dial = new Store({ code: 0 });

export const events = {
  /** @param {number} _ */
  onSwipe: (_) => {},
};

export const viewer = new Viewer({
  onView: () => showZoom(),
  onSwipe: (step) => events.onSwipe(step),
});

/** Parts of the result on the screen that are too large for the state. */
export const held = {
  image: /** @type {Blob | null} */ (null),
  input: /** @type {Blob | null} */ (null), // the upload, or what the service kept of it
  counts: new Uint32Array(65536),
  bound: 1,
  opaque: 1, // share of the opaque pixels, the only ones that words are about
  served: 0, // code of the α that was asked for
  axis: /** @type {{low: number, high: number} | null} */ (null), // of the slider; null: the promise is for one α
  rings: /** @type {import("./doubts.js").Ring[]} */ ([]),
};

let turn = 0;
let doubtAt = -1; // index of the ring that the reader went to last

export const alphaNow = () => alphaOf(dial.state.code, held.bound);
export const isMoved = () => dial.state.code !== held.served;
export const shareAt = (code) => held.counts[code] / Math.max(1, held.opaque * held.counts[65535]);

/** The files of a result, decoded; what was sent is the upload, or else what the service kept of it. */
async function loaded({ links }, file, onImage = (_image) => {}) {
  const picture = getBlob(links.image);
  picture.then(onImage, () => {});
  const [image, trust] = await Promise.all([picture, getBlob(links.trust)]);
  const kept = () => getBlob(`${links.believed}?alpha=0`).catch(() => null); // at 0 nothing is trusted
  let input = file ?? (await kept());
  let decoded = await decodeResult(image, trust, input);
  if (file && !decoded.soft) {
    input = await kept(); // a file that this browser cannot read
    decoded = { ...decoded, soft: input && (await createImageBitmap(input)) };
  }
  return { image, input, decoded };
}

/**
 * Show a result; `file`: its input, or null. False if another one has been asked for since.
 *
 * @param {{result: any, name: string, file: Blob | null, expires?: Date}} picture
 */
export async function open({ result, name, file, expires }) {
  const mine = ++turn;
  if (!result.links.trust) throw new Error("It was made without a mask, so this page cannot show it.");
  store.set({ isOpening: true });
  // What is large takes long to decode with its trust: until then the browser shows the picture alone.
  const early = (image) =>
    mine === turn && state.isOpening && store.set({ early: URL.createObjectURL(image) });
  try {
    const { image, input, decoded } = await loaded(result, file, early);
    if (mine !== turn) return false;
    const { bound } = result.guarantee;
    const served = codeOf(result.alpha, bound);
    const { counts, ...layer } = decoded;
    const opaque = result.opaque_fraction;
    const range = promised(result);
    const own = { image, input, counts, bound, opaque, served, axis: range && axis(range, bound) };
    Object.assign(held, { ...own, rings: [] });
    doubtAt = -1;
    viewer.canvas.ariaLabel = `${name}, ${done(result)}`;
    viewer.show({ ...layer, isOpaque: opaque === 1, limit: served }, { keep: true });
    const isUnchecked = !hasPromise(result);
    setView({ isUnchecked, view: isUnchecked && state.view === "marked" ? "checked" : state.view });
    viewer.lettering.change({ words: result.words ?? [], leftOut: leftOutOf(result) });
    viewer.setSpot(null);
    label("left", "Your picture");
    label("right", modelOf(state, result.upscaler));
    viewer.canvas.dataset.shown = result.id;
    store.set({ shown: { result, name, expires }, left: "", spot: null });
    setCode(served);
    findRings();
    return true;
  } finally {
    if (mine === turn) {
      if (state.early) URL.revokeObjectURL(state.early);
      store.set({ isOpening: false, early: null });
    }
  }
}

function label(side, words) {
  viewer.element.querySelector(`.divider-side.${side}`).textContent = words;
}

/** Show another result of the same file with its own marking, or again the upload, left of the divider. */
export async function compareWith(picture = null) {
  const mine = turn;
  const { result } = viewer;
  const other = picture?.result;
  const decoded = other && (await loaded(other, picture.file)).decoded;
  if (mine !== turn || viewer.result !== result) return;
  const { bound } = other?.guarantee ?? { bound: 1 };
  const limit = other && codeOf(Math.min(alphaNow(), bound), bound);
  viewer.compareWith(decoded ? { ...decoded, isOpaque: other.opaque_fraction === 1, limit } : null);
  label("left", other ? modelOf(state, other.upscaler) : "Your picture");
  leftSide = decoded ? { counts: decoded.counts, bound, opaque: other.opaque_fraction } : null;
  store.set({ left: picture?.id ?? "" });
}

/** @type {{counts: Uint32Array, bound: number, opaque: number} | null} */
let leftSide = null;

/** The trusted share of the result left of the divider, at the same α; null: there is none. */
export function shareLeft() {
  if (!leftSide || !state.left) return null;
  const { counts, bound, opaque } = leftSide;
  return counts[codeOf(Math.min(alphaNow(), bound), bound)] / Math.max(1, opaque * counts[65535]);
}

export function leave() {
  turn += 1;
  store.set({ shown: null, isOpening: false, spot: null });
}

export function setCode(code) {
  dial.set({ code });
  if (viewer.other && leftSide)
    viewer.other.limit = codeOf(Math.min(alphaNow(), leftSide.bound), leftSide.bound);
  viewer.lettering.change({ alpha: alphaNow() });
  viewer.setLimit(code);
  clearTimeout(ringing);
  ringing = setTimeout(findRings, RING_MS); // not with every frame of the slider
}

const RING_MS = 150;
let ringing = undefined;

/** The gravest doubts at the α on the screen. */
function findRings() {
  if (!viewer.result || !state.shown) return;
  const { result } = state.shown;
  held.rings = hasPromise(result) ? gravest(viewer.result, leftOutOf(result)) : [];
  viewer.change({ rings: held.rings });
  store.notify();
}

/** @param {{view?: string, compares?: boolean, isUnchecked?: boolean}} changes */
export function setView({ isUnchecked = viewer.isUnchecked, ...changes }) {
  store.set(changes);
  viewer.change({ ...changes, isUnchecked });
}

viewer.onRing = (k) => viewer.onPick(doubtful(held.rings[k]) ?? null);

/** Go to the next of the gravest doubts, and back to all after the last; false: there is none. */
export function nextDoubt() {
  if (!viewer.result) return false;
  const { rings } = held;
  doubtAt += 1;
  const ring = rings[doubtAt];
  if (!ring) {
    doubtAt = -1;
    viewer.viewport.fit();
    viewer.onPick(null);
    return false;
  }
  const half = 2 * ring.radius;
  const area = { left: ring.x - half, top: ring.y - half, right: ring.x + half, bottom: ring.y + half };
  viewer.viewport.flyTo(area, 4 * viewer.viewport.density);
  viewer.onPick(doubtful(ring) ?? null);
  announce(`Doubt ${doubtAt + 1} of ${rings.length}.`);
  return true;
}

const TRIED = 41; // places a side

/**
 * The pixel next to the middle of a ring that is not trusted; of what was left out the middle.
 *
 * @param {import("./doubts.js").Ring} ring
 */
function doubtful({ x: middle, y: centre, radius, thing }) {
  if (thing) return viewer.pixel({ x: Math.floor(middle), y: Math.floor(centre) });
  const { width, height } = viewer.result;
  const [left, right, top, bottom] = [middle - radius, middle + radius, centre - radius, centre + radius];
  const along = (from, to, most) =>
    Array.from({ length: TRIED }, (_, k) => from + ((k + 0.5) / TRIED) * (to - from)).map((at) =>
      Math.min(most - 1, Math.max(0, Math.floor(at))),
    );
  const [xs, ys] = [along(left, right, width), along(top, bottom, height)];
  const from = ({ x, y }) => Math.hypot(x - middle, y - centre);
  const all = ys.flatMap((y) => xs.map((x) => ({ x, y }))).sort((a, b) => from(a) - from(b));
  return all.map((at) => viewer.pixel(at)).find(({ code }) => code > dial.state.code);
}

/** The spot that is asked about comes out from under its card. */
export function reveal() {
  const [card] = $$(".why");
  const { viewport, spot, spotAt } = viewer;
  if (!card || !spot) return;
  makeRoom();
  viewer.place();
  const [stage, box] = [viewer.element, card].map((one) => one.getBoundingClientRect());
  const [x, y] = [spotAt.x + stage.left, spotAt.y + stage.top];
  const isFree =
    x < box.left - ROUND || x > box.right + ROUND || y < box.top - ROUND || y > box.bottom + ROUND;
  if (!isFree || y < stage.top || y > stage.bottom || x < stage.left || x > stage.right)
    viewport.centre(spot.x + 0.5, spot.y + 0.5);
}

const ROUND = 24; // CSS pixels around a spot that stay free

/** Fit the picture into what bars, drawer and card leave free. */
export function makeRoom() {
  const stage = viewer.element.getBoundingClientRect();
  const [panel] = $$(".drawer.open, .why");
  const [dock] = $$(".dock");
  const all = [...$$(".drawer.open, .why")].map((one) => one.getBoundingClientRect());
  const isAtFoot = (one) => one.width > 0.8 * stage.width;
  // A card at the foot lies over the dock.
  const box = all.find(isAtFoot) ?? (panel?.matches(".drawer") ? all[0] : undefined);
  const isBeside = box && box.height > 0.8 * stage.height;
  const margin = stage.width < 600 ? 8 : 24;
  const foot = dock ? stage.bottom - dock.getBoundingClientRect().top : 0;
  viewer.element.style.setProperty("--foot", `${foot}px`);
  viewer.viewport.setInset({
    left: margin,
    top: margin,
    right: margin + (isBeside ? box.width : 0),
    bottom: Math.max(margin, foot + margin / 2, box && !isBeside ? stage.bottom - box.top : 0),
  });
}

/** All of the screen, where the browser can (an iPhone cannot). */
export const canFill = Boolean(document.documentElement.requestFullscreen);

export async function setFull(isFull) {
  await (isFull ? document.documentElement.requestFullscreen() : document.exitFullscreen()).catch(() => {});
}
document.addEventListener("fullscreenchange", () =>
  store.set({ isFull: Boolean(document.fullscreenElement) }),
);
addEventListener("resize", () => {
  makeRoom();
  reveal();
});

/** Apart from the state: a wheel changes it with every frame, and nothing else of the page. */
export const zoomed = document.createElement("output");
Object.assign(zoomed, { id: "zoom-value", ariaLabel: "Zoom" });

function showZoom() {
  const { view, density } = viewer.viewport;
  const words = `${Number(((100 * view.scale) / density).toPrecision(3))} %`;
  if (zoomed.textContent !== words) zoomed.textContent = words; // the same words would be laid out again
}
