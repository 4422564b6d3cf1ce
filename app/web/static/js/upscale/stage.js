// One result on the screen: its files, its viewer, and the chosen α.

import { getBlob } from "../lib/api.js";
import { $$ } from "../lib/dom.js";
import { Store } from "../lib/store.js";
import { decodeResult } from "./decode.js";
import { alphaOf, axis, codeOf } from "./levels.js";
import { state, store } from "./state.js";
import { Viewer } from "./viewer.js";
import { done, isFree, pixel } from "./words.js";

/** The code of the chosen α. A store of its own: the slider changes it with every frame. */
export const dial = new Store({ code: 0 });

export const viewer = new Viewer({
  onView: () => showZoom(),
  describe: (found) => pixel(found, { limit: dial.state.code, levelOf }),
});

/** Parts of the result on the screen that are too large for the state. */
export const held = {
  image: /** @type {Blob | null} */ (null),
  input: /** @type {Blob | null} */ (null), // where the page has it
  counts: new Uint32Array(65536),
  bound: 1,
  opaque: 1, // share of the pixels, of which alone something is said
  served: 0, // code of the α that was asked for
  isFree: false, // whether the promise holds for any α
  axis: { low: 1, high: 2 },
};

let turn = 0;

export const alphaNow = () => alphaOf(dial.state.code, held.bound);
export const isMoved = () => dial.state.code !== held.served;
/** Whether nothing is promised for the chosen α, since it was chosen after looking. */
export const isVoid = () => isMoved() && !held.isFree;
export const shareAt = (code) => held.counts[code] / Math.max(1, held.opaque * held.counts[65535]);

export const levelOf = (code) => (code > 65534 ? null : alphaOf(code, held.bound));

/**
 * Show a result; `file`: its input, or null. False if another one was asked for meanwhile.
 *
 * @param {{result: any, name: string, file: Blob | null, settings?: Record<string, string>}} picture
 */
export async function open({ result, name, file, settings = {} }) {
  const mine = ++turn;
  if (!result.links.trust) throw new Error("It was made without a mask, so this page cannot show it.");
  store.set({ isOpening: true });
  try {
    const [image, trust] = await Promise.all([getBlob(result.links.image), getBlob(result.links.trust)]);
    const [decoded, before] = await Promise.all([
      decodeResult(image, trust),
      file ? createImageBitmap(file).catch(() => null) : null,
    ]);
    if (mine !== turn) return false;
    const { bound } = result.guarantee;
    const served = codeOf(result.alpha, bound);
    const { counts } = decoded;
    const opaque = result.opaque_fraction;
    const facts = { image, input: file, counts, bound, opaque, served, isFree: isFree(result) };
    Object.assign(held, facts, { axis: axis(counts, served) });
    const { width, height } = result;
    viewer.canvas.ariaLabel = `${name}, ${done(result)}`;
    viewer.element.querySelector(".divider-side.right").textContent = done(result);
    viewer.show({ width, height, before, input: before, isOpaque: opaque === 1, ...decoded }, { keep: true });
    viewer.read(null);
    viewer.setSpot(null);
    viewer.element.querySelector(".divider-side.left").textContent = "input";
    viewer.canvas.dataset.shown = result.id;
    const isSheetOpen = isWide() && state.isSheetOpen;
    store.set({ shown: { result, name, isOwn: Boolean(file), settings }, isSheetOpen, left: "", spot: null });
    setCode(served);
    return true;
  } finally {
    if (mine === turn) store.set({ isOpening: false });
  }
}

/** Show another result of the same file, or again the input, left of the divider. */
export async function compareWith(picture = null) {
  const mine = turn;
  const { result } = viewer;
  const blob = picture ? await getBlob(picture.result.links.image) : null;
  const before = blob ? await createImageBitmap(blob) : result.input;
  if (mine !== turn || viewer.result !== result) return;
  if (result.before !== result.input) result.before.close();
  result.before = before;
  viewer.element.querySelector(".divider-side.left").textContent = picture
    ? picture.result.upscaler
    : "input";
  store.set({ left: picture?.id ?? "" });
  viewer.request("view");
}

export function leave() {
  turn += 1;
  store.set({ shown: null, isOpening: false, spot: null });
}

export function setCode(code) {
  dial.set({ code });
  viewer.setLimit(code);
}

export function setView(changes) {
  store.set(changes);
  viewer.change(changes);
}

/** Whether the panel is beside the picture, not at its foot. */
export const isWide = () => matchMedia("(min-width: 42.01rem)").matches;

const GAP = 12; // CSS pixels, as in the style sheet

/** Fit the picture into what panel and strip leave free, the divider in its middle. */
export function makeRoom() {
  const [panel] = $$(".panel.open");
  const [strip] = $$(".strip");
  if (isWide()) {
    const right = panel ? panel.offsetWidth + 2 * GAP : 0;
    viewer.viewport.setInset(right, strip ? strip.offsetHeight + 2 * GAP : 0);
  } else {
    const top = panel?.getBoundingClientRect().top ?? Infinity;
    viewer.viewport.setInset(0, Math.max(0, viewer.element.getBoundingClientRect().bottom - top));
  }
  const { middle, screen } = viewer.viewport;
  const share = middle.x / Math.max(1, screen.width);
  if (!viewer.isShareChosen && share !== viewer.share) viewer.setShare(share);
}

export async function setFull(isFull) {
  await (isFull ? document.documentElement.requestFullscreen() : document.exitFullscreen()).catch(() => {});
}
document.addEventListener("fullscreenchange", () => {
  const isFull = Boolean(document.fullscreenElement);
  document.body.classList.toggle("full", isFull);
  store.set({ isSheetOpen: !isFull && isWide() });
});
addEventListener("resize", () => makeRoom());

function showZoom() {
  const { view, density } = viewer.viewport;
  store.set({ zoom: `${Number(((100 * view.scale) / density).toPrecision(3))} %` });
}
