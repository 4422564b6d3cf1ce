// Files, links and the command of a result: files at the α on the screen, the command at the α of the request.

import { getBlob, getJson } from "../lib/api.js";
import { key } from "../lib/auth.js";
import { download } from "../lib/dom.js";
import { percent } from "../lib/format.js";
import { guarded, toast, toastSuccess } from "../lib/toast.js";
import { shared } from "./share.js";
import { alphaNow, dial, held, isMoved, isVoid, shareAt } from "./stage.js";
import { state } from "./state.js";
import { curl, done, promise, shown } from "./words.js";

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
    await zip(await partsOf(result, alphaNow(), isVoid()), `${stemOf(name)}.trustscale.zip`);
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
      files.push(...(await partsOf(result, result.alpha, false, `${folder}/`)));
    }
    await zip(files, "trustscale.zip");
  });

async function zip(files, name) {
  const { downloadZip } = await import("../vendor/client-zip/index.js");
  download(await downloadZip(files).blob(), name);
}

/** `isWithout`: α was chosen after looking, so a note says that the promise is for another. */
async function partsOf(result, alpha, isWithout, folder = "") {
  const { links, format, alpha: served } = result;
  const at = `alpha-${shown(alpha)}.png`;
  const note =
    `Mask and overlay were made with alpha = ${alpha}, which was chosen after looking at the result.\n` +
    `The promise in result.json holds for alpha = ${served} only.\n`;
  const files = {
    [`image.${format}`]: getBlob(links.image),
    [`mask.${at}`]: getBlob(`${links.mask}?alpha=${alpha}`),
    [`overlay.${at}`]: getBlob(`${links.overlay}?alpha=${alpha}`),
    "trust.png": getBlob(links.trust),
    "result.json": getJson(links.self).then((document) => JSON.stringify(document, null, 2)),
    ...(isWithout ? { "NOTE.txt": note } : {}),
  };
  const inputs = await Promise.all(Object.values(files));
  return Object.keys(files).map((name, k) => ({ name: folder + name, input: inputs[k] }));
}

export function command() {
  const { result, name, isOwn, settings } = state.shown;
  const file = isOwn ? name : null;
  return curl({ origin: location.origin, name: file, settings, result, needsKey: key("client") !== null });
}

/** `input`: shown beside the result if its owner wants that, else null. */
export const savePage = (input) =>
  asking(async () => {
    const { result, name } = state.shown;
    const alpha = alphaNow();
    const marked = await getBlob(`${result.links.overlay}?alpha=${alpha}`);
    const trusted = `${percent(shareAt(dial.state.code))} ${isVoid() ? "would be marked." : "is trusted."}`;
    const origin = `Result ${result.id} of ${result.upscaler} ×${result.scale}, accepted error ${shown(alpha)}.`;
    const words = { name, trusted, sentence: promise(result, alpha, isMoved()), origin };
    const text = await shared({ image: held.image, marked, input }, words, result);
    download(new Blob([text], { type: "text/html" }), `${stemOf(name)}.html`);
  });

/** Browsers do not send what follows the #. */
export async function copyLink() {
  const link = `${location.origin}/r/${state.shown.result.id}#${encodeURIComponent(state.shown.name)}`;
  try {
    await navigator.clipboard.writeText(link);
    toastSuccess("The link is copied. It works while the result is kept.");
  } catch {
    toast(link); // the browser does not allow it
  }
}
