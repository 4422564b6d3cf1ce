// A new calibration. The reader's question: do I have enough? The main action: start it.

import { ADMIN, upload } from "../lib/api.js";
import { $$, documentOf } from "../lib/dom.js";
import { bytes, count, duration, level, plural, priceOf } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { Store } from "../lib/store.js";
import { button, check, hint, pageHead } from "../lib/widgets.js";
import { Gathered, dropZone, summary } from "./gather.js";
import { problem } from "./job.js";
import { manifestOf, minimalAlpha, minimalCount, sentName } from "./pairing.js";
import * as service from "./service.js";
import { metricOf, options } from "./service.js";
import { boundOf, configOf, settingsFields } from "./settings.js";
import { above, pipelineWords } from "./words.js";

const GOOD = 100; // pairs that make a steady mask
// The service's rule: at least this many scenes fit the score, by default this share.
const LEARNERS = 20;
const USUAL_SHARE = 0.3;

/** A file dropped beside the zone must not replace the page. */
function keepPage(event) {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
}

/** With ?extend=ID the form adds pairs to a calibration. */
export async function show(root, query) {
  const parent = query.has("extend") ? await service.detail(query.get("extend")) : null;
  const isCamera = query.get("new") === "camera";
  const upscalers = await service.upscalers();
  const chosen = upscalers.find((one) => one.default) ?? upscalers[0];
  const store = new Store({
    parent,
    isCamera, // as few questions as can be
    upscalers,
    upscaler: parent ? parent.upscaler : chosen?.name,
    metric: options.metrics[0].metric,
    gathered: new Gathered(() => store.notify()),
    sending: null, // {sent, total, abort}
    refusal: null, // a template
    typed: 0, // counts what was typed, which the verdict depends on
  });
  const fresh = isCamera ? "Your camera in ten minutes" : "New calibration";
  const heading = parent ? `More pairs for ${service.title(parent)}` : fresh;
  document.title = `${heading} · Trustscale`;
  addEventListener("dragover", keepPage);
  addEventListener("drop", keepPage);
  const draw = () => render(page(heading, store), root);
  store.watch(draw);
  draw(); // again: what is needed is read off the form, which is there only now
}

const scaleOf = ({ upscalers, upscaler }) => upscalers.find(({ name }) => name === upscaler)?.scale ?? null;

function page(heading, store) {
  const { state } = store;
  const { parent, gathered, isCamera } = state;
  const found = gathered.verdict(scaleOf(state));
  const isReady = (gathered.archive || found.pairs.length) && !gathered.waiting && !state.sending;
  const forty =
    "Drop forty or more of your own sharp pictures, each of a different subject: typical ones, not your best. ";
  const lead = html`<p class="lead">${isCamera ? forty : ""}The promise covers pictures drawn like these, and no others.</p>`;
  const set = (changes) => store.set(changes);
  return html`${pageHead(heading, { above, lead })}
    <form class="stack" novalidate @input=${() => set({ typed: state.typed + 1 })} @submit=${(event) => submit(event, store)}>
      <section class="card stack">
        <h2>1. Pictures</h2>
        <p>
          Sharp originals, like the results that your users want. If you also have the small versions that the upscaler really receives, add them
          under the same names; otherwise they are made from the originals.
        </p>
        ${dropZone(gathered)} ${summary(gathered, found)}
      </section>
      <section class="card stack">
        <h2>2. Settings</h2>
        ${parent ? inherited(parent) : isCamera ? html`<details><summary>Defaults; change them if you like</summary>${settingsFields(state, set)}</details>` : settingsFields(state, set)}
      </section>
      <section class="card stack">
        <h2>3. Start</h2>
        <div class="stack" aria-live="polite">${parent ? nothing : needed(found, gathered)} ${cost(state, found)}</div>
        ${state.refusal ?? nothing} ${state.sending ? progress(state.sending, found, gathered) : nothing}
        <div class="button-row">
          <button type="submit" class="primary" ?disabled=${!isReady}>Upload and calibrate</button>
          <a class="button" href=${parent ? service.page(parent.id) : "/calibrations"}>Back</a>
        </div>
      </section>
    </form>`;
}

/** Null before it is drawn. @returns {HTMLFormElement | null} */
const formNow = () => document.querySelector("form.stack");

