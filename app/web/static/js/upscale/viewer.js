// The canvas: draws the picture, the input beside it, and what is not to be believed.

import { covered, fit, panned, pixelAt, placed, zoomed } from "./geometry.js";
import { choose, sampleCodes, untrustedLook } from "./paint.js";

// More device pixels than this cost frames and show nothing new.
const MOST_PIXELS = 4_000_000;

export class Viewer {
  /** onView() after every change of the view. */
  constructor(canvas, { onView = () => {} } = {}) {
    this.canvas = canvas;
    this.onView = onView;
    this.context = canvas.getContext("2d", { alpha: true });
    this.scene = document
      .createElement("canvas")
      .getContext("2d", { willReadFrequently: true, alpha: true });
    this.result = null;
    this.look = "tint";
    this.limit = 0;
    this.divider = 0; // share of the screen that shows the input
    this.dirty = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /**
   * Show a result: {width, height, pictures, levels, before}; `before` is the input or null.
   */
  show(result) {
    // Bitmaps are large, and are not always let go in time by themselves.
    for (const bitmap of this.result?.pictures ?? []) bitmap.close();
    this.result?.before?.close();
    this.result = result;
    this.resize(true);
  }

  get screen() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  /** Device pixels per CSS pixel of this canvas. */
  get density() {
    return this.canvas.width / Math.max(1, this.canvas.clientWidth);
  }

  resize(refit = false) {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const most = Math.sqrt(MOST_PIXELS / (clientWidth * clientHeight));
    const density = Math.min(devicePixelRatio || 1, most);
    const width = Math.round(clientWidth * density);
    const height = Math.round(clientHeight * density);
    const changed = width !== this.canvas.width || height !== this.canvas.height;
    if (changed) Object.assign(this.canvas, { width, height });
    if (!this.result || !(changed || refit)) return;
    const wasFit = !this.view || this.isFit;
    if (refit || wasFit) this.setView(fit(this.result, this.screen), true);
    else this.setView(panned(this.view, 0, 0, this.result, this.screen));
  }

  setView(view, isFit = false) {
    this.view = view;
    this.isFit = isFit;
    this.request("view");
    this.onView();
  }

  fit() {
    this.setView(fit(this.result, this.screen), true);
  }

  /** At a scale in device pixels per picture pixel, the middle staying in the middle. */
  zoomTo(scale) {
    const { width, height } = this.screen;
    const x = (width / 2 - this.view.x) / this.view.scale;
    const y = (height / 2 - this.view.y) / this.view.scale;
    this.setView(placed(scale, this.result, this.screen, x, y));
  }

  /** Zoom around a device position; the middle by default. */
  zoom(factor, dx = this.canvas.width / 2, dy = this.canvas.height / 2) {
    this.setView(zoomed(this.view, factor, this.result, this.screen, dx, dy));
  }

  pan(dx, dy) {
    this.setView(panned(this.view, dx, dy, this.result, this.screen), false);
  }

  setLimit(code) {
    this.limit = code;
    this.request("limit");
  }

  setLook(look) {
    this.look = look;
    this.request("view");
  }

  setDivider(share) {
    this.divider = share;
    this.request("view");
  }

  /** The picture's pixel and its code under a device position, or null. */
  at(dx, dy) {
    if (!this.result) return null;
    const pixel = pixelAt(this.view, this.result, dx, dy);
    if (!pixel) return null;
    const { width, data } = this.result.levels[0];
    return { ...pixel, code: data[pixel.y * width + pixel.x] };
  }

  request(what) {
    if (!this.dirty) requestAnimationFrame(() => this.draw());
    if (this.dirty !== "view") this.dirty = what;
  }

  draw() {
    const what = this.dirty;
    this.dirty = null;
    if (!this.result || !this.view) return;
    if (what === "view") this.prepare();
    const { area, out } = this.prepared;
    choose({ ...this.prepared, limit: this.limit });
    if (what === "view") this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.putImageData(out.image, area.x0, area.y0);
  }

  /** Draw the scene and read it back, with the codes of its pixels. */
  prepare() {
    const { view, result, screen, scene, look } = this;
    const area = covered(view, result, screen);
    const width = area.x1 - area.x0;
    const height = area.y1 - area.y0;
    if (scene.canvas.width !== screen.width || scene.canvas.height !== screen.height) {
      Object.assign(scene.canvas, screen);
    }
    const edge = result.before ? Math.round(this.divider * screen.width) : 0;
    if (look !== "mask") drawPart(scene, result.pictures, result, view, area, edge, area.x1);
    if (edge > area.x0) drawPart(scene, [result.before], result, view, area, area.x0, edge);
    const read = scene.getImageData(area.x0, area.y0, width, height);
    const pixels = new Uint32Array(read.data.buffer);
    const image = this.imageOf(width, height);
    this.prepared = {
      look,
      area,
      width,
      pixels,
      codes: look === "off" ? null : sampleCodes(result.levels, view, area),
      untrusted:
        look === "off"
          ? null
          : untrustedLook(look, pixels, width, view.x + view.y - area.x0 - area.y0),
      from: Math.max(0, edge - area.x0),
      out: Object.assign(new Uint32Array(image.data.buffer), { image }),
    };
  }

  imageOf(width, height) {
    if (this.image?.width !== width || this.image?.height !== height) {
      this.image = new ImageData(width, height);
    }
    return this.image;
  }
}

/**
 * Draw the columns [left, right) of a picture, from the coarsest bitmap that is fine enough.
 *
 * Pixels are smoothed when they are smaller than those of the screen and squares when larger.
 */
function drawPart(scene, bitmaps, picture, view, area, left, right) {
  const drawn = Math.ceil(picture.width * view.scale);
  const bitmap = bitmaps.findLast((level) => level.width >= drawn) ?? bitmaps[0];
  const ratio = picture.width / bitmap.width; // picture pixels per bitmap pixel
  const cell = view.scale * ratio;
  // Whole pixels of the bitmap that cover what is seen.
  const sx = Math.max(0, Math.floor((Math.max(left, area.x0) - view.x) / cell) - 1);
  const sy = Math.max(0, Math.floor((area.y0 - view.y) / cell) - 1);
  const ex = Math.min(bitmap.width, Math.ceil((Math.min(right, area.x1) - view.x) / cell) + 1);
  const ey = Math.min(bitmap.height, Math.ceil((area.y1 - view.y) / cell) + 1);
  if (ex <= sx || ey <= sy) return;
  scene.save();
  scene.beginPath();
  scene.rect(left, area.y0, right - left, area.y1 - area.y0);
  scene.clip();
  scene.imageSmoothingEnabled = cell < 1;
  scene.imageSmoothingQuality = "low";
  scene.clearRect(left, area.y0, right - left, area.y1 - area.y0);
  scene.drawImage(
    bitmap,
    sx,
    sy,
    ex - sx,
    ey - sy,
    view.x + sx * cell,
    view.y + sy * cell,
    (ex - sx) * cell,
    (ey - sy) * cell,
  );
  scene.restore();
}
