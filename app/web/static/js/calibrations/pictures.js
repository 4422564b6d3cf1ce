// Pairs with their pictures, as long as the service keeps them.

import { openDialog } from "../lib/dialog.js";
import { count, size } from "../lib/format.js";
import { html, nothing, render, until } from "../lib/html.js";
import { guarded } from "../lib/toast.js";
import { button, failed, hint, later, segments, table } from "../lib/widgets.js";
import * as service from "./service.js";

const PARTS = Object.entries({ x: "Small version", prediction: "Prediction", y: "Original" });
const MOST_ROWS = 500;

export const GONE = hint(
  "Pictures of the pairs are not kept: a calibration holds no image, and the files of the job that made it are removed after a while.",
);

export function pictures(id, name) {
  const waiting = PARTS.map(() => html`<div class="picture waiting"></div>`);
  const shown = seen(id, name).catch((error) => (error.status === 404 ? GONE : failed(error)));
  return html`<div class="pictures">${until(shown, waiting)}</div>`;
}

async function seen(id, name) {
  const urls = await Promise.all(PARTS.map(([part]) => service.picture(id, name, part)));
  const picture = ([, words], k) =>
    html`<figure class="picture">
      <button type="button" aria-label="${words} of ${name}, large" @click=${() => enlarge(name, urls, k)}>
        <img src=${urls[k]} alt="" />
      </button>
      <figcaption>${words}</figcaption>
    </figure>`;
  return PARTS.map(picture);
}

function enlarge(name, urls, first) {
  const place = document.createElement("div");
  const names = PARTS.map(([, words], k) => [k, words]);
  const draw = (chosen) =>
    render(
      html`${segments("Picture", names, chosen, draw)}
        <img class="enlarged" src=${urls[chosen]} alt=${PARTS[chosen][1]} />`,
      place,
    );
  draw(first);
  openDialog({ title: name, body: place, wide: true });
}

export function pairList(found) {
  const place = document.createElement("div");
  const read = ({ target }) => {
    if (!target.open || place.childElementCount) return;
    const list = service.pairs(found.id).then((pairs) => listed(found, pairs));
    render(later(list, "Reading…"), place);
  };
  return html`<details @toggle=${read}><summary>${count(found.pairs)} pairs by name</summary>${place}</details>`;
}

function listed(found, pairs) {
  const show = (name) => openDialog({ title: name, body: pictures(found.id, name), wide: true });
  const leave = (name) =>
    guarded(async () => {
      const made = await service.removePair(found.id, name);
      if (made) location.href = service.page(made);
    });
  const act = (words, label, run) => button(words, run, { kind: "small quiet", label });
  const badge = (words) => (words ? html` <span class="badge">${words}</span>` : nothing);
  const row = ({ name, group, scene, width, height, spots }) => [
    html`${name}${badge(group)}${badge(scene && scene !== name && `scene ${scene}`)}`,
    size(width, height),
    count(spots),
    html`${found.pictures ? act("Pictures", `Pictures of ${name}`, () => show(name)) : nothing}
    ${found.pairs > 1 ? act("Leave out", `Leave out ${name}`, () => leave(name)) : nothing}`,
  ];
  const rows = pairs.slice(0, MOST_ROWS).map(row);
  const silent = [html`<span class="visually-hidden">Act</span>`, "actions"];
  return html`${table("All pairs", ["Name", "Size of the original", "Spots", silent], rows, "short")}
  ${pairs.length > MOST_ROWS ? hint(`The first ${MOST_ROWS} of ${count(pairs.length)}.`) : nothing}`;
}
