// Why a spot is trusted or not, by two measures of the page: fine detail, and what the model has added to the input,
// against the trusted places. The service's score weighs these among others, up to 512 pixels around a spot.

const BLOCK = 16; // pixels a side that are measured together
const CELL = 4; // as wide as what the score is measured on
const TRIED = 400; // places among which the trusted ones are looked for
const FLOOR = 1; // squared grey levels: below it lies the rounding of 8 bits
const FAR_MORE = 4;
const MORE = 1.8;

export function greys(data) {
  return Float32Array.from({ length: data.length / 4 }, (_, i) => {
    return 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  });
}

/**
 * {detail, added} of a block: the mean variance within its cells, and the mean square of the difference from the enlarged
 * input, or null. made, given: grey levels, row by row.
 */
export function energies(made, given, width) {
  const height = made.length / width;
  let [detail, cells] = [0, 0];
  for (let top = 0; top + CELL <= height; top += CELL) {
    for (let left = 0; left + CELL <= width; left += CELL) {
      let [sum, squares] = [0, 0];
      for (let i = 0; i < CELL * CELL; i += 1) {
        const value = made[(top + Math.floor(i / CELL)) * width + left + (i % CELL)];
        sum += value;
        squares += value * value;
      }
      detail += squares / CELL ** 2 - (sum / CELL ** 2) ** 2;
      cells += 1;
    }
  }
  const added = given && made.reduce((sum, value, i) => sum + (value - given[i]) ** 2, 0) / made.length;
  return { detail: detail / Math.max(cells, 1), added };
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

/** An energy as a multiple of that of the trusted places; 1 if unknown. */
const times = (here, there) =>
  here === null || !there?.length ? 1 : (here + FLOOR) / (median(there) + FLOOR);

/** {detail, added} of a spot as multiples of the trusted places. */
export function conspicuous(result, { x, y }, limit) {
  const measure = measurer(result);
  const trusted = [];
  const { width, height, data } = result.codes;
  // Always the same places, so that the same click gives the same answer.
  for (let k = 0; k < TRIED; k += 1) {
    const [u, v] = [((k * 0.618034) % 1) * width, ((k + 0.5) / TRIED) * height].map(Math.floor);
    if (data[v * width + u] <= limit) trusted.push(measure(u, v));
  }
  const here = measure(x, y);
  return {
    detail: times(
      here.detail,
      trusted.map(({ detail }) => detail),
    ),
    added: times(here.added, here.added === null ? [] : trusted.map(({ added }) => added)),
  };
}

function measurer({ width, height, pictures, soft }) {
  const context = new OffscreenCanvas(BLOCK, BLOCK).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const read = (bitmap, left, top) => {
    const scale = width / bitmap.width;
    context.drawImage(bitmap, -left, -top, bitmap.width * scale, bitmap.height * scale);
    return greys(context.getImageData(0, 0, BLOCK, BLOCK).data);
  };
  const along = (at, length) => Math.min(Math.max(0, at - BLOCK / 2), Math.max(0, length - BLOCK));
  return (x, y) => {
    const [left, top] = [along(x, width), along(y, height)];
    return energies(read(pictures[0], left, top), soft && read(soft, left, top), BLOCK);
  };
}

/** Reasons in words, the gravest first. */
export function reasons({ detail, added }, { input_class: kind, samples }) {
  const said = [];
  if (added >= FAR_MORE) said.push("Far more fine detail than your file contains.");
  else if (added >= MORE) said.push("More detail than your file contains here.");
  if (detail >= MORE) said.push("Finer detail than a picture of this size can hold.");
  if (samples > 1) said.push("The model was asked more than once; its answers may disagree here.");
  if (!said.length) said.push("This spot alone does not stand out; the picture around it does.");
  if (kind && !kind.name.startsWith("lossless"))
    said.push(`The file is ${kind.title}: the lost detail cannot be recovered.`);
  return said;
}

/** Pixels over which an error is averaged, from the service's statement, or null. */
export const neighbourhood = ({ guarantee: { theorem } }) =>
  Number(/neighbou?rhood of (\d+(?:\.\d+)?) px/.exec(theorem)?.[1]) || null;
