// Hands on the viewer: pointer, wheel, pinch, keys, toolbar and the divider.

import { $, $$, announce } from "../lib/dom.js";
import { LOOKS } from "./paint.js";

const KEY_STEP = 60; // CSS pixels
const WHEEL_RATE = 0.0016;

/**
 * Connect the elements of the page to a viewer.
 *
 * onRead(found) is called with what lies under the pointer, or null; describe(found) puts it in
 * words for screen readers.
 */
export function connect(viewer, { onRead, describe }) {
  const { canvas } = viewer;
  const divider = $("#divider");
  const compare = $("#compare");

  const ready = (act) => (event) => viewer.result && act(event);
  const position = (event) => {
    const box = canvas.getBoundingClientRect();
    const d = viewer.density;
    return { x: (event.clientX - box.left) * d, y: (event.clientY - box.top) * d };
  };

  usePointers(viewer, position, onRead);
  canvas.addEventListener(
    "wheel",
    ready((event) => {
      event.preventDefault();
      const { x, y } = position(event);
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      viewer.zoom(Math.exp(-event.deltaY * lines * WHEEL_RATE), x, y);
    }),
    { passive: false },
  );
  canvas.addEventListener("dblclick", ready((event) => {
    const { x, y } = position(event);
    viewer.zoom(event.shiftKey ? 0.5 : 2, x, y);
  }));
  canvas.addEventListener("keydown", ready((event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }));

  const step = () => KEY_STEP * viewer.density;
  const keys = {
    ArrowLeft: () => viewer.pan(step(), 0),
    ArrowRight: () => viewer.pan(-step(), 0),
    ArrowUp: () => viewer.pan(0, step()),
    ArrowDown: () => viewer.pan(0, -step()),
    "+": () => viewer.zoom(1.25),
    "=": () => viewer.zoom(1.25),
    "-": () => viewer.zoom(0.8),
    0: () => viewer.fit(),
    1: () => viewer.zoomTo(viewer.density),
    o: () => setLook(LOOKS[(LOOKS.indexOf(viewer.look) + 1) % LOOKS.length]),
    c: () => !compare.disabled && compare.click(),
    Enter: () => {
      const found = viewer.at(canvas.width / 2, canvas.height / 2);
      onRead(found);
      announce(describe(found));
    },
  };

  $("#zoom-in").addEventListener("click", ready(() => viewer.zoom(1.5)));
  $("#zoom-out").addEventListener("click", ready(() => viewer.zoom(1 / 1.5)));
  $("#zoom-fit").addEventListener("click", ready(() => viewer.fit()));
  $("#zoom-one").addEventListener("click", ready(() => viewer.zoomTo(viewer.density)));

  function setLook(look) {
    for (const button of $$("#looks button")) {
      button.setAttribute("aria-pressed", String(button.dataset.look === look));
    }
    viewer.setLook(look);
  }
  for (const button of $$("#looks button")) {
    button.addEventListener("click", () => setLook(button.dataset.look));
  }

  function setDivider(share) {
    const kept = Math.min(Math.max(share, 0), 1);
    divider.style.left = `${100 * kept}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * kept)));
    viewer.setDivider(divider.hidden ? 0 : kept);
    divider.dataset.share = kept;
  }
  compare.addEventListener("click", () => {
    divider.hidden = !divider.hidden;
    compare.setAttribute("aria-pressed", String(!divider.hidden));
    setDivider(Number(divider.dataset.share ?? 0.5));
  });
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault();
    divider.focus({ focusVisible: false });
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = canvas.getBoundingClientRect();
    setDivider((event.clientX - box.left) / box.width);
  });
  divider.addEventListener("keydown", (event) => {
    const now = Number(divider.dataset.share ?? 0.5);
    const to = {
      ArrowLeft: now - 0.02,
      ArrowRight: now + 0.02,
      ArrowDown: now - 0.02,
      ArrowUp: now + 0.02,
      PageDown: now - 0.1,
      PageUp: now + 0.1,
      Home: 0,
      End: 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    setDivider(to);
  });

  /** Another result is shown; without its input there is nothing to compare with. */
  return function reset(hasInput) {
    compare.disabled = !hasInput;
    compare.title = hasInput ? "" : "The input is not stored by the service, only the result is.";
    if (!hasInput) divider.hidden = true;
    compare.setAttribute("aria-pressed", String(!divider.hidden));
    setDivider(Number(divider.dataset.share ?? 0.5));
  };
}

/** One pointer drags, two pinch, none held reads the pixel below. */
function usePointers(viewer, position, onRead) {
  const { canvas } = viewer;
  const held = new Map();

  canvas.addEventListener("pointerdown", (event) => {
    if (!viewer.result || event.button > 0) return;
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, position(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = position(event);
    const before = held.get(event.pointerId);
    onRead(viewer.at(now.x, now.y));
    if (!before) return;
    const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const spread = (p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      viewer.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
      viewer.zoom(spread(now) / spread(before), middle.x, middle.y);
    } else {
      viewer.pan(now.x - before.x, now.y - before.y);
    }
    held.set(event.pointerId, now);
  });
  const release = (event) => held.delete(event.pointerId);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => onRead(null));
}
