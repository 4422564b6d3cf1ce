// All pictures. The reader's question: which of them need a look? The main action: open one.

import { getBlob } from "../../lib/api.js";
import { percent } from "../../lib/format.js";
import { html, nothing, until } from "../../lib/html.js";
import { button, check, keyed } from "../../lib/widgets.js";
import { saveAll } from "../downloads.js";
import { store } from "../state.js";
import { stateWords } from "../words.js";

const LITTLE = 0.5; // of a picture

/** The least trusted first, unfinished ones last. */
export const sorted = (pictures) =>
  [...pictures].sort((a, b) => (a.result?.trusted_fraction ?? 2) - (b.result?.trusted_fraction ?? 2));

export function wall({ pictures, isLittleOnly }, onPick) {
  const isShown = ({ result }) => !isLittleOnly || (result && result.trusted_fraction < LITTLE);
  const done = pictures.filter(({ state }) => state === "done");
  const tile = (picture) => html`<button type="button" class="wall-tile" @click=${() => onPick(picture)}>
    ${thumbnail(picture)}
    <b>${picture.name}</b><span>${stateWords(picture)}</span>
  </button>`;
  const little = check("little", `Only those of which less than ${percent(LITTLE, 0)} is trusted`);
  return html`<section class="wall" aria-label="All pictures" @change=${({ target }) => store.set({ isLittleOnly: target.checked })}>
    <div class="button-row">
      <h1>All pictures, the least trusted first</h1>
      ${little} ${done.length ? button("Download all", () => saveAll(done)) : nothing} ${button("Back", () => store.set({ isWall: false }))}
    </div>
    <div class="wall-tiles">${keyed(sorted(pictures).filter(isShown), tile)}</div>
  </section>`;
}

/** The picture, tinted where its mask is black; the mask is fetched once. */
function thumbnail(picture) {
  const { state, result, url } = picture;
  if (state === "done" && picture.masked?.of !== result)
    picture.masked = { of: result, tint: tinted(result) };
  return html`<span class="wall-picture"><img src=${url} alt="" />${state === "done" ? until(picture.masked.tint) : nothing}</span>`;
}

async function tinted({ links }) {
  const mask = links.mask && (await getBlob(links.mask, { ask: false }).catch(() => null));
  if (!mask) return nothing;
  return html`<i .style=${`--untrusted: url(${URL.createObjectURL(mask)})`}></i>`;
}
