// The studio. The reader's question: is all well? The main action: make a new promise.

import { count, time } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { pooled } from "../lib/jobs.js";
import { at } from "../lib/place.js";
import { Store } from "../lib/store.js";
import { guarded, toastError, toastSuccess } from "../lib/toast.js";
import { facts, keyed, pageHead } from "../lib/widgets.js";
import { jobCard } from "./job.js";
import * as service from "./service.js";
import { activeBadge, answers, areaWords, mismatch, pipelineWords, trustsNothing } from "./words.js";

const DETAILS_AT_ONCE = 3;
const EMPTY = html`<p class="empty card">There is no calibration yet.</p>`;

export async function show(root) {
  document.title = "Studio · Trustscale";
  const store = new Store({ rows: [], jobs: [], upscalers: [], details: new Map() });
  const again = async () => {
    const [rows, jobs, upscalers] = await Promise.all([
      service.listed(),
      service.pending(),
      service.upscalers(),
    ]);
    // The card of a failed job stays: it shows the reason, and the list does not have it any more.
    const onEnd = ({ state }) => state !== "failed" && again();
    store.set({ rows, upscalers, jobs: jobs.map((job) => jobCard(job, { onEnd })) });
    addDetails(store);
  };
  const bring = (input) =>
    guarded(async () => {
      const [file] = input.files;
      input.value = "";
      if (!file) return;
      const imported = await service.imported(file);
      await again();
      toastSuccess(`${service.title(imported)} is stored.`);
    });
  await again();
  store.watch((state) => render(view(state, bring), root));
}

function view({ rows, jobs, upscalers, details }, bring) {
  const tools = html`<div class="button-row">
    <a class="button" href=${at("calibrations?connect")}>Connect a model</a>
    <button type="button" @click=${({ currentTarget }) => currentTarget.nextElementSibling.click()}>Import</button>
    <input type="file" accept=".calibration" hidden aria-label="Calibration file" @change=${({ target }) => bring(target)} />
    <a class="button primary" href=${at("calibrations?new")}>New calibration</a>
  </div>`;
  return html`${pageHead("Studio", { tools })}
    <div class="stack">
      <section class="sentences" aria-label="How things are">${sentence(answers(upscalers))}</section>
      ${jobs.length ? html`<section class="stack" aria-labelledby="at-work"><h2 id="at-work">Running</h2>${jobs}</section>` : nothing}
      <section aria-label="Finished calibrations">
        <h2>Calibrations</h2>
        ${rows.length ? html`<div class="table-scroll card flush">${table(rows, details)}</div>` : EMPTY}
      </section>
    </div>`;
}

const sentence = ([tone, words, rows]) =>
  html`<details class="sentence ${tone}"><summary>${words}</summary>${facts(rows)}</details>`;

function table(rows, details) {
  const heads = ["Calibration", "Model", "State", "Trusted area", "Scenes", "Made"];
  return html`<table class="calibrations">
    <thead><tr>${heads.map((name) => html`<th scope="col">${name}</th>`)}<th scope="col"><span class="visually-hidden">Act</span></th></tr></thead>
    <tbody>${keyed(rows, (row) => line(row, details.get(row.id)))}</tbody>
  </table>`;
}

/** detail: of the calibration, once read. */
function line(row, detail) {
  return html`<tr data-id=${row.id}>
    <td class="name" data-head="Calibration">
      <a href=${service.page(row.id)}>${service.title(row)}</a>
      <div class="hint pipeline">${detail ? pipelineWords(detail.pipeline) : nothing}</div>
    </td>
    <td data-head="Model">${row.upscaler}</td>
    <td class="state" data-head="State">
      ${activeBadge(row)} ${detail ? mismatch(detail) : nothing}
    </td>
    <td data-head="Trusted area">${detail ? areaWords(detail) : "…"}</td>
    <td data-head="Scenes">${count(row.n)}</td>
    <td data-head="Made">${time(row.created_at)}</td>
    <td class="actions">
      ${row.active ? nothing : html`<a class="button small" href=${service.trial(row.id)}>Before and after</a>`}
      ${detail && !row.active ? trustsNothing(detail) : nothing}
    </td>
  </tr>`;
}

/** Read what the list does not contain: area, pipeline, differences from the live upscaler. */
async function addDetails(store) {
  const { rows, details } = store.state;
  const unread = rows.filter(({ id }) => !details.has(id));
  await pooled(unread, DETAILS_AT_ONCE, async ({ id }) => {
    try {
      details.set(id, await service.detail(id));
      store.notify();
    } catch (error) {
      if (error.status !== 404) toastError(error); // else deleted meanwhile
    }
  });
}
