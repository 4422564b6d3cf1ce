// Why a spot is trusted or not: what the model has added to the input here, against the trusted places. The service weighs
// this among other things, and up to 512 pixels around a spot.

const BLOCK = 16; // pixels a side that are measured together
const TRIED = 400; // places among which the trusted ones are looked for
const FLOOR = 1; // squared grey levels: below it lies the rounding of 8 bits
const FAR_MORE = 4;
const MORE = 1.8;

/** The mean squared difference of two blocks in grey levels. Each: R, G, B, A of its pixels. */
export function added(made, given) {
  let sum = 0;
  for (let i = 0; i < made.length; i += 4) {
    const [r, g, b] = [0, 1, 2].map((k) => made[i + k] - given[i + k]);
    sum += (0.299 * r + 0.587 * g + 0.114 * b) ** 2;
  }
  return (4 * sum) / made.length;
}

/** What was added at a spot, as a multiple of the median of the trusted places; 1 if unknown. */
export function conspicuous(result, { x, y }, limit) {
  if (!result.soft) return 1;
  const measure = measurer(result);
  const { width, height, data } = result.codes;
  // Always the same places, so that the same click gives the same answer.
  const places = Array.from({ length: TRIED }, (_, k) =>
    [((k * 0.618034) % 1) * width, ((k + 0.5) / TRIED) * height].map(Math.floor),
  );
  const trusted = places.filter(([u, v]) => data[v * width + u] <= limit).map(([u, v]) => measure(u, v));
  if (!trusted.length) return 1;
  const middle = trusted.sort((a, b) => a - b)[trusted.length >> 1];
  return (measure(x, y) + FLOOR) / (middle + FLOOR);
}

function measurer({ width, height, pictures, soft }) {
  const context = new OffscreenCanvas(BLOCK, BLOCK).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const read = (bitmap, left, top) => {
    const scale = width / bitmap.width;
    context.drawImage(bitmap, -left, -top, bitmap.width * scale, bitmap.height * scale);
    return context.getImageData(0, 0, BLOCK, BLOCK).data;
  };
  const along = (at, length) => Math.min(Math.max(0, at - BLOCK / 2), Math.max(0, length - BLOCK));
  return (x, y) => {
    const [left, top] = [along(x, width), along(y, height)];
    return added(read(pictures[0], left, top), read(soft, left, top));
  };
}

/** The gravest reason in words. times: from `conspicuous`. */
export function reason(times, { input_class: kind, samples }) {
  if (times >= FAR_MORE) return "Far more fine detail than your file contains.";
  if (times >= MORE) return "More detail than your file contains here.";
  if (samples > 1) return "The model was asked more than once; its answers may disagree here.";
  if (kind && !kind.name.startsWith("lossless"))
    return `The file is ${kind.title}: the lost detail cannot be recovered.`;
  return "This spot alone does not stand out; the picture around it does.";
}

/** Pixels over which an error is averaged, from the service's statement, or null. */
export const neighbourhood = ({ guarantee: { theorem } }) =>
  Number(/neighbou?rhood of (\d+(?:\.\d+)?) px/.exec(theorem)?.[1]) || null;
