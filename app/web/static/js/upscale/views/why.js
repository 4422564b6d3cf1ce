// A spot of the picture: why is it trusted, or not? A callout at the spot.

import { announce } from "../../lib/dom.js";
import { html, nothing } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { button } from "../../lib/widgets.js";
import { outline } from "../../viewport/viewport.js";
import { dial, held, nextDoubt, setCode, viewer } from "../stage.js";
import { state, store } from "../state.js";
import { conspicuous, neighbourhood, reason } from "../why.js";

const SIDE = 32; // pixels of the result that the loupe shows
const LARGE = 128; // as wide as it shows them

const heading = ({ code }) => (code <= dial.state.code ? "Trusted here" : "The model may have made this up");

/** Look at a spot {x, y, code, isClear}, or at none (null). */
export function probe(found) {
  viewer.setSpot(null);
  if (!found || !state.shown || found.isClear) return store.set({ spot: null });
  announce(heading(found));
  const { result } = state.shown;
  const why = reason(conspicuous(viewer.result, found, held.served), result);
  const radius = neighbourhood(result) ?? 1;
  viewer.setSpot(found, radius);
  store.set({ spot: { ...found, why, loupes: loupes(found, radius) } });
}

/** What was sent and what the model made of it, around a spot, with the ring over which an error is averaged. */
function loupes({ x, y }, radius) {
  const { pictures, soft, width } = viewer.result;
  const [left, top] = [x - SIDE / 2, y - SIDE / 2];
  const draw = ([bitmap, words]) => {
    const own = { width: LARGE, height: LARGE, ariaLabel: words, role: "img" };
    const canvas = Object.assign(document.createElement("canvas"), own);
    const context = canvas.getContext("2d");
    const [scale, zoom] = [width / bitmap.width, LARGE / SIDE];
    context.imageSmoothingEnabled = bitmap === soft;
    const [w, h] = [bitmap.width, bitmap.height].map((side) => side * scale * zoom);
    context.drawImage(bitmap, -left * zoom, -top * zoom, w, h);
    const ring = new Path2D();
    ring.arc(LARGE / 2, LARGE / 2, radius * zoom, 0, 7);
    outline(context, ring);
    return html`<figure>${canvas}<figcaption>${words}</figcaption></figure>`;
  };
  const all = [soft && [soft, "You sent"], [pictures[0], "The model made"]];
  return all.filter(Boolean).map(draw);
}

export function whyCard({ spot }) {
  if (!spot) return nothing;
  const { code, why, loupes: both } = spot;
  const { axis } = held;
  const isTrusted = code <= dial.state.code;
  const isReachable = axis && code <= axis.high;
  const accept = button("Trust this, too", () => setCode(code), {
    kind: "small",
    title: "As strict as this spot allows",
  });
  return html`<section class="why" aria-label="Why?" tabindex="-1">
    ${button(icon("close"), () => probe(null), { kind: "quiet icon close", label: "Close" })}
    <h2>${heading(spot)}</h2>
    <div class="loupes">${both}</div>
    <p>${isTrusted ? "Nothing here stands out." : why}</p>
    ${isTrusted || isReachable ? nothing : html`<p class="hint">Cannot be trusted at any level.</p>`}
    <div class="button-row">
      ${!isTrusted && isReachable ? accept : nothing} ${button("Next doubt", () => nextDoubt(), { kind: "small" })}
    </div>
  </section>`;
}
