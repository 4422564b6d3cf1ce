// The picture on its canvas: a result with its marking, and beside it the upload or the result of another model.

import { html, render } from "../lib/html.js";
import { covered, pixelAt } from "../viewport/geometry.js";
import { Viewport } from "../viewport/viewport.js";
import { GlPainter } from "./gl.js";
import { Lettering } from "./lettering.js";
import { CpuPainter, LEGENDS } from "./paint.js";

const LEAST_RING = 44; // CSS pixels: a finger's width
const NOT_CHECKED = "Not checked: any of it may be made up";
const MOST = { card: 8_400_000, cpu: 1_500_000 }; // device pixels of the canvas

/** @typedef {import("./paint.js").Layer} Layer */

export class Viewer {
  element = Object.assign(document.createElement("div"), { className: "frame" });
  /** @type {Layer | null} */
  result = null;
  /** @type {Layer | null} left of the divider: another result, or null for the upload */
  other = null;
  view = "checked";
  lettering = new Lettering();
  isRevealed = false; // without marks, or as it was sent, while somebody holds a key or the picture
  isUnchecked = false; // nothing is promised of the result
  /** @type {import("./doubts.js").Ring[]} */
  rings = [];
  compares = false;
  share = 0.5; // of the visible picture, that is left of the divider
  frame = 0;
  /** @type {{x: number, y: number, radius: number} | null} */
  spot = null;
  spotAt = { x: 0, y: 0 }; // in CSS pixels

  constructor({ onView = () => {}, onSwipe = (_step) => {} }) {
    /** @type {(found: any) => void} */
    this.onPick = () => {};
    this.onRing = (_k) => {};
    render(frame(this), this.element);
    this.element.querySelector(".divider").before(this.lettering.element);
    const [under, canvas] = this.element.querySelectorAll("canvas");
    this.canvas = canvas;
    this.cpu = new CpuPainter(canvas);
    this.card = card(under);
    const hands = {
      onView: () => {
        this.request();
        onView();
      },
      onTap: (place) => this.onPick(this.at(place)),
      onHold: (isHeld) => this.change({ isRevealed: isHeld }),
      onSwipe,
    };
    this.viewport = new Viewport([canvas], hands, this.card ? MOST.card : MOST.cpu);
    this.setShare(this.share);
  }

  /** @param {Layer} result */
  show(result, { keep = false } = {}) {
    this.compareWith(null);
    close(this.result);
    this.result = result;
    this.change({});
    this.viewport.show(result, { keep });
  }

  /** @param {Layer | null} layer */
  compareWith(layer) {
    if (this.other !== layer) close(this.other);
    this.other = layer;
    this.request();
  }

  change(settings) {
    Object.assign(this, settings);
    /** @type {HTMLElement} */ (this.element.querySelector(".divider")).hidden = !this.compares;
    this.element.dataset.view = this.mode;
    this.element.toggleAttribute("data-unchecked", this.isUnchecked);
    const isBare = this.mode === "checked" && !this.rings.length;
    const legend =
      this.isUnchecked && this.mode !== "original" ? NOT_CHECKED : LEGENDS[isBare ? "plain" : this.mode];
    this.element.querySelector(".legend span").textContent = legend;
    const ringed = this.mode === "checked" ? this.rings.map((_, k) => ringOf(this, k)) : [];
    render(ringed, /** @type {HTMLElement} */ (this.element.querySelector(".rings")));
    this.request();
  }

  /** What is drawn. Without the upload nothing can be shown as it was sent. */
  get mode() {
    const hasSent = Boolean(this.result?.soft);
    if (this.isRevealed) return this.view === "marked" || !hasSent ? "plain" : "original";
    return this.view === "original" && !hasSent ? "plain" : this.view;
  }

  setLimit(code) {
    if (this.result) this.result.limit = code;
    this.request();
  }

  setShare(share) {
    this.share = Math.min(Math.max(share, 0), 1);
    this.element.style.setProperty("--share", `${100 * this.share}%`);
    this.element.querySelector("input").value = String(100 * this.share);
    this.request();
  }

  /** The pixel and its code under a device position, or null. */
  at({ x, y }) {
    const pixel = this.result && pixelAt(this.viewport.view, this.result, x, y);
    return pixel && this.pixel(pixel);
  }

  pixel({ x, y }) {
    const { width, data } = this.result.codes;
    return { x, y, code: data[y * width + x], isClear: this.isClear({ x, y }) };
  }

