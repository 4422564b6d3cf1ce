// α and the codes of trust.png: code = ⌈α(p)/B · 65534⌉, trusted at α where code ≤ ⌊α/B · 65534⌋. The page uses only
// α that are multiples of B/65534: for those its mask is the server's, pixel by pixel.

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

export const snap = (alpha, bound) => alphaOf(codeOf(alpha, bound), bound);

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

/** The axis of the slider, logarithmic: from where nothing is trusted to where all is, with room for the served code. */
export function axis(counts, served) {
  const lowest = Math.min(
    counts.findIndex((count) => count > 0),
    STEPS,
  );
  const highest = counts.indexOf(counts[STEPS]);
  const low = Math.max(1, Math.floor(Math.min(0.8 * lowest, 0.8 * served || Infinity)));
  const high = Math.min(STEPS, Math.ceil(Math.max(1.1 * highest, 1.25 * served, low + 100)));
  return { low, high };
}

export const codeAt = ({ low, high }, place) => Math.round(low * (high / low) ** place);

export function placeOf({ low, high }, code) {
  const place = Math.log(Math.max(code, 1) / low) / Math.log(high / low);
  return Math.min(Math.max(place, 0), 1);
}
