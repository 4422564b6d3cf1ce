// Pan, zoom and pinch for all pages; owners draw.

import { carried, fit, panned, placed, toPicture, zoomed } from "./geometry.js";

// More device pixels cost frames and show nothing new.
const MOST_PIXELS = 4_000_000;
const KEY_STEP = 60; // CSS pixels
const WHEEL_RATE = 0.0016;
const TAP_SLOP = 8; // CSS pixels that a finger may move and still only tap
const HOLD_MS = 350;

/**
 * @typedef {{x: number, y: number}} Place a position on the canvas in device pixels
 * @typedef {{
 *   onView?: () => void,
 *   onPoint?: (place: Place | null) => void,
 *   onTap?: (place: Place) => void,
 *   onHold?: (isHeld: boolean) => void,
 *   stroke?: {begin: (place: Place, event: PointerEvent) => boolean, move: (places: Place[]) => void, end: () => void, cancel: () => void},
 * }} Hands what the owner wants to know; `stroke` takes over what one pointer draws
 */

export class Viewport {
  /** All canvases show the same part of equally large pictures. @param {HTMLCanvasElement[]} canvases @param {Hands} hands */
  constructor(canvases, hands) {
    this.canvases = canvases;
    this.hands = hands;
    /** @type {{width: number, height: number} | null} */
    this.picture = null;
    this.view = { scale: 1, x: 0, y: 0 };
    this.isFit = true;
    this.inset = { right: 0, bottom: 0 };
    /** @type {Map<number, Place>} */
    this.held = new Map();
    this.mode = "";
    for (const canvas of canvases) this.listen(canvas);
    new ResizeObserver(() => this.resize()).observe(canvases[0]);
  }

  /** Device pixels of each canvas, and of what covers its right and its foot. */
  get screen() {
    const { width, height } = this.canvases[0];
    const { density } = this;
    // Half of it stays free, even if the canvas is small or not there yet.
    const covered = (inset, length) => Math.min(inset * density, length / 2);
    return {
      width,
      height,
      right: covered(this.inset.right, width),
      bottom: covered(this.inset.bottom, height),
    };
  }

  /** The middle of the free part. @returns {Place} */
  get middle() {
    const { width, height, right, bottom } = this.screen;
    return { x: (width - right) / 2, y: (height - bottom) / 2 };
  }

  /** Sizes in CSS pixels. */
  setInset(right, bottom) {
    if (right === this.inset.right && bottom === this.inset.bottom) return;
    this.inset = { right, bottom };
    if (!this.picture) return;
    if (this.isFit) this.fit();
    else this.pan(0, 0);
  }

  get density() {
    return this.canvases[0].width / Math.max(1, this.canvases[0].clientWidth);
  }

  /** Show another picture: all of it, or the same part as before. */
  show(picture, { keep = false } = {}) {
    const before = this.picture;
    this.picture = picture;
    this.resize();
    if (keep && before && !this.isFit) this.set(carried(this.view, before, picture, this.screen));
    else this.fit();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvases[0];
    if (!clientWidth || !clientHeight) return;
    const most = Math.sqrt(MOST_PIXELS / (clientWidth * clientHeight));
    const density = Math.min(devicePixelRatio || 1, most);
    const width = Math.round(clientWidth * density);
    const height = Math.round(clientHeight * density);
    const { screen } = this;
    if (width === screen.width && height === screen.height) return;
    for (const canvas of this.canvases) Object.assign(canvas, { width, height });
    if (!this.picture) return;
    if (this.isFit) this.fit();
    else this.pan(0, 0);
  }

  set(view, isFit = false) {
    this.view = view;
    this.isFit = isFit;
    // One finger scrolls the page while there is nothing to move inside.
    for (const canvas of this.canvases) canvas.classList.toggle("zoomed", !isFit);
    this.hands.onView?.();
  }

  fit() {
    if (this.picture) this.set(fit(this.picture, this.screen), true);
  }

  /** scale: device pixels per pixel of the picture. */
  zoomTo(scale) {
    const { x, y } = toPicture(this.view, this.middle);
    this.set(placed(scale, this.picture, this.screen, x, y));
  }

  zoom(factor, x = this.middle.x, y = this.middle.y) {
    if (!this.picture) return;
    const next = zoomed(this.view, factor, this.picture, this.screen, x, y);
    this.set(next, next.scale <= fit(this.picture, this.screen).scale);
  }

  pan(dx, dy) {
    this.set(panned(this.view, dx, dy, this.picture, this.screen), this.isFit);
  }