  isClear({ x, y }) {
    const { isOpaque, pictures } = this.result;
    if (isOpaque) return false;
    const pixel = new OffscreenCanvas(1, 1).getContext("2d");
    pixel.drawImage(pictures[0], -x, -y);
    return pixel.getImageData(0, 0, 1, 1).data[3] < 255;
  }

  request() {
    clearTimeout(this.cpu.rest); // it may hold pictures that are closed
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  /** radius: of its ring, in pixels of the picture. */
  setSpot(spot, radius = 1) {
    this.spot = spot && { ...spot, radius };
    this.request();
  }

  /** Tell the style sheet where picture and spot are, in CSS pixels. */
  place() {
    const { view, screen, density } = this.viewport;
    this.lettering.place(view, density);
    const { x0, y0, x1, y1 } = covered(view, this.result, screen);
    const places = { left: x0, top: y0, right: screen.width - x1, bottom: screen.height - y1 };
    for (const [edge, value] of Object.entries(places))
      this.element.style.setProperty(`--${edge}`, `${value / density}px`);
    for (const label of /** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll(".numbered"))) {
      const { x, y, radius } = this.rings[Number(label.dataset.ring)];
      const [left, top] = [(view.x + x * view.scale) / density, (view.y + y * view.scale) / density];
      const width = Math.max(LEAST_RING, (2 * radius * view.scale) / density);
      Object.assign(label.style, { left: `${left}px`, top: `${top}px`, width: `${width}px` });
    }
    const ring = /** @type {HTMLElement} */ (this.element.querySelector(".spot"));
    ring.hidden = !this.spot;
    if (!this.spot) return;
    const at = (value, origin) => (origin + (value + 0.5) * view.scale) / density;
    const [x, y] = [at(this.spot.x, view.x), at(this.spot.y, view.y)];
    const stage = this.element.parentElement;
    stage?.style.setProperty("--spot-x", `${x}px`);
    stage?.style.setProperty("--spot-y", `${y}px`);
    stage?.toggleAttribute("data-spot-right", 2 * x > screen.width / density);
    this.spotAt = { x, y };
    const size = `${Math.max(20, (2 * this.spot.radius * view.scale) / density)}px`;
    Object.assign(ring.style, { left: `${x}px`, top: `${y}px`, width: size });
  }

  draw() {
    this.frame = 0;
    if (!this.result || !this.canvas.width) return;
    const { view, screen, density } = this.viewport;
    this.place();
    const { x0, x1 } = covered(view, this.result, screen);
    const edge = this.compares ? Math.round(x0 + this.share * (x1 - x0)) : 0;
    const beside = this.other
      ? { layer: this.other, mode: this.mode }
      : { layer: this.result, mode: "original" };
    const parts = [
      ...(this.compares ? [{ ...beside, left: 0, right: edge }] : []),
      { layer: this.result, mode: this.mode, left: edge, right: screen.width },
    ];
    const scene = { view, screen, density, parts };
    const isCard = this.card && parts.every(({ layer }) => this.card.canDraw(layer));
    if (isCard !== this.wasCard) this.cpu.draw({ ...scene, parts: [] });
    if (this.card && !isCard) this.card.draw({ ...scene, parts: [] });
    this.wasCard = isCard;
    (isCard ? this.card : this.cpu).draw(scene);
  }
}

/** Bitmaps are large and may be collected late. */
function close(layer) {
  for (const bitmap of layer ? [...layer.pictures, layer.soft] : []) bitmap?.close();
}

function card(canvas) {
  try {
    return new GlPainter(canvas);
  } catch {
    canvas.remove();
    return null;
  }
}

const ringOf = (viewer, k) =>
  html`<button type="button" class="numbered" data-ring=${k} aria-label="Doubt ${k + 1} of ${viewer.rings.length}" @click=${() => viewer.onRing(k)}><b>${k + 1}</b></button>`;

function frame(viewer) {
  return html`<canvas class="under" aria-hidden="true"></canvas>
    <canvas id="canvas" tabindex="0" role="application" aria-roledescription="picture viewer" aria-label="The picture"></canvas>
    <div class="divider" hidden>
      <span class="divider-side left"></span><span class="divider-side right"></span>
      <input type="range" min="0" max="100" step="any" value="50" aria-label="Share of the picture left of the divider"
        @input=${({ target }) => viewer.setShare(target.value / 100)} />
    </div>
    <i class="spot" hidden></i>
    <div class="rings"></div>
    <p class="legend"><i></i><span></span></p>`;
}
