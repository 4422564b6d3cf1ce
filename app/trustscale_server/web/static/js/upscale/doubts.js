// The gravest doubts of a result: where the model has added much that is not trusted. No imports, as paint.js.

const CELLS = 160; // along the longer side, in which the difference is measured
const ROWS = 16; // pixels of a cell that are read at most, along y: enough to judge it by
const MOST = 5;
const RADIUS = 5; // cells
const APART = 3; // radii between the middles of two rings
const VISIBLE = 3; // grey levels: less is not seen
const LEAST = 0.2; // of the gravest one, below which a doubt is none of the gravest
const LOUD = 20; // grey levels: what is more cannot be overseen
const SURE = 2.5; // times the limit of what is trusted, from which on a doubt is as grave as can be
/** Of the ink: where little was added that is hardly doubted, and at least where each pixel is seen. */
export const FAINT = 0.35;

/**
 * @typedef {object} Strength what was added, by cells
 * @property {number} width
 * @property {number} height
 * @property {number} cell pixels of the picture a side
 * @property {Uint8Array} data in grey levels
 * @property {Float32Array} added the same around each cell
 * @property {Uint16Array} codes the mean code
 * @typedef {{x: number, y: number, radius: number, thing?: any}} Ring in pixels of the picture
 */

/**
 * How much the model has changed what was sent: the root mean square of the difference of lightness in each cell.
 *
 * @param {ImageBitmap} made @param {ImageBitmap} soft what was sent, of any size @returns {Strength}
 */
export function strengthOf(made, soft, codes) {
  const { width, height } = made;
  const cell = Math.max(8, Math.ceil(Math.max(width, height) / CELLS));
  const [columns, lines] = [Math.ceil(width / cell), Math.ceil(height / cell)];
  const data = new Uint8Array(columns * lines);
  const deep = Math.min(cell, ROWS);
  const contexts = [made, soft].map((bitmap) => {
    const context = new OffscreenCanvas(width, deep).getContext("2d", { willReadFrequently: true });
    return { bitmap, context, scale: width / bitmap.width };
  });
  for (let line = 0; line < lines; line += 1) {
    const top = Math.min(Math.max(0, height - deep), Math.round((line + 0.5) * cell - deep / 2));
    const [ours, theirs] = contexts.map(({ bitmap, context, scale }) => {
      context.drawImage(bitmap, 0, -top, bitmap.width * scale, height);
      return context.getImageData(0, 0, width, deep).data;
    });
    const sums = new Float64Array(columns);
    const counts = new Uint32Array(columns);
    for (let y = 0, at = 0; y < deep; y += 1)
      for (let x = 0; x < width; x += 1, at += 4) {
        const step = grey(ours, at) - grey(theirs, at);
        const k = (x / cell) | 0;
        sums[k] += step * step;
        counts[k] += 1;
      }
    for (let k = 0; k < columns; k += 1)
      data[line * columns + k] = Math.min(255, Math.round(Math.sqrt(sums[k] / counts[k])));
  }
  const added = blurred(Float32Array.from(data), columns, lines);
  return { width: columns, height: lines, cell, data, added, codes: means(codes, columns, lines, cell) };
}

const grey = (data, at) => 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];

/** The mean code of each cell, from 16 of its pixels. */
function means({ width, height, data }, columns, lines, cell) {
  return Uint16Array.from({ length: columns * lines }, (_, at) => {
    const [left, top] = [(at % columns) * cell, Math.floor(at / columns) * cell];
    let sum = 0;
    for (let k = 0; k < 16; k += 1) {
      const x = Math.min(width - 1, left + (((k % 4) + 0.5) * cell) / 4) | 0;
      const y = Math.min(height - 1, top + (((k >> 2) + 0.5) * cell) / 4) | 0;
      sum += data[y * width + x];
    }
    return sum / 16;
  });
}

/**
 * How strongly doubts are drawn, by cells, 0 … 255: by what was added times how far it is beyond what is trusted. Where
 * nothing was added that can be seen it is nothing.
 *
 * @param {Strength} strength @param {number} limit the largest code that is trusted
 */
export function inkOf({ width, height, cell, added, codes }, limit) {
  const progress = (value, from, to) => Math.min(1, Math.max(0, (value - from) / (to - from)));
  const data = new Uint8Array(added.length);
  for (let at = 0; at < data.length; at += 1) {
    if (added[at] < VISIBLE) continue;
    const doubt = progress(codes[at], limit, SURE * limit);
    data[at] = 255 * (FAINT + (1 - FAINT) * Math.sqrt(progress(added[at], VISIBLE, LOUD) * doubt));
  }
  return { width, height, cell, limit, data };
}

