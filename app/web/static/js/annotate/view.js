// Truth and prediction at the same zoom and place, with the marks over both.

import { h, replace } from "../lib/dom.js";

const MOST_ZOOM = 64;
const PARTS = [
  ["truth", "Truth"],
  ["prediction", "Prediction"],
];
const FLICKER_MS = 800; // far below three flashes a second

/** The panes. `cursor` is the place of the brush in pixels of the image, or null. */
export class View {
  constructor(root, { onZoom = () => {} } = {}) {
    this.root = root;
    this.onZoom = onZoom;
    this.item = null;
    this.zoom = 1;
    this.origin = { x: 0, y: 0 }; // the place of the image at the upper left corner of each pane
    this.cursor = null;
    this.brush = 0;
    this.outline = null; // the lasso while it is drawn
    this.showsMarks = true;
    this.mode = "side";
    this.shown = "prediction"; // in flicker mode
    this.marks = new OffscreenCanvas(1, 1);
    this.panes = PARTS.map(([part, words]) => {
      const canvas = h("canvas", {
        tabindex: "0",
        role: "application",
        "aria-label": `${words}: draw here. Arrow keys move the brush, Enter draws, question mark lists the keys.`,
      });
      const caption = h("figcaption", {}, words);
      const figure = h(
        "figure",
        { class: "pane", dataset: { part } },
        caption,
        h("div", { class: "pane-stage" }, canvas),
      );
      return { part, canvas, caption, figure };
    });
    replace(
      root,
      this.panes.map(({ figure }) => figure),
    );
    this.frame = null;
    this.isFitted = true;
    new ResizeObserver(() => requestAnimationFrame(() => (this.isFitted ? this.fit() : this.draw()))).observe(
      root,
    );
  }

  show(item) {
    this.item = item;
    this.marks.width = item.mask.width;
    this.marks.height = item.mask.height;
    item.onDrawn = (box) => this.paintMarks(box);
    this.paintMarks(item.mask.whole());
    this.fit();
  }

  setMode(mode) {
    this.mode = mode;
    this.root.classList.toggle("single", mode === "flicker");
    this.showPart("prediction");
    this.setAuto(false);
    requestAnimationFrame(() => this.fit());
  }

  /** In flicker mode: which of the two pictures is seen. */
  showPart(part) {
    this.shown = part;
    const [, second] = this.panes;
    second.caption.textContent =
      this.mode === "flicker" ? PARTS.find(([one]) => one === part)[1] : "Prediction";
    this.draw();
  }

  swap() {
    this.showPart(this.shown === "truth" ? "prediction" : "truth");
  }

  setAuto(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.swap(), FLICKER_MS) : null;
  }

  get size() {
    const box = this.panes[1].canvas.getBoundingClientRect();
    return { width: box.width, height: box.height };
  }

  /** Show the whole image. */
  fit() {
    if (!this.item) return;
    const { width, height } = this.size;
    const { mask } = this.item;
    this.isFitted = true;
    this.zoom = Math.min(width / mask.width, height / mask.height) || 1;
    this.origin = { x: (mask.width - width / this.zoom) / 2, y: (mask.height - height / this.zoom) / 2 };
    this.onZoom(this.zoom);
    this.draw();
  }

  /** Zoom by a factor about a place on the pane in CSS pixels; without one, about its middle. */
  zoomBy(factor, place = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const fixed = this.toImage(place);
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.02), MOST_ZOOM);
    this.origin = { x: fixed.x - place.x / this.zoom, y: fixed.y - place.y / this.zoom };
    this.isFitted = false;
    this.onZoom(this.zoom);
    this.draw();
  }

  /** Move the picture by CSS pixels; some of it always stays in sight. */
  panBy(dx, dy) {
    const { width, height } = this.size;
    const { mask } = this.item;
    const [w, h2] = [width / this.zoom, height / this.zoom];
    this.origin = {
      x: Math.min(Math.max(this.origin.x - dx / this.zoom, -w * 0.9), mask.width - w * 0.1),
      y: Math.min(Math.max(this.origin.y - dy / this.zoom, -h2 * 0.9), mask.height - h2 * 0.1),
    };
    this.isFitted = false;
    this.draw();
  }

  toImage({ x, y }) {
    return { x: this.origin.x + x / this.zoom, y: this.origin.y + y / this.zoom };
  }

  /** Redraw with the next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.item) for (const pane of this.panes) this.drawPane(pane);
    });
  }

  drawPane({ part, canvas }) {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    const scale = this.zoom * ratio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(scale, 0, 0, scale, -this.origin.x * scale, -this.origin.y * scale);
    context.imageSmoothingEnabled = scale < 2;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.item[this.mode === "flicker" ? this.shown : part], 0, 0);
    context.imageSmoothingEnabled = false;
    if (this.showsMarks) context.drawImage(this.marks, 0, 0);
    this.drawTools(context, scale);
  }

  drawTools(context, scale) {
    const stroke = (path) => {
      // Dark and light together are seen on any picture.
      for (const [colour, width] of [
        ["rgb(0 0 0 / 80%)", 3],
        ["#fff", 1.25],
      ]) {
        context.strokeStyle = colour;
        context.lineWidth = width / scale;
        context.stroke(path);
      }
    };
    if (this.outline?.length > 1) {
      const path = new Path2D();
      this.outline.forEach(({ x, y }, k) => (k ? path.lineTo(x, y) : path.moveTo(x, y)));
      stroke(path);
    }
    if (this.cursor && this.brush) {
      const path = new Path2D();
      path.arc(this.cursor.x, this.cursor.y, Math.max(this.brush / 2, 0.5), 0, 7);
      stroke(path);
    }
  }

  /** Bring the tinted copy of the marks up to date within a box. */
  paintMarks({ left, top, right, bottom }) {
    const { mask } = this.item;
    const [width, height] = [right - left, bottom - top];
    if (width <= 0 || height <= 0) return;
    const context = this.marks.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        // Magenta (c40082, as everywhere for what is not trusted), half transparent.
        if (mask.data[(top + y) * mask.width + left + x]) pixels[y * width + x] = 0x8c8200c4;
      }
    }
    context.putImageData(image, left, top);
    this.draw();
  }
}
