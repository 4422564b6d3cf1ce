// All calibrations. The reader's question: which one answers? The main action: make a new one.

import { $ } from "../lib/dom.js";
import { count, level, percent, time } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { pooled } from "../lib/jobs.js";
import { Store } from "../lib/store.js";
import { guarded, toastError, toastSuccess } from "../lib/toast.js";
import { button, keyed, pageHead } from "../lib/widgets.js";
import { activate } from "./activate.js";
import { jobCard } from "./job.js";
import * as service from "./service.js";
import { activeBadge, mismatch, pipelineTerms, pipelineWords, promiseWords, trustsNothing } from "./words.js";

const DETAILS_AT_ONCE = 3;
const PLACES = ["first", "second", "third"];
const EMPTY = html`<div class="empty card">
  <p>There is no calibration yet.</p>
  <p><a class="button primary" href="/calibrations?new">Make the first one</a></p>
</div>`;

export async function show(root) {
  document.title = "Calibrations · Trustscale";
  const store = new Store({ rows: [], jobs: [], upscalers: [], details: new Map() });
  const { state } = store;
  const act = {
    again: async () => {
      const [rows, jobs, upscalers] = await Promise.all([
        service.listed(),
        service.pending(),
        service.upscalers(),
      ]);
      // The card of a failed job stays: it shows the reason, and the list does not have it any more.
      const onEnd = ({ state: now }) => now !== "failed" && act.again();
      store.set({ rows, upscalers, jobs: jobs.map((job) => jobCard(job, { onEnd })) });
      addDetails(store);
    },
    activate: (wanted, back) =>
      guarded(async () => {
        if (!(await activate(wanted, service.activeOf(state.rows, wanted.upscaler), { back }))) return;
        state.details.clear();
        await act.again();
        $("#main").focus(); // what had the focus is gone
      }),
    bring: (input) =>
      guarded(async () => {
        const [file] = input.files;
        input.value = "";
        if (!file) return;
        const made = await service.imported(file);
        await act.again();
        const isActive = state.rows.find(({ id }) => id === made.id)?.active;
        toastSuccess(`${service.title(made)} is stored. It is ${isActive ? "" : "not "}active.`);
      }),
  };
  await act.again();
  store.watch(() => render(view(state, act), root));
}

function view({ rows, jobs, upscalers, details }, act) {
  const bare = ({ name }) =>
    html`<p class="callout warn">
      <strong>${name} has no active calibration</strong>It answers no request until one is made or activated.
    </p>`;
  const lead = html`<p class="lead">
    Each makes a promise about pictures of one upscaler. If several are active, the first that covers the kind and size of an upload answers.
  </p>`;
  const tools = html`<div class="button-row">
    ${button("Import…", () => $("#import").click())}
    <a class="button" href="/calibrations?connect">Your upscaler…</a>
    <a class="button" href="/calibrations?new=camera">Your camera in ten minutes</a>
    <a class="button primary" href="/calibrations?new">New calibration</a>
    <input type="file" id="import" accept=".calibration" hidden aria-label="Calibration file"
      @change=${({ target }) => act.bring(target)} />
  </div>`;
  return html`${pageHead("Calibrations", { lead, tools })}
    <div class="stack">
      ${upscalers.filter((one) => !one.calibration).map(bare)}
      ${jobs.length ? html`<section class="stack" aria-labelledby="at-work"><h2 id="at-work">Running</h2>${jobs}</section>` : nothing}
      <section aria-label="Finished calibrations">
        ${rows.length ? html`<div class="table-scroll card flush">${table(rows, details, upscalers, act)}</div>` : EMPTY}
      </section>
    </div>`;
}

function table(rows, details, upscalers, act) {
  const placeOf = (row) =>
    upscalers.find(({ name }) => name === row.upscaler)?.calibrations.findIndex(({ id }) => id === row.id) ??
    -1;
  const head = (name, kind = "", title = "") =>
    html`<th scope="col" class=${kind} title=${title || nothing}>${name}</th>`;
  const silent = html`<span class="visually-hidden">Act</span>`;
  return html`<table class="calibrations">
    <thead>
      <tr>
        ${head("Calibration")}${head("Upscaler")}${head("State")}${head("Trusted area", "number", "mean trusted area at the default α")}
        ${head("Scenes", "number")}${head("Smallest error", "number", "smallest α for this number of scenes")}${head("Counts as an error", "", "metric D")}
        ${head("Made")}${head(silent)}
      </tr>
    </thead>
    <tbody>${keyed(rows, (row) => line(row, rows, { found: details.get(row.id), place: placeOf(row) }, act))}</tbody>
  </table>`;
}

/** found: its detail, once read; place: in the order of the active ones, or -1. */
function line(row, rows, { found, place }, act) {
  const before = row.active && rows.find(({ id }) => id === row.previous);
  const own = found?.thresholds.find(({ alpha }) => alpha === row.default_alpha);
  const small = (words, run, label = words) => button(words, run, { kind: "small", label });
  return html`<tr data-id=${row.id}>
    <td class="name" data-head="Calibration">
      <a href=${service.page(row.id)}>${service.title(row)}</a>
      ${row.name ? html`<div><code class="hint">${row.id}</code></div>` : nothing}
      <div class="hint pipeline" title=${found ? pipelineTerms(found.pipeline) : nothing}>${found ? pipelineWords(found.pipeline) : nothing}</div>
    </td>
    <td data-head="Upscaler">${row.upscaler}</td>
    <td class="state" data-head="State">
      ${activeBadge(row)} ${place > 0 ? html`<span class="hint">answers ${PLACES[place] ?? `as number ${place + 1}`}</span>` : nothing} ${found ? mismatch(found) : nothing}
    </td>
    <td class="number" data-head="Trusted area">${own ? `${percent(own.trusted_fraction)} at error ${level(row.default_alpha)}` : "…"}</td>
    <td class="number" data-head="Scenes">${count(row.n)}</td>
    <td class="number" data-head="Smallest error">${level(row.min_alpha)}</td>
    <td class="bounds" data-head="Counts as an error">${promiseWords(row)}</td>
    <td data-head="Made">${time(row.created_at)}</td>
    <td class="actions">
      ${before ? small(`Back to ${service.title(before)}`, () => act.activate(before, true)) : nothing}
      ${row.active ? nothing : small("Activate", () => act.activate(row, false), `Activate ${service.title(row)}`)}
      ${found && !row.active ? trustsNothing(found) : nothing}
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
