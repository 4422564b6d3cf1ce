// Truth and prediction at the same zoom and place, with the marks over both.

import { toPicture } from "../viewport/geometry.js";
import { Viewport, outline } from "../viewport/viewport.js";

export const PARTS = /** @type {const} */ (["truth", "prediction"]);

/** `cursor`: the place of the brush in pixels of the image, or null. */
export class View {
  item = null;
  cursor = null;
  brush = 0;
  outline = null; // the lasso while it is drawn
  showsMarks = true;
  // On a phone the two take turns.
  mode = matchMedia("(max-width: 42rem)").matches ? "flicker" : "side";
  shown = "prediction"; // in flicker mode
  marks = new OffscreenCanvas(1, 1);
  frame = null;
  canvases = PARTS.map((part) => {
    const ariaLabel = `${part === "truth" ? "Truth" : "Prediction"}: draw here. Arrow keys move the brush, Enter draws, question mark lists the keys.`;
    const canvas = document.createElement("canvas");
    return Object.assign(canvas, { tabIndex: 0, role: "application", ariaLabel });
  });

  constructor({ onZoom, onChange, hands }) {
    this.onChange = onChange;
    // The prediction comes first: it is seen in every mode, so its size counts.
    this.viewport = new Viewport([this.canvases[1], this.canvases[0]], {
      ...hands,
      onView: () => {
        onZoom(this.viewport.view.scale / this.viewport.density);
        this.draw();
      },
    });
  }

  show(item) {
    this.item = item;
    const { width, height } = item.mask;
    Object.assign(this.marks, { width, height });
    item.onDrawn = (box) => this.paintMarks(box);
    this.paintMarks(item.mask.whole());
    this.viewport.show({ width, height });
  }

  set(changes) {
    Object.assign(this, changes);
    this.onChange();
    this.draw();
  }

  setMode(mode) {
    this.set({ mode, shown: "prediction" });
  }

  swap() {
    this.set({ shown: this.shown === "truth" ? "prediction" : "truth" });
  }

  toImage(place) {
    return toPicture(this.viewport.view, place);
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.item) this.canvases.forEach((canvas, k) => this.drawPane(canvas, PARTS[k]));
    });
  }

  drawPane(canvas, part) {
    const { scale, x, y } = this.viewport.view;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, scale, x, y);
    context.imageSmoothingEnabled = scale < 2;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.item[this.mode === "flicker" ? this.shown : part], 0, 0);
    context.imageSmoothingEnabled = false;
    if (this.showsMarks) context.drawImage(this.marks, 0, 0);
    this.drawTools(context, scale / this.viewport.density);
  }

  drawTools(context, scale) {
    const stroke = (path) => outline(context, path, scale);
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

  paintMarks({ left, top, right, bottom }) {
    const { mask } = this.item;
    if (right <= left || bottom <= top) return;
    const rows = tinted(mask.data.subarray(top * mask.width, bottom * mask.width), mask.width);
    this.marks.getContext("2d").putImageData(rows, 0, top, left, 0, right - left, bottom - top);
    this.draw();
  }
}

/** Marks as half transparent pink. */
export function tinted(marks, width) {
  const image = new ImageData(width, marks.length / width);
  new Uint32Array(image.data.buffer).set(Uint32Array.from(marks, (mark) => mark && 0x8c8c00e0));
  return image;
}
