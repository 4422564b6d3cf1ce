// α and the codes of trust.png: code = ⌈α(p)/B · 65534⌉, trusted at α where code ≤ ⌊α/B · 65534⌋. The slider has only
// multiples of B/65534: for those the mask is the server's, pixel by pixel.

export const STEPS = 65534;

/** The largest code that is trusted at α, rounded down. */
export function codeOf(alpha, bound) {
  const steps = (alpha / bound) * STEPS;
  const whole = Math.round(steps);
  // The quotient of a multiple may be a rounding error below it.
  const code = Math.abs(steps - whole) <= 1e-9 ? whole : Math.floor(steps);
  return Math.min(Math.max(code, 0), STEPS);
}

/** The α of a code: the number that the server parses. */
export const alphaOf = (code, bound) => (code * bound) / STEPS;

/** How many pixels have a code of at most i: Uint32Array of 65536. */
export function cumulative(data) {
  const counts = new Uint32Array(65536);
  for (let i = 0; i < data.length; i += 1) counts[data[i]] += 1;
  for (let i = 1; i < counts.length; i += 1) counts[i] += counts[i - 1];
  return counts;
}

/**
 * [{width, height, data}]: the codes, then halves of halves down to 64 px. A coarse cell holds the largest code of its
 * pixels, so zooming out hides no untrusted pixel.
 */
export function codePyramid(codes) {
  const levels = [codes];
  for (let last = codes; Math.max(last.width, last.height) > 64; levels.push(last)) {
    last = halve(last);
  }
  return levels;
}

function halve({ width, height, data }) {
  const w = (width + 1) >> 1;
  const h = (height + 1) >> 1;
  const out = new Uint16Array(w * h);
  for (let y = 0; y < h; y += 1) {
    const top = 2 * y * width;
    const bottom = Math.min(2 * y + 1, height - 1) * width;
    for (let x = 0; x < w; x += 1) {
      const left = 2 * x;
      const right = Math.min(left + 1, width - 1);
      const a = Math.max(data[top + left], data[top + right]);
      const b = Math.max(data[bottom + left], data[bottom + right]);
      out[y * w + x] = a > b ? a : b;
    }
  }
  return { width: w, height: h, data: out };
}

const MOST_CELLS = 1600; // a side of what is drawn as marks
const NARROW = 100; // a trusted spot narrower than this part of the side is drawn as not trusted

/**
 * The codes as the screen marks them, coarser and coarser: [{width, height, data, cell}], `cell` in pixels of the picture
 * a side. Each is closed (narrow trusted spots are filled), and holds the largest code around a cell, so that a smooth
 * line on it encloses all that is not trusted: it only ever shows less as trusted than is.
 */
export function markLevels(levels) {
  const side = ({ width, height }) => Math.max(width, height);
  const fine = levels.findIndex((level) => side(level) <= MOST_CELLS);
  const base = fine < 0 ? levels.length - 1 : fine;
  const radius = Math.max(1, Math.round(side(levels[base]) / NARROW / 2));
  let level = extreme(extreme(levels[base], radius, true), radius, false);
  const grids = [];
  for (let cell = 2 ** base; ; cell *= 2) {
    grids.push({ ...grown(level), cell });
    if (side(level) <= 64) return grids;
    level = halve(level);
  }
}

/** The largest code of the octagon of five cells around each cell: a smoothed line around it leaves nothing out. */
function grown({ width, height, data }) {
  const square = extreme({ width, height, data }, 1, true);
  const out = Uint16Array.from(square.data);
  for (let y = 0, at = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1, at += 1) {
      const sideways = Math.max(square.data[x ? at - 1 : at], square.data[x + 1 < width ? at + 1 : at]);
      const upright = Math.max(
        square.data[y ? at - width : at],
        square.data[y + 1 < height ? at + width : at],
      );
      out[at] = Math.max(out[at], sideways, upright);
    }
  return { width, height, data: out };
}

/** The largest or the smallest code of the square of 2·radius + 1 cells around each cell. */
function extreme({ width, height, data }, radius, isLargest) {
  const rows = new Uint16Array(data.length);
  const out = new Uint16Array(data.length);
  const along = windowed(
    Math.max(width, height),
    radius,
    isLargest ? Math.max : Math.min,
    isLargest ? 0 : 65535,
  );
  for (let y = 0; y < height; y += 1) along(data, rows, y * width, 1, width);
  for (let x = 0; x < width; x += 1) along(rows, out, x, width, height);
  return { width, height, data: out };
}

/** A running extreme along a line at the same cost for any radius (van Herk 1992; Gil and Werman 1993). */
function windowed(most, radius, pick, neutral) {
  const size = 2 * radius + 1;
  const padded = Math.ceil((most + 2 * radius) / size) * size;
  const [values, ahead, behind] = [0, 1, 2].map(() => new Uint16Array(padded));
  return (from, to, start, step, count) => {
    values.fill(neutral);
    for (let i = 0; i < count; i += 1) values[i + radius] = from[start + i * step];
    for (let i = 0; i < padded; i += 1) ahead[i] = i % size ? pick(ahead[i - 1], values[i]) : values[i];
    for (let i = padded - 1; i >= 0; i -= 1)
      behind[i] = (i + 1) % size ? pick(behind[i + 1], values[i]) : values[i];
    for (let i = 0; i < count; i += 1) to[start + i * step] = pick(behind[i], ahead[i + size - 1]);
  };
}

/** The axis of the slider, logarithmic: exactly the α that the promise covers after looking. */
export const axis = ([from, to], bound) => ({
  low: Math.max(1, codeOf(from, bound)),
  high: codeOf(to, bound),
});

export const codeAt = ({ low, high }, place) => Math.round(low * (high / low) ** place);

export function placeOf({ low, high }, code) {
  const place = Math.log(Math.max(code, 1) / low) / Math.log(high / low);
  return Math.min(Math.max(place, 0), 1);
}
