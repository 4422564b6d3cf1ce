// While a calibration is measured: what the model has rewritten most so far.

import { ADMIN, getBlob, getJson } from "../lib/api.js";
import { html, render } from "../lib/html.js";
import { pause } from "../lib/jobs.js";
import * as service from "./service.js";
import { beside, crop } from "./wizard.js";

const EVERY_MS = 3000;
const SHOWN = 3;

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
      const example = await compared(id, name).catch(() => null); // its pictures may be gone already
      if (!example) continue;
      worst = [...worst, { name, ...example }].sort((a, b) => b.badness - a.badness).slice(0, SHOWN);
      render(html`<h2>What the model has rewritten most so far</h2>${beside(worst)}`, place);
    }
    await pause(EVERY_MS);
  }
}

async function compared(id, name) {
  const path = (part) => service.path(id, "pairs", name, part);
  const { box, badness } = await getJson(path("worst"), ADMIN);
  const bitmap = async (part) => createImageBitmap(await getBlob(path(`${part}.png`), ADMIN));
  const [truth, prediction] = await Promise.all([bitmap("y"), bitmap("prediction")]);
  return {
    badness,
    sides: [
      [crop(prediction, box), "It made"],
      [crop(truth, box), "It was"],
    ],
  };
}
