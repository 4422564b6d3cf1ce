// The monitor. The reader's question: is the promise still kept? The main action: read the sentence.

import { getJson } from "./lib/api.js";
import { announce } from "./lib/dom.js";
import { plural } from "./lib/format.js";
import { html, nothing, render } from "./lib/html.js";
import { at } from "./lib/place.js";
import { root } from "./lib/shell.js";
import { Store } from "./lib/store.js";
import { button, pageHead } from "./lib/widgets.js";
import { card, toneOf } from "./monitor/card.js";

const EVERY_MS = 10_000;

const store = new Store({
  /** @type {any} */
  report: null,
  problem: "",
  isPaused: false,
  isBusy: false,
});
const { state } = store;
let timer;

store.watch(() => render(page(), root));

function page() {
  const { report, isPaused, isBusy, problem } = state;
  root.setAttribute("aria-busy", String(isBusy));
  const clock = report ? new Date(report.at).toLocaleTimeString("en-GB") : "";
  const when = problem ? "Not up to date" : isPaused ? `Paused at ${clock}` : report ? `As of ${clock}` : "";
  const lead = html`<p class="lead">
    Whether inputs still look like the calibration images, and whether the promise holds where the truth is known.
  </p>`;
  const tools = html`<div class="button-row">
    <span class="hint when">${when}</span>
    ${button(isPaused ? "Resume" : "Pause", togglePaused, { pressed: isPaused })} ${button("Refresh", () => refresh())}
  </div>`;
  return html`${pageHead("Monitor", { lead, tools })}
    ${problem ? html`<p class="callout bad" role="alert"><strong>The monitor cannot be read</strong>${problem}</p>` : report ? verdict(report) : nothing}
    ${report ? html`<div class="stack">${sorted(report.upscalers).map(card)}</div>` : nothing}`;
}

/** Each upscaler and active calibration: those with alarms first, then by number of requests. */
function sorted(all) {
  const named = all.map((one) => {
    // Several calibrations may be active; each is watched separately.
    const isTwin = all.some((other) => other.upscaler === one.upscaler && other !== one);
    return { ...one, under: isTwin ? one.calibration?.name || one.calibration?.id : "" };
  });
  return named.sort((a, b) => b.alarms.length - a.alarms.length || b.requests.seen - a.requests.seen);
}

function alarmsOf({ upscalers }) {
  const alarms = upscalers.flatMap((one) => one.alarms);
  const words = alarms.length ? `${plural(alarms.length, "alarm")}: see below.` : "No alarm.";
  return { alarms, words };
}

function verdict(report) {
  const { alarms, words } = alarmsOf(report);
  return html`<p class="callout ${toneOf(alarms)}" data-alarms=${alarms.length}>${words}</p>`;
}

function togglePaused() {
  store.set({ isPaused: !state.isPaused });
  schedule();
  if (!state.isPaused) refresh();
}

function schedule() {
  clearTimeout(timer);
  if (!state.isPaused && !document.hidden) timer = setTimeout(refresh, EVERY_MS, { ask: false });
}

/** Only a refresh by the person may ask for a key. */
async function refresh({ ask = true } = {}) {
  if (state.isBusy) return;
  store.set({ isBusy: true });
  const before = state.report && alarmsOf(state.report).words;
  try {
    const options = { kind: "admin", ask };
    const report = await getJson(at("v1/admin/monitor"), options);
    store.set({ report, problem: "" });
    const { words } = alarmsOf(report);
    if (words !== before) announce(words);
  } catch (error) {
    store.set({ problem: error.message });
  } finally {
    store.set({ isBusy: false });
    schedule();
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!state.isPaused) refresh({ ask: false });
});
document.addEventListener("keys", () => refresh({ ask: false }));
refresh();
