// All pairs of one job: which are labelled, which one is on the desk, which are not saved.

import { ADMIN, getJson, sendJson } from "../lib/api.js";
import { path } from "../calibrations/service.js";
import { Item } from "./item.js";

/** `onChange()` after every change of the list or an item, `settle()` before another pair is opened. */
export class Session {
  rows = [];
  items = new Map(); // by name: the one on the desk, and those that are not saved yet
  current = null;

  constructor(job, onChange, settle) {
    this.job = job;
    this.onChange = onChange;
    this.settle = settle;
  }

  /** Read the list again; `ask`: for a key, if one is needed. Throws ApiError. */
  async refresh({ ask = true } = {}) {
    const rows = await getJson(path(this.job, "pairs"), { ...ADMIN, ask });
    this.rows = rows.filter(({ state }) => state === "awaiting_label");
    this.onChange();
  }

  get labelled() {
    return this.rows.filter((row) => this.isLabelled(row)).length;
  }

  isLabelled(row) {
    return row.labelled || Boolean(this.items.get(row.name)?.isLabelled);
  }

  get unsaved() {
    return [...this.items.values()].filter((item) => item.isUnsaved);
  }

  /** Open a pair; the last one is saved in the background. Null if another has been asked for since. Throws ApiError. */
  async open(name) {
    this.wanted = name;
    this.settle();
    this.current?.save();
    const fresh = () =>
      new Item(path(this.job, "pairs", name), name, () => this.tidy()).load(
        this.rowOf(name)?.labelled ?? true,
      );
    const item = this.items.get(name) ?? (await fresh());
    if (this.wanted !== name) {
      item.close(); // somebody was quicker than the network
      return null;
    }
    this.settle(); // what was drawn while the pictures came
    this.current?.save();
    this.items.set(name, item);
    this.current = item;
    this.tidy();
    return item;
  }

  /** Forget items that are saved and not on the desk. */
  tidy() {
    for (const [name, item] of this.items) {
      if (item === this.current || item.isUnsaved || item.busy) continue;
      const row = this.rowOf(name);
      if (row && item.isLabelled) Object.assign(row, { labelled: true, label_version: item.version });
      item.close();
      this.items.delete(name);
    }
    this.onChange();
  }

  rowOf(name) {
    return this.rows.find((row) => row.name === name);
  }

  /** Of the present pair in the list; -1 before there is one. */
  get place() {
    return this.rows.indexOf(this.rowOf(this.current?.name));
  }

  neighbour(step) {
    return this.rows[this.place + step]?.name ?? null;
  }

  /** The next pair without a label, from the present one on and around; or null. */
  nextUnlabelled() {
    const { place } = this;
    const order = [...this.rows.slice(place + 1), ...this.rows.slice(0, Math.max(place, 0))];
    return order.find((row) => !this.isLabelled(row))?.name ?? null;
  }

  /** Save everything, then finish the job. Throws ApiError. */
  async finish() {
    await Promise.all([...this.items.values()].map((item) => item.save()));
    if (this.unsaved.length) throw new Error(`${this.unsaved.length} labels are not saved yet.`);
    return sendJson("POST", path(this.job, "finish"));
  }
}
