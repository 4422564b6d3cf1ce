// The marking: a smooth thin line around what is not trusted, a hatch inside, the picture's own colours; the more was added
// and the graver the doubt, the stronger. This painter draws on a 2D canvas without reading a pixel back; gl.js draws the
// same on a graphics card. The page that people share contains this file as it is, after doubts.js.

import { FAINT, inkOf } from "./doubts.js";

export const VIEWS = /** @type {const} */ (["checked", "marked", "original"]);

export const LEGENDS = {
  checked: "Ringed: the gravest doubts. Hold: what was sent.",
  marked: "Hatched: don’t rely on it. Stronger where more was added.",
  original: "The picture that was sent, enlarged",
  plain: "As the model made it, nothing marked",
};

const EXACT_FROM = 6; // CSS pixels that a picture pixel is wide: from here on the mask is drawn pixel by pixel
const COARSE = 1.25; // CSS pixels of a mark's cell at least, where there are several levels
/** Marks are smoothed over this many cells to each side, by a bell curve of this width. */
export const [REACH, SIGMA] = [3, 1.3];
/** The slope of a smoothed border per cell, in its middle. */
export const SLOPE = 1 / (SIGMA * Math.sqrt(2 * Math.PI));
export const STEP = 8; // CSS pixels from stripe to stripe, along an axis
export const STYLE = {
  line: /** @type {Rgba} */ ([255, 60, 170, 0.95]),
  stripe: /** @type {Rgba} */ ([255, 255, 255, 0.55]),
  shade: /** @type {Rgba} */ ([0, 0, 0, 0.34]), // beside a stripe
  half: 0.5, // CSS pixels: of the line
  stripeWidth: 1.4, // along an axis, so that it is 1 across
  board: /** @type {[number, number]} */ ([0xd0, 0xf4]), // under transparent parts
  square: 8,
};
const BORDER = 254; // of what is drawn pixel by pixel
const LEVELS = 16; // of the ink

/**
 * @typedef {[number, number, number, number]} Rgba
 * @typedef {{width: number, height: number, data: Uint16Array, cell: number, isExact?: boolean}} Grid
 * @typedef {object} Layer a result
 * @property {number} width
 * @property {number} height
 * @property {ImageBitmap[]} pictures halves of halves
 * @property {ImageBitmap | null} soft the upload, enlarged without a model
 * @property {Grid} codes of every pixel
 * @property {Grid[]} marks
 * @property {number} limit the largest code that is trusted
 * @property {boolean} isOpaque
 * @property {import("./doubts.js").Strength | null} [strength] what was added, by cells; without, all ink is full
 * @property {ReturnType<typeof inkOf>} [ink] as of the last limit
 * @typedef {object} Scene
 * @property {{scale: number, x: number, y: number}} view
 * @property {{width: number, height: number}} screen
 * @property {number} density device pixels of a CSS pixel
 * @property {{layer: Layer, mode: string, left: number, right: number}[]} parts columns; mode: one of VIEWS or "plain"
 */

/** The cells that mark a layer at this zoom. @param {Layer} layer @returns {Grid} */
export function gridOf({ codes, marks }, { scale }, density) {
  if (scale >= EXACT_FROM * density) return { ...codes, cell: 1, isExact: true };
  return marks.find(({ cell }) => cell * scale >= COARSE * density) ?? marks.at(-1);
}

/** The visible part of a column of the screen: device pixels [x0, x1) × [y0, y1); null: none. */
export function areaOf({ view, screen }, { layer, left, right }) {
  const area = {
    x0: Math.max(0, view.x, left),
    y0: Math.max(0, view.y),
    x1: Math.min(screen.width, Math.ceil(view.x + layer.width * view.scale), right),
    y1: Math.min(screen.height, Math.ceil(view.y + layer.height * view.scale)),
  };
  return area.x1 > area.x0 && area.y1 > area.y0 ? area : null;
}

/** How strongly a layer's doubts are drawn at its limit; null: all alike. @param {Layer} layer */
export function inkFor(layer) {
  if (!layer.strength) return null;
  if (layer.ink?.limit !== layer.limit) layer.ink = inkOf(layer.strength, layer.limit);
  return layer.ink;
}

/**
 * Colours of a mark by how far inside it a pixel lies (0 … 255, 128 on the border), by its place in a stripe, one row of 256
 * a place, and by the ink, one such table a level.
 */
