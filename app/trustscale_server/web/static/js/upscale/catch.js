// Catch it lying: a sharp photograph is shrunk, and the model has to enlarge it again; then the truth is at hand.

import { request, upload } from "../lib/api.js";
import { download } from "../lib/dom.js";
import { guarded, toast, toastSuccess } from "../lib/toast.js";
import { viewer } from "./stage.js";
import { state, store } from "./state.js";

const LONGEST = 2048; // pixels that a photograph is reduced to first: then it is sharp, and quick
const LARGE = 3e6; // pixels from which on a photograph is offered to be tried
const LOST = 1.5; // grey levels that shrinking must change on average, or there is nothing to rewrite
const SAMPLE = 512; // pixels a side of what that is measured in
const PANEL = 448; // pixels a side of a panel

const canvasOf = (bitmap, width, height) => {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas;
};

/** {x, truth}: canvases of a photograph that is shrunk by a model's scale, and of what the model has to find. */
async function pairOf(file, scale) {
  const bitmap = await createImageBitmap(file);
  const shrink = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const [w, h] = [bitmap.width, bitmap.height].map((side) => Math.floor((side * shrink) / scale));
  const truth = canvasOf(bitmap, w * scale, h * scale);
  const x = canvasOf(truth, w, h);
  bitmap.close();
  return { x, truth };
}

/** Whether a photograph is large, and so sharp that shrinking would lose something. */
export async function isCandidate({ file, scale = 4 }) {
  try {
    const image = await createImageBitmap(file);
    const isLarge = image.width * image.height >= LARGE;
    image.close();
    if (!isLarge) return false;
    const { x, truth } = await pairOf(file, scale);
    const side = Math.min(SAMPLE, truth.width, truth.height);
    const [left, top] = [(truth.width - side) / 2, (truth.height - side) / 2];
    const ours = truth.getContext("2d").getImageData(left, top, side, side).data;
    const again = canvasOf(x, truth.width, truth.height).getContext("2d");
    const theirs = again.getImageData(left, top, side, side).data;
    let sum = 0;
    for (let i = 1; i < ours.length; i += 4) sum += Math.abs(ours[i] - theirs[i]); // green is nearly lightness
    return (4 * sum) / ours.length >= LOST;
  } catch {
    return false; // a file that this browser cannot read
  }
}

/** The file to send in place of a photograph, and the truth about its result. */
export async function shrunk(file, scale) {
  const { x, truth } = await pairOf(file, scale);
  const [small, whole] = await Promise.all(
    [x, truth].map((canvas) => canvas.convertToBlob({ type: "image/png" })),
  );
  const name = `${file.name.replace(/\.[^.]*$/, "") || "photograph"}, shrunk.png`;
  return { file: new File([small], name, { type: "image/png" }), truth: whole };
}

function formOf(truth) {
  const form = new FormData();
  form.append("image", truth, "truth.png");
  return form;
}

/** Find the place that the model rewrote most in the result on the screen, and show it. */
export const look = ({ id, result, truth }) =>
  guarded(async () => {
    try {
      const caught = await upload(`${result.links.self}/catch`, formOf(truth), { onProgress: () => {} });
      if (state.selected !== id || !viewer.result?.soft) return;
      store.set({ caught: { ...caught, id, truth, panels: await panels(caught.box, truth) } });
    } catch (error) {
      if (error.status !== 404) throw error;
      toast("Nothing was rewritten that can be seen: the model was right here.");
    }
  });

async function panels([left, top, right], truth) {
  const { pictures, soft, width } = viewer.result;
  const was = await createImageBitmap(truth);
  const zoom = PANEL / (right - left);
  return [soft, pictures[0], was].map((bitmap) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: PANEL, height: PANEL });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    const scale = (width / bitmap.width) * zoom;
    context.drawImage(bitmap, -left * zoom, -top * zoom, bitmap.width * scale, bitmap.height * scale);
    return canvas;
  });
}

/** The card, to a phone's share sheet or as a file. */
export const saveCard = () =>
  guarded(async () => {
    const { truth } = state.caught;
    const { result, name } = state.shown;
    const options = { method: "POST", body: formOf(truth) };
    const blob = await (await request(`${result.links.self}/catch?card=true`, options)).blob();
    const file = new File([blob], `${name.replace(/\.[^.]*$/, "")}.catch.jpeg`, { type: blob.type });
    if (matchMedia("(pointer: coarse)").matches && navigator.canShare?.({ files: [file] }))
      await navigator.share({ files: [file] }).catch(() => {});
    else download(file, file.name);
  });

export const tellService = () =>
  guarded(async () => {
    const { truth } = state.caught;
    await upload(`${state.shown.result.links.self}/truth`, formOf(truth), { onProgress: () => {} });
    store.set({ caught: { ...state.caught, isTold: true } });
    toastSuccess("The service counts it: was the promise kept here?");
  });
