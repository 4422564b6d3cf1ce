// Pictures for a program without an address: small versions to enlarge there, and whether its results are all here.

import { download } from "../lib/dom.js";
import { count, plural } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { guarded, toast } from "../lib/toast.js";
import { button, hint, select } from "../lib/widgets.js";

const LEAST = 32; // pixels on a side of a small version

/** Which model: asked before the pictures where one of them needs results. set(changes) of the state. */
export function whichModel({ upscalers, upscaler }, set) {
  if (!upscalers.some(isElsewhere)) return nothing;
  const listed = upscalers.map(({ name, title }) => [name, title]);
  return select("", "Model", listed, { chosen: upscaler, run: (chosen) => set({ upscaler: chosen }) });
}

export const isElsewhere = ({ kind }) => kind === "supplied";

/** What is to be done with the program now. verdict: of `Gathered.verdict`. */
export function steps(gathered, verdict, scale) {
  const { pairs } = verdict;
  const bare = pairs.filter(({ x }) => !x);
  const open = pairs.filter(({ enlarged }) => !enlarged).length;
  const make = () => guarded(() => makeSmall(gathered, bare, scale));
  return html`<div class="callout" id="elsewhere">
    <p>
      Add forty sharp photographs or more, typical ones, each of another subject. Download their small versions, and enlarge each ${scale}×
      with your program, always with the same settings. Then drop the results here; they keep the names of the small versions, also with
      something behind (cat-${scale}x.png).
    </p>
    ${bare.length ? button(`Download ${plural(bare.length, "small version")}`, make, { kind: "primary", off: Boolean(gathered.waiting) }) : nothing}
    ${pairs.length && !bare.length && open ? hint(`Results of ${count(open)} of ${count(pairs.length)} are not here yet.`) : nothing}
  </div>`;
}

/** Whether each pair has its result. */
export const isWhole = ({ pairs }) => pairs.every(({ enlarged }) => enlarged);

/** Make small versions of originals, one after another, and save them as a zip; both stay among the pictures. */
async function makeSmall(gathered, pairs, scale) {
  const { downloadZip } = await import("../vendor/client-zip/index.js");
  const replacements = new Map();
  /** @type {string[]} */
  const tiny = [];
  async function* files() {
    for (const { name, y } of pairs) {
      const both = await reduced(y, scale);
      if (!both) {
        tiny.push(y.file.name);
        gathered.left.add(name);
        continue;
      }
      replacements.set(name, both);
      yield { name: both[1].path, input: both[1].file };
    }
  }
  gathered.waiting += pairs.length;
  gathered.changed();
  try {
    const zip = await downloadZip(files()).blob();
    if (replacements.size) download(zip, "small-versions.zip");
    if (tiny.length) toast(`Left out, as the small version is below ${LEAST} pixels: ${tiny.join(", ")}.`);
    await gathered.exchange(replacements);
  } finally {
    gathered.waiting -= pairs.length;
    gathered.changed();
  }
}

/** The original, cut to whole pixels of its small version, and that, as files with paths; null: it is too small. */
async function reduced({ file, path, width, height }, scale) {
  const [wide, high] = [Math.floor(width / scale), Math.floor(height / scale)];
  if (Math.min(wide, high) < LEAST) return null;
  // As the file has them: colours are not converted.
  const bitmap = await createImageBitmap(file, 0, 0, wide * scale, high * scale, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const png = (image, side, tall) => {
    const canvas = new OffscreenCanvas(side, tall);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, side, tall);
    return canvas.convertToBlob({ type: "image/png" });
  };
  const small = await png(bitmap, wide, high);
  const isCut = width !== wide * scale || height !== high * scale;
  const original = isCut ? await png(bitmap, wide * scale, high * scale) : file;
  bitmap.close();
  const place = /(^|\/)y\//i.test(path) ? path : `y/${path.split("/").pop()}`;
  const bare = place.replace(/\.[^./]*$/, "");
  const name = `${bare.split("/").pop()}.png`;
  const cut = { file: new File([original], name), path: `${bare}.png` };
  const x = { file: new File([small], name), path: `${bare.replace(/(^|\/)y\//i, "$1x/")}.png` };
  return [isCut ? cut : { file, path: place }, x];
}
