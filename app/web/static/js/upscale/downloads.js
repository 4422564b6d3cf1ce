// Files, links and the command for the result on the screen. Files are made at the α on the screen,
// the command repeats the request.

import { getBlob, getJson } from "../lib/api.js";
import { key } from "../lib/auth.js";
import { announce, copy, download } from "../lib/dom.js";
import { toast, toastError } from "../lib/toast.js";
import { zipped } from "../lib/zip.js";
import { alphaNow, held, isMoved } from "./stage.js";
import { state } from "./state.js";
import { curl, done, shown } from "./words.js";

const NOTE = (alpha, served) =>
  `Mask and overlay were made with alpha = ${alpha}, which was chosen after looking at the result.\n` +
  `The promise in result.json holds for alpha = ${served} only.\n`;

const stemOf = (name) => name.replace(/\.[^.]*$/, "") || "image";
const suffixOf = (result) => /\.\w+$/.exec(result.links.image)?.[0] ?? ".png";

/** Run something that asks the service for files; what it has against that is shown. */
async function guarded(action) {
  try {
    await action();
  } catch (error) {
    toastError(
      error.status === 404
        ? new Error("The result has expired: the service keeps it only for a while.")
        : error,
    );
  }
}

/** Save a part of what is shown: "image", "mask", "overlay", or "zip" for all. */
export const save = (part) =>
  guarded(async () => {
    const { result, name } = state.shown;
    const stem = stemOf(name);
    const alpha = alphaNow();
    if (part === "image") download(held.image, `${stem}.${done(result)}${suffixOf(result)}`);
    else if (part !== "zip") {
      const file = await getBlob(`${result.links[part]}?alpha=${alpha}`);
      download(file, `${stem}.${part}.alpha-${shown(alpha)}.png`);
    } else download(await zipped(await partsOf(result, alpha, isMoved())), `${stem}.trustscale.zip`);
  });

/** Save everything of many pictures in one zip, a folder each, at the α they were asked for. */
export const saveAll = (pictures) =>
  guarded(async () => {
    const files = [];
    const taken = new Set();
    for (const { result, name } of pictures) {
      let folder = stemOf(name);
      while (taken.has(folder)) folder += "-2";
      taken.add(folder);
      const parts = await partsOf(result, result.alpha, false);
      files.push(...parts.map((part) => ({ ...part, name: `${folder}/${part.name}` })));
    }
    download(await zipped(files), "trustscale.zip");
  });

async function partsOf(result, alpha, moved) {
  const { links } = result;
  const [image, mask, overlay, trust, document] = await Promise.all([
    getBlob(links.image),
    getBlob(`${links.mask}?alpha=${alpha}`),
    getBlob(`${links.overlay}?alpha=${alpha}`),
    getBlob(links.trust),
    getJson(links.self),
  ]);
  const at = `alpha-${shown(alpha)}`;
  const json = new Blob([JSON.stringify(document, null, 2)], { type: "application/json" });
  const files = [
    { name: `image${suffixOf(result)}`, data: image },
    { name: `mask.${at}.png`, data: mask },
    { name: `overlay.${at}.png`, data: overlay },
    { name: "trust.png", data: trust },
    { name: "result.json", data: json },
  ];
  if (moved) files.push({ name: "NOTE.txt", data: new Blob([NOTE(alpha, result.alpha)]) });
  return files;
}

/** The request behind what is shown. */
export function command() {
  const { result, name, isOwn, background } = state.shown;
  const file = isOwn ? name : null;
  return curl({ origin: location.origin, name: file, background, result, needsKey: key("client") !== null });
}

export const copyLink = () =>
  copied(
    `${location.origin}/r/${state.shown.result.id}`,
    "The link is copied. It works while the result is kept.",
  );

export const copyCommand = () => copied(command(), "The command is copied.");

async function copied(text, message) {
  if (await copy(text)) {
    toast(message, { kind: "success" });
    announce(message);
  } else {
    toast(text);
  }
}