export function tableOf(grid, { view, density }, levels = 1) {
  const places = Math.round(STEP * density);
  const table = new Uint32Array(256 * places * levels);
  const reach = (grid.cell * view.scale) / SLOPE / 255;
  const row = (ink, strength) => {
    const [own, line] = [thinned(ink, strength), thinned(STYLE.line, Math.sqrt(strength))];
    return Uint32Array.from({ length: 256 }, (_, f) => {
      if (grid.isExact) return pack(f === BORDER ? line : f ? own : CLEAR);
      const inside = f === 255 ? Infinity : ((f - 127.5) * reach) / density;
      const layers = inside > STYLE.half ? [own] : [];
      return pack([...layers, faded(line, STYLE.half - Math.abs(inside))].reduce(over));
    });
  };
  for (let level = 0; level < levels; level += 1) {
    const strength = levels === 1 ? 1 : level / (levels - 1);
    const rows = new Map([STYLE.stripe, STYLE.shade, CLEAR].map((ink) => [ink, row(ink, strength)]));
    for (let place = 0; place < places; place += 1)
      table.set(rows.get(stripe(place, density)), 256 * (level * places + place));
  }
  return table;
}

/** @param {Rgba} colour @returns {Rgba} */
const thinned = ([r, g, b, a], strength) => [r, g, b, a * strength];

const CLEAR = /** @type {Rgba} */ ([0, 0, 0, 0]);

/** @param {Rgba} colour @returns {Rgba} */
function faded([r, g, b, a], ...insides) {
  return [r, g, b, a * Math.min(1, Math.max(0, 0.5 + Math.min(...insides)))];
}

/** @returns {Rgba} */
function stripe(place, density) {
  const width = Math.max(1, Math.round(STYLE.stripeWidth * density));
  return place < width ? STYLE.stripe : place < 2 * width ? STYLE.shade : CLEAR;
}

/** @param {Rgba} under @param {Rgba} top @returns {Rgba} */
function over(under, top) {
  const alpha = top[3] + under[3] * (1 - top[3]);
  if (!alpha) return CLEAR;
  const mix = (k) => (top[k] * top[3] + under[k] * under[3] * (1 - top[3])) / alpha;
  return [mix(0), mix(1), mix(2), alpha];
}

