// Gathers the images of a calibration: dropped or chosen, inspected, listed.

import { announce } from "../lib/dom.js";
import { bytes, count, plural } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { pooled } from "../lib/jobs.js";
import { guarded, toast } from "../lib/toast.js";
import { button, hint, select, table } from "../lib/widgets.js";
import { droppedFiles, inspected, isArchive, located, paired } from "./pairing.js";
import { reasons } from "./job.js";
import * as service from "./service.js";

const AT_ONCE = 4;
const MOST_LISTED = 200;
const MOST_THUMBNAILS = 60;
const FOLDERS = Object.entries({
  group: "groups of pictures, with a promise for each",
  scene: "scenes: several pictures of one thing, which count once",
});
const NOTHING = { pairs: [], items: [] };
const ACCEPTED = { folder: "", archive: ".zip,.tar,.gz,.tgz" };

/** The files of the form, each inspected once. */
export class Gathered {
  /** @type {any[]} */
  entries = [];
  /** @type {any} */
  arranged = NOTHING; // what the service says about their paths
  archive = null;
  waiting = 0;
  turn = 0;
  folders = "group"; // what a folder below y/ is: "group" or "scene"

  constructor(changed) {
    this.changed = changed;
  }

  async add(files, fallback) {
    const { changed } = this;
    const archive = files.find(({ file }) => isArchive(file));
    const before = this.entries.length ? "the images" : this.archive?.name;
    if (archive) {
      if (before) toast(`${archive.file.name} replaces ${before}.`);
      this.clear();
      this.archive = archive.file;
      changed();
      return;
    }
    if (this.archive && files.length) toast(`The images replace ${before}.`);
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
    const found = this.verdict(null);
    announce(`${found.pairs.length} pairs, ${found.items.length} problems`);
  }

  /** Ask which files are pairs; an answer to an older question is dropped. */
  async arrange() {
    const turn = ++this.turn;
    const arranged = await service.arranged(this.entries.map(({ path }) => path));
    if (turn === this.turn) this.arranged = arranged;
  }

  clear() {
    this.turn += 1;
    this.entries = [];
    this.arranged = NOTHING;
    this.archive = null;
  }

  verdict(scale) {
    return paired(this.entries, this.arranged, scale, this.folders);
  }
}

export function dropZone(gathered) {
  const add = (files, role) => guarded(() => gathered.add(files, role));
  const drop = (event) => {
    event.preventDefault();
    event.currentTarget.classList.remove("over");
    const dropped = droppedFiles(event.dataTransfer);
    guarded(async () => gathered.add(await dropped, "y"));
  };
  const over = (event) => {
    event.preventDefault();
    event.currentTarget.classList.add("over");
  };
  return html`<div class="drop-zone" @dragover=${over} @dragleave=${({ currentTarget }) => currentTarget.classList.remove("over")} @drop=${drop}>
    <p><strong>Drop pictures, a folder, or an archive here</strong></p>
    <p class="hint">
      A folder or archive has originals in y/ and small versions in x/, or just pictures.
    </p>
    <div class="button-row">
      ${picker(add, "Add originals…", "y")} ${picker(add, "Add small versions…", "x")} ${picker(add, "Add a folder…", "folder")}
      ${picker(add, "Use an archive…", "archive")}
    </div>
  </div>`;
}

function picker(add, label, role) {
  const taken = ({ target }) => {
    const files = Array.from(target.files, (file) => ({ file }));
    add(files, role === "x" ? "x" : "y");
    target.value = "";
  };
  return html`<input type="file" hidden aria-label=${label} data-role=${role}
      accept=${ACCEPTED[role] ?? "image/png,image/jpeg,image/webp"} ?multiple=${role !== "archive"}
      ?webkitdirectory=${role === "folder"} @change=${taken} />
    <button type="button" @click=${({ currentTarget }) => currentTarget.previousElementSibling.click()}>${label}</button>`;
}

export function summary(gathered, { pairs, items, given, hashed, scenes }) {
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
  const total = pairs.reduce((sum, { x, y }) => sum + y.file.size + (x?.file.size ?? 0), 0);
  const sizes = [...new Set(pairs.map(({ y }) => sizeOf(y)))];
  const groups = new Set(pairs.map(({ group }) => group).filter(Boolean)).size;
  const more = sizes.length > 3 ? ` and ${sizes.length - 3} more sizes` : "";
  const facts = [
    scenes && `${count(scenes)} scenes`,
    groups && `${count(groups)} groups`,
    total && bytes(total),
    total && `${sizes.slice(0, 3).join(", ")}${more}`,
    gathered.waiting && `checking ${count(gathered.waiting)} more`,
  ];
  const digests = "Without https this browser cannot find repeated images; the service does.";
  return html`<p class="tally">
      <strong>${plural(pairs.length, given ? "pair" : "original")}</strong> · ${facts.filter(Boolean).join(" · ")} ${button("Remove all", remove, { kind: "link" })}
    </p>
    ${gathered.arranged.groups?.length ? folderChoice(gathered) : nothing} ${items.length ? refused(items) : nothing}
    ${pairs.length && !hashed ? hint(digests) : nothing} ${pairs.length ? thumbnails(pairs) : nothing}
    ${pairs.length ? html`<details><summary>The pairs</summary>${pairTable(pairs)}</details>` : nothing}`;
}

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
  return html`<div class="thumbnails">${pairs.slice(0, MOST_THUMBNAILS).map(thumbnail)}</div>
    ${pairs.length > MOST_THUMBNAILS ? hint(`and ${count(pairs.length - MOST_THUMBNAILS)} more`) : nothing}`;
}

const refused = (items) =>
  html`<div class="callout warn">
    <strong>${count(items.length)} cannot be used</strong>${reasons(items.slice(0, MOST_LISTED))}${moreThan(items)}
  </div>`;

const moreThan = ({ length }) =>
  length > MOST_LISTED ? hint(`and ${count(length - MOST_LISTED)} more`) : nothing;

const sizeOf = ({ width, height }) => `${width}×${height}`;

function pairTable(pairs) {
  const row = ({ name, scene, x, y }) => [
    name,
    scene ?? "its own",
    x ? sizeOf(x) : "made from the original",
    sizeOf(y),
  ];
  const rows = pairs.slice(0, MOST_LISTED).map(row);
  return html`${table("The pairs", ["Name", "Scene", "Small version", "Original"], rows, "short")} ${moreThan(pairs)}`;
}
