// Pairs with their pictures, as long as the service keeps them.

import { openDialog } from "../lib/dialog.js";
import { count, size } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { toastError } from "../lib/toast.js";
import * as service from "./service.js";
import { scroll } from "./words.js";

const PARTS = [
  ["x", "Small version"],
  ["prediction", "Prediction"],
  ["y", "Original"],
];
const MOST_ROWS = 500;

/** What stands in the place of pictures that are not there. */
export const GONE = html`<p class="hint pictures-gone">
  Pictures of the pairs are not kept: a calibration holds no image, and the files of the job that made it are removed after a while.
</p>`;

/** The three pictures of a pair side by side; a click shows one of them large. */
export function pictures(id, name) {
  const place = document.createElement("div");
  place.className = "pictures";
  render(
    PARTS.map(() => html`<div class="picture waiting"></div>`),
    place,
  );
  load();
  return place;

  async function load() {
    try {
      const urls = await Promise.all(PARTS.map(([part]) => service.picture(id, name, part)));
      render(
        PARTS.map(
          ([, words], k) =>
            html`<figure class="picture">
              <button type="button" aria-label="${words} of ${name}, large" @click=${() => enlarge(name, urls, k)}>
                <img src=${urls[k]} alt="" />
              </button>
              <figcaption>${words}</figcaption>
            </figure>`,
        ),
        place,
      );
    } catch (error) {
      place.className = "";
      render(error.status === 404 ? GONE : html`<p class="callout bad">${error.message}</p>`, place);
    }
  }
}

function enlarge(name, urls, first) {
  const place = document.createElement("div");
  const draw = (chosen) =>
    render(
      html`<div class="segments" role="group" aria-label="Picture">
          ${PARTS.map(([, words], k) => html`<button type="button" aria-pressed=${k === chosen} @click=${() => draw(k)}>${words}</button>`)}
        </div>
        <img class="enlarged" src=${urls[chosen]} alt=${PARTS[chosen][1]} />`,
      place,
    );
  draw(first);
  openDialog({ title: name, body: place, actions: [{ label: "Close", value: null }], wide: true });
}

/** All pairs by name, read when the list is opened. */
export function pairList(found) {
  const place = document.createElement("div");
  const read = async ({ target }) => {
    if (!target.open || place.childElementCount) return;
    render(html`<p class="hint">Reading…</p>`, place);
    try {
      render(table(found, await service.pairs(found.id)), place);
    } catch (error) {
      render(html`<p class="callout bad">${error.message}</p>`, place);
    }
  };
  return html`<details @toggle=${read}><summary>${count(found.pairs)} pairs by name</summary>${place}</details>`;
}

function table(found, pairs) {
  const show = (name) =>
    openDialog({
      title: name,
      body: pictures(found.id, name),
      actions: [{ label: "Close", value: null }],
      wide: true,
    });
  const leave = async (name) => {
    try {
      const made = await service.removePair(found.id, name);
      if (made) location.href = service.page(made);
    } catch (error) {
      toastError(error);
    }
  };
  const button = (label, name, run) =>
    html`<button type="button" class="small quiet" aria-label="${label === "Pictures" ? "Pictures of" : label} ${name}" @click=${() => run(name)}>
      ${label}
    </button>`;
  const head = html`<tr>
    <th scope="col">Name</th>
    <th scope="col">Size of the original</th>
    <th scope="col">Steps</th>
    <th scope="col"><span class="visually-hidden">Act</span></th>
  </tr>`;
  const rows = pairs.slice(0, MOST_ROWS).map(
    ({ name, group, scene, width, height, breakpoints }) =>
      html`<tr>
        <td>
          ${name} ${group ? html`<span class="badge">${group}</span>` : nothing}
          ${scene && scene !== name ? html`<span class="badge">scene ${scene}</span>` : nothing}
        </td>
        <td>${size(width, height)}</td>
        <td>${count(breakpoints)}</td>
        <td class="actions">
          ${found.pictures ? button("Pictures", name, show) : nothing} ${found.pairs > 1 ? button("Leave out", name, leave) : nothing}
        </td>
      </tr>`,
  );
  return html`${scroll("All pairs", head, rows, "short")}
  ${pairs.length > MOST_ROWS ? html`<p class="hint">The first ${MOST_ROWS} of ${count(pairs.length)}.</p>` : nothing}`;
}