// Canvas pixels are bytes R, G, B, A, read as little-endian numbers.
const pack = (/** @type {Rgba} */ [r, g, b, a]) =>
  ((Math.round(255 * a) << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;

/**
 * Write the marks of an area into `out`, Uint32Array, row by row. What is not trusted (code > limit) is smoothed; of exact
 * grids the border is drawn inside. ink: of `inkFor`.
 */
export function drawMarks(out, grid, limit, { view, density }, area, table, ink = null) {
  const places = table.length / 256 / (ink ? LEVELS : 1);
  const inked = ink && inkRows(ink, view, area);
  const least = grid.isExact ? FAINT * (LEVELS - 1) : 0;
  const cell = grid.cell * view.scale;
  const columns = spans(area.x0, area.x1, view.x, cell, grid.width);
  const rows = spans(area.y0, area.y1, view.y, cell, grid.height);
  const fill = (grid.isExact ? exactRow : smoothRow)(grid, limit, columns, rows, density);
  const line = new Uint8Array(columns.length);
  const phase = Math.round(area.x0 - view.x + area.y0 - view.y);
  const first = ((phase % places) + places) % places;
  for (let y = 0, at = 0; y < rows.length; y += 1) {
    fill(line, y);
    const levels = inked?.(y);
    let place = (first + y) % places;
    for (let x = 0; x < line.length; x += 1, at += 1) {
      const level = levels ? places * ((Math.max(levels[x], least) + 0.5) | 0) : 0;
      out[at] = line[x] && table[256 * (level + place) + line[x]];
      place = place + 1 === places ? 0 : place + 1;
    }
  }
}

/** A function that gives the levels of the ink along a row of the screen, between those of the cells around. */
function inkRows({ width, height, cell, data }, view, area) {
  const size = cell * view.scale;
  const between = (from, to, origin, count) => {
    const places = new Float32Array(to - from);
    for (let k = 0; k < places.length; k += 1)
      places[k] = Math.min(Math.max((from + k + 0.5 - origin) / size - 0.5, 0), count - 1);
    return places;
  };
  const columns = between(area.x0, area.x1, view.x, width);
  const rows = between(area.y0, area.y1, view.y, height);
  const along = (row) => {
    const out = new Float32Array(columns.length);
    const start = Math.min(row, height - 1) * width;
    for (let x = 0; x < out.length; x += 1) {
      const left = columns[x] | 0;
      const a = data[start + left];
      const b = data[start + Math.min(left + 1, width - 1)];
      out[x] = ((a + (columns[x] - left) * (b - a)) * (LEVELS - 1)) / 255;
    }
    return out;
  };
  const levels = new Float32Array(columns.length);
  let [above, upper, lower] = [-2, levels, levels];
  return (y) => {
    const row = rows[y] | 0;
    const fraction = rows[y] - row;
    if (row !== above) [above, upper, lower] = [row, row === above + 1 ? lower : along(row), along(row + 1)];
    for (let x = 0; x < levels.length; x += 1) levels[x] = upper[x] + fraction * (lower[x] - upper[x]);
    return levels;
  };
}

const WIDE = 2 * REACH + 1;

/** Where screen pixels lie: their cells, the weights of the cells around, and their distances to both sides of a cell. */
function spans(from, to, origin, cell, count) {
  const length = to - from;
  const [weights, near, far] = [WIDE * length, length, length].map((size) => new Float32Array(size));
  const k = new Int32Array(length);
  for (let i = 0; i < length; i += 1) {
    const at = (from + i + 0.5 - origin) / cell;
    k[i] = Math.min(Math.max(Math.floor(at), 0), count - 1);
    const t = Math.min(Math.max(at - k[i], 0), 1);
    [near[i], far[i]] = [t * cell, (1 - t) * cell];
    let sum = 0;
    for (let j = 0; j < WIDE; j += 1) sum += bell(j - REACH + 0.5 - t);
    for (let j = 0; j < WIDE; j += 1) weights[WIDE * i + j] = bell(j - REACH + 0.5 - t) / sum;
  }
  return { length, count, k, weights, near, far };
}

const bell = (x) => Math.exp((-x * x) / (2 * SIGMA ** 2));

const RING = WIDE + 1; // rows of cells that are kept at once

/** A function that fills a row of the screen, 0 … 255. */
function smoothRow({ width, data }, limit, { length, k, weights }, rows) {
  const kept = Array.from({ length: RING }, () => ({ row: -1, values: new Float32Array(length) }));
  const [from, to] = [Math.max(k[0] - REACH, 0), Math.min(k[length - 1] + REACH, width - 1)];
  const firsts = new Int32Array(width + WIDE).fill(length); // the first pixel of each cell
  for (let x = length, cell = width; x > 0; x -= 1) for (; cell > k[x - 1]; cell -= 1) firsts[cell] = x;
  firsts.fill(0, 0, k[0] + 1);
  const smoothed = (start, x) => {
    let sum = 0;
    for (let j = 0; j < WIDE; j += 1) {
      const cell = Math.min(Math.max(k[x] + j - REACH, 0), width - 1);
      if (data[start + cell] > limit) sum += weights[WIDE * x + j];
    }
    return 255 * sum;
  };
  /** A row of cells, smoothed along x: 0 … 255. */
  const along = (row) => {
    const own = kept[row % RING];
    const { values } = own;
    if (own.row === row) return values;
    own.row = row;
    const start = row * width;
    let [x, isDoubted] = [0, data[start + from] > limit];
    // Most pixels have cells of one kind around: runs are filled.
    for (let cell = from + 1, begin = from; cell <= to + 1; cell += 1) {
      if (cell <= to && data[start + cell] > limit === isDoubted) continue;
      const left = begin === from ? 0 : firsts[begin + REACH];
      const right = cell > to ? length : firsts[Math.max(cell - REACH, 0)];
      if (right > left) {
        for (; x < left; x += 1) values[x] = smoothed(start, x);
        values.fill(isDoubted ? 255 : 0, left, right);
        x = right;
      }
      begin = cell;
      isDoubted = !isDoubted;
    }
    for (; x < length; x += 1) values[x] = smoothed(start, x);
    return values;
  };
  return (line, y) => {
    const row = (j) => along(Math.min(Math.max(rows.k[y] + j - REACH, 0), rows.count - 1));
    const [a, b, c, d, e, f, g] = [row(0), row(1), row(2), row(3), row(4), row(5), row(6)];
    const [p, q, r, s, t, u, v] = rows.weights.subarray(WIDE * y, WIDE * (y + 1));
    for (let x = 0; x < length; x += 1) {
      const middle = d[x];
      // A mark is five cells wide at least, so that none lies between these three.
      if (a[x] === middle && g[x] === middle && (middle === 0 || middle === 255)) line[x] = middle;
      else line[x] = p * a[x] + q * b[x] + r * c[x] + s * middle + t * e[x] + u * f[x] + v * g[x] + 0.5;
    }
  };
}

/** The same of exact cells. */
function exactRow({ width, data }, limit, columns, rows, density) {
  const reach = STYLE.half * density;
  return (line, y) => {
    const k = rows.k[y];
    const [before, after] = [Math.max(k - 1, 0), Math.min(k + 1, rows.count - 1)];
    const [above, below] = [rows.near[y], rows.far[y]];
    for (let x = 0; x < line.length; x += 1) {
      const column = columns.k[x];
      if (data[k * width + column] <= limit) line[x] = 0;
      else {
        let edge = Infinity;
        const [left, right] = [columns.near[x], columns.far[x]];
        if (left < edge && data[k * width + Math.max(column - 1, 0)] <= limit) edge = left;
        if (right < edge && data[k * width + Math.min(column + 1, width - 1)] <= limit) edge = right;
        if (above < edge && data[before * width + column] <= limit) edge = above;
        if (below < edge && data[after * width + column] <= limit) edge = below;
        line[x] = edge < reach ? BORDER : 255;
      }
    }
  };
}

const REST_MS = 120; // after a movement, until it is drawn finely
const COLUMNS = 4; // that are drawn finely one after the other

export class CpuPainter {
  marks = /** @type {OffscreenCanvasRenderingContext2D} */ (
    new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true })
  );

  /** @type {ImageData | null} */
  image = null;
  /** What is on the canvas, with the limits of then. @type {any} */
  last = null;
  isCoarse = false; // whether some of it is
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  rest = undefined;
  /** @type {{key: string, values: Uint32Array} | null} */
  table = null;

  /** @param {HTMLCanvasElement | OffscreenCanvas} canvas */
  constructor(canvas) {
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    canvas.addEventListener("contextrestored", () => this.last && this.refine(0));
  }

  /**
   * Draw a scene. What only moves or gets another column keeps its pixels; what changes otherwise (α, zoom) is coarse at
   * first. @param {Scene} scene
   */
  draw(scene) {
    const { context, last } = this;
    const { view, screen } = scene;
    const parts = scene.parts.map((part) => ({ ...part, limit: part.layer.limit }));
    this.last = { ...scene, parts };
    const before = parts.map(({ layer, mode }, k) => {
      const same = last?.parts.length === parts.length ? last.parts[k] : null;
      return same?.layer === layer && same.mode === mode ? same : null;
    });
    const keeps = last && scaleOf(last) === scaleOf(scene);
    const kept = before.map((part, k) => keeps && part?.limit === parts[k].limit && areaOf(last, part));
    const isKept = kept.some(Boolean);
    const [dx, dy] = isKept ? [view.x - last.view.x, view.y - last.view.y] : [0, 0];
    if (!isKept) context.clearRect(0, 0, screen.width, screen.height);
    else if (dx || dy) {
      context.globalCompositeOperation = "copy";
      context.drawImage(context.canvas, dx, dy);
      context.globalCompositeOperation = "source-over";
    }
    this.isCoarse &&= isKept;
    parts.forEach((part, k) => {
      const isCoarse = Boolean(before[k]) && !kept[k];
      this.isCoarse ||= isCoarse;
      for (const area of beside(areaOf(scene, part), kept[k], dx, dy))
        this.paint(scene, part, area, isCoarse ? 2 : 1);
    });
    clearTimeout(this.rest);
    if (this.isCoarse) this.rest = setTimeout(() => this.refine(0), REST_MS);
  }

  /** After a movement: finely, a column at a time, so that no task is long. */
  refine(column) {
    const { last } = this;
    const [from, to] = [column, column + 1].map((k) => Math.round((k * last.screen.width) / COLUMNS));
    for (const part of last.parts) {
      const [left, right] = [Math.max(part.left, from), Math.min(part.right, to)];
      const area = areaOf(last, { ...part, left, right });
      if (area) this.paint(last, part, area, 1);
    }
    this.isCoarse = column + 1 < COLUMNS;
    if (this.isCoarse) this.rest = setTimeout(() => this.refine(column + 1));
  }

  /** step: device pixels a side of a pixel of the marks. */
  paint({ view, density }, { layer, mode }, area, step) {
    const { context, marks } = this;
    const { x0, y0 } = area;
    const [width, height] = [area.x1 - x0, area.y1 - y0];
    context.save();
    context.beginPath();
    context.rect(x0, y0, width, height);
    context.clip();
    context.clearRect(x0, y0, width, height);
    if (mode === "original" && layer.soft) drawPart(context, [layer.soft], layer, view, area, true);
    else drawPart(context, layer.pictures, layer, view, area, view.scale < 3 * density);
    if (mode === "marked") {
      const moved = { scale: view.scale / step, x: (view.x - x0) / step, y: (view.y - y0) / step };
      const whole = { x0: 0, y0: 0, x1: Math.ceil(width / step), y1: Math.ceil(height / step) };
      this.mark({ view: moved, density: density / step }, layer, whole);
      // What is transparent is not marked.
      context.globalCompositeOperation = "source-atop";
      context.imageSmoothingEnabled = true;
      context.drawImage(marks.canvas, 0, 0, width / step, height / step, x0, y0, width, height);
    }
    if (!layer.isOpaque) {
      context.globalCompositeOperation = "destination-over";
      context.fillStyle = board(context);
      context.translate(view.x, view.y);
      context.fillRect(x0 - view.x, y0 - view.y, width, height);
    }
    context.restore();
  }

  /** The table of a zoom, made once. */
  tableOf(grid, scene, levels) {
    const key = [grid.isExact, grid.cell * scene.view.scale, scene.density, levels].join();
    if (this.table?.key !== key) this.table = { key, values: tableOf(grid, scene, levels) };
    return this.table.values;
  }

  /** Draw the marks alone. */
  mark(scene, layer, area) {
    const { marks } = this;
    const [width, height] = [area.x1, area.y1];
    if (this.image?.width !== width || this.image.height !== height) {
      Object.assign(marks.canvas, { width, height });
      this.image = marks.createImageData(width, height);
    }
    const grid = gridOf(layer, scene.view, scene.density);
    const out = new Uint32Array(this.image.data.buffer);
    const ink = inkFor(layer);
    drawMarks(out, grid, layer.limit, scene, area, this.tableOf(grid, scene, ink ? LEVELS : 1), ink);
    marks.putImageData(this.image, 0, 0);
  }
}

