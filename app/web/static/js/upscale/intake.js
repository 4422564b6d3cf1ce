// Where images come in: dropped, pasted, chosen, or one of the examples; and their settings.

import { getJson } from "../lib/api.js";
import { $, $$, h, replace } from "../lib/dom.js";
import { toast, toastError } from "../lib/toast.js";
import { codeOf, snap } from "./levels.js";
import { shown } from "./words.js";

export class Intake {
  /** onFiles(files, {upscaler, alpha}) when there is something to do; onUpscalers() when they are known. */
  constructor({ onFiles, onUpscalers }) {
    this.onFiles = onFiles;
    this.onUpscalers = onUpscalers;
    this.upscalers = [];
    this.loading = null;
    this.select = $("#upscaler");
    this.group = $("#group");
    this.input = $("#next-alpha");
    this.select.addEventListener("change", () => this.choose());
    this.isTyped = false; // an α that was chosen stays when the upscaler changes
    this.input.addEventListener("input", () => {
      this.isTyped = this.input.value.trim() !== "";
    });
    this.input.addEventListener("change", () => this.check());
    $("#settings").addEventListener("submit", (event) => event.preventDefault());
    this.listen();
    const missing = () => this.upscalers.length || this.load();
    document.addEventListener("keys", missing);
    addEventListener("online", missing);
    // Another calibration may have become active while nobody looked.
    document.addEventListener("visibilitychange", () => document.hidden || this.load({ ask: false }));
    this.load();
  }

  listen() {
    const files = $("#files");
    files.addEventListener("change", () => {
      this.take([...files.files]);
      files.value = "";
    });
    let depth = 0; // dragging over a child leaves and enters
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => {
      if (carries(event)) document.body.classList.toggle("dropping", ++depth > 0);
    });
    addEventListener("dragleave", (event) => {
      if (carries(event)) document.body.classList.toggle("dropping", --depth > 0);
    });
    addEventListener("dragover", (event) => carries(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      document.body.classList.remove("dropping");
      this.take([...event.dataTransfer.files]);
    });
    addEventListener("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (!pasted.length) return;
      event.preventDefault();
      this.take(pasted);
    });
    for (const button of $$(".example")) {
      button.addEventListener("click", () => this.example(button.dataset).catch(toastError));
    }
  }

  async example({ file, name }) {
    const response = await fetch(file);
    this.take([new File([await response.blob()], name, { type: "image/webp" })]);
  }

  async take(files) {
    const usable = files.filter((file) => file.size > 0);
    if (usable.length < files.length) toast("Empty files and folders are left out.");
    if (!usable.length) return;
    if (!this.upscalers.length) await this.load();
    const alpha = this.alpha();
    if (alpha === null) {
      this.check();
      this.input.focus();
      toast("α must be a number of at least 0.", { kind: "error" });
      return;
    }
    this.onFiles(usable, { upscaler: this.select.value, group: this.group.value, alpha });
  }

  /** Read which upscalers there are; one call at a time. `ask`: for a key, if one is needed. */
  load({ ask = true } = {}) {
    this.loading ??= this.read(ask).finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  async read(ask) {
    let found;
    try {
      found = await getJson("/v1/upscalers", { ask });
    } catch (error) {
      if (this.upscalers.length) return; // what is known is better than nothing
      const again = h("button", { type: "button", class: "small", onclick: () => this.load() }, "Try again");
      this.notice("bad", error.message, " ", again);
      return;
    }
    if (JSON.stringify(found) === JSON.stringify(this.upscalers)) return;
    const chosen = this.select.value;
    const group = this.group.value;
    const isThere = found.some(({ name }) => name === chosen);
    this.upscalers = found;
    replace(
      this.select,
      found.map(({ name, scale, default: isDefault }) =>
        h(
          "option",
          { value: name, selected: isThere ? name === chosen : isDefault },
          scale ? `${name}, ×${scale}` : name,
        ),
      ),
    );
    this.choose();
    if (group in (this.upscaler.groups ?? {})) this.group.value = group;
    this.onUpscalers();
  }

  /** A calibration may speak about kinds of images one by one. */
  chooseGroup() {
    const groups = Object.entries(this.upscaler.groups ?? {});
    $("#group-field").hidden = groups.length === 0;
    replace(
      this.group,
      h("option", { value: "" }, "any kind"),
      groups.map(([name, pairs]) => h("option", { value: name }, `${name}, ${pairs} pairs`)),
    );
  }

  get upscaler() {
    return this.upscalers.find(({ name }) => name === this.select.value);
  }

  /** An upscaler was chosen: its calibration says which α makes sense. */
  choose() {
    const { calibration, default_alpha: alpha, min_alpha: least, samples } = this.upscaler;
    this.notice();
    this.chooseGroup();
    if (!calibration) {
      this.notice(
        "warn",
        "This upscaler has no calibration, so no mask would have a foundation and the service refuses. ",
        h("a", { href: "/calibrations" }, "Calibrate it first."),
      );
    }
    if (!this.isTyped) this.input.value = calibration ? shown(alpha) : "";
    // The first text is for the start, the second for the bar above a result.
    replace(
      $("#alpha-hint"),
      calibration && [
        h(
          "span",
          { class: "long" },
          `The largest error inside the mask, on average. Choose it now, not after looking. Possible from ${shown(least)}; ${samples} samples per image.`,
        ),
        h("span", { class: "short" }, `α: of the next images, chosen before looking; from ${shown(least)}.`),
      ],
    );
    this.check();
  }

  /** α for the next images, on the grid of trust.png, as text; "" for the default, null if wrong. */
  alpha() {
    const text = this.input.value.trim().replace(",", ".");
    if (text === "") return "";
    const value = Number(text);
    if (!Number.isFinite(value) || value < 0) return null;
    const bound = this.upscaler?.bound;
    return String(bound && codeOf(value, bound) > 0 && value < bound ? snap(value, bound) : value);
  }

  check() {
    const alpha = this.alpha();
    this.input.setAttribute("aria-invalid", String(alpha === null));
    this.input.setCustomValidity(alpha === null ? "α must be a number of at least 0." : "");
  }

  setAlpha(alpha) {
    this.input.value = shown(alpha);
    this.isTyped = true;
    this.check();
  }

  notice(kind, ...children) {
    replace($("#service-notice"), kind && h("p", { class: `callout ${kind}` }, children));
  }
}
