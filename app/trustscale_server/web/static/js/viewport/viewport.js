// Pan, zoom, pinch, tap, hold and swipe for all pages; owners draw.

import { carried, fit, fitted, panned, placed, roomOf, toPicture, zoomed } from "./geometry.js";

const KEY_STEP = 60; // CSS pixels
const WHEEL_RATE = 0.0016;
const TAP_SLOP = 8; // CSS pixels that a finger may move and still only tap
const SWIPED = 60; // CSS pixels that a finger moves at least to leave a picture
const HOLD_MS = 350;
const DOUBLE_MS = 280; // between two taps that are one wish
const FLIGHT_MS = 420;

/**
 * @typedef {{x: number, y: number}} Place a position on the canvas in device pixels
 * @typedef {{
 *   onView?: () => void,
 *   onPoint?: (place: Place | null) => void,
 *   onTap?: (place: Place) => void,
 *   onHold?: (isHeld: boolean) => void,
 *   onSwipe?: (step: number) => void,
 *   stroke?: {begin: (place: Place, event: PointerEvent) => boolean, move: (places: Place[]) => void, end: () => void, cancel: () => void},
 * }} Hands what the owner wants to know; `stroke` takes over what one pointer draws
 */

export class Viewport {
  /** @type {{width: number, height: number} | null} */
  picture = null;
  view = { scale: 1, x: 0, y: 0 };
  isFit = true;
  density = 1; // device pixels of a CSS pixel
  /** CSS pixels that bars and panels cover. */
  inset = { left: 0, top: 0, right: 0, bottom: 0 };
  /** @type {Map<number, Place>} */
  held = new Map();
  /**
   * What the pointers do. A press becomes a hold after a while, a pan once it moves, a tap once it is over; a tap waits
   * for a second one, which zooms. A second pointer makes a pinch of all of them.
   * @type {"idle" | "press" | "hold" | "pan" | "pinch" | "stroke"}
   */
  state = "idle";
  /** @type {{place: Place, at: number, timer: ReturnType<typeof setTimeout>} | null} */
  tapped = null;
  timer = undefined;
  flight = 0;

  /**
   * All canvases show the same part of equally large pictures. most: device pixels of one, as more cost frames and show
   * nothing new.
   * @param {HTMLCanvasElement[]} canvases @param {Hands} hands
   */
  constructor(canvases, hands, most = 4_000_000) {
    this.canvases = canvases;
    this.hands = hands;
    this.most = most;
    for (const canvas of canvases) this.listen(canvas);
    new ResizeObserver(() => this.resize()).observe(canvases[0]);
  }

  /** Device pixels of each canvas, and of what covers its edges. */
  get screen() {
    const { width, height } = this.canvases[0];
    const { density } = this;
    // A quarter of it stays free, even if the canvas is small or not there yet.
    const covered = (insets, length) => {
      const both = density * (insets[0] + insets[1]);
      return insets.map((one) => one * density * Math.min(1, (0.75 * length) / Math.max(1, both)));
    };
    const { left, top, right, bottom } = this.inset;
    const [x, y] = [covered([left, right], width), covered([top, bottom], height)];
    return { width, height, left: x[0], right: x[1], top: y[0], bottom: y[1] };
  }

  /** The middle of the free part. @returns {Place} */
  get middle() {
    const { left, top, width, height } = roomOf(this.screen);
    return { x: left + width / 2, y: top + height / 2 };
  }

  /** Sizes in CSS pixels. */
  setInset(inset) {
    if (Object.keys(inset).every((edge) => inset[edge] === this.inset[edge])) return;
    this.inset = { ...this.inset, ...inset };
    this.settle();
  }

  /** Show another picture: all of it, or the same part as before. */
  show(picture, { keep = false } = {}) {
    const before = this.picture;
    this.picture = picture;
    this.land();
    this.resize();
    if (keep && before && !this.isFit) this.set(carried(this.view, before, picture, this.screen));
    else this.fit();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvases[0];
    if (!clientWidth || !clientHeight) return;
    const most = Math.sqrt(this.most / (clientWidth * clientHeight));
    const density = Math.min(devicePixelRatio || 1, most);
    const width = Math.round(clientWidth * density);
    const height = Math.round(clientHeight * density);
    this.density = width / clientWidth;
    const { screen } = this;
    if (width === screen.width && height === screen.height) return;
    for (const canvas of this.canvases) Object.assign(canvas, { width, height });
    this.settle();
  }

  /** The room has changed. */
  settle() {
    if (!this.picture) return;
    if (this.isFit) this.fit();
    else this.pan(0, 0);
  }

