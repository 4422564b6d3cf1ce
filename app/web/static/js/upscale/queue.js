// The images of this visit: each is sent, followed while its samples come, and can be opened.

import { getJson, request, upload } from "../lib/api.js";
import { $, announce, h, replace } from "../lib/dom.js";
import { bytes, percent } from "../lib/format.js";
import { pause, watchJob } from "../lib/sse.js";
import { alertsOf } from "./words.js";

const AT_ONCE = 3; // images that are sent or followed; the others wait here

export class Queue {
  /**
   * onOpen(item) when an image is to be shown, item.result being there; null: the one that was shown
   * is gone, and there is no other. onState() when any moves.
   */
  constructor({ onOpen, onState }) {
    this.onOpen = onOpen;
    this.onState = onState;
    this.items = [];
    this.selected = null;
  }

  /** Add files with the settings {upscaler, group, alpha}, texts, they are to be upscaled with. */
  add(files, settings) {
    for (const file of files) {
      const item = new Item(file, settings, this);
      this.items.push(item);
      $("#items").append(item.element);
    }
    this.moved();
    this.items.at(-files.length)?.element.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.pump();
  }

  /** Something is in another state than before. */
  moved() {
    const number = (...states) => this.items.filter(({ state }) => states.includes(state)).length;
    const all = this.items.length;
    const [busy, failed] = [number("busy"), number("failed")];
    $("#queue").hidden = all === 0;
    $("#tally").hidden = all < 2;
    $("#tally").textContent = [`${busy} of ${all} at work`, failed && `${failed} failed`]
      .filter(Boolean)
      .join(", ");
    this.onState();
  }

  /** Whether leaving the page would lose something. */
  get isBusy() {
    return this.items.some((item) => item.state === "busy" || item.state === "waiting");
  }

  pump() {
    const busy = this.items.filter((item) => item.state === "busy").length;
    const waiting = this.items.filter((item) => item.state === "waiting");
    for (const item of waiting.slice(0, Math.max(0, AT_ONCE - busy))) item.run();
  }

  remove(item) {
    const place = this.items.indexOf(item);
    const hadFocus = item.element.contains(document.activeElement);
    item.stop();
    item.element.remove();
    this.items = this.items.filter((other) => other !== item);
    const order = [...this.items.slice(place), ...this.items.slice(0, place).reverse()];
    if (this.selected === item) this.select(order.find(({ state }) => state === "done") ?? null);
    if (hadFocus) (order[0]?.focusable ?? $("#files")).focus();
    this.moved();
    this.pump();
  }

  select(item) {
    this.selected = item;
    for (const other of this.items) {
      other.element.classList.toggle("selected", other === item);
      other.open.setAttribute("aria-current", String(other === item));
    }
    this.onOpen(item);
  }

  ended(item) {
    this.pump();
    if (item.state !== "done") return;
    const share = percent(item.result.trusted_fraction);
    const read = alertsOf(item.result).lines.length ? " Read the warnings." : "";
    announce(`${item.name} is ready: ${share} is trusted.${read}`);
    if (!this.selected) this.select(item);
  }
}

class Item {
  constructor(file, settings, queue) {
    Object.assign(this, { file, settings, queue, name: file.name || "pasted image" });
    this.state = "waiting";
    this.build();
    this.show("Waiting");
  }