/**
 * At most five: what was left out first (faces, then letters, the largest first), then the places with most that was added
 * and is not trusted.
 *
 * @param {{codes: any, strength?: Strength | null, limit: number}} layer @returns {Ring[]}
 */
export function gravest({ codes, strength, limit }, things = []) {
  /** @type {(Ring & {rank: number})[]} */
  const rings = things.map(ringOf).sort((a, b) => b.rank - a.rank || b.radius - a.radius);
  if (rings.length >= MOST || !strength) return rings.slice(0, MOST);
  const { width, height, cell } = strength;
  const doubted = (x, y) =>
    Number(codes.data[Math.min(codes.height - 1, y) * codes.width + Math.min(codes.width - 1, x)] > limit);
  const weight = new Float32Array(strength.data.length);
  for (let at = 0; at < weight.length; at += 1) {
    if (strength.data[at] < VISIBLE) continue;
    const [left, top] = [(at % width) * cell, Math.floor(at / width) * cell];
    const share = [0.25, 0.75].reduce(
      (sum, dy) =>
        sum +
        doubted(left + (cell >> 2), top + Math.round(dy * cell)) +
        doubted(left + 3 * (cell >> 2), top + Math.round(dy * cell)),
      0,
    );
    weight[at] = strength.data[at] * (share / 4);
  }
  const smooth = blurred(blurred(weight, width, height), width, height);
  const order = [...smooth.keys()].filter((at) => smooth[at] > 0).sort((a, b) => smooth[b] - smooth[a]);
  const radius = RADIUS * cell;
  const inside = (at, side) => Math.min(Math.max(at, radius), Math.max(radius, side - radius));
  for (const at of order) {
    if (rings.length === MOST || smooth[at] < LEAST * smooth[order[0]]) break;
    const [x, y] = [
      inside(((at % width) + 0.5) * cell, codes.width),
      inside((Math.floor(at / width) + 0.5) * cell, codes.height),
    ];
    if (rings.every((ring) => Math.hypot(ring.x - x, ring.y - y) > (APART / 2) * (ring.radius + radius)))
      rings.push({ x, y, radius, rank: 0 });
  }
  return rings;
}

function ringOf(thing) {
  const [xs, ys] = [0, 1].map((k) => thing.box.map((corner) => corner[k]));
  const [left, top, right, bottom] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  const radius = Math.hypot(right - left, bottom - top) / 2;
  return { x: (left + right) / 2, y: (top + bottom) / 2, radius, thing, rank: thing.kind === "face" ? 2 : 1 };
}

/** The means of squares of five cells. @param {Float32Array} data @returns {Float32Array} */
function blurred(data, width, height) {
  const along = (from, step, count, other, lines) => {
    const to = new Float32Array(from.length);
    for (let line = 0; line < lines; line += 1)
      for (let k = 0; k < count; k += 1) {
        let sum = 0;
        for (let j = Math.max(0, k - 2); j <= Math.min(count - 1, k + 2); j += 1)
          sum += from[line * other + j * step];
        to[line * other + k * step] = sum / 5;
      }
    return to;
  };
  return along(along(data, 1, width, width, height), width, height, 1, width);
}

/** Draw numbered rings on a canvas that shows a view. */
export function drawRings(context, rings, { scale, x, y }, density) {
  rings.forEach((ring, k) => {
    const [u, v] = [x + ring.x * scale, y + ring.y * scale];
    const radius = Math.max(14 * density, ring.radius * scale);
    context.beginPath();
    context.arc(u, v, radius, 0, 7);
    Object.assign(context, { strokeStyle: "rgb(0 0 0 / 70%)", lineWidth: 4 * density });
    context.stroke();
    Object.assign(context, { strokeStyle: "#fff", lineWidth: 2 * density });
    context.stroke();
    const [p, q] = [u - 0.71 * radius, v - 0.71 * radius];
    context.beginPath();
    context.arc(p, q, 11 * density, 0, 7);
    context.fillStyle = "#fff";
    context.fill();
    Object.assign(context, { fillStyle: "#16191c", textAlign: "center", textBaseline: "middle" });
    context.font = `700 ${13 * density}px "Source Sans 3", system-ui, sans-serif`;
    context.fillText(String(k + 1), p, q);
  });
}
