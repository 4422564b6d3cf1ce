// Pixels of one view. Only visible pixels are touched. A change of the view samples codes and prepares the untrusted
// look; a change of α only chooses, pixel by pixel, between two ready colours.

const WHITE = 0xffffffff;
const BLACK = 0xff000000;
const STRIPE = 12;
const VEIL = 0.24;
const VEIL_ON_BLACK = 0.5; // a thinner one would not be seen there
const CHECK = 8; // pixels a side
const CHECKS = [0xd0, 0xf4]; // the usual greys

export const LOOKS = ["contour", "tint", "hatch", "believed", "mask", "off"];
/** Looks in which no line marks the border. */
const LINELESS = ["mask", "believed"];

/**
 * Colours of the marking. The first is that of overlay.png and is taken unless the picture is full of it.
 * @type {[number, number, number][]}
 */
const COLOURS = [
  [224, 0, 140],
  [255, 208, 0],
  [0, 208, 90],
  [40, 110, 255],
];
const ALIKE = 150; // distance (below) up to which a colour is taken for another
const SWALLOWED = 0.05; // share of a picture that may be alike

/** The first colour of which the picture has next to nothing. */
export function standingOut(pixels) {
  const shares = COLOURS.map((colour) => alike(pixels, colour) / Math.max(1, pixels.length));
  const good = shares.findIndex((share) => share <= SWALLOWED);
  return COLOURS[good >= 0 ? good : shares.indexOf(Math.min(...shares))];
}

/** How many pixels look like a colour: weighted distance in RGB ("redmean"). */
function alike(pixels, [red, green, blue]) {
  let found = 0;
  for (const pixel of pixels) {
    const r = pixel & 255;
    const mean = (r + red) / 2;
    const [dr, dg, db] = [r - red, ((pixel >>> 8) & 255) - green, ((pixel >>> 16) & 255) - blue];
    const square = (2 + mean / 256) * dr * dr + 4 * dg * dg + (2 + (255 - mean) / 256) * db * db;
    if (square < ALIKE * ALIKE) found += 1;
  }
  return found;
}

/**
 * The code behind every pixel of an area of the screen: Uint16Array, row by row. levels: the pyramid of codes. From
 * afar a pixel shows the largest code of the one or two cells per axis whose middles lie in it.
 */
export function sampleCodes(levels, view, { x0, y0, x1, y1 }) {
  const wanted = Math.max(0, Math.floor(1e-9 - Math.log2(view.scale)));
  const index = Math.min(wanted, levels.length - 1);
  const { width, height, data } = levels[index];
  const cell = view.scale * 2 ** index; // screen pixels per cell: above ½, and near by any number
  const columns = spans(x0, x1, view.x, cell, width);
  const rows = spans(y0, y1, view.y, cell, height);
  const out = new Uint16Array((x1 - x0) * (y1 - y0));
  let at = 0;
  for (let y = 0; y < rows.first.length; y += 1) {
    const top = rows.first[y] * width;
    const bottom = rows.last[y] * width;
    for (let x = 0; x < columns.first.length; x += 1) {
      const left = columns.first[x];
      let code = data[top + left];
      if (cell < 1) {
        const right = columns.last[x];
        code = Math.max(code, data[top + right], data[bottom + left], data[bottom + right]);
      }
      out[at++] = code;
    }
  }
  return out;
}

function spans(from, to, origin, cell, count) {
  const first = new Int32Array(to - from);
  const last = new Int32Array(to - from);
  for (let i = 0; i < first.length; i += 1) {
    const start = (from + i - origin) / cell;
    const end = start + 1 / cell;
    const [a, b] =
      cell < 1
        ? [Math.ceil(start - 0.5), Math.ceil(end - 0.5) - 1]
        : [Math.floor((start + end) / 2), Math.floor((start + end) / 2)];
    first[i] = Math.min(Math.max(a, 0), count - 1);
    last[i] = Math.min(Math.max(b, first[i]), count - 1);
  }
  return { first, last };
}

/**
 * Every pixel's look if it is untrusted: Uint32Array of RGBA. pixels: the picture on the screen, Uint32Array; input: the
 * enlarged input likewise, or null. width: of the area. colour: [r, g, b].
 */
export function untrustedLook(look, pixels, width, phase, colour, input = null) {
  if (look === "believed" && input) return input;
  const out = new Uint32Array(pixels.length);
  if (look === "mask") return out.fill(BLACK);
  if (look === "contour") return veiled(pixels, out, colour);
  const tinted = table((grey) => {
    const mix = (value) => Math.round(0.55 * grey + 0.45 * value);
    return pack(mix(colour[0]), mix(colour[1]), mix(colour[2]));
  });
  for (let i = 0; i < pixels.length; i += 1) {
    const grey = greyOf(pixels[i]);
    out[i] = look === "tint" ? tinted[grey] : grey;
  }
  if (look === "hatch") hatch(out, width, phase);
  return out;
}

