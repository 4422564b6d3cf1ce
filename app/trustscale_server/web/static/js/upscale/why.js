// Why a spot is doubtful: what kind of difference there is between what was sent and what the model made, as it is measured
// in the pixels around. The service weighs this among other things, and up to 512 pixels around a spot.

const SIDE = 64; // pixels that are measured
const LITTLE = 3; // grey levels of a difference that nobody sees
const TONE = 5; // grey levels of a mean difference
const BLOCKY = 1.6; // steps across the borders of JPEG's blocks, as a multiple of those inside
const EDGE = 0.45; // coherence of gradients, of 0 … 1: above it they have one direction
const STRONG = 4; // grey levels a pixel of such a gradient

const grey = (pixels) =>
  Float32Array.from(
    { length: pixels.length / 4 },
    (_, k) => 0.299 * pixels[4 * k] + 0.587 * pixels[4 * k + 1] + 0.114 * pixels[4 * k + 2],
  );

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * What was measured in two squares of the same place, R, G, B, A of each: {tone: mean difference, detail: root mean square
 * of the rest, coherence, slope: of the gradients of what was made, blocks: of the grid of JPEG's blocks}.
 * side: pixels of the squares; block: of a block of JPEG in the result; left, top: where the squares begin in the result.
 */
export function measured(made, sent, { side, block, left, top }) {
  const [ours, theirs] = [grey(made), grey(sent)];
  const difference = ours.map((value, k) => value - theirs[k]);
  const tone = mean(difference);
  const detail = Math.sqrt(mean(difference.map((value) => (value - tone) ** 2)));
  let [xx, yy, xy] = [0, 0, 0];
  const steps = { border: [0, 0], inside: [0, 0] };
  for (let y = 1; y < side - 1; y += 1)
    for (let x = 1; x < side - 1; x += 1) {
      const at = y * side + x;
      // Around the pixel: differences that share one would make noise look like an edge.
      const [dx, dy] = [(ours[at + 1] - ours[at - 1]) / 2, (ours[at + side] - ours[at - side]) / 2];
      xx += dx * dx;
      yy += dy * dy;
      xy += dx * dy;
      // Between which pixels of the enlarged upload a border lies is known to a pixel of the upload.
      for (const [step, place] of [
        [theirs[at + 1] - theirs[at], left + x + 1],
        [theirs[at + side] - theirs[at], top + y + 1],
      ]) {
        const away = place % block;
        const kind = steps[Math.min(away, block - away) <= block / 16 ? "border" : "inside"];
        kind[0] += Math.abs(step);
        kind[1] += 1;
      }
    }
  const [border, inside] = [steps.border, steps.inside].map(([sum, count]) => sum / Math.max(1, count));
  return {
    tone,
    detail,
    coherence: Math.hypot(xx - yy, 2 * xy) / Math.max(1e-6, xx + yy),
    slope: Math.sqrt((xx + yy) / (side - 2) ** 2),
    blocks: border / Math.max(0.05, inside),
  };
}

/** The gravest cause in words. isText: whether letters were found here; isJpeg: whether the file was compressed so. */
export function reason({ tone, detail, coherence, slope, blocks }, { isText, isJpeg }) {
  if (Math.abs(tone) < LITTLE && detail < LITTLE) return "The model added little here.";
  if (isText) return "Letters were redrawn: what they say may be another thing.";
  if (Math.abs(tone) >= TONE && Math.abs(tone) > detail)
    return `The tone was changed: your file is ${tone > 0 ? "darker" : "lighter"} here.`;
  if (isJpeg && blocks >= BLOCKY)
    return "Your file has blocks of its compression here; what they hide was guessed.";
  if (coherence >= EDGE && slope >= STRONG)
    return "An edge was rebuilt: your file has it softer, or elsewhere.";
  return "Texture was invented: your file has nothing as fine here.";
}

/** What was measured around a place of a result that the viewer holds; null without the upload. */
export function around({ width, height, pictures, soft }, { x, y }, scale) {
  if (!soft) return null;
  const side = Math.min(SIDE, width, height);
  const along = (at, length) => Math.round(Math.min(Math.max(0, at - side / 2), length - side));
  const [left, top] = [along(x, width), along(y, height)];
  const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const read = (bitmap) => {
    const factor = width / bitmap.width;
    context.drawImage(bitmap, -left, -top, bitmap.width * factor, bitmap.height * factor);
    return context.getImageData(0, 0, side, side).data;
  };
  return measured(read(pictures[0]), read(soft), { side, block: 8 * scale, left, top });
}

/** Pixels over which an error is averaged, from the service's statement, or null. */
export const neighbourhood = ({ guarantee: { theorem } }) =>
  Number(/neighbou?rhood of (\d+(?:\.\d+)?) px/.exec(theorem)?.[1]) || null;
