// While a calibration is measured: the photographs that the model has got most wrong so far.

import { ADMIN, getBlob } from "../lib/api.js";
import { html, render } from "../lib/html.js";
import { pause } from "../lib/jobs.js";
import * as service from "./service.js";
import { beside } from "./wizard.js";

const EVERY_MS = 3000;
const SHOWN = 3;
const SIDE = 256; // pixels that two pictures are compared at
const BLOCK = 8;

/** Look at each photograph once, in one of its ways, until the job has ended. */
export async function watchWorst(id, place, isEnded) {
  const seen = new Set();
  let worst = [];
  while (!isEnded()) {
    const pairs = await service.pairs(id).catch(() => []);
    for (const { name, state } of pairs) {
      const source = name.split("~")[0];
      if (state === "queued" || seen.has(source)) continue;
      seen.add(source);
      const found = await compared(id, name).catch(() => null); // its pictures may be gone already
      if (!found) continue;
      worst = [...worst, { name, ...found }].sort((a, b) => b.error - a.error).slice(0, SHOWN);
      render(html`<h2>Where the model is most wrong so far</h2>${beside(worst)}`, place);
    }
    await pause(EVERY_MS);
  }
}

async function compared(id, name) {
  const bitmap = async (part) =>
    createImageBitmap(await getBlob(service.path(id, "pairs", name, `${part}.png`), ADMIN));
  const bitmaps = await Promise.all([bitmap("y"), bitmap("prediction")]);
  const scale = Math.min(1, SIDE / Math.max(bitmaps[0].width, bitmaps[0].height));
  const [width, height] = [bitmaps[0].width, bitmaps[0].height].map((side) => Math.round(side * scale));
  const [truth, made] = bitmaps.map((one) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(one, 0, 0, width, height);
    return canvas;
  });
  // The largest difference of blocks, in grey levels.
  const small = new OffscreenCanvas(Math.ceil(width / BLOCK), Math.ceil(height / BLOCK));
  const blocks = small.getContext("2d", { willReadFrequently: true });
  const seen = [truth, made].map((one) => {
    blocks.drawImage(one, 0, 0, width / BLOCK, height / BLOCK);
    return blocks.getImageData(0, 0, small.width, small.height).data;
  });
  const error = seen[0].reduce((most, value, k) => Math.max(most, Math.abs(value - seen[1][k])), 0);
  return {
    error,
    sides: [
      [made, "The model made"],
      [truth, "The truth"],
    ],
  };
}