/** The picture under a thin layer of a colour, thicker where it is dark. */
function veiled(pixels, out, [r, g, b]) {
  const shares = Int32Array.from({ length: 256 }, (_, grey) => {
    return Math.round(256 * (VEIL + (VEIL_ON_BLACK - VEIL) * Math.max(0, 1 - grey / 128)));
  });
  const redBlueOf = (b << 16) | r;
  for (let i = 0; i < pixels.length; i += 1) {
    const pixel = pixels[i];
    const veil = shares[greyOf(pixel)];
    // Red and blue are mixed together, for speed.
    const mixed = ((Math.imul(pixel & 0xff00ff, 256 - veil) + veil * redBlueOf) >>> 8) & 0xff00ff;
    out[i] = BLACK | mixed | (((Math.imul(pixel & 0xff00, 256 - veil) + veil * (g << 8)) >>> 8) & 0xff00);
  }
  return out;
}

// ITU-R BT.601
const greyOf = (pixel) =>
  (77 * (pixel & 255) + 150 * ((pixel >>> 8) & 255) + 29 * ((pixel >>> 16) & 255)) >> 8;

/** Draw a checkerboard under transparent pixels, which are not marked. codes: or null; (x, y): origin of the picture. */
export function checkered(pixels, codes, width, x, y) {
  for (let i = 0; i < pixels.length; i += 1) {
    const pixel = pixels[i];
    const alpha = pixel >>> 24;
    if (alpha === 255) continue;
    const [column, row] = [(i % width) - x, Math.floor(i / width) - y];
    const board = CHECKS[(Math.floor(column / CHECK) + Math.floor(row / CHECK)) & 1];
    const mix = (value) => Math.round((value * alpha + board * (255 - alpha)) / 255);
    pixels[i] = pack(mix(pixel & 255), mix((pixel >>> 8) & 255), mix((pixel >>> 16) & 255));
    if (codes) codes[i] = 0;
  }
}

const DARK = table((grey) => pack(Math.round(0.35 * grey), 0, Math.round(0.35 * grey)));
const LIGHT = table((grey) => {
  const value = Math.round(0.75 * grey + 0.25 * 255);
  return pack(value, value, value);
});

/** Dark and light stripes, distinct by brightness alone; `phase` keeps them on the picture. */
function hatch(out, width, phase) {
  for (let i = 0, x = 0, y = 0; i < out.length; i += 1) {
    const along = (((x + y - phase) % STRIPE) + STRIPE) % STRIPE;
    out[i] = along < STRIPE / 3 ? DARK[out[i]] : LIGHT[out[i]];
    x += 1;
    if (x === width) {
      x = 0;
      y += 1;
    }
  }
}

/**
 * Choose for every pixel: trusted where code ≤ limit. Writes `out`, Uint32Array of the area. A line of the colour with a
 * white one beside it, on the untrusted side, marks the border. Columns before `edge` show the input, about which
 * nothing is claimed: they get lines at most, and only with `outlines`.
 */
export function choose({ look, limit, codes, pixels, untrusted, width, edge, outlines, colour, out }) {
  if (look === "off") {
    out.set(pixels);
    return;
  }
  const plain = look === "mask";
  const hasLines = !LINELESS.includes(look);
  const border = pack(...colour);
  const count = codes.length;
  for (let start = 0; start < count; start += width) {
    const end = start + width;
    const middle = start + Math.min(edge, width); // where the result begins
    const first = hasLines && outlines ? start : middle;
    for (let i = start; i < first; i += 1) out[i] = pixels[i];
    for (let i = first; i < end; i += 1) {
      if (codes[i] <= limit) {
        out[i] = plain ? WHITE : pixels[i];
      } else if (!hasLines) {
        out[i] = untrusted[i];
      } else if (
        (i > first && codes[i - 1] <= limit) ||
        (i + 1 < end && codes[i + 1] <= limit) ||
        (start > 0 && codes[i - width] <= limit) ||
        (i + width < count && codes[i + width] <= limit)
      ) {
        out[i] = border;
      } else if (
        (i > first + 1 && codes[i - 2] <= limit) ||
        (i + 2 < end && codes[i + 2] <= limit) ||
        (start > width && codes[i - 2 * width] <= limit) ||
        (i + 2 * width < count && codes[i + 2 * width] <= limit)
      ) {
        out[i] = WHITE;
      } else {
        out[i] = i < middle ? pixels[i] : untrusted[i];
      }
    }
  }
}

function table(colour) {
  return Uint32Array.from({ length: 256 }, (_, grey) => colour(grey));
}

// Canvas pixels are bytes R, G, B, A, read as little-endian numbers.
function pack(r, g, b) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}
