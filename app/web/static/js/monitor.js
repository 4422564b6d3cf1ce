// What happens while the service serves: do the inputs still look like the calibration images, does
// the promise hold where the truth is known, do the upscalers work.

import "./lib/shell.js";
import { getJson } from "./lib/api.js";
import { $, announce, h, replace } from "./lib/dom.js";
import { Panel } from "./monitor/panel.js";

const EVERY_MS = 10_000;
const POINTS = 400;

const view = $("#view");
const panels = new Map();
const when = h("span", { class: "hint when" });
const pauseButton = h(
  "button",
  { type: "button", "aria-pressed": "false", onclick: () => setPaused(!paused) },
  "Pause",
);
const alarms = h("div", {});
const place = h("div", { class: "stack" });
let paused = false;
let timer = null;
let busy = false;

replace(
  view,
  h(
    "div",
    { class: "page-head" },
    h(
      "div",
      {},
      h("h1", {}, "Monitor"),
      h(
        "p",
        { class: "lead" },
        "Whether inputs still look like the calibration images, and whether the promise holds where the truth is known.",
      ),
    ),
    h(
      "div",
      { class: "button-row" },
      when,
      pauseButton,
      h("button", { type: "button", onclick: () => refresh() }, "Refresh"),
    ),
  ),
  alarms,
  place,
);

function setPaused(on) {
  paused = on;
  pauseButton.setAttribute("aria-pressed", String(on));
  pauseButton.textContent = on ? "Go on" : "Pause";
  schedule();
  if (on) when.textContent = "Paused";
  else refresh();
}

function schedule() {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(refresh, EVERY_MS, { ask: false });
}

/** Read and show; only what a person has asked for may ask him for a key. */
async function refresh({ ask = true } = {}) {
  if (busy) return;
  busy = true;
  view.setAttribute("aria-busy", "true");
  try {
    show(await getJson(`/v1/admin/monitor?points=${POINTS}`, { kind: "admin", ask }));
  } catch (error) {
    when.textContent = "Not up to date";
    replace(
      alarms,
      h(
        "p",
        { class: "callout bad", role: "alert" },
        h("strong", {}, "The monitor cannot be read"),
        error.message,
      ),
    );
  } finally {
    busy = false;
    view.removeAttribute("aria-busy");
    schedule();
  }
}

function show({ at, upscalers }) {
  const keyOf = ({ upscaler, group }) => JSON.stringify([upscaler, group ?? null]);
  const keys = new Set(upscalers.map(keyOf));
  for (const [key, panel] of panels) {
    if (!keys.has(key)) {
      panel.root.remove();
      panels.delete(key);
    }
  }
  for (const data of upscalers) {
    const key = keyOf(data);
    if (!panels.has(key)) {
      const panel = new Panel(data);
      panels.set(key, panel);
      place.append(panel.root);
    }
    panels.get(key).update(data);
  }
  const total = upscalers.reduce((sum, one) => sum + one.alarms.length, 0);
  const severe = upscalers.some((one) => one.alarms.some(({ severity }) => severity === "page"));
  const verdict = total ? `${total === 1 ? "One alarm" : `${total} alarms`}: see below.` : "No alarm.";
  const words = h(
    "p",
    { class: `callout ${severe ? "bad" : total ? "warn" : "good"}`, dataset: { alarms: total } },
    verdict,
  );
  if (alarms.firstElementChild?.textContent !== verdict) {
    replace(alarms, words);
    announce(verdict);
  }
  const clock = new Date(at).toLocaleTimeString("en-GB");
  when.textContent = paused ? `Paused at ${clock}` : `As of ${clock}`;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!paused) refresh({ ask: false });
});
document.addEventListener("keys", () => refresh({ ask: false }));
refresh();
