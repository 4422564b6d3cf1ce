// The picture on its canvas: the result, the input beside it, and the marking.

import { announce } from "../lib/dom.js";
import { html, render } from "../lib/html.js";
import { covered, pixelAt } from "../viewport/geometry.js";
import { Viewport } from "../viewport/viewport.js";
import { checkered, choose, sampleCodes, untrustedLook } from "./paint.js";

export class Viewer {
  element = Object.assign(document.createElement("div"), { className: "frame" });
  scene = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  result = null;
  look = "contour";
  isHidden = false; // the marking, while somebody holds a key or the picture
  isSquare = false; // pixels of the input
  limit = 0;
  share = 0.5; // of the screen that shows the input
  isShareChosen = false; // by a person
  smooths = false; // the pixels of the result, too
  compares = true;
  dirty = null;
  /** @type {any} */
  spot = null;

  /** describe(found): a pixel in words. marksInput: whether outlines are drawn on the input as well. */
  constructor({ onView = () => {}, describe = (_found) => "", marksInput = true, id = "canvas" }) {
    /** @type {(found: any) => void} */
    this.onPick = () => {};
    this.describe = describe;
    this.marksInput = marksInput;
    render(frame(this, id), this.element);
    this.canvas = this.element.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.viewport = new Viewport([this.canvas], {
      onView: () => {
        this.request("view");
        onView();
      },
      onPoint: (place) => this.read(place && this.at(place)),
      onTap: (place) => this.pick(this.at(place)),
      onHold: (isHeld) => this.change({ isHidden: isHeld }),
    });
    this.setShare(this.share);
  }

  /** result: {width, height, pictures, levels, colour, before (left of the divider), input, isOpaque}; the two may be null. */
  show(result, { keep = false } = {}) {
    // Bitmaps are large and may be collected late.
    for (const bitmap of this.result?.pictures ?? []) bitmap.close();
    this.result?.before?.close();
    if (this.result?.input !== this.result?.before) this.result?.input?.close();
    this.result = result;
    this.element.style.setProperty("--mark", `rgb(${result.colour.join(" ")})`);
    this.change({});
    this.viewport.show(result, { keep });
  }

  get isComparing() {
    return this.compares && Boolean(this.result?.before);
  }

  change(settings) {
    Object.assign(this, settings);
    /** @type {HTMLElement} */ (this.element.querySelector(".divider")).hidden = !this.isComparing;
    this.element.dataset.look = this.isHidden ? "off" : this.look;
    this.request("view");
  }

  setLimit(code) {
    this.limit = code;
    this.request("limit");
  }

  setShare(share) {
    this.share = Math.min(Math.max(share, 0), 1);
    this.element.style.setProperty("--share", `${100 * this.share}%`);
    this.element.querySelector("input").value = String(100 * this.share);
    this.request("view");
  }

  /** The pixel and its code under a device position, or null. */
  at({ x, y }) {
    const pixel = this.result && pixelAt(this.viewport.view, this.result, x, y);
    if (!pixel) return null;
    const { width, data } = this.result.levels[0];
    return { ...pixel, code: data[pixel.y * width + pixel.x], isClear: this.isClear(pixel) };
  }

  isClear({ x, y }) {
    const { isOpaque, pictures } = this.result;
    if (isOpaque) return false;
    const one = new OffscreenCanvas(1, 1).getContext("2d");
    one.drawImage(pictures[0], -x, -y);
    return one.getImageData(0, 0, 1, 1).data[3] < 255;
  }

  read(found) {
    this.element.querySelector(".readout").textContent = this.describe(found);
  }

  pick(found) {
    this.read(found);
    this.onPick(found);
  }

  readMiddle() {
    const found = this.at(this.viewport.middle);
    this.pick(found);
    announce(this.describe(found));
  }

  request(what) {
    if (!this.dirty) requestAnimationFrame(() => this.draw());
    if (this.dirty !== "view") this.dirty = what;
  }

  /** radius: of its ring, in pixels of the picture. */
  setSpot(spot, radius = 1) {
    this.spot = spot && { ...spot, radius };
    this.placeSpot();
  }

  placeSpot() {
    const ring = /** @type {HTMLElement} */ (this.element.querySelector(".spot"));
    ring.hidden = !this.spot;
    if (!this.spot) return;
    const { view, density } = this.viewport;
    const at = (value, origin) => `${(origin + (value + 0.5) * view.scale) / density}px`;
    const size = `${Math.max(16, (2 * this.spot.radius * view.scale) / density)}px`;
    Object.assign(ring.style, { left: at(this.spot.x, view.x), top: at(this.spot.y, view.y), width: size });
  }

