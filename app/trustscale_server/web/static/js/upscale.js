// The page that upscales: pictures wait in a strip and are shown one at a time. The address names the picture, so that
// reloading, links and the back button work.

import { request } from "./lib/api.js";
import { $$, announce, onKey } from "./lib/dom.js";
import { html, nothing, render } from "./lib/html.js";
import { at } from "./lib/place.js";
import { root } from "./lib/shell.js";
import { toastError } from "./lib/toast.js";
import * as intake from "./upscale/intake.js";
import * as print from "./upscale/print.js";
import * as queue from "./upscale/queue.js";
import * as stage from "./upscale/stage.js";
import { pages, selectedOf, state, store } from "./upscale/state.js";
import { first } from "./upscale/views/first.js";
import { opening, picked, result, viewsOf } from "./upscale/views/result.js";
import { strip } from "./upscale/views/strip.js";
import { wall } from "./upscale/views/wall.js";
import { probe } from "./upscale/views/why.js";

const { viewer } = stage;

function page(now) {
  const picture = selectedOf(now);
  const isFirst = !now.isWall && !picture && !now.lost && !now.shown && !now.isOpening;
  const { classList } = document.body;
  classList.toggle("working", !isFirst && !now.lost);
  classList.toggle("walled", now.isWall);
  document.title = `${now.isWall ? "All pictures" : (picture?.name ?? now.shown?.name ?? "Upscale")} · Trustscale`;
  return html`${screen(now, picture)} ${now.isDropping ? html`<div class="drop-veil">Drop to upscale</div>` : nothing}`;
}

function screen(now, picture) {
  const pick = (one) => select(one);
  if (now.isWall) return wall(now, pick);
  if (picture) return html`${picked(picture, now)} ${strip(now, pick)}`;
  if (now.lost) return lost(now.lost);
  if (now.shown) return result(now);
  return now.isOpening ? opening(null) : first(now, pick);
}

viewer.onPick = probe;
stage.dial.watch(() => state.spot && store.notify());
store.watch((now) => render(page(now), root));
store.watch(() => requestAnimationFrame(stage.makeRoom));

pages.open = (path) => {
  history.pushState(null, "", path);
  follow(null);
  scrollTo(0, 0);
};

/** `push`: as a step of the history. */
function select(picture, { push = true } = {}) {
  store.set({ selected: picture.id, lost: null, isWall: false });
  if (picture.state === "done") openPicture(picture);
  else stage.leave();
  if (push) enter(picture);
}

function enter(picture, act = "pushState") {
  history[act]({ id: picture.id }, "", picture.state === "done" ? at(`r/${picture.result.id}`) : at());
}

async function openPicture(picture) {
  try {
    await stage.open(picture);
  } catch (error) {
    if (error.status === 404) {
      picture.state = "expired";
      stage.leave();
    } else toastError(error);
  }
}

intake.events.onFiles = (files, settings) => {
  const [one, ...more] = queue.add(files, settings);
  if (more.length) return pages.open(at("wall"));
  select(one);
  // The focused element may be gone.
  requestAnimationFrame(() => $$(".item.selected .item-open")[0]?.focus());
};

queue.events.onEnded = (picture) => {
  if (state.selected !== picture.id || picture.state !== "done") return;
  enter(picture, "replaceState");
  openPicture(picture);
};

/** The selected picture was removed or replaced. */
queue.events.onGone = () => {
  const next = selectedOf(state);
  if (next) {
    select(next, { push: false });
    enter(next, "replaceState");
  } else {
    stage.leave();
    history.replaceState(null, "", at());
  }
};

/** A linked result that cannot be shown. */
function lost({ title, text, id, again }) {
  return html`<div class="callout warn result-lost" role="alert">
    <h1>${title}</h1>
    <p>${text}</p>
    <p class="hint">${id}</p>
    <p class="button-row">
      ${again ? html`<button type="button" @click=${again}>Try again</button>` : nothing}
      <a class="button" href=${at()}>Upscale a picture</a>
    </p>
  </div>`;
}

