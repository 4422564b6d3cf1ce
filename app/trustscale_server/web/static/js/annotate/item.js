// One pair on the desk: its pictures, its label, and how the label is saved.

import { ADMIN, ApiError, getBlob, request } from "../lib/api.js";
import { Mask, decoded, packed } from "./mask.js";

const QUIET_MS = 800;
const LONGEST_WAIT_MS = 15_000;

/** `state`: "clean" (saved), "dirty", "saving", "offline" (retried), "conflict" (overtaken) or "refused". */
export class Item {
  version = 0; // of the label that this one was drawn on; 0: there was none
  state = "clean";
  problem = null;
  edits = 0;
  saved = 0;
  timer = null;
  busy = null;
  failures = 0;
  /** @type {ImageBitmap | null} */
  truth = null;
  /** @type {ImageBitmap | null} */
  prediction = null;
  /** @type {((box: any) => void) | null} */
  onDrawn = null;

  constructor(path, name, onState) {
    this.path = path;
    this.name = name;
    this.onState = onState;
  }

  get isLabelled() {
    return this.version > 0;
  }

  get isUnsaved() {
    return this.saved !== this.edits;
  }

  async load(hasLabel) {
    const bitmap = async (part) => createImageBitmap(await getBlob(`${this.path}/${part}.png`, ADMIN));
    const pictures = Promise.all([bitmap("y"), bitmap("prediction")]);
    const [[truth, prediction], label] = await Promise.all([pictures, hasLabel ? this.fetchLabel() : null]);
    Object.assign(this, { truth, prediction });
    this.mask = new Mask(prediction.width, prediction.height, (box) => this.onDrawn?.(box));
    if (label) {
      this.mask.load(label.marks);
      this.version = label.version;
    }
    return this;
  }

  /** The service's label: {marks, version}, or null. */
  async fetchLabel() {
    try {
      const response = await request(`${this.path}/label.png`, { cache: "no-store", ...ADMIN });
      return { version: versionOf(response), marks: await decoded(await response.blob()) };
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /** The label has changed; it is saved after a moment of quiet. */
  changed() {
    this.edits += 1;
    if (this.state !== "conflict") this.enter("dirty");
    this.schedule(QUIET_MS);
  }

  /** Save the label as it is, even if nothing was drawn: "nothing differs". */
  confirm() {
    this.edits += 1;
    return this.save();
  }

  schedule(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), wait);
  }

  /** Save; resolves when the service has the label or cannot have it. */
  async save() {
    clearTimeout(this.timer);
    while (this.busy) await this.busy;
    if (!this.isUnsaved || this.state === "conflict") return;
    this.busy = this.put().finally(() => (this.busy = null));
    await this.busy;
  }

  async put() {
    const edits = this.edits;
    this.enter("saving");
    try {
      const body = await encoded(this.mask);
      const condition = this.version ? { "If-Match": `"v${this.version}"` } : { "If-None-Match": "*" };
      const headers = { "Content-Type": "image/png", ...condition };
      const response = await request(`${this.path}/label.png`, { method: "PUT", body, headers, ...ADMIN });
      this.version = versionOf(response);
      this.saved = edits;
      this.failures = 0;
      this.enter(this.isUnsaved ? "dirty" : "clean");
      if (this.isUnsaved) this.schedule(QUIET_MS);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.refused(error);
    }
  }

  refused(error) {
    this.problem = error;
    const { status } = error;
    const isPassing = status === 0 || status === 429 || status >= 500;
    this.enter(status === 412 ? "conflict" : isPassing ? "offline" : "refused");
    if (!isPassing) return;
    this.failures += 1;
    this.schedule(Math.min(1000 * 2 ** this.failures, LONGEST_WAIT_MS));
  }

  /** End a conflict: `marks` count now, on top of the version of the other person. */
  async resolve(marks, { version, marks: theirs }) {
    this.version = version;
    const same = marks.every((mark, k) => mark === theirs[k]);
    this.mask.begin();
    this.mask.data.set(marks);
    this.mask.onChange(this.mask.whole());
    this.mask.end();
    this.state = "dirty";
    if (!same) return this.confirm();
    this.saved = this.edits;
    this.enter("clean");
  }

  enter(state) {
    this.state = state;
    this.onState(this);
  }

  close() {
    clearTimeout(this.timer);
    this.truth?.close();
    this.prediction?.close();
  }
}

const versionOf = ({ headers }) => Number(/^(?:W\/)?"v(\d+)"$/.exec(headers.get("ETag") ?? "")?.[1] ?? 0);

// Written without a canvas, which gives altered pixels in browsers that guard against fingerprinting.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** white where data is 1, black where it is 0. */
async function encoded({ width, height, data }) {
  const stride = 1 + Math.ceil(width / 8); // each row begins with its filter: 0, none
  const rows = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    rows.set(packed(data.subarray(y * width, (y + 1) * width)), y * stride + 1);
  }
  const deflated = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 1);
  const parts = [
    new Uint8Array(SIGNATURE),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", new Uint8Array(await new Response(deflated).arrayBuffer())),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let k = 0; k < 4; k += 1) bytes[4 + k] = name.charCodeAt(k);
  bytes.set(data, 8);
  let crc = 0xffffffff; // of name and data
  for (let k = 4; k < 8 + data.length; k += 1) crc = CRC_TABLE[(crc ^ bytes[k]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, (crc ^ 0xffffffff) >>> 0);
  return bytes;
}
