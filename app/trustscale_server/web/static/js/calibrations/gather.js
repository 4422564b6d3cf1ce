// Gathers the pictures of a calibration: dropped or chosen, looked into, listed.
//
// The page checks what it can see itself; the service decides which files are pairs, and which photographs the score was
// fitted on (/v1/admin/pairs/check), before anything is sent.

import { announce } from "../lib/dom.js";
import { droppedFiles } from "../lib/files.js";
import { bytes, count, plural } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { pooled } from "../lib/jobs.js";
import { guarded, toast } from "../lib/toast.js";
import { button, select } from "../lib/widgets.js";
import { reasons } from "./job.js";
import * as service from "./service.js";

const AT_ONCE = 4;
const MOST_THUMBNAILS = 60;
const FOLDERS = Object.entries({
  group: "groups of pictures, with a promise for each",
  scene: "scenes: several pictures of one thing, which count once",
});
const NOTHING = { pairs: [], items: [], groups: [], used: [] };
const ACCEPTED = { folder: "", archive: ".zip,.tar,.gz,.tgz" };
const ROLE = /(^|\/)(x|y|labels|enlarged)\//i;
const ARCHIVES = /\.(zip|tar|tar\.gz|tgz)$/i;

/** The files of the form, each inspected once. */
export class Gathered {
  /** @type {any[]} */
  entries = [];
  /** @type {any} what the service says about them */
  arranged = NOTHING;
  archive = null;
  waiting = 0;
  turn = 0;
  folders = "group"; // what a folder below y/ is: "group" or "scene"
  /** @type {Set<string>} names that the person leaves out */
  left = new Set();

  /** about(): {upscaler, metric} of the calibration. */
  constructor(changed, about) {
    this.changed = changed;
    this.about = about;
  }

  /** What loose files are: results of the program once there are small versions to enlarge. */
  loose(isSupplied) {
    return isSupplied && this.arranged.pairs.some(({ x }) => x) ? "enlarged" : "y";
  }

  /** Replace the files of pairs, by their names: each is [{file, path}, …]. @param {Map<string, any[]>} replacements */
  async exchange(replacements) {
    // They may have been removed since.
    const there = this.arranged.pairs.filter(({ name }) => replacements.has(name));
    const old = new Set(there.map(({ y }) => y));
    this.entries = this.entries.filter(({ path }) => !old.has(path));
    for (const { name } of there)
      for (const file of replacements.get(name)) this.entries.push(await inspected(file));
    await this.arrange();
  }

  async add(files, fallback) {
    const { changed } = this;
    const archive = files.find(({ file }) => ARCHIVES.test(file.name));
    const before = this.entries.length ? "the pictures" : this.archive?.name;
    if (archive) {
      if (before) toast(`${archive.file.name} replaces ${before}.`);
      this.clear();
      this.archive = archive.file;
      changed();
      return;
    }
    if (this.archive && files.length) toast(`The pictures replace ${before}.`);
    this.archive = null;
    const queue = files.map(({ file, path }) => located(file, path, fallback));
    const asking = 1;
    this.waiting += queue.length + asking;
    changed();
    await pooled(queue, AT_ONCE, async (entry) => {
      this.entries.push(await inspected(entry));
      this.waiting -= 1;
      if (this.waiting % 8 === 0) changed();
    });
    try {
      await this.arrange();
    } finally {
      this.waiting -= asking;
      changed();
    }
    const { pairs, items } = this.verdict(null);
    announce(`${pairs.length} pictures can be used, ${items.length} cannot.`);
  }

  /** Ask which files are pairs; an answer to an older question is dropped. */
  async arrange() {
    const turn = ++this.turn;
    const known = this.entries.filter(({ path, pixels }) => pixels && !path.startsWith("x/"));
    const pixels = Object.fromEntries(known.map((entry) => [entry.path, entry.pixels]));
    const names = this.entries.map(({ path }) => path);
    const arranged = await service.arranged({ names, pixels, ...this.about() });
    if (turn === this.turn) this.arranged = arranged;
    this.changed();
  }

  leave(names) {
    for (const name of names) this.left.add(name);
    this.changed();
  }

  clear() {
    this.turn += 1;
    this.entries = [];
    this.arranged = NOTHING;
    this.archive = null;
    this.left.clear();
  }

  /** The usable pairs, an item {name, reason} for every other file, and the names of those that the score was fitted on. */
  verdict(scale) {
    const kept = (list) => list.filter(({ name }) => !this.left.has(name));
    const arranged = { ...this.arranged, pairs: kept(this.arranged.pairs), items: kept(this.arranged.items) };
    const verdict = paired(this.entries, arranged, scale, this.folders);
    const used = new Set(this.arranged.used);
    return { ...verdict, used: verdict.pairs.map(({ name }) => name).filter((name) => used.has(name)) };
  }
}