/** /r/ID or /?result=ID. */
const idNamed = () =>
  /\/r\/([\w-]+)$/.exec(location.pathname)?.[1] ?? new URLSearchParams(location.search).get("result");

async function follow(step) {
  const id = idNamed();
  const { pictures } = state;
  const isWall = location.pathname === at("wall");
  store.set({ isWall });
  const own =
    pictures.find((one) => one.id === step?.id) ?? pictures.find((one) => id && one.result?.id === id);
  if (own && !isWall) return select(own, { push: false });
  store.set({ selected: null, lost: null });
  if (id && !isWall) return openLinked(id);
  stage.leave();
}

async function openLinked(id) {
  store.set({ isOpening: true });
  try {
    const answer = await request(at(`v1/results/${encodeURIComponent(id)}?detail=full`));
    const result = await answer.json();
    const sunset = answer.headers.get("Sunset");
    const expires = sunset ? new Date(sunset) : undefined;
    const shared = { result, name: result.shared_as ?? "Shared result", file: null, expires };
    const isShown = await stage.open(shared);
    if (isShown) announce("The result is shown.");
  } catch (error) {
    const gone = error.status === 404;
    const text = gone
      ? "It has expired or never existed: the service keeps results for a limited time. Upscale the picture again; with the same seed and pipeline it gives the same result."
      : error.message;
    const title = gone ? "The result is gone" : "The result cannot be shown";
    store.set({ isOpening: false, lost: { title, text, id, again: gone ? null : () => follow(null) } });
  }
}

function neighbour(step) {
  const next = state.pictures[state.pictures.findIndex(({ id }) => id === state.selected) + step];
  if (next) select(next);
  return Boolean(next);
}

stage.events.onSwipe = neighbour;

onKey((key, event) => {
  if (event.ctrlKey || event.metaKey) return false;
  if (key === "Escape") {
    if (state.spot) probe(null);
    else if (state.isDrawer) store.set({ isDrawer: false });
    else return false;
    return true;
  }
  if (state.isWall || (!state.shown && !state.selected)) return false;
  const target = /** @type {HTMLElement} */ (event.target);
  const isCanvas = target === viewer.canvas;
  // The sliders use the arrows themselves.
  if (key.startsWith("Arrow") && target.closest("[type=range]")) return false;
  const acts = {
    v: () => {
      const views = viewsOf(state.shown.result).map(([view]) => view);
      stage.setView({ view: views[(views.indexOf(state.view) + 1) % views.length] });
    },
    n: () => stage.nextDoubt(),
    c: () => viewer.result?.soft && stage.setView({ compares: !state.compares }),
    i: () => store.set({ isDrawer: !state.isDrawer }),
    f: () => stage.setFull(!document.fullscreenElement),
    h: () => viewer.change({ isRevealed: true }),
  };
  if (state.shown && acts[key]) return (acts[key](), true);
  if (key === "Enter" && isCanvas) return (probe(viewer.at(viewer.viewport.middle)), true);
  if ((isCanvas || !key.startsWith("Arrow")) && viewer.viewport.key(event)) return true;
  if (key === "ArrowLeft") return neighbour(-1);
  return key === "ArrowRight" && neighbour(1);
});
addEventListener("keyup", ({ key }) => key.toLowerCase() === "h" && viewer.change({ isRevealed: false }));

const REST_MS = 3500;
let resting = undefined;

/** What lies over the picture fades while nobody moves. */
function awake() {
  document.body.classList.remove("resting");
  clearTimeout(resting);
  resting = setTimeout(() => document.body.classList.add("resting"), REST_MS);
}
for (const name of ["pointermove", "pointerdown", "keydown", "focusin"]) addEventListener(name, awake);

addEventListener("popstate", (event) => follow(event.state));
addEventListener("beforeunload", (event) => queue.isSending() && event.preventDefault());

// Nobody who follows a link wants the start page first.
if (idNamed()) store.set({ isOpening: true });
store.set({ isWall: location.pathname === at("wall") });
intake.listen();
print.listen();
intake.load();
queue
  .restore()
  .then(() => follow(history.state))
  .finally(() => (document.documentElement.dataset.ready = "true"));
