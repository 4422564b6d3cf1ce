// The label as pixels: 1 where the meaning differs. Exact, without half-transparent edges, because
// the service takes every pixel that is not black.

const MOST_STEPS = 200;
const MOST_BYTES = 64e6;

/** A binary image that can be drawn on, undone and redone. */
export class Mask {
  /** `onChange({left, top, right, bottom})` is called with what has changed, right and bottom excluded. */
  constructor(width, height, onChange = (_box) => {}) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.onChange = onChange;
    this.past = [];
    this.future = [];
    this.stroke = null;
  }

  get isEmpty() {
    return !this.data.includes(1);
  }

  /** Everything at once, as from a file; there is nothing to undo afterwards. */
  load(data) {
    this.data.set(data);
    this.past = [];
    this.future = [];
    this.onChange(this.whole());
  }

  whole() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  /** Begin a step: all changes until `end` are undone together. */
  begin() {
    this.stroke = { before: this.data.slice(), box: null };
  }

  /** End a step; whether anything has changed in it. */
  end() {
    const { before, box } = this.stroke ?? {};
    this.stroke = null;
    if (!box) return false;
    const step = { box, before: cut(before, this.width, box), after: cut(this.data, this.width, box) };
    if (step.before.every((value, k) => value === step.after[k])) return false;
    this.past.push(step);
    this.future = [];
    let bytes = this.past.reduce((sum, one) => sum + 2 * one.before.length, 0);
    while (this.past.length > MOST_STEPS || (bytes > MOST_BYTES && this.past.length > 1)) {
      bytes -= 2 * this.past.shift().before.length;
    }
    return true;
  }

  undo() {
    return this.travel(this.past, this.future, "before");
  }

  redo() {
    return this.travel(this.future, this.past, "after");
  }

  travel(from, to, side) {
    const step = from.pop();
    if (!step) return false;
    paste(this.data, this.width, step.box, step[side]);
    to.push(step);
    this.onChange(step.box);
    return true;
  }

  /** A round brush of `size` pixels dragged along a segment between places in pixels. */
  line(from, to, size, value) {
    const fine = size <= 2;
    const [a, b] = fine ? [centre(from), centre(to)] : [from, to];
    const radius = Math.max(size / 2, 0.5);
    const box = this.clipped({
      left: Math.floor(Math.min(a.x, b.x) - radius),
      top: Math.floor(Math.min(a.y, b.y) - radius),
      right: Math.ceil(Math.max(a.x, b.x) + radius) + 1,
      bottom: Math.ceil(Math.max(a.y, b.y) + radius) + 1,
    });
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const square = dx * dx + dy * dy;
    const reach = radius * radius + 1e-9;
    for (let y = box.top; y < box.bottom; y += 1) {
      for (let x = box.left; x < box.right; x += 1) {
        const [px, py] = [x + 0.5 - a.x, y + 0.5 - a.y];
        const along = square ? Math.min(Math.max((px * dx + py * dy) / square, 0), 1) : 0;
        const [ex, ey] = [px - along * dx, py - along * dy];
        if (ex * ex + ey * ey <= reach) this.data[y * this.width + x] = value;
      }
    }
    this.touched(box);
  }

  /** The inside of a closed line (even-odd rule, by the centres of the pixels). */
  polygon(points, value) {
    if (points.length < 3) return;
    const ys = points.map((p) => p.y);
    const top = Math.max(Math.floor(Math.min(...ys)), 0);
    const bottom = Math.min(Math.ceil(Math.max(...ys)), this.height);
    for (let y = top; y < bottom; y += 1) {
      const cuts = crossings(points, y + 0.5);
      for (let k = 0; k + 1 < cuts.length; k += 2) {
        const first = Math.max(Math.ceil(cuts[k] - 0.5), 0);
        const last = Math.min(Math.ceil(cuts[k + 1] - 0.5), this.width);
        if (last > first) this.data.fill(value, y * this.width + first, y * this.width + last);
      }
    }
    const xs = points.map((p) => p.x);
    this.touched(
      this.clipped({ left: Math.floor(Math.min(...xs)), top, right: Math.ceil(Math.max(...xs)) + 1, bottom }),
    );
  }

  /** Take all marks away, as one step; whether there were any. */
  clear() {
    this.begin();
    this.data.fill(0);
    this.touched(this.whole());
    return this.end();
  }

  touched(box) {
    if (box.right <= box.left || box.bottom <= box.top) return;
    if (this.stroke) this.stroke.box = this.stroke.box ? union(this.stroke.box, box) : box;
    this.onChange(box);
  }

  clipped({ left, top, right, bottom }) {
    return {
      left: Math.max(left, 0),
      top: Math.max(top, 0),
      right: Math.min(right, this.width),
      bottom: Math.min(bottom, this.height),
    };
  }
}

/** The marks of a label file as 0 and 1. */
export async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const marks = new Uint8Array(bitmap.width * bitmap.height);
  for (let k = 0; k < marks.length; k += 1)
    marks[k] = data[4 * k] | data[4 * k + 1] | data[4 * k + 2] ? 1 : 0;
  bitmap.close();
  return marks;
}

function crossings(points, y) {
  const found = [];
  for (let k = 0; k < points.length; k += 1) {
    const a = points[k];
    const b = points[(k + 1) % points.length];
    if (a.y <= y !== b.y <= y) found.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
  }
  return found.sort((p, q) => p - q);
}

const centre = ({ x, y }) => ({ x: Math.floor(x) + 0.5, y: Math.floor(y) + 0.5 });

function union(a, b) {
  return {
    left: Math.min(a.left, b.left),
    top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right),
    bottom: Math.max(a.bottom, b.bottom),
  };
}

function cut(data, width, { left, top, right, bottom }) {
  const piece = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y += 1)
    piece.set(data.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  return piece;
}

function paste(data, width, { left, top, right, bottom }, piece) {
  for (let y = top; y < bottom; y += 1)
    data.set(piece.subarray((y - top) * (right - left), (y - top + 1) * (right - left)), y * width + left);
}
