// What the page itself sees of files: whether one can be read, its size, and repeated images. Which files are a
// pair is for the service to say (POST /v1/admin/pairs/check).

const ARCHIVES = /\.(zip|tar|tar\.gz|tgz)$/i;

export const isArchive = (file) => ARCHIVES.test(file.name);

/** A file with its path; one that lies in no folder is put into that of `role`. */
export function located(file, path = file.webkitRelativePath || file.name, role = "y") {
  return { file, path: path.includes("/") ? path : `${role}/${path}` };
}

/** The name under which a file is sent: that of its pair, with its own suffix. */
export const sentName = (name, { file }) => name + (/\.[^.]*$/.exec(file.name)?.[0] ?? "");

/** The table that names the group and the scene of each pair. */
export const manifestOf = (pairs) =>
  [["name", "group", "scene"], ...pairs.map(({ name, group, scene }) => [name, group ?? "", scene ?? ""])]
    .map((row) => row.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(","))
    .join("\n");

/** Look into a file: {width, height, sha256}, its size as a viewer shows it, or {reason}. */
export async function inspected(entry) {
  let bytes;
  try {
    bytes = await entry.file.arrayBuffer();
  } catch {
    return { ...entry, reason: "the file cannot be read any more" };
  }
  try {
    const bitmap = await createImageBitmap(entry.file);
    const { width, height } = bitmap;
    bitmap.close();
    return { ...entry, width, height, sha256: await digest(bytes) };
  } catch {
    return { ...entry, reason: "not a PNG, JPEG or WebP image, or it is damaged" };
  }
}

/** SHA-256 in hexadecimal; null where the browser has none (pages without https). */
async function digest(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The pairs that can be used and an item {name, reason} for everything that cannot.
 *
 * entries: as `inspected` gives them. arranged: what the service makes of their paths. scale: k of the upscaler,
 * null if it is not known now. folders: whether those below y/ are a "group" or a "scene". The service checks all of it again, and also what only it can know.
 */
export function paired(entries, arranged, scale, folders) {
  const at = new Map(entries.map((entry) => [entry.path, entry]));
  const items = [...arranged.items];
  const seen = new Map();
  const pairs = [];
  for (const pair of arranged.pairs) {
    const { name, group: folder } = pair;
    const [group, scene] = folders === "scene" ? [null, folder] : [folder, null];
    const [y, x] = [at.get(pair.y), pair.x && at.get(pair.x)];
    if (!y) continue; // added or removed since the service was asked
    const reason = y.reason ?? x?.reason ?? wrongSize(x, y, scale);
    const twin = y.sha256 && seen.get(y.sha256);
    if (reason) items.push({ name, reason });
    else if (twin) items.push({ name, reason: `the same image as ${twin}` });
    else {
      seen.set(y.sha256, name);
      pairs.push({ name, x, y, group, scene });
    }
  }
  const given = arranged.pairs.some(({ x }) => x);
  const scenes = pairs.some(({ scene }) => scene)
    ? new Set(pairs.map(({ name, scene }) => scene ?? name)).size
    : null;
  return { pairs, items, given, scenes, hashed: entries.some((entry) => entry.sha256) };
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
