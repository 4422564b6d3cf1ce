// Files and links of a result, at the α on the screen.

import { getBlob, getJson } from "../lib/api.js";
import { download } from "../lib/dom.js";
import { date } from "../lib/format.js";
import { guarded, toast, toastSuccess } from "../lib/toast.js";
import { alphaNow, dial, held, isMoved, shareAt, viewer } from "./stage.js";
import { modelOf, state, store } from "./state.js";
import { done, hasPromise, promise, reliedOn, shown } from "./words.js";

// A lossy file is available only in its own form.
const LOSSLESS = ["png", "tiff"];
const FORMS = [...LOSSLESS, "webp", "avif", "jpeg"];

/** Of a picture that was reduced afterwards there is no safe copy. */
export const hasSafe = ({ links, reduced_from: before }) => Boolean(links.safe) && !before;

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

export const saveSafe = () =>
  asking(async () => {
    const { result, name } = state.shown;
    download(await getBlob(result.links.safe), `${stemOf(name)}.safe.png`);
  });

export const savePart = (part) =>
  asking(async () => {
    const { result, name } = state.shown;
    const alpha = alphaNow();
    const file = await getBlob(`${result.links[part]}?alpha=${alpha}`);
    download(file, `${stemOf(name)}.${part}.alpha-${shown(alpha)}.png`);
  });

/** The picture of a result without a promise, with a line in it that says so. */
export const saveUnchecked = () =>
  asking(async () => {
    const { result, name } = state.shown;
    const bitmap = await createImageBitmap(held.image);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    burn(context, bitmap.width, bitmap.height);
    download(
      await canvas.convertToBlob({ type: "image/png" }),
      `${stemOf(name)}.${done(result)}.not-checked.png`,
    );
  });

/** "not checked", again and again across a picture. */
function burn(context, width, height) {
  const size = Math.max(12, Math.min(width, height) / 16);
  Object.assign(context, { font: `700 ${size}px system-ui, sans-serif`, textAlign: "center" });
  Object.assign(context, {
    fillStyle: "rgb(255 255 255 / 55%)",
    strokeStyle: "rgb(0 0 0 / 45%)",
    lineWidth: size / 16,
  });
  context.rotate(-Math.PI / 8);
  const far = Math.hypot(width, height);
  for (let y = -far; y < far; y += 4 * size)
    for (let x = -far; x < far; x += 9 * size) {
      context.strokeText("not checked", x, y);
      context.fillText("not checked", x, y);
    }
}

/** The picture with a caption below it, in the colours of this page. */
async function card() {
  const { result, name } = state.shown;
  const { theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" } =
    document.documentElement.dataset;
  const alpha = isMoved() ? alphaNow() : result.alpha;
  const data = await getBlob(`${result.links.self}/card.jpeg?alpha=${alpha}&theme=${theme}`);
  return new File([data], `${stemOf(name)}.card.jpeg`, { type: data.type });
}

export const saveCard = () =>
  asking(async () => {
    const file = await card();
    download(file, file.name);
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
  const copies = ["safe", "believed"].filter(
    (part) => links[part] && (part === "believed" || hasSafe(result)),
  );
  const files = {
    [`image.${format}`]: getBlob(links.image),
    ...Object.fromEntries(
      copies.map((part) => [
        part === "safe" ? "safe.png" : `${part}.${at}`,
        getBlob(part === "safe" ? links.safe : `${links.believed}?alpha=${alpha}`),
      ]),
    ),
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
    const trusted = hasPromise(result)
      ? `${reliedOn(shareAt(dial.state.code), result)}.`
      : "No promise for this picture.";
    const origin = `Made by ${modelOf(state, result.upscaler)}; result ${result.id}, level ${shown(alpha)}.`;
    const { text: said, error } = promise(result, alpha, isMoved());
    const sentence = error === null ? said : `${said}: ${Math.round(error)} of 100 steps of lightness.`;
    const soft = held.input && (await readable(held.input));
    const text = await shared(
      { made: held.image, mask, soft },
      { name, trusted, sentence, origin },
      held.rings.map(({ x, y, radius }) => ({ x, y, radius })),
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

/** The address of the result, which is kept for longer from now on, under its name. */
async function link() {
  const { result, name } = state.shown;
  const body = JSON.stringify({ name: name.slice(0, 200) });
  const headers = { "Content-Type": "application/json" };
  const shared = await getJson(`${result.links.self}/share`, { method: "PUT", headers, body });
  store.set({ shown: { ...state.shown, expires: new Date(shared.expires) } });
  return { url: new URL(shared.path, location.href).href, until: date(shared.expires) };
}

/** The card to another program where fingers are used, and otherwise the link to the clipboard. */
export async function share() {
  const isPhone = matchMedia("(pointer: coarse)").matches;
  if (!navigator.share || !isPhone) return copyLink();
  const file = await card().catch(() => null); // it has expired, or has no mask
  const isSent = file && navigator.canShare?.({ files: [file] });
  const sent = isSent ? { files: [file] } : { url: (await link()).url };
  // A person may close the sheet; a browser may find that the tap was too long ago.
  await navigator.share({ title: state.shown.name, ...sent }).catch(({ name }) => {
    if (name === "NotAllowedError") return copyLink();
  });
}

export const copyLink = () =>
  asking(async () => {
    const { url, until } = await link();
    try {
      await navigator.clipboard.writeText(url);
      toastSuccess(`The link is copied. It works until ${until}.`);
    } catch {
      toast(`${url} works until ${until}.`); // the browser does not allow copying
    }
  });
