// A new calibration, or more pictures for one (?extend=ID). The reader's question: do I have enough? The main action: go on.

import { ADMIN, upload } from "../lib/api.js";
import { $$, documentOf } from "../lib/dom.js";
import { bytes, count, duration, level, plural, priceOf } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { Store } from "../lib/store.js";
import { button, hint } from "../lib/widgets.js";
import { isElsewhere, isWhole, steps, whichModel } from "./elsewhere.js";
import { Gathered, dropZone, pack, summary } from "./gather.js";
import { problem } from "./job.js";
import * as service from "./service.js";
import { metricOf, options } from "./service.js";
import { configOf, settingsFields } from "./settings.js";
import { wizard } from "./wizard.js";
import { pipelineWords } from "./words.js";

const LEAD = html`<p class="lead">
  Drop a hundred sharp photographs of your own: typical ones, each of another subject. The promise covers pictures like these, and no others.
</p>`;
const GOOD = 100; // pictures that make a steady mask

/** A file dropped beside the zone must not replace the page. */
function keepPage(event) {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
}

export async function show(root, query) {
  const parent = query.has("extend") ? await service.detail(query.get("extend")) : null;
  const upscalers = await service.upscalers();
  const chosen = upscalers.find((one) => one.default) ?? upscalers[0];
  const about = () => ({ upscaler: store.state.upscaler, metric: store.state.metric });
  const store = new Store({
    parent,
    upscalers,
    upscaler: parent ? parent.upscaler : chosen?.name,
    metric: parent ? parent.pipeline.fidelity.metric : options.metrics[0].metric,
    gathered: new Gathered(() => store.notify(), about),
    step: 1,
    sending: null, // {sent, total, abort}
    refusal: null, // a template
    typed: 0, // counts what was typed, which the verdict depends on
  });
  addEventListener("dragover", keepPage);
  addEventListener("drop", keepPage);
  const draw = () => render(page(store), root);
  store.watch(draw);
  draw(); // again: what is needed is read off the form, which is there only now
}

const modelOf = ({ upscalers, upscaler }) => upscalers.find(({ name }) => name === upscaler) ?? {};
const scaleOf = (state) => modelOf(state).scale ?? null;

function page(store) {
  const { state } = store;
  const { parent, gathered, step } = state;
  const verdict = gathered.verdict(scaleOf(state));
  const isSupplied = isElsewhere(modelOf(state));
  const isThere = verdict.pairs.length && (!isSupplied || isWhole(verdict));
  const hasPictures = Boolean(gathered.archive || isThere) && !gathered.waiting;
  const isReady = hasPictures && !verdict.used.length && !state.sending;
  const set = (changes) => {
    store.set(changes);
    if (changes.upscaler || changes.metric) gathered.arrange(); // another score was fitted on other photographs
  };
  const title = parent ? `More pictures for ${service.title(parent)}` : "New calibration";
  const body = html`<form class="stack" novalidate @input=${() => set({ typed: state.typed + 1 })} @submit=${(event) => submit(event, store)}>
    <section class="stack" ?hidden=${step !== 1}>
      ${parent ? nothing : whichModel(state, set)}
      ${isSupplied ? nothing : LEAD}
      ${dropZone(gathered, isSupplied)}
      ${isSupplied ? steps(gathered, verdict, scaleOf(state)) : hint("If you also have the small versions that the model really receives, add them under the same names; otherwise they are made from the originals.")}
    </section>
    ${summary(gathered, verdict)}
    <section class="stack" ?hidden=${step !== 2}>
      ${parent ? inherited(parent) : settingsFields(state, set)}
      <div class="stack" aria-live="polite">${parent ? nothing : needed(verdict, gathered)} ${cost(state, verdict)}</div>
      ${state.refusal ?? nothing} ${state.sending ? progress(state.sending) : nothing}
    </section>
    <div class="button-row onward">
      ${step === 1 ? button("Next", () => set({ step: 2 }), { kind: "primary large", off: !hasPictures }) : html`<button type="submit" class="primary large" ?disabled=${!isReady}>Upload and measure</button> ${button("Back", () => set({ step: 1 }), { off: Boolean(state.sending) })}`}
    </div>
  </form>`;
  return wizard(title, step, body);
}

/** Null before it is drawn. @returns {HTMLFormElement | null} */
const formNow = () => document.querySelector("form.stack");

