// What happens while the service serves. Its question: is the promise still kept? Its one thing to do: read the sentence.

import { getJson } from "./lib/api.js";
import { announce } from "./lib/dom.js";
import { plural } from "./lib/format.js";
import { html, nothing, render, repeat } from "./lib/html.js";
import { root } from "./lib/shell.js";
import { Store } from "./lib/store.js";
import { button, pageHead } from "./lib/widgets.js";
import { panel, toneOf } from "./monitor/panel.js";

const EVERY_MS = 10_000;
const POINTS = 400;

const store = new Store({
  /** @type {any} */
  report: null,
  problem: "",
  isPaused: false,
  isBusy: false,
});
const { state } = store;
let timer;

const keyOf = ({ upscaler, group }) => JSON.stringify([upscaler, group]);

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
    ${button(isPaused ? "Go on" : "Pause", togglePaused, { pressed: isPaused })} ${button("Refresh", () => refresh())}
  </div>`;
  return html`${pageHead("Monitor", { lead, tools })}
    ${problem ? html`<p class="callout bad" role="alert"><strong>The monitor cannot be read</strong>${problem}</p>` : report ? verdict(report) : nothing}
    <div class="stack">${repeat(sectionsOf(report?.upscalers ?? []), keyOf, panel)}</div>`;
}

/** Groups of images and kinds of upload are counted apart from the rest of their upscaler. */
function sectionsOf(all) {
  return all.map((one) => {
    const isKind = ({ upscaler, group, requests }) => upscaler === one.upscaler && group && requests.seen > 0;
    return { ...one, hasKinds: !one.group && all.some(isKind) };
  });
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

/** Read and show; only what a person has asked for may ask him for a key. */
async function refresh({ ask = true } = {}) {
  if (state.isBusy) return;
  store.set({ isBusy: true });
  const before = state.report && alarmsOf(state.report).words;
  try {
    const report = await getJson(`/v1/admin/monitor?points=${POINTS}`, { kind: "admin", ask });
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
