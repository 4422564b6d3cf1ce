// Gathering the images of a calibration: dropped or chosen, looked into, listed.

import { announce, h } from "../lib/dom.js";
import { bytes, count } from "../lib/format.js";
import { toast, toastError } from "../lib/toast.js";
import { droppedFiles, inspected, isArchive, located, paired } from "./pairing.js";
import * as service from "./service.js";

const AT_ONCE = 4;
const MOST_LISTED = 200;
const NOTHING = { pairs: [], items: [] };

/** The files of the form: each looked into once, in the order of their arrival. */
export class Gathered {
  entries = [];
  arranged = NOTHING; // what the service says about their paths
  archive = null;
  waiting = 0;
  turn = 0;

  async add(files, fallback, changed) {
    const archive = files.find(({ file }) => isArchive(file));
    if (archive) {
      if (this.entries.length) toast(`${archive.file.name} takes the place of the images.`);
      else if (this.archive) toast(`${archive.file.name} takes the place of ${this.archive.name}.`);
      this.clear();
      this.archive = archive.file;
      changed();
      return;
    }
    if (this.archive && files.length) toast(`The images take the place of ${this.archive.name}.`);
    this.archive = null;
    const queue = files.map(({ file, path }) => located(file, path, fallback));
    const asking = 1;
    this.waiting += queue.length + asking;
    changed();
    const worker = async () => {
      for (let entry = queue.shift(); entry; entry = queue.shift()) {
        this.entries.push(await inspected(entry));
        this.waiting -= 1;
        if (this.waiting % 8 === 0) changed();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    try {
      await this.arrange();
    } finally {
      this.waiting -= asking;
      changed();
    }
    const found = this.verdict(null);
    announce(`${found.pairs.length} pairs, ${found.items.length} problems`);
  }

  /** Ask which files are pairs; an answer that comes after a newer question does not count. */
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
    return paired(this.entries, this.arranged, scale);
  }
}

/** Where images are dropped or chosen; `refresh()` is called whenever something was added. */
export function dropZone(gathered, refresh) {
  const add = (files, role) => gathered.add(files, role, refresh).catch(toastError);
  const picker = (label, role, more) => {
    const input = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      "aria-label": label,
      dataset: { role: role ?? "archive" },
      ...more,
    });
    input.addEventListener("change", () => {
      add(
        [...input.files].map((file) => ({ file })),
        role ?? "y",
      );
      input.value = "";
    });
    return [input, h("button", { type: "button", onclick: () => input.click() }, label)];
  };
  const images = { accept: "image/png,image/jpeg,image/webp,.png,.jpg,.jpeg,.webp" };
  const zone = h(
    "div",
    { class: "drop-zone" },
    h("p", {}, h("strong", {}, "Drop images, a folder with x/ and y/, or one archive here")),
    h("p", { class: "hint" }, "An archive holds y/ and perhaps x/, or just images in one folder."),
    h(
      "div",
      { class: "button-row" },
      picker("Add truths Y…", "y", images),
      picker("Add inputs X…", "x", images),
      picker("Add a folder…", "y", { webkitdirectory: true }),
      picker("Use an archive…", null, { accept: ".zip,.tar,.gz,.tgz,.bz2,.xz", multiple: false }),
    ),
  );
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    try {
      await add(await droppedFiles(event.dataTransfer), "y");
    } catch (error) {
      toastError(error);
    }
  });
  return zone;
}

/** What has been gathered: the tally, what cannot be used, the pairs. */
export function summary(gathered, { pairs, items, given, hashed }, refresh) {
  if (gathered.archive) {
    return h(
      "p",
      { class: "callout" },
      h("strong", {}, gathered.archive.name),
      `${bytes(gathered.archive.size)}. The service looks into it when it arrives. `,
      removal("Remove", gathered, refresh),
    );
  }
  if (!gathered.entries.length && !gathered.waiting) return null;
  const total = pairs.reduce((sum, { x, y }) => sum + y.file.size + (x?.file.size ?? 0), 0);
  const sizes = [...new Set(pairs.map(({ y }) => `${y.width}×${y.height}`))];
  return [
    h(
      "p",
      { class: "tally" },
      h(
        "strong",
        {},
        `${count(pairs.length)} ${given ? "pairs X and Y" : "truths Y"}`.replace(/^1 (pair|truth)s/, "1 $1"),
      ),
      pairs.length > 0 &&
        ` · ${bytes(total)} · ${sizes.slice(0, 3).join(", ")}${sizes.length > 3 ? ` and ${sizes.length - 3} more sizes` : ""}`,
      gathered.waiting > 0 && ` · looking at ${count(gathered.waiting)} more`,
      " ",
      removal("Remove all", gathered, refresh),
    ),
    items.length > 0 &&
      h(
        "div",
        { class: "callout warn" },
        h("strong", {}, `${count(items.length)} cannot be used`),
        h(
          "ul",
          { class: "items" },
          items.slice(0, MOST_LISTED).map(({ name, reason }) => h("li", {}, h("b", {}, name), `: ${reason}`)),
        ),
        items.length > MOST_LISTED && h("p", {}, `and ${count(items.length - MOST_LISTED)} more`),
      ),
    pairs.length > 0 &&
      !hashed &&
      h(
        "p",
        { class: "hint" },
        "This browser computes no digests on a page without https; the service looks for repeated images.",
      ),
    pairs.length > 0 && h("details", {}, h("summary", {}, "The pairs"), pairTable(pairs)),
  ];
}

function removal(label, gathered, refresh) {
  const run = () => {
    gathered.clear();
    refresh();
  };
  return h("button", { type: "button", class: "link", onclick: run }, label);
}

function pairTable(pairs) {
  return h(
    "div",
    { class: "table-scroll short", tabindex: "0", role: "region", "aria-label": "The pairs" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Name", "X", "Y"].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        pairs
          .slice(0, MOST_LISTED)
          .map(({ name, x, y }) =>
            h(
              "tr",
              {},
              h("td", {}, name),
              h("td", {}, x ? `${x.kind} ${x.width}×${x.height}` : "made from Y"),
              h("td", {}, `${y.kind} ${y.width}×${y.height}`),
            ),
          ),
      ),
    ),
    pairs.length > MOST_LISTED && h("p", { class: "hint" }, `and ${count(pairs.length - MOST_LISTED)} more`),
  );
}
