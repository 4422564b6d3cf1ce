// Files and links of a result, at the α on the screen.

import { getBlob, getJson } from "../lib/api.js";
import { download } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { guarded, toast, toastSuccess } from "../lib/toast.js";
import { alphaNow, dial, held, isMoved, shareAt, viewer } from "./stage.js";
import { modelOf, state } from "./state.js";
import { done, hasPromise, promise, shown } from "./words.js";

// A lossy file is available only in its own form.
const LOSSLESS = ["png", "tiff"];
const FORMS = [...LOSSLESS, "webp", "avif", "jpeg"];

const stemOf = (name) => name.replace(/\.[^.]*$/, "") || "image";

export const formsOf = ({ format }) => (LOSSLESS.includes(format) ? FORMS : [format]);

const asking = (action) =>
  guarded(() =>
    action().catch((error) => {
      if (error.status !== 404) throw error;
      throw new Error("The result has expired: the service keeps it for a limited time.");
    }),
  );

export const savePicture = (form = state.shown.result.format) =>
  asking(async () => {
    const { result, name } = state.shown;
    const isStored = form === result.format;
    const file = isStored ? held.image : await getBlob(`${result.links.self}/image.${form}`);
    download(file, `${stemOf(name)}.${done(result)}.${form}`);
    if (!isStored && !LOSSLESS.includes(form))
      toast("The file is compressed with loss: the promise is about the picture before that.");
  });

export const savePart = (part) =>
  asking(async () => {
    const { result, name } = state.shown;
    const alpha = alphaNow();
    const file = await getBlob(`${result.links[part]}?alpha=${alpha}`);
    download(file, `${stemOf(name)}.${part}.alpha-${shown(alpha)}.png`);
  });

export const saveZip = () =>
  asking(async () => {
    const { result, name } = state.shown;
    await zip(await partsOf(result, alphaNow()), `${stemOf(name)}.trustscale.zip`);
  });

/** Many results in one zip, a folder each, at the α of their requests. */
export const saveAll = (pictures) =>
  asking(async () => {
    const files = [];
    const taken = new Set();
    for (const { result, name } of pictures) {
      let folder = stemOf(name);
      while (taken.has(folder)) folder += "-2";
      taken.add(folder);
      files.push(...(await partsOf(result, result.alpha, `${folder}/`)));
    }
    await zip(files, "trustscale.zip");
  });

async function zip(files, name) {
  const { downloadZip } = await import("../vendor/client-zip/index.js");
  download(await downloadZip(files).blob(), name);
}

async function partsOf(result, alpha, folder = "") {
  const { links, format } = result;
  const at = `alpha-${shown(alpha)}.png`;
  const files = {
    [`image.${format}`]: getBlob(links.image),
    [`mask.${at}`]: getBlob(`${links.mask}?alpha=${alpha}`),
    [`overlay.${at}`]: getBlob(`${links.overlay}?alpha=${alpha}`),
    "trust.png": getBlob(links.trust),
    "result.json": getJson(links.self).then((document) => JSON.stringify(document, null, 2)),
  };
  const inputs = await Promise.all(Object.values(files));
  return Object.keys(files).map((name, k) => ({ name: folder + name, input: inputs[k] }));
}

/** One web page with the picture, its doubts and its promise. */
export const savePage = () =>
  asking(async () => {
    const { shared, viewerScript } = await import("./share.js");
    const { result, name } = state.shown;
    const alpha = alphaNow();
    const mask = await getBlob(`${result.links.mask}?alpha=${alpha}`);
    const trusted = `${percent(shareAt(dial.state.code), 0)} ${hasPromise(result) ? "can be trusted." : "would be trusted."}`;
    const origin = `Made by ${modelOf(state, result.upscaler)}; result ${result.id}, level ${shown(alpha)}.`;
    const { text: said, error } = promise(result, alpha, isMoved());
    const sentence = error === null ? said : `${said}: ${Math.round(error)} of 100 steps of lightness.`;
    const soft = held.input && (await readable(held.input));
    const text = await shared(
      { made: held.image, mask, soft },
      { name, trusted, sentence, origin },
      await viewerScript(),
    );
    download(new Blob([text], { type: "text/html" }), `${stemOf(name)}.html`);
  });

/** The upload as a file that any browser can show. */
async function readable(blob) {
  if (/^image\/(png|jpeg|webp|gif|avif)$/.test(blob.type)) return blob;
  const { soft } = viewer.result;
  if (!soft) return null;
  const canvas = new OffscreenCanvas(soft.width, soft.height);
  canvas.getContext("2d").drawImage(soft, 0, 0);
  return canvas.convertToBlob({ type: "image/webp", quality: 0.9 });
}

/** Browsers do not send what follows the #. */
const link = () => `${location.origin}/r/${state.shown.result.id}#${encodeURIComponent(state.shown.name)}`;

/** To another program where fingers are used, and otherwise to the clipboard. */
export async function shareLink() {
  const isPhone = matchMedia("(pointer: coarse)").matches;
  if (!navigator.share || !isPhone) return copyLink();
  await navigator.share({ title: state.shown.name, url: link() }).catch(() => {});
}

export async function copyLink() {
  try {
    await navigator.clipboard.writeText(link());
    toastSuccess("The link is copied. It works while the result is kept.");
  } catch {
    toast(link()); // the browser does not allow it
  }
}