const scaleOf = ({ view, screen, density }) => [view.scale, screen.width, screen.height, density].join();

/** What an area has beside a box that moves: above, below, left and right of it. */
function beside(area, box, dx, dy) {
  if (!area || !box) return area ? [area] : [];
  const { x0, y0, x1, y1 } = area;
  const [left, right] = [box.x0 + dx, box.x1 + dx].map((x) => Math.min(Math.max(x, x0), x1));
  const [top, bottom] = [box.y0 + dy, box.y1 + dy].map((y) => Math.min(Math.max(y, y0), y1));
  const row = { ...area, y0: top, y1: bottom };
  const all = [
    { ...area, y1: top },
    { ...area, y0: bottom },
    { ...row, x1: left },
    { ...row, x0: right },
  ];
  return all.filter((area) => area.x1 > area.x0 && area.y1 > area.y0);
}

function board(context) {
  const { square, board: greys } = STYLE;
  const tile = new OffscreenCanvas(2 * square, 2 * square);
  const own = tile.getContext("2d");
  for (const k of [0, 1, 2, 3]) {
    const [x, y] = [k & 1, k >> 1];
    own.fillStyle = `rgb(${Array(3)
      .fill(greys[(x + y) & 1])
      .join(" ")})`;
    own.fillRect(square * x, square * y, square, square);
  }
  return context.createPattern(tile, "repeat");
}

