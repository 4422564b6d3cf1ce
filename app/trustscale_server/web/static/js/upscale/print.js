// A result on paper: the picture with its gravest doubts, and what is promised. Made when the browser begins to print.

import { html, nothing, render } from "../lib/html.js";
import { drawRings } from "./doubts.js";
import { CpuPainter } from "./paint.js";
import { alphaNow, dial, held, isMoved, shareAt, viewer } from "./stage.js";
import { modelOf, state } from "./state.js";
import { hasPromise, promise, reliedOn } from "./words.js";

const LONGEST = 2000; // pixels of the printed picture

const sheet = Object.assign(document.createElement("section"), { className: "print-sheet" });

function draw() {
  const { result: layer } = viewer;
  if (!state.shown || !layer) return render(nothing, sheet);
  const { result, name } = state.shown;
  const scale = LONGEST / Math.max(layer.width, layer.height);
  const screen = { width: Math.round(layer.width * scale), height: Math.round(layer.height * scale) };
  const canvas = Object.assign(document.createElement("canvas"), screen);
  const view = { scale, x: 0, y: 0 };
  const density = LONGEST / 700; // of what a page is wide, in CSS pixels
  const mode = viewer.mode === "plain" ? "checked" : viewer.mode;
  new CpuPainter(canvas).draw({
    view,
    screen,
    density,
    parts: [{ layer, mode, left: 0, right: screen.width }],
  });
  if (mode === "checked") drawRings(canvas.getContext("2d"), held.rings, view, density);
  const { text, error } = promise(result, alphaNow(), isMoved());
  const share = hasPromise(result) ? `${reliedOn(shareAt(dial.state.code), result)}.` : "Not checked.";
  const steps = error === null ? "" : `: ${Math.round(error)} of 100 steps of lightness`;
  render(
    html`<h1>${name}</h1>
      ${canvas}
      <p><b>${result.added?.held != null ? result.added.plain : share}</b> ${text}${steps}.</p>
      <p>${held.rings.length ? "Ringed: the gravest doubts. " : ""}Made by ${modelOf(state, result.upscaler)}; result ${result.id}.</p>`,
    sheet,
  );
}

export function listen() {
  document.body.append(sheet);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", () => render(nothing, sheet));
}