/** A file with its path; a file without a folder gets that of `role`. Results may be in a folder of any name. */
function located(file, path = file.webkitRelativePath || file.name, role = "y") {
  const isLoose = role === "enlarged" ? !ROLE.test(path) : !path.includes("/");
  return { file, path: isLoose ? `${role}/${path.split("/").pop()}` : path };
}

/** Look into a file: {width, height, pixels: their digest as the service makes it}, or {reason}. */
async function inspected(entry) {
  try {
    // As the file has them: neither colours nor transparency are applied.
    const options = /** @type {const} */ ({ colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const bitmap = await createImageBitmap(entry.file, options);
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const { data } = context.getImageData(0, 0, width, height);
    return { ...entry, width, height, pixels: await digest(data, width, height) };
  } catch {
    return { ...entry, reason: "not a PNG, JPEG or WebP image, or it is damaged" };
  }
}

/** SHA-256 of size and colours in hexadecimal; null on pages without https. data: R, G, B, A of each pixel. */
async function digest(data, width, height) {
  if (!globalThis.crypto?.subtle) return null;
  const head = new TextEncoder().encode(`${height}x${width}:`);
  const bytes = new Uint8Array(head.length + 3 * width * height);
  bytes.set(head);
  for (let from = 0, to = head.length; from < data.length; from += 4, to += 3) {
    bytes[to] = data[from];
    bytes[to + 1] = data[from + 1];
    bytes[to + 2] = data[from + 2];
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** entries: from `inspected`. arranged: the service's pairs of their paths. scale: k, or null. */
function paired(entries, arranged, scale, folders) {
  const at = new Map(entries.map((entry) => [entry.path, entry]));
  const items = [...arranged.items];
  const seen = new Map();
  const pairs = [];
  for (const pair of arranged.pairs) {
    const { name, group: folder } = pair;
    const [group, scene] = folders === "scene" ? [null, folder] : [folder, null];
    const [y, x, enlarged] = [pair.y, pair.x, pair.enlarged].map((path) => path && at.get(path));
    if (!y) continue; // added or removed since the service was asked
    const reason =
      y.reason ?? x?.reason ?? enlarged?.reason ?? wrongSize(x, y, scale) ?? misfit(x, enlarged, scale);
    const twin = y.pixels && seen.get(y.pixels);
    if (reason) items.push({ name, reason });
    else if (twin) items.push({ name, reason: `the same image as ${twin}` });
    else {
      seen.set(y.pixels, name);
      pairs.push({ name, x, y, enlarged, group, scene });
    }
  }
  const given = arranged.pairs.some(({ x }) => x);
  const scenes = pairs.some(({ scene }) => scene)
    ? new Set(pairs.map(({ name, scene }) => scene ?? name)).size
    : null;
  return { pairs, items, given, scenes };
}

function wrongSize(x, y, scale) {
  if (!scale) return null;
  const size = `the original is ${y.width}×${y.height}`;
  if (!x) return Math.min(y.width, y.height) < scale ? `${size}, too small` : null;
  const [width, height] = [x.width * scale, x.height * scale];
  return y.width === width && y.height === height
    ? null
    : `${size}, but ${scale}× the size of the small version is ${width}×${height}`;
}

function misfit(x, enlarged, scale) {
  if (!scale || !x || !enlarged) return null;
  const [width, height] = [x.width * scale, x.height * scale];
  return enlarged.width === width && enlarged.height === height
    ? null
    : `${enlarged.file.name} is ${enlarged.width}×${enlarged.height}, but ${scale}× its small version is ${width}×${height}`;
}

/** isSupplied: the model is a program elsewhere, whose results are added, too. */
export function dropZone(gathered, isSupplied) {
  const add = (files, role) => guarded(() => gathered.add(files, role));
  const drop = (event) => {
    event.preventDefault();
    event.currentTarget.classList.remove("over");
    const dropped = droppedFiles(event.dataTransfer);
    guarded(async () => gathered.add(await dropped, gathered.loose(isSupplied)));
  };
  const over = (event) => {
    event.preventDefault();
    event.currentTarget.classList.add("over");
  };
  return html`<div class="drop-zone" @dragover=${over} @dragleave=${({ currentTarget }) => currentTarget.classList.remove("over")} @drop=${drop}>
    <p><strong>Drop pictures, a folder, or an archive here</strong></p>
    <p class="hint">
      A folder or archive has originals in y/ and small versions in x/${isSupplied ? ", and results in enlarged/," : ","} or just pictures.
    </p>
    <div class="button-row">
      ${picker(add, "Add originals…", "y")} ${picker(add, "Add small versions…", "x")} ${picker(add, "Add a folder…", "folder")}
      ${isSupplied ? picker(add, "Add results…", "enlarged") : nothing} ${picker(add, "Use an archive…", "archive")}
    </div>
  </div>`;
}

function picker(add, label, role) {
  const taken = ({ target }) => {
    const files = Array.from(target.files, (file) => ({ file }));
    add(files, role === "x" || role === "enlarged" ? role : "y");
    target.value = "";
  };
  return html`<input type="file" hidden aria-label=${label} data-role=${role}
      accept=${ACCEPTED[role] ?? "image/png,image/jpeg,image/webp"} ?multiple=${role !== "archive"}
      ?webkitdirectory=${role === "folder"} @change=${taken} />
    <button type="button" @click=${({ currentTarget }) => currentTarget.previousElementSibling.click()}>${label}</button>`;
}

/** What there is, and what cannot be used. */
export function summary(gathered, { pairs, items, given, scenes, used }) {
  const remove = () => {
    gathered.clear();
    gathered.changed();
  };
  if (gathered.archive) {
    const { name, size } = gathered.archive;
    return html`<p class="callout">
        <strong>${name}</strong>${bytes(size)}. The service checks it when it arrives. ${button("Remove", remove, { kind: "link" })}
      </p>
      ${folderChoice(gathered)}`;
  }
  if (!gathered.entries.length && !gathered.waiting) return nothing;
  const files = pairs.flatMap(({ x, y, enlarged }) => [x, y, enlarged].filter(Boolean));
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const groups = new Set(pairs.map(({ group }) => group).filter(Boolean)).size;
  const facts = [
    scenes && `${count(scenes)} scenes`,
    groups && `${count(groups)} groups`,
    total && bytes(total),
    gathered.waiting && `checking ${count(gathered.waiting)} more`,
  ];
  return html`<p class="tally">
      <strong>${plural(pairs.length, given ? "pair" : "original")}</strong> · ${facts.filter(Boolean).join(" · ")} ${button("Remove all", remove, { kind: "link" })}
    </p>
    ${used.length ? already(gathered, used) : nothing} ${gathered.arranged.groups?.length ? folderChoice(gathered) : nothing}
    ${items.length ? refused(items) : nothing} ${pairs.length ? thumbnails(pairs) : nothing}`;
}

const already = (gathered, used) =>
  html`<div class="callout warn" id="used">
    <strong>${used.length === 1 ? "One photograph was" : `${count(used.length)} photographs were`} already used to build the score</strong>
    <p>They cannot stand for new ones: ${used.slice(0, 5).join(", ")}${used.length > 5 ? ", …" : ""}.</p>
    ${button("Leave these out", () => gathered.leave(used), { kind: "small" })}
  </div>`;

function folderChoice(gathered) {
  const run = (folders) => {
    gathered.folders = folders;
    gathered.changed();
  };
  // Not a field of the settings, so it has no name.
  return select("", "Folders below y/ are", FOLDERS, { chosen: gathered.folders, run });
}

/** Small originals make a wrong folder obvious. */
function thumbnails(pairs) {
  const thumbnail = ({ name, y }) => {
    y.url ??= URL.createObjectURL(y.file);
    return html`<img src=${y.url} alt=${name} title=${name} width="64" height="64" loading="lazy" />`;
  };
  return html`<div class="thumbnails" tabindex="0" role="group" aria-label="The pictures">${pairs.slice(0, MOST_THUMBNAILS).map(thumbnail)}</div>`;
}

const refused = (items) =>
  html`<div class="callout warn">
    <strong>${count(items.length)} cannot be used</strong>${reasons(items)}
  </div>`;

const sentName = (name, { file }) => name + (/\.[^.]*$/.exec(file.name)?.[0] ?? "");

const manifestOf = (pairs) =>
  [["name", "group", "scene"], ...pairs.map(({ name, group, scene }) => [name, group ?? "", scene ?? ""])]
    .map((row) => row.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(","))
    .join("\n");

/** Put the files into the form that is sent. @param {FormData} body */
export function pack(body, gathered, { pairs }) {
  if (gathered.archive) {
    body.set("archive", gathered.archive, gathered.archive.name);
    if (gathered.folders === "scene") body.set("scene_by", "folder");
    return;
  }
  for (const { name, x, y, enlarged } of pairs) {
    body.append("y", y.file, sentName(name, y));
    if (x) body.append("x", x.file, sentName(name, x));
    if (enlarged) body.append("enlarged", enlarged.file, sentName(name, enlarged));
  }
  if (pairs.some(({ group }) => group)) body.set("group_by", "group");
  if (pairs.some(({ group, scene }) => group || scene))
    body.set("manifest", new Blob([manifestOf(pairs)]), "manifest.csv");
}
