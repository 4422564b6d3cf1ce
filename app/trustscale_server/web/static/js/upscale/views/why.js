// A spot. The reader's question: what did the model do here? The main action: see it beside what was sent.

import { announce } from "../../lib/dom.js";
import { html, nothing } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { toast } from "../../lib/toast.js";
import { button } from "../../lib/widgets.js";
import { outline } from "../../viewport/viewport.js";
import { leftOutOf, thingAt } from "../left-out.js";
import { dial, held, nextDoubt, reveal, setCode, viewer } from "../stage.js";
import { state, store } from "../state.js";
import { hasPromise } from "../words.js";
import { around, neighbourhood, reason } from "../why.js";

const SIDE = 160; // pixels of the result that a loupe shows
const LARGE = 320; // pixels of its canvas
const TWICE = 2; // how much the difference is strengthened

const NAMES = { face: "A face", text: "Text" };

const isDoubtful = ({ code }) => code > dial.state.code;

function heading(spot) {
  if (spot.thing) return NAMES[spot.thing.kind];
  if (!hasPromise(state.shown.result)) return "Not checked";
  return isDoubtful(spot) ? "The model may have made this up" : "The model added little here";
}

/** Look at a spot {x, y, code, isClear}, or at none (null). */
export function probe(point) {
  const isOpen = Boolean(state.spot);
  viewer.setSpot(null);
  if (!point || !state.shown || point.isClear) {
    store.set({ spot: null });
    if (isOpen) viewer.canvas.focus({ preventScroll: true });
    return;
  }
  const { result } = state.shown;
  const thing = thingAt(leftOutOf(result), point);
  announce(heading({ ...point, thing }));
  const radius = neighbourhood(result) ?? 1;
  viewer.setSpot(point, radius);
  store.set({
    spot: { ...point, thing, why: thing ? thing.why : cause(result, point), loupes: loupes(point, radius) },
  });
  requestAnimationFrame(() => {
    /** @type {HTMLElement | null} */ (document.querySelector(".why"))?.focus({ preventScroll: true });
    reveal();
  });
}

function cause(result, point) {
  const facts = around(viewer.result, point, result.scale);
  if (!facts) return "This page has no copy of what was sent, so it cannot say why.";
  const isText = (result.words ?? []).some((word) =>
    thingAt([{ kind: "text", why: "", box: word.box }], point),
  );
  const isJpeg = Boolean(result.input_class?.name.startsWith("jpeg"));
  return reason(facts, { isText, isJpeg });
}

/** Sent, made, and their difference around a spot, with the ring over which an error is averaged. */
function loupes({ x, y }, radius) {
  const { pictures, soft, width, height } = viewer.result;
  const side = Math.min(SIDE, width, height);
  const zoom = LARGE / side;
  const along = (at, length) => Math.min(Math.max(0, at + 0.5 - side / 2), length - side);
  const [left, top] = [along(x, width), along(y, height)];
  const put = (context, bitmap) => {
    const scale = (width / bitmap.width) * zoom;
    context.imageSmoothingEnabled = bitmap === soft;
    context.drawImage(bitmap, -left * zoom, -top * zoom, bitmap.width * scale, bitmap.height * scale);
  };
  const fresh = (words) => {
    const own = { width: LARGE, height: LARGE, ariaLabel: words, role: "img" };
    const canvas = Object.assign(document.createElement("canvas"), own);
    return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
  };
  /** @type {[string, (context: any) => void][]} */
  const all = [
    soft && ["Sent", (context) => put(context, soft)],
    ["Made", (context) => put(context, pictures[0])],
    soft && ["Difference", (context) => differ(context, put, pictures[0], soft)],
  ];
  return all.filter(Boolean).map(([words, draw]) => {
    const [canvas, context] = fresh(words);
    draw(context);
    const ring = new Path2D();
    ring.arc((x + 0.5 - left) * zoom, (y + 0.5 - top) * zoom, Math.max(8, radius * zoom), 0, 7);
    outline(context, ring);
    return html`<figure>${canvas}<figcaption>${words}</figcaption></figure>`;
  });
}

/** What was added, around a middle grey. */
function differ(context, put, made, soft) {
  put(context, soft);
  const sent = context.getImageData(0, 0, LARGE, LARGE);
  put(context, made);
  const ours = context.getImageData(0, 0, LARGE, LARGE);
  for (let i = 0; i < ours.data.length; i += 1)
    if (i % 4 < 3) ours.data[i] = 128 + TWICE * (ours.data[i] - sent.data[i]);
  context.putImageData(ours, 0, 0);
}

function loosen(code) {
  const before = dial.state.code;
  setCode(code);
  toast("Less strict now, everywhere in the picture.", {
    action: { label: "Undo", run: () => setCode(before) },
  });
}

export function whyCard({ spot, shown }) {
  if (!spot) return nothing;
  const { code, thing, why, loupes: all } = spot;
  const { axis } = held;
  const isAsked = isDoubtful(spot) && hasPromise(shown.result);
  const isReachable = axis && code <= axis.high;
  const accept = button("Loosen until this counts", () => loosen(code), {
    kind: "small",
    title: "As strict as this spot allows",
  });
  const more = held.rings.length > 1 ? button("Next doubt", () => nextDoubt(), { kind: "small" }) : nothing;
  return html`<section class="why" aria-label="Why?" tabindex="-1">
    ${button(icon("close"), () => probe(null), { kind: "quiet icon close", label: "Close" })}
    <div class="loupes">${all}</div>
    <div class="why-words">
      <h2>${heading(spot)}</h2>
      ${isDoubtful(spot) || thing ? html`<p>${why}</p>` : nothing}
      ${isAsked && !thing && !isReachable ? html`<p class="hint">Cannot be relied on at any level.</p>` : nothing}
      <div class="button-row">${isAsked && isReachable ? accept : nothing} ${more}</div>
    </div>
  </section>`;
}