  set(view, isFit = false) {
    this.view = view;
    this.isFit = isFit;
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

  /** Move a point of the picture to the middle of the free part. */
  centre(x, y) {
    this.land();
    this.set(placed(this.view.scale, this.picture, this.screen, x, y), this.isFit);
  }

  zoom(factor, x = this.middle.x, y = this.middle.y) {
    if (!this.picture) return;
    this.land();
    const next = zoomed(this.view, factor, this.picture, this.screen, x, y);
    this.set(next, next.scale <= fit(this.picture, this.screen).scale);
  }

  pan(dx, dy) {
    this.set(panned(this.view, dx, dy, this.picture, this.screen), this.isFit);
  }

  /** Go to a part of the picture {left, top, right, bottom}; at once for people who want no motion. */
  flyTo(part, most) {
    this.land();
    const from = this.view;
    const whole = fit(this.picture, this.screen);
    const near = fitted(part, this.picture, this.screen, most);
    const to = near.scale > whole.scale ? near : whole;
    const began = performance.now();
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now) => {
      const time = isStill ? 1 : Math.min(1, Math.max(0, now - began) / FLIGHT_MS);
      const way = time * time * (3 - 2 * time);
      const scale = from.scale * (to.scale / from.scale) ** way;
      // The point that keeps its place while the scale changes; without such a change both move evenly.
      const share = to.scale === from.scale ? way : (scale - from.scale) / (to.scale - from.scale);
      const along = (axis) => from[axis] + (to[axis] - from[axis]) * share;
      const view = { scale, x: Math.round(along("x")), y: Math.round(along("y")) };
      this.set(time < 1 ? view : to, time === 1 && to === whole);
      this.flight = time < 1 ? requestAnimationFrame(step) : 0;
    };
    step(began);
  }

  /** Stop a flight. */
  land() {
    cancelAnimationFrame(this.flight);
    this.flight = 0;
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
    on(
      "pointerleave",
      (event) => event.pointerType === "mouse" && this.state === "idle" && this.hands.onPoint?.(null),
    );
    // Two fingers zoom the picture, never the page; a long press reveals, and opens no menu.
    for (const name of ["contextmenu", "gesturestart"]) on(name, (event) => event.preventDefault());
    on("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
    on(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
        const pinched = event.ctrlKey ? 6 : 1; // of a touch pad, in small steps
        const { x, y } = this.place(event);
        this.zoom(Math.exp(-event.deltaY * lines * pinched * WHEEL_RATE), x, y);
      },
      { passive: false },
    );
  }

  down(event, canvas) {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    this.land();
    const place = this.place(event);
    this.held.set(event.pointerId, place);
    if (this.held.size === 2) {
      if (this.state === "stroke") this.hands.stroke.cancel();
      this.endPress();
      this.state = "pinch";
    }
    if (this.held.size > 1) return;
    this.start = place;
    this.began = event.timeStamp;
    const wantsPan = event.button > 0 || event.shiftKey;
    if (!wantsPan && this.hands.stroke?.begin(place, event)) {
      this.state = "stroke";
      return;
    }
    this.state = wantsPan ? "pan" : "press";
    if (this.state === "press" && this.hands.onHold) this.timer = setTimeout(() => this.hold(), HOLD_MS);
  }

  hold() {
    this.state = "hold";
    this.hands.onHold(true);
  }

  /** A press becomes something else. */
  endPress() {
    clearTimeout(this.timer);
    if (this.state === "hold") this.hands.onHold(false);
  }

  move(event) {
    const now = this.place(event);
    const before = this.held.get(event.pointerId);
    if (!before) return this.hands.onPoint?.(now);
    if (["press", "hold"].includes(this.state) && !this.isNear(now, this.start)) {
      this.endPress();
      this.state = "pan";
    }
    if (this.state === "stroke") {
      // Fast pens and mice report several places in one event.
      const all = event.getCoalescedEvents?.() ?? [];
      this.hands.stroke.move((all.length ? all : [event]).map((one) => this.place(one, event.currentTarget)));
    } else if (this.state === "pinch") this.pinch(event.pointerId, before, now);
    else if (this.state === "pan") this.pan(now.x - before.x, now.y - before.y);
    this.held.set(event.pointerId, now);
    if (event.pointerType === "mouse" || this.state === "stroke") this.hands.onPoint?.(now);
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
    const isUp = event.type === "pointerup";
    // A busy page sees a short tap late, and takes it for held.
    const isTap = this.state === "press" || (this.state === "hold" && event.timeStamp - this.began < HOLD_MS);
    this.endPress();
    if (this.state === "stroke") {
      if (isUp) this.hands.stroke.end();
      else this.hands.stroke.cancel();
    } else if (isUp && isTap) this.tap(place, event);
    else if (isUp && this.state === "pan" && this.isFit && event.pointerType === "touch") this.swipe(place);
    if (!this.held.size || this.state === "stroke") this.state = "idle";
  }

  /** The second of two taps zooms, and is none itself. */
  tap(place, { timeStamp: at, shiftKey }) {
    const before = this.tapped;
    this.tapped = null;
    clearTimeout(before?.timer);
    if (this.hands.stroke) return;
    if (before && at - before.at < DOUBLE_MS && this.isNear(place, before.place))
      this.zoom(shiftKey ? 0.4 : 2.5, place.x, place.y);
    else this.tapped = { place, at, timer: setTimeout(() => this.hands.onTap?.(place), DOUBLE_MS) };
  }

  swipe({ x, y }) {
    const [dx, dy] = [x - this.start.x, y - this.start.y];
    if (Math.abs(dx) > SWIPED * this.density && Math.abs(dx) > 2 * Math.abs(dy))
      this.hands.onSwipe?.(dx < 0 ? 1 : -1);
  }

  isNear(a, b) {
    return Math.hypot(a.x - b.x, a.y - b.y) < TAP_SLOP * this.density;
  }
}

/** Stroke a path dark and light, which is visible on any picture. */
export function outline(context, path, scale = 1) {
  Object.assign(context, { strokeStyle: "rgb(0 0 0 / 80%)", lineWidth: 3 / scale });
  context.stroke(path);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 1.25 / scale });
  context.stroke(path);
}
