// Files become pairs, and whatever speaks against a pair is named before anything is sent.

import { imageHeader } from "./header.js";

const IMAGES = /\.(png|jpe?g|webp)$/i;
const ARCHIVES = /\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$/i;
const IGNORED = /^(\.|Thumbs\.db$|desktop\.ini$)/;

export const isArchive = (file) => ARCHIVES.test(file.name);

/**
 * A file and what it is for: "x" or "y", from the folder it lies in, else `fallback`.
 *
 * In `y/GROUP/NAME.png` it belongs to a group, and the pair is called GROUP.NAME, as in an archive.
 */
export function placed(file, path = file.webkitRelativePath || file.name, fallback = "y") {
  const [outer, inner] = [path.split("/").at(-3), path.split("/").at(-2)];
  const roleOf = (folder) => /^[xy]$/i.test(folder ?? "") && folder.toLowerCase();
  const stem = file.name.replace(/\.[^.]*$/, "");
  const ignored = IGNORED.test(file.name);
  if (roleOf(inner)) return { file, role: roleOf(inner), name: stem, group: null, ignored };
  if (roleOf(outer)) return { file, role: roleOf(outer), name: `${inner}.${stem}`, group: inner, ignored };
  return { file, role: fallback, name: stem, group: null, ignored };
}

/** The name under which a file is sent: that of its pair, with its own suffix. */
export const sentName = ({ name, file }) => name + (/\.[^.]*$/.exec(file.name)?.[0] ?? "");

/** Look into a file: {kind, width, height, sha256} or {reason}. */
export async function inspected(entry) {
  if (!IMAGES.test(entry.file.name)) return { ...entry, reason: "not a PNG, JPEG or WebP file" };
  let bytes;
  try {
    bytes = new Uint8Array(await entry.file.arrayBuffer());
  } catch {
    return { ...entry, reason: "the file cannot be read any more" };
  }
  const header = imageHeader(bytes);
  if (!header) return { ...entry, reason: "not a PNG, JPEG or WebP image, or its header is damaged" };
  return { ...entry, ...header, sha256: await digest(bytes) };
}

/** SHA-256 in hexadecimal; null where the browser has none (pages without https). */
async function digest(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The pairs that can be used and an item {name, reason} for every file that cannot.
 *
 * entries: as `inspected` gives them. scale: k of the upscaler, null if it is not known now.
 * The service checks all of it again, and also what only it can know.
 */
export function paired(entries, scale) {
  const items = [];
  const sides = { x: new Map(), y: new Map() };
  for (const entry of entries) {
    if (entry.reason) items.push({ name: entry.file.name, reason: entry.reason });
    else if (sides[entry.role].has(entry.name)) {
      items.push({ name: entry.name, reason: `two files of ${entry.role} have this name` });
    } else sides[entry.role].set(entry.name, entry);
  }
  const given = sides.x.size > 0;
  const seen = new Map();
  const pairs = [];
  for (const [name, y] of [...sides.y].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const x = sides.x.get(name) ?? null;
    const reason = given && !x ? "no X of this name" : wrongSize(x, y, scale);
    const twin = y.sha256 && seen.get(y.sha256);
    if (reason) items.push({ name, reason });
    else if (twin) items.push({ name, reason: `the same image as ${twin}` });
    else {
      seen.set(y.sha256, name);
      pairs.push({ name, x, y });
    }
  }
  for (const name of sides.x.keys()) {
    if (!sides.y.has(name)) items.push({ name, reason: "no Y of this name" });
  }
  return { pairs, items, given, hashed: entries.some((entry) => entry.sha256) };
}

function wrongSize(x, y, scale) {
  if (!scale) return null;
  const size = `Y is ${y.width}×${y.height}`;
  if (!x) return Math.min(y.width, y.height) < scale ? `${size}, too small` : null;
  const [width, height] = [x.width * scale, x.height * scale];
  return y.width === width && y.height === height
    ? null
    : `${size}, but ${scale}× the size of X is ${width}×${height}`;
}

/** The number of pairs below which nothing can be trusted at α. */
export function minimalCount({ alpha, bound, guarantee }) {
  if (!(alpha > 0)) return Infinity;
  if (alpha >= bound) return 1;
  if (guarantee?.kind === "high_probability") {
    return Math.ceil(Math.log(guarantee.delta) / Math.log1p(-alpha / bound) - 1e-9);
  }
  return Math.max(1, Math.ceil(bound / alpha - 1 - 1e-9));
}

/** The smallest α at which n pairs can trust anything. */
export function minimalAlpha({ n, bound, guarantee }) {
  if (guarantee?.kind === "high_probability") return bound * -Math.expm1(Math.log(guarantee.delta) / n);
  return bound / (n + 1);
}

/** All files below what was dropped, with their paths; folders are walked through. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A reader hands out a hundred entries at a time.
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return;
    for (const child of batch) await walk(child, found);
  }
}
