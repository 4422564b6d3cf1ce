// The page checks files itself for what it can see; the service decides which files are pairs (/v1/admin/pairs/check).

const ARCHIVES = /\.(zip|tar|tar\.gz|tgz)$/i;

export const isArchive = (file) => ARCHIVES.test(file.name);

/** A file with its path; a file without a folder gets that of `role`. */
export function located(file, path = file.webkitRelativePath || file.name, role = "y") {
  return { file, path: path.includes("/") ? path : `${role}/${path}` };
}

export const sentName = (name, { file }) => name + (/\.[^.]*$/.exec(file.name)?.[0] ?? "");

export const manifestOf = (pairs) =>
  [["name", "group", "scene"], ...pairs.map(({ name, group, scene }) => [name, group ?? "", scene ?? ""])]
    .map((row) => row.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(","))
    .join("\n");

/** Look into a file: {width, height, sha256} as a viewer shows it, or {reason}. */
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

/** SHA-256 in hexadecimal; null on pages without https. */
async function digest(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The usable pairs, and an item {name, reason} for everything else. entries: from `inspected`. arranged: the service's
 * pairs of their paths. scale: k, or null. folders: whether those below y/ are a "group" or a "scene".
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
    let n = Math.ceil(-Math.log(guarantee.delta) / Math.log1p(alpha / bound) - 1e-9);
    while (n < MOST_SEARCHED && minimalAlpha({ n, bound, guarantee }) > alpha) n += 1;
    return n;
  }
  return Math.max(1, Math.ceil(bound / alpha - 1 - 1e-9));
}

/** The smallest α at which n pairs can trust anything. */
export function minimalAlpha({ n, bound, guarantee }) {
  return guarantee?.kind === "high_probability" ? bound * betting(n, guarantee.delta) : bound / (n + 1);
}

const MOST_SEARCHED = 5000;

/** The bound on the share of B that n scenes without loss give with probability 1 − δ (Waudby-Smith and Ramdas). */
function betting(n, delta) {
  const log = -Math.log(delta);
  const bets = [];
  let squares = 0;
  for (let i = 1; i <= n; i += 1) {
    bets.push(Math.min(1, Math.sqrt((2 * log * i) / (n * (0.25 + squares)))));
    squares += (0.5 / (i + 1)) ** 2;
  }
  let [low, high] = [0, 1];
  for (let step = 0; step < 20; step += 1) {
    const middle = (low + high) / 2;
    const wealth = bets.reduce((sum, bet) => sum + Math.log1p(bet * middle), 0);
    if (wealth >= log) high = middle;
    else low = middle;
  }
  return high;
}

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
    // A reader returns at most a hundred entries at a time.
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return;
    for (const child of batch) await walk(child, found);
  }
}
