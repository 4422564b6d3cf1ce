// Files, links and the command for the result on the screen. Files are made at the α on the screen,
// the command repeats the request.

import { getBlob, getJson } from "../lib/api.js";
import { key } from "../lib/auth.js";
import { $, $$, announce, copy, download } from "../lib/dom.js";
import { toast, toastError } from "../lib/toast.js";
import { zipped } from "../lib/zip.js";
import { curl, done, shown } from "./words.js";

/** current() → {result, name, alpha, image, trust} of what is shown. */
export function connectDownloads(current) {
  for (const button of $$("#downloads button")) {
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await save(button.dataset.part, current());
      } catch (error) {
        toastError(expired(error));
      } finally {
        button.disabled = false;
      }
    });
  }
  $("#copy-link").addEventListener("click", () =>
    copied(`${location.origin}/r/${current().result.id}`, "The link is copied. It works while the result is kept."),
  );
  $("#copy-curl").addEventListener("click", () => {
    copied(command(current()), "The command is copied.");
  });
  $("#curl-details").addEventListener("toggle", () => refreshCommand(current));
}

function command({ result, name, isOwn, background }) {
  const file = isOwn ? name : null;
  return curl({ origin: location.origin, name: file, background, result, needsKey: key("client") !== null });
}

/** Show the command anew if it is open, and empty while nothing is shown yet. */
export function refreshCommand(current) {
  if (!$("#curl-details").open) return;
  const shown = current();
  $("#curl").textContent = shown.result ? command(shown) : "";
}

async function copied(text, message) {
  if (await copy(text)) {
    toast(message, { kind: "success" });
    announce(message);
  } else {
    toast(text);
  }
}

const NOTE = (alpha, served) =>
  `Mask and overlay were made with alpha = ${alpha}, which was chosen after looking at the result.\n` +
  `The promise in result.json holds for alpha = ${served} only.\n`;

async function save(part, { result, name, alpha, isMoved, image, trust }) {
  const stem = name.replace(/\.[^.]*$/, "") || "image";
  const at = `alpha-${shown(alpha)}`;
  const masked = (which) => getBlob(`${result.links[which]}?alpha=${alpha}`);
  if (part === "image") download(image, `${stem}.${result.scale === 1 ? "result" : done(result)}.png`);
  if (part === "mask") download(await masked("mask"), `${stem}.mask.${at}.png`);
  if (part === "overlay") download(await masked("overlay"), `${stem}.overlay.${at}.png`);
  if (part !== "zip") return;
  const [mask, overlay, document] = await Promise.all([
    masked("mask"),
    masked("overlay"),
    getJson(result.links.self),
  ]);
  const json = new Blob([JSON.stringify(document, null, 2)], { type: "application/json" });
  const files = [
    { name: "image.png", data: image },
    { name: `mask.${at}.png`, data: mask },
    { name: `overlay.${at}.png`, data: overlay },
    { name: "trust.png", data: trust },
    { name: "result.json", data: json },
  ];
  if (isMoved) files.push({ name: "NOTE.txt", data: new Blob([NOTE(alpha, result.alpha)]) });
  download(await zipped(files), `${stem}.trustscale.zip`);
}

function expired(error) {
  if (error.status === 404) return new Error("The result has expired: the service keeps it only for a while.");
  return error;
}