/** Whether the pictures can reach the chosen level: nothing is trusted below B/(n + 1). */
function needed({ pairs, scenes }, gathered) {
  const form = formNow();
  if (!form) return nothing;
  const { fidelity, default_alpha: alpha, guarantee } = configOf(form, true);
  const bound = fidelity.bound ?? metricOf(fidelity.metric).loss_clipped_at;
  if (guarantee || !alpha) return nothing;
  const least = Math.max(1, Math.ceil(bound / alpha - 1 - 1e-9));
  const what = scenes ? "scenes" : "pictures";
  const n = scenes ?? pairs.length;
  const good = Math.max(GOOD, 4 * least);
  const better = n < good ? `; expect a small mask. ${count(good)} are better.` : ".";
  if (gathered.archive || !n)
    return hint(`${count(least)} ${what} are enough to promise an error of ${level(alpha)}${better}`);
  if (n >= least)
    return html`<p class="callout good" data-verdict="enough">${count(n)} ${what} are enough to promise an error of ${level(alpha)}${better}</p>`;
  return html`<p class="callout warn" data-verdict="few">
    <strong>Too few to promise an error of ${level(alpha)}</strong>
    ${count(n)} ${what} can promise no less than ${level(bound / (n + 1))}, so nothing could be trusted. ${count(least - n)} more are needed.
  </p>`;
}

/** Calls of the model, their time, and their price where it is known. */
function cost({ parent, upscalers, upscaler }, { pairs, given }) {
  const form = formNow();
  const { samples, made } = form ? documentOf(form) : {};
  const asked = parent ? parent.pipeline.samples : samples;
  if (!asked) return nothing;
  const live = modelOf({ upscalers, upscaler });
  if (isElsewhere(live)) return nothing; // nothing is called
  const { price_per_call: price, seconds_per_megapixel: pace, scale } = live;
  const money = (calls) => (price ? ` (${priceOf(calls * price)})` : "");
  const kinds = given || made === "own" ? 1 : options.usual_kinds;
  const all = pairs.length * kinds * asked;
  const as = kinds > 1 ? `, each original as ${kinds} kinds of upload` : "";
  const pixels = pairs.reduce((sum, { y }) => sum + (y.width * y.height) / (scale ?? 1) ** 2, 0);
  const time = pace ? `, and takes about ${duration(pace * pixels * kinds * asked * 1e-3)}` : "";
  const now = all ? `${count(all)} calls of the model now${as}${money(all)}${time}, then ` : "";
  return html`<p class="hint" id="cost">It costs ${now}${plural(asked, "call")} per picture${money(asked)}.</p>`;
}

const inherited = (parent) =>
  html`<p>${pipelineWords(parent.pipeline)}</p>
    ${hint("The settings stay the same, and the model runs for the new pictures only. The old calibration is kept.")}`;

function progress({ sent, total, abort }) {
  const progress =
    sent < total ? `${bytes(sent)} of ${bytes(total)} sent` : "All sent; the service is checking the images…";
  return html`<progress max="1" .value=${total ? sent / total : 0} aria-label="Upload"></progress>
    <p class="hint" role="status">${total ? progress : "Sending…"}</p>
    <div class="button-row">${button("Stop the upload", () => abort.abort(), { kind: "danger small" })}</div>`;
}

function submit(event, store) {
  event.preventDefault();
  const form = event.currentTarget;
  if (store.state.step === 1) return store.set({ step: 2 });
  // The browser cannot point at a folded field.
  for (const folded of $$("details:has(:invalid)", form)) folded.open = true;
  if (form.reportValidity()) send(form, store);
}

async function send(form, store) {
  const { parent, gathered } = store.state;
  const abort = new AbortController();
  const warn = (event) => event.preventDefault();
  addEventListener("beforeunload", warn);
  const onProgress = (sent, total) => store.set({ sending: { sent, total, abort } });
  store.set({ refusal: null });
  onProgress(0, 0);
  try {
    const verdict = gathered.verdict(scaleOf(store.state));
    const body = new FormData();
    if (!parent) body.set("config", JSON.stringify(configOf(form, verdict.given)));
    pack(body, gathered, verdict);
    const path = parent ? service.path(parent.id, "pairs") : service.BASE;
    const { id } = await upload(path, body, { ...ADMIN, signal: abort.signal, onProgress });
    removeEventListener("beforeunload", warn);
    location.href = service.page(id);
  } catch ({ name, title, message, members }) {
    removeEventListener("beforeunload", warn);
    const stopped = html`<p class="callout">The upload was stopped; nothing was kept.</p>`;
    const items = members?.items ?? [];
    const leave = () => {
      gathered.leave(items.map((item) => item.name));
      store.set({ refusal: null });
    };
    const refusal = html`${problem({ title, detail: message, items })}
    ${items.length && !gathered.archive ? button("Leave these out", leave, { kind: "small" }) : nothing}`;
    store.set({ sending: null, refusal: name === "AbortError" ? stopped : refusal });
  }
}
