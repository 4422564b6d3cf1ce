// Where images come in: dropped, pasted, chosen, or one of the examples; and their settings.

import { getJson } from "../lib/api.js";
import { $, $$, h, replace } from "../lib/dom.js";
import { toast, toastError } from "../lib/toast.js";
import { codeOf, snap } from "./levels.js";
import { shown } from "./words.js";

export class Intake {
  /** onFiles(files, {upscaler, alpha}) when there is something to do. */
  constructor({ onFiles }) {
    this.onFiles = onFiles;
    this.upscalers = [];
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
    document.addEventListener("keys", () => this.upscalers.length || this.load());
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

  take(files) {
    const usable = files.filter((file) => file.size > 0);
    if (usable.length < files.length) toast("Empty files and folders are left out.");
    if (!usable.length) return;
    const alpha = this.alpha();
    if (alpha === null) {
      this.check();
      this.input.focus();
      toast("α must be a number of at least 0.", { kind: "error" });
      return;
    }
    this.onFiles(usable, { upscaler: this.select.value, group: this.group.value, alpha });
  }

  async load() {
    try {
      this.upscalers = await getJson("/v1/upscalers");
    } catch (error) {
      this.notice("bad", error.message);
      return;
    }
    replace(
      this.select,
      this.upscalers.map(({ name, scale, default: isDefault }) =>
        h("option", { value: name, selected: isDefault }, scale ? `${name}, ×${scale}` : name),
      ),
    );
    this.choose();
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
    $("#alpha-hint").textContent = calibration
      ? `The largest error inside the mask, on average. Choose it now, not after looking. Possible from ${shown(least)}; ${samples} samples per image.`
      : "";
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