  /** Act on a key; false if it is not ours. @param {{key: string, ctrlKey?: boolean, metaKey?: boolean, altKey?: boolean}} event */
  key({ key, ctrlKey, metaKey, altKey }) {
    if (!this.picture || ctrlKey || metaKey || altKey) return false;
    const step = KEY_STEP * this.density;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (key in moves) {
      if (this.isFit) return false;
      this.pan(moves[key][0], moves[key][1]);
    } else if (key === "+" || key === "=") this.zoom(1.25);
    else if (key === "-") this.zoom(0.8);
    else if (key === "0") this.fit();
    else if (key === "1") this.zoomTo(this.density);
    else return false;
    return true;
  }

  /** The place of an event on its canvas. @param {MouseEvent} event @returns {Place} */
  place(event, canvas = /** @type {HTMLElement} */ (event.currentTarget)) {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.density, y: (event.clientY - box.top) * this.density };
  }

  listen(canvas) {
    const on = (name, run, options) =>
      canvas.addEventListener(name, (event) => this.picture && run(event), options);
    on("pointerdown", (event) => this.down(event, canvas));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.up(event));
    on("pointerleave", (event) => event.pointerType === "mouse" && !this.mode && this.hands.onPoint?.(null));
    on("contextmenu", (event) => event.preventDefault());
    // Two fingers are ours even where one scrolls the page.
    on("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
    on(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
        const { x, y } = this.place(event);
        this.zoom(Math.exp(-event.deltaY * lines * WHEEL_RATE), x, y);
      },
      { passive: false },
    );
    if (!this.hands.stroke) {
      on("dblclick", (event) => {
        const { x, y } = this.place(event);
        this.zoom(event.shiftKey ? 0.5 : 2, x, y);
      });
    }
  }

  down(event, canvas) {
    canvas.focus({ preventScroll: true });
    const place = this.place(event);
    this.held.set(event.pointerId, place);
    if (this.held.size === 2) {
      if (this.mode === "stroke") this.hands.stroke.cancel();
      this.endHold();
      this.mode = "pinch";
    } else if (this.held.size === 1) {
      const wantsPan = event.button > 0 || event.shiftKey;
      const draws = !wantsPan && this.hands.stroke?.begin(place, event);
      this.mode = draws ? "stroke" : "pan";
      this.start = place;
      this.began = event.timeStamp;
      this.hasMoved = false;
      if (!draws && event.button === 0 && this.hands.onHold) {
        this.timer = setTimeout(() => this.beginHold(), HOLD_MS);
      }
    }
    canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    const now = this.place(event);
    const before = this.held.get(event.pointerId);
    if (!before) {
      this.hands.onPoint?.(now);
      return;
    }
    if (this.mode === "stroke") {
      // Fast pens and mice report several places in one event.
      const all = event.getCoalescedEvents?.() ?? [];
      this.hands.stroke.move((all.length ? all : [event]).map((one) => this.place(one, event.currentTarget)));
    } else if (this.mode === "pinch") {
      this.pinch(event.pointerId, before, now);
    } else if (this.mode === "pan") {
      if (!this.hasMoved && this.isNear(now)) return;
      this.hasMoved = true;
      this.endHold();
      this.pan(now.x - before.x, now.y - before.y);
    }
    this.held.set(event.pointerId, now);
    if (event.pointerType === "mouse" || this.mode === "stroke") this.hands.onPoint?.(now);
  }

  pinch(id, before, now) {
    const other = [...this.held].find(([one]) => one !== id)?.[1];
    if (!other) return;
    const spread = (p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
    this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoom(spread(now) / spread(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  up(event) {
    const place = this.held.get(event.pointerId);
    this.held.delete(event.pointerId);
    if (!place) return;
    if (this.mode === "stroke") {
      if (event.type === "pointercancel") this.hands.stroke.cancel();
      else this.hands.stroke.end();
    } else if (this.mode === "pan" && event.type === "pointerup" && !this.hasMoved) {
      // A busy page sees a short tap late, and takes it for held.
      if (!this.isHolding || event.timeStamp - this.began < HOLD_MS) this.hands.onTap?.(place);
    }
    this.endHold();
    if (!this.held.size || this.mode === "stroke") this.mode = "";
  }

  isNear({ x, y }) {
    return Math.hypot(x - this.start.x, y - this.start.y) < TAP_SLOP * this.density;
  }

  beginHold() {
    this.isHolding = true;
    this.hands.onHold(true);
  }

  endHold() {
    clearTimeout(this.timer);
    if (this.isHolding) this.hands.onHold(false);
    this.isHolding = false;
  }
}

/** Stroke a path dark and light, which is visible on any picture. */
export function outline(context, path, scale = 1) {
  Object.assign(context, { strokeStyle: "rgb(0 0 0 / 80%)", lineWidth: 3 / scale });
  context.stroke(path);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 1.25 / scale });
  context.stroke(path);
}