/** Draw an area from the coarsest bitmap that is fine enough; enlarged pixels are squares unless `smooth`. */
function drawPart(context, bitmaps, picture, view, area, smooth) {
  const drawn = Math.ceil(picture.width * view.scale);
  const bitmap = bitmaps.findLast((level) => level.width >= drawn) ?? bitmaps[0];
  const cell = (view.scale * picture.width) / bitmap.width;
  const [wide, high] = [cell, (view.scale * picture.height) / bitmap.height];
  // Whole pixels of the bitmap that cover the area.
  const sx = Math.max(0, Math.floor((area.x0 - view.x) / wide) - 2);
  const sy = Math.max(0, Math.floor((area.y0 - view.y) / high) - 2);
  const ex = Math.min(bitmap.width, Math.ceil((area.x1 - view.x) / wide) + 2);
  const ey = Math.min(bitmap.height, Math.ceil((area.y1 - view.y) / high) + 2);
  if (ex <= sx || ey <= sy) return;
  context.imageSmoothingEnabled = smooth || cell < 1;
  context.imageSmoothingQuality = cell < 0.5 ? "medium" : "low"; // halves of halves need no more
  const [x, y] = [view.x + sx * wide, view.y + sy * high];
  context.drawImage(bitmap, sx, sy, ex - sx, ey - sy, x, y, (ex - sx) * wide, (ey - sy) * high);
}
