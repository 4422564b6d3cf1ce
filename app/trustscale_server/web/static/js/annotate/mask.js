// The label as pixels: 1 where the meaning differs. No half-transparent edges: every pixel above 0 counts.

const MOST_STEPS = 200;
const MOST_BYTES = 128e6;

export class Mask {
  past = []; // each state before a step, packed
  future = [];
  stroke = null; // the marks before the present step

  /** `onChange({left, top, right, bottom})` after every change, right and bottom excluded. */
  constructor(width, height, onChange = (_box) => {}) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.onChange = onChange;
  }

  get isEmpty() {
    return !this.data.includes(1);
  }

  /** Replace everything, without undo. */
  load(data) {
    this.data.set(data);
    [this.past, this.future] = [[], []];
    this.onChange(this.whole());
  }

  whole() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  /** Begin a step: all changes until `end` are undone together. */
  begin() {
    this.stroke = this.data.slice();
  }

  /** Whether anything has changed in the step. */
  end() {
    const before = this.stroke;
    this.stroke = null;
    if (!before || before.every((mark, k) => mark === this.data[k])) return false;
    this.past.push(packed(before));
    this.future = [];
    if (this.past.length > Math.min(MOST_STEPS, (8 * MOST_BYTES) / this.data.length)) this.past.shift();
    return true;
  }

  undo() {
    return this.travel(this.past, this.future);
  }

  redo() {
    return this.travel(this.future, this.past);
  }

  travel(from, to) {
    if (!from.length) return false;
    to.push(packed(this.data));
    const bytes = from.pop();
    this.data.forEach((_, k) => (this.data[k] = (bytes[k >> 3] >> (7 - (k & 7))) & 1));
    this.onChange(this.whole());
    return true;
  }

  /** A round brush of `size` pixels along a segment, in pixels. */
  line(from, to, size, value) {
    const fine = size <= 2;
    const [a, b] = fine ? [centre(from), centre(to)] : [from, to];
    const radius = Math.max(size / 2, 0.5);
    const box = {
      left: Math.max(Math.floor(Math.min(a.x, b.x) - radius), 0),
      top: Math.max(Math.floor(Math.min(a.y, b.y) - radius), 0),
      right: Math.min(Math.ceil(Math.max(a.x, b.x) + radius) + 1, this.width),
      bottom: Math.min(Math.ceil(Math.max(a.y, b.y) + radius) + 1, this.height),
    };
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
    this.onChange(box);
  }

  /** Fill a closed line (even-odd rule, by the centres of the pixels). */
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
    this.onChange({ left: 0, top, right: this.width, bottom });
  }

  /** Remove all marks as one step; whether there were any. */
  clear() {
    this.begin();
    this.data.fill(0);
    this.onChange(this.whole());
    return this.end();
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
  bitmap.close();
  return marks.map((_, k) => (data[4 * k] | data[4 * k + 1] | data[4 * k + 2] ? 1 : 0));
}

/** Marks as bits, the first one highest. */
export function packed(marks) {
  const bytes = new Uint8Array(Math.ceil(marks.length / 8));
  marks.forEach((mark, k) => (bytes[k >> 3] |= mark << (7 - (k & 7))));
  return bytes;
}

function crossings(points, y) {
  const crossings = [];
  points.forEach((a, k) => {
    const b = points[(k + 1) % points.length];
    if (a.y <= y !== b.y <= y) crossings.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
  });
  return crossings.sort((p, q) => p - q);
}

const centre = ({ x, y }) => ({ x: Math.floor(x) + 0.5, y: Math.floor(y) + 0.5 });
