// All pictures. The reader's question: which of them need a look? The main action: open one.

import { getBlob } from "../../lib/api.js";
import { $$, transition } from "../../lib/dom.js";
import { html, nothing } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { at } from "../../lib/place.js";
import { button, keyed } from "../../lib/widgets.js";
import { saveAll } from "../downloads.js";
import { leftOutOf } from "../left-out.js";
import { drawWhole, masked } from "../masked.js";
import { remove } from "../queue.js";
import { isEnded, modelOf, store } from "../state.js";
import { alertsOf, hasPromise, leastRealFirst, stateWords } from "../words.js";
import { files, link, tally } from "./strip.js";

const LITTLE = 0.5; // of a picture
const SIDE = 320; // pixels of a picture's longer side here
const HEIGHT = 200; // CSS pixels of a row

const isDone = ({ state }) => state === "done";
/** As the calibration decides about the whole picture; if it does not, where little is trusted. */
const isDoubtful = (picture) =>
  isDone(picture) &&
  (picture.result.review
    ? picture.result.review.needs_review
    : picture.result.trusted_fraction < LITTLE || alertsOf(picture.result).lines.length > 0);

/** What the wall can be narrowed to: [name, words, test], as far as there are such pictures. */
export function chips(now) {
  const models = [...new Set(now.pictures.filter(isDone).map(({ result }) => result.upscaler))];
  const all = [
    ["look", "Needs a look", isDoubtful],
    [
      "faces",
      "With faces",
      (picture) => isDone(picture) && leftOutOf(picture.result).some(({ kind }) => kind === "face"),
    ],
    [
      "text",
      "With text",
      (picture) => isDone(picture) && leftOutOf(picture.result).some(({ kind }) => kind === "text"),
    ],
    ["failed", "Failed", ({ state }) => state === "failed"],
    ["promise", "No promise", (picture) => isDone(picture) && !hasPromise(picture.result)],
    ...(models.length > 1 ? models : []).map((name) => [
      name,
      modelOf(now, name),
      (picture) => isDone(picture) && picture.result.upscaler === name,
    ]),
  ];
  return all
    .map(([name, words, test]) => [name, words, test, now.pictures.filter(test).length])
    .filter(([, , , count]) => count);
}

export function wall(now, onPick) {
  const { pictures, filters, chosen } = now;
  const all = chips(now);
  const active = all.filter(([name]) => filters.has(name));
  const visible = leastRealFirst(pictures).filter((picture) => active.every(([, , test]) => test(picture)));
  const picked = pictures.filter(({ id }) => chosen.has(id));
  const these = picked.length ? picked : visible;
  const done = these.filter(isDone);
  const ended = these.filter(isEnded);
  const toggle = (set, item) => {
    if (!set.delete(item)) set.add(item);
    store.notify();
  };
  const open = ({ currentTarget }, picture) => {
    currentTarget.querySelector(".wall-picture").style.viewTransitionName = "picture"; // it grows into the stage
    transition(() => onPick(picture));
  };
  const filter = ([name, words, , count]) =>
    button(html`${words} <small>${count}</small>`, () => toggle(filters, name), {
      kind: "chip",
      pressed: filters.has(name),
    });
  const tile = (
    picture,
  ) => html`<li class="tile-of" .style=${`--shape: ${picture.shape ?? 1}`} data-state=${picture.state}>
    <button type="button" class="wall-tile" aria-label="${picture.name}: ${stateWords(picture)}" @click=${(event) => open(event, picture)}>
      ${thumbnail(picture)}
      <span class="wall-words"><b>${picture.name}</b> ${stateWords(picture)}</span>
    </button>
    <label class="choose"><input type="checkbox" aria-label="Choose ${picture.name}" .checked=${chosen.has(picture.id)} @change=${() => toggle(chosen, picture.id)} /></label>
  </li>`;
  return html`<section class="wall" aria-label="All pictures" @keydown=${arrows}>
    <header class="bar">
      ${link(at(), icon("back"), { label: "Back to the start" })}
      <h1>All pictures</h1>
      <span class="hint" id="tally">${tally(pictures)}</span>
      <label class="button quiet" id="drop">${files("files")}${icon("more")}<span class="wide">Add</span></label>
      ${ended.length ? button(picked.length ? `Remove ${ended.length}` : "Clear done", () => clear(ended), { kind: "quiet" }) : nothing}
      ${done.length ? button(html`${icon("download")}<span class="wide">${picked.length ? `Download ${done.length}` : "Download all"}</span>`, () => saveAll(done), { id: "download", kind: "primary", label: picked.length ? `Download ${done.length}` : "Download all" }) : nothing}
    </header>
    ${all.length ? html`<div class="chips" role="group" aria-label="Show only">${all.map(filter)}</div>` : nothing}
    <ul class="wall-tiles" .style=${`--row: ${HEIGHT}px`}>${keyed(visible, tile)}</ul>
    ${pictures.length ? nothing : html`<p class="busy-first">No pictures yet. ${link(at(), "Choose some.", { kind: "" })}</p>`}
  </section>`;
}

function clear(ended) {
  store.set({ chosen: new Set() });
  remove(ended);
}

/** The arrow keys go from tile to tile, up and down to the nearest. */
function arrows(event) {
  const tiles = [...$$(".wall-tile")];
  const at = tiles.indexOf(document.activeElement);
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (at < 0 || !(step || way)) return;
  event.preventDefault();
  event.stopPropagation();
  if (step) return tiles[at + step]?.focus();
  const middle = (element) => {
    const { left, right, top } = element.getBoundingClientRect();
    return { x: (left + right) / 2, y: top };
  };
  const from = middle(tiles[at]);
  const beyond = tiles.map((tile) => ({ tile, ...middle(tile) })).filter(({ y }) => (y - from.y) * way > 1);
  const row = Math.min(...beyond.map(({ y }) => Math.abs(y - from.y)));
  const near = beyond.filter(({ y }) => Math.abs(y - from.y) < row + 1);
  near.sort((a, b) => Math.abs(a.x - from.x) - Math.abs(b.x - from.x))[0]?.tile.focus();
}

/** The picture with its marking; its mask is fetched once. */
function thumbnail(picture) {
  const { result, url } = picture;
  if (isDone(picture) && picture.marked?.of !== result) {
    picture.marked = { of: result, canvas: document.createElement("canvas") };
    draw(picture).catch(() => {}); // then the picture alone is shown
  }
  const loaded = ({ target }) => {
    picture.shape = target.naturalWidth / target.naturalHeight;
    target.closest("li").style.setProperty("--shape", String(picture.shape));
  };
  const broken = ({ target }) => target.classList.add("broken");
  return html`<span class="wall-picture"><img src=${url} alt="" @load=${loaded} @error=${broken} />${isDone(picture) ? picture.marked.canvas : nothing}</span>`;
}

async function draw({ file, result, marked }) {
  const { links, width, height } = result;
  if (!links.mask) return;
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const small = { resizeWidth: Math.round(width * scale), resizeHeight: Math.round(height * scale) };
  const blob = await getBlob(links.mask, { ask: false });
  const mask = await createImageBitmap(blob, { ...small, resizeQuality: "medium" });
  const picture = await createImageBitmap(file, small);
  drawWhole(marked.canvas, masked(mask, picture), small.resizeWidth);
}