  draw() {
    const what = this.dirty;
    this.dirty = null;
    if (!this.result || !this.canvas.width) return;
    if (what === "view") {
      this.prepare();
      this.placeSpot();
    }
    choose({ ...this.prepared, limit: this.limit });
    if (what === "view") this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { area } = this.prepared;
    this.context.putImageData(this.image, area.x0, area.y0);
  }

  /** Draw the scene and read it back, with the codes of its pixels. */
  prepare() {
    const { result, scene } = this;
    const { view, screen } = this.viewport;
    const look = this.isHidden ? "off" : this.look;
    const area = covered(view, result, screen);
    const width = area.x1 - area.x0;
    const height = area.y1 - area.y0;
    if (scene.canvas.width !== screen.width || scene.canvas.height !== screen.height) {
      Object.assign(scene.canvas, { width: screen.width, height: screen.height });
    }
    const edge = this.isComparing ? Math.round(this.share * screen.width) : 0;
    const isInput = look === "believed" && result.input;
    if (isInput) drawPart(scene, [result.input], result, view, area, area.x0, area.x1, true);
    const input = isInput ? pixelsOf(scene, area) : null;
    drawPart(scene, result.pictures, result, view, area, edge, area.x1, this.smooths);
    if (edge > area.x0) drawPart(scene, [result.before], result, view, area, area.x0, edge, !this.isSquare);
    const pixels = pixelsOf(scene, area);
    if (this.image?.width !== width || this.image.height !== height)
      this.image = new ImageData(width, height);
    const isOff = look === "off";
    const codes = isOff ? null : sampleCodes(result.levels, view, area);
    const [left, top] = [view.x - area.x0, view.y - area.y0];
    if (!result.isOpaque) checkered(pixels, look === "mask" ? null : codes, width, left, top);
    const phase = left + top;
    this.prepared = {
      look,
      area,
      width,
      pixels,
      colour: result.colour,
      codes,
      untrusted: isOff ? null : untrustedLook(look, pixels, width, phase, result.colour, input),
      edge: Math.max(0, edge - area.x0),
      outlines: this.marksInput && result.isOpaque,
      out: new Uint32Array(this.image.data.buffer),
    };
  }
}

const pixelsOf = (scene, { x0, y0, x1, y1 }) =>
  new Uint32Array(scene.getImageData(x0, y0, x1 - x0, y1 - y0).data.buffer);

function frame(viewer, id) {
  return html`<canvas id=${id} tabindex="0" role="application" aria-roledescription="picture viewer"
      aria-label="The picture"></canvas>
    <div class="divider">
      <span class="divider-side left">input</span><span class="divider-side right">upscaled</span>
      <input
        type="range"
        min="0"
        max="100"
        step="any"
        value="50"
        aria-label="Share of the view that shows the input"
        @input=${({ target }) => {
          viewer.isShareChosen = true;
          viewer.setShare(target.value / 100);
        }}
      />
    </div>
    <i class="spot" hidden></i>
    <p class="legend"><i></i><span>errors may be larger</span></p>
    <output class="readout"></output>`;
}

/**
 * Draw the columns [left, right) from the coarsest bitmap that is fine enough. Reduced pixels are smoothed, enlarged
 * ones are squares unless `smooth`.
 */
function drawPart(scene, bitmaps, picture, view, area, left, right, smooth) {
  const drawn = Math.ceil(picture.width * view.scale);
  const bitmap = bitmaps.findLast((level) => level.width >= drawn) ?? bitmaps[0];
  const ratio = picture.width / bitmap.width; // picture pixels per bitmap pixel
  const cell = view.scale * ratio;
  // Whole pixels of the bitmap that cover the visible part.
  const sx = Math.max(0, Math.floor((Math.max(left, area.x0) - view.x) / cell) - 1);
  const sy = Math.max(0, Math.floor((area.y0 - view.y) / cell) - 1);
  const ex = Math.min(bitmap.width, Math.ceil((Math.min(right, area.x1) - view.x) / cell) + 1);
  const ey = Math.min(bitmap.height, Math.ceil((area.y1 - view.y) / cell) + 1);
  if (ex <= sx || ey <= sy) return;
  scene.save();
  scene.beginPath();
  scene.rect(left, area.y0, right - left, area.y1 - area.y0);
  scene.clip();
  scene.imageSmoothingEnabled = smooth || cell < 1;
  scene.imageSmoothingQuality = smooth ? "high" : "low";
  scene.clearRect(left, area.y0, right - left, area.y1 - area.y0);
  const [x, y, w, h] = [view.x + sx * cell, view.y + sy * cell, (ex - sx) * cell, (ey - sy) * cell];
  scene.drawImage(bitmap, sx, sy, ex - sx, ey - sy, x, y, w, h);
  scene.restore();
}
