// All pictures at once. Its question: which of them need a look? Its one thing to do: open one.

import { getBlob } from "../../lib/api.js";
import { percent } from "../../lib/format.js";
import { html, nothing, until } from "../../lib/html.js";
import { button, check, keyed } from "../../lib/widgets.js";
import { saveAll } from "../downloads.js";
import { store } from "../state.js";
import { stateWords } from "../words.js";

const SIDE = 260; // pixels of a thumbnail
const LITTLE = 0.5; // of a picture
const TINT = [224, 0, 140];

/** Those that are done, the least trusted first, then those that are not. */
export const sorted = (pictures) =>
  [...pictures].sort((a, b) => (a.result?.trusted_fraction ?? 2) - (b.result?.trusted_fraction ?? 2));

export function wall({ pictures, isLittleOnly }, onPick) {
  const isShown = ({ result }) => !isLittleOnly || (result && result.trusted_fraction < LITTLE);
  const done = pictures.filter(({ state }) => state === "done");
  const tile = (picture) => html`<button type="button" class="wall-tile" @click=${() => onPick(picture)}>
    ${until(thumbnail(picture), html`<span class="wall-wait"></span>`)}
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

/** The picture in small, tinted where it is not trusted; made once. */
function thumbnail(picture) {
  const { state, result } = picture;
  if (state !== "done" || picture.thumbnail?.of !== result)
    picture.thumbnail = { of: result, made: drawn(picture) };
  return picture.thumbnail.made;
}

async function drawn({ url, state, result }) {
  const image = Object.assign(new Image(), { src: url, alt: "" });
  if (
    !(await image.decode().then(
      () => true,
      () => false,
    ))
  )
    return nothing;
  const scale = SIDE / Math.max(image.naturalWidth, image.naturalHeight);
  const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) =>
    Math.max(1, Math.round(side * scale)),
  );
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (state === "done" && result.links.mask) {
    const blob = await getBlob(result.links.mask, { ask: false }).catch(() => null);
    const mask = blob && (await createImageBitmap(blob, { resizeWidth: width, resizeHeight: height }));
    if (mask) context.drawImage(mask, 0, 0);
  }
  const trusted = context.getImageData(0, 0, width, height).data;
  context.drawImage(image, 0, 0, width, height);
  if (state !== "done") return canvas;
  const shown = context.getImageData(0, 0, width, height);
  for (let i = 0; i < trusted.length; i += 4) {
    const share = 0.6 * (1 - trusted[i] / 255);
    for (let c = 0; c < 3; c += 1) shown.data[i + c] = (1 - share) * shown.data[i + c] + share * TINT[c];
  }
  context.putImageData(shown, 0, 0);
  return canvas;
}
