// Coarser versions of the codes, for views from afar.

/**
 * [{width, height, data}]: the codes, then halves of halves down to 64 px.
 *
 * A coarse cell holds the largest code of its pixels: from afar a spot counts as trusted only if
 * all of it is, so no untrusted pixel is ever hidden.
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
