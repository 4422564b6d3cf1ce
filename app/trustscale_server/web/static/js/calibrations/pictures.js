// Pairs with their pictures, as long as the service keeps them.

import { html, until } from "../lib/html.js";
import { failed, hint } from "../lib/widgets.js";
import * as service from "./service.js";

const PARTS = Object.entries({ x: "Small version", prediction: "Prediction", y: "Original" });

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
      <a href=${urls[k]} target="_blank" aria-label="${words} of ${name}, large"><img src=${urls[k]} alt="" /></a>
      <figcaption>${words}</figcaption>
    </figure>`;
  return PARTS.map(picture);
}