/** Whether the pairs can reach the chosen α. */
function needed({ pairs, scenes }, gathered) {
  const form = formNow();
  if (!form) return nothing;
  const config = configOf(form, true);
  const bound = boundOf(config.fidelity);
  const { default_alpha: alpha, guarantee } = config;
  const least = minimalCount({ alpha, bound, guarantee });
  if (!Number.isFinite(least)) return nothing;
  const what = scenes ? "scenes" : "pairs";
  const all = scenes ?? pairs.length;
  // Scenes that fit the score take no part in the promise.
  const n = all - learners(all, config);
  const good = Math.max(GOOD, 4 * least);
  const smallest = level(minimalAlpha({ n, bound, guarantee }));
  const enough = (number) => `${count(number)} ${what} are enough to promise an error of ${level(alpha)}`;
  const better = n < good ? `; expect a small mask. ${count(good)} are better.` : ".";
  const apart = n < all ? ` ${count(all - n)} of the ${count(all)} may fit the score instead.` : "";
  if (gathered.archive || !n) return hint(`${enough(least)}${better}`);
  if (n >= least)
    return html`<p class="callout good" data-verdict="enough">${enough(n)}${better}${apart} The smallest error that they can promise is ${smallest}.</p>`;
  return html`<p class="callout warn" data-verdict="few">
    <strong>Too few to promise an error of ${level(alpha)}</strong>
    ${count(n)} ${what} can promise no less than ${smallest}, so nothing could be trusted. ${count(least - n)} more are needed.
  </p>`;
}

/** How many of n scenes may fit the score; none where people mark the errors. */
export function learners(n, { fit_indecision: share, fidelity, indecision }) {
  if (metricOf(fidelity.metric)?.needs_label) return 0;
  if (share === undefined)
    return indecision || n < 2 * LEARNERS ? 0 : Math.max(Math.round(USUAL_SHARE * n), LEARNERS);
  const wanted = Math.round(share * n);
  return wanted < LEARNERS ? 0 : wanted;
}

/** Calls of the model, their time, and their price where it is known. */
function cost({ parent, upscalers, upscaler }, { pairs, given }) {
  const form = formNow();
  const { samples, made } = form ? documentOf(form) : {};
  const asked = parent ? parent.pipeline.samples : samples;
  if (!asked) return nothing;
  const live = upscalers.find(({ name }) => name === upscaler) ?? {};
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

function inherited(parent) {
  return html`<p>${pipelineWords(parent.pipeline)}</p>
    ${hint("The settings stay the same, and the model runs for the new pairs only. The old calibration is kept.")}
    ${check("activate", "Activate the new one as soon as it is finished")}`;
}

function progress({ sent, total, abort }, { items }, gathered) {
  const part =
    sent < total ? `${bytes(sent)} of ${bytes(total)} sent` : "All sent; the service is checking the images…";
  const isLess = items.length > 0 && !gathered.archive;
  return html`${isLess ? hint(`${count(items.length)} unusable files are not sent.`) : nothing}
    <progress max="1" .value=${total ? sent / total : 0} aria-label="Upload"></progress>
    <p class="hint" role="status">${total ? part : "Sending…"}</p>
    <div class="button-row">${button("Stop the upload", () => abort.abort(), { kind: "danger small" })}</div>`;
}

function submit(event, store) {
  event.preventDefault();
  const form = event.currentTarget;
  // The browser cannot point at a folded field.
  for (const folded of $$("details:has(:invalid)", form)) folded.open = true;
  if (form.reportValidity()) send(form, store);
}

function bodyOf(form, state) {
  const { parent, gathered } = state;
  const { pairs, given } = gathered.verdict(scaleOf(state));
  const body = new FormData();
  if (parent) body.set("activate", String(documentOf(form).activate));
  else body.set("config", JSON.stringify(configOf(form, given)));
  if (gathered.archive) {
    body.set("archive", gathered.archive, gathered.archive.name);
    if (gathered.folders === "scene") body.set("scene_by", "folder");
    return body;
  }
  for (const { name, x, y } of pairs) {
    body.append("y", y.file, sentName(name, y));
    if (x) body.append("x", x.file, sentName(name, x));
  }
  if (pairs.some(({ group }) => group)) body.set("group_by", "group");
  if (pairs.some(({ group, scene }) => group || scene))
    body.set("manifest", new Blob([manifestOf(pairs)]), "manifest.csv");
  return body;
}

async function send(form, store) {
  const { parent } = store.state;
  const abort = new AbortController();
  const warn = (event) => event.preventDefault();
  addEventListener("beforeunload", warn);
  const onProgress = (sent, total) => store.set({ sending: { sent, total, abort } });
  store.set({ refusal: null });
  onProgress(0, 0);
  try {
    const path = parent ? service.path(parent.id, "pairs") : service.BASE;
    const options = { ...ADMIN, signal: abort.signal, onProgress };
    const { id } = await upload(path, bodyOf(form, store.state), options);
    removeEventListener("beforeunload", warn);
    location.href = service.page(id);
  } catch ({ name, title, message, members }) {
    removeEventListener("beforeunload", warn);
    const stopped = html`<p class="callout">The upload was stopped; nothing was kept.</p>`;
    const refusal = problem({ title, detail: message, items: members?.items });
    store.set({ sending: null, refusal: name === "AbortError" ? stopped : refusal });
  }
}