  build() {
    this.picture = URL.createObjectURL(this.file);
    this.words = h("span", { class: "item-state" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${this.name}` });
    this.tools = h("div", { class: "item-tools" });
    this.error = h("div", { class: "item-error", hidden: true });
    this.open = h(
      "button",
      { type: "button", class: "item-open", disabled: true, onclick: () => this.queue.select(this) },
      h("img", { src: this.picture, alt: "", onerror: ({ target }) => target.classList.add("broken") }),
      h("span", { class: "item-name", title: this.name }, this.name),
      this.words,
    );
    this.element = h("li", { class: "item" }, this.open, this.tools, this.error, this.bar);
  }

  show(words, share = null) {
    this.words.textContent = words;
    this.queue.moved();
    this.bar.hidden = this.state === "done" || this.state === "failed";
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
    this.open.disabled = this.state !== "done";
    this.element.classList.toggle("failed", this.state === "failed");
    this.element.dataset.state = this.state;
    const active = this.state === "busy" || this.state === "waiting";
    if (this.tools.dataset.active !== String(active)) {
      this.tools.dataset.active = String(active);
      const hadFocus = this.tools.contains(document.activeElement);
      const label = `${active ? "Cancel" : "Remove"} ${this.name}`;
      replace(
        this.tools,
        h(
          "button",
          {
            type: "button",
            class: "quiet icon small",
            "aria-label": label,
            title: active ? "Cancel" : "Remove",
            onclick: () => (active ? this.cancel() : this.queue.remove(this)),
          },
          "×",
        ),
      );
      if (hadFocus) this.tools.firstElementChild.focus();
    }
  }

  /** What of it takes the focus. */
  get focusable() {
    return this.open.disabled ? this.tools.firstElementChild : this.open;
  }

  async run() {
    this.state = "busy";
    this.abort = new AbortController();
    this.error.hidden = true;
    try {
      const job = await this.send();
      this.job = job.id;
      const last = await watchJob(job.id, {
        signal: this.abort.signal,
        onJob: (now) => this.follow(now),
        onLost: () => this.show("Connection lost, trying again"),
      });
      this.job = null;
      if (last.state === "cancelled") throw new Error("Cancelled.");
      if (last.state === "failed") throw new Error(last.error?.detail ?? "The job has failed.");
      this.result = await getJson(last.result, { signal: this.abort.signal });
      this.state = "done";
      this.showDone();
    } catch (error) {
      this.fail(error);
    }
    this.queue.ended(this);
  }

  /** A share alone would hide what the service warns of. */
  showDone() {
    const { lines, grave } = alertsOf(this.result);
    this.show(`${percent(this.result.trusted_fraction)} trusted`);
    if (!lines.length) return;
    this.words.append(" · ", h("span", { class: `alert ${grave ? "bad" : "warn"}` }, "read the warnings"));
  }

  /** Upload; a service that is full is asked again after the time that it names. */
  async send() {
    const form = new FormData();
    form.append("image", this.file, this.name);
    for (const [field, value] of Object.entries(this.settings)) {
      if (value !== "" && value !== null) form.append(field, value);
    }
    for (;;) {
      try {
        this.show("Sending", 0);
        const { json } = await upload("/v1/upscale", form, {
          headers: { Prefer: "respond-async" },
          signal: this.abort.signal,
          onProgress: (sent, total) =>
            this.show(sent < total ? `Sending, ${bytes(total - sent)} left` : "Sent", sent / total),
        });
        return json;
      } catch (error) {
        if (error.slug !== "overloaded" || !error.retryAfter) throw error;
        for (let left = Math.ceil(error.retryAfter); left > 0; left -= 1) {
          this.show(`The service is busy, again in ${left} s`);
          await pause(1000, this.abort.signal);
        }
      }
    }
  }

  follow({ state, progress }) {
    const { done, total, unit } = progress;
    if (total && unit === "samples") this.samples = total;
    if (state === "queued") this.show("In the queue");
    else if (total && done === total) this.show("Making the mask", 1);
    else if (total) this.show(`${done} of ${total} ${unit}`, done / total);
    else this.show("Starting");
  }

  fail(error) {
    const cancelled = error.name === "AbortError" || error.message === "Cancelled.";
    this.state = "failed";
    this.show(cancelled ? "Cancelled" : "Failed");
    if (!cancelled) announce(`${this.name} failed: ${error.message}`);
    // A picture with transparent pixels needs a colour behind them; anything else may be retried.
    const transparent = error.slug === "bad-image" && /transparen/.test(error.message);
    const again = (label, settings) =>
      h(
        "button",
        {
          type: "button",
          class: "small",
          onclick: () => {
            Object.assign(this.settings, settings);
            this.state = "waiting";
            this.show("Waiting");
            this.tools.firstElementChild.focus(); // this button is about to go
            this.queue.pump();
          },
        },
        label,
      );
    replace(
      this.error,
      !cancelled && h("p", {}, error.message),
      transparent && again("Put it on white", { background: "white" }),
      !transparent && mayHelp(error) && again("Try again", {}),
    );
    this.element.classList.toggle("failed", !cancelled);
    this.error.hidden = false;
  }

  async cancel() {
    if (this.state === "waiting") {
      this.fail(new DOMException("", "AbortError"));
      return;
    }
    const job = this.job;
    this.stop();
    if (job) await request(`/v1/jobs/${job}`, { method: "DELETE" });
  }

  /** Give up what is under way; the service may go on. */
  stop() {
    this.abort?.abort();
    if (this.state === "done" || this.state === "failed") URL.revokeObjectURL(this.picture);
  }
}

/** Whether the same request may fare better later: the fault is not in the image or its settings. */
function mayHelp({ status = 0 }) {
  return status < 400 || status >= 500 || [401, 409, 429].includes(status);
}
