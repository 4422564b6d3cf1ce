// A spot of the picture: why is it trusted, or not?

import { html, nothing } from "../../lib/html.js";
import { button, items } from "../../lib/widgets.js";
import { outline } from "../../viewport/viewport.js";
import { dial, held, isVoid, levelOf, setCode, viewer } from "../stage.js";
import { state, store } from "../state.js";
import { conspicuous, neighbourhood, reasons } from "../why.js";
import { shown } from "../words.js";

const SIDE = 24; // pixels of the result that the loupe shows
const LARGE = 132; // as wide as it shows them

/** Look at a spot {x, y, code, isClear}, or at none (null). */
export function probe(found) {
  viewer.setSpot(null);
  if (!found || !state.shown || found.isClear) return store.set({ spot: null });
  const { result } = state.shown;
  const why = reasons(conspicuous(viewer.result, found, held.served), result);
  const radius = neighbourhood(result) ?? 1;
  viewer.setSpot(found, radius);
  store.set({ spot: { ...found, why, loupes: loupes(found, radius) } });
}

/** The input's pixels and the result around a spot, with the ring over which an error is averaged. */
function loupes({ x, y }, radius) {
  const { pictures, input, width } = viewer.result;
  const [left, top] = [x - SIDE / 2, y - SIDE / 2];
  const draw = ([bitmap, words]) => {
    const own = { width: LARGE, height: LARGE, ariaLabel: words, role: "img" };
    const canvas = Object.assign(document.createElement("canvas"), own);
    const context = canvas.getContext("2d");
    const [scale, zoom] = [width / bitmap.width, LARGE / SIDE];
    context.imageSmoothingEnabled = false;
    const [w, h] = [bitmap.width, bitmap.height].map((side) => side * scale * zoom);
    context.drawImage(bitmap, -left * zoom, -top * zoom, w, h);
    const ring = new Path2D();
    ring.arc(LARGE / 2, LARGE / 2, radius * zoom, 0, 7);
    outline(context, ring);
    return html`<figure>${canvas}<figcaption>${words}</figcaption></figure>`;
  };
  const all = [input && [input, "Your pixels"], [pictures[0], "The result"]];
  return all.filter(Boolean).map(draw);
}

export function whyCard({ spot }) {
  if (!spot) return nothing;
  const { code, why, loupes: both } = spot;
  const least = levelOf(code);
  const isTrusted = code <= dial.state.code;
  const from =
    least === null
      ? "No accepted error makes it trusted."
      : `It is trusted from an accepted error of ${shown(least)}; you accept ${shown(levelOf(dial.state.code))}.`;
  const accept = button(`Accept ${shown(least ?? 0)}`, () => setCode(code), { kind: "small" });
  return html`<section class="why card" aria-label="Why not here?" tabindex="-1">
    <h2>${isTrusted ? (isVoid() ? "Would be marked here" : "Trusted here") : "Why not here?"}</h2>
    ${button("×", () => probe(null), { kind: "quiet icon", label: "Close" })}
    <div class="loupes">${both}</div>
    <p>${from} ${isTrusted || least === null ? nothing : accept}</p>
    ${isTrusted ? nothing : items(why)}
    <p class="hint">The ring: errors are averaged over it.</p>
  </section>`;
}
