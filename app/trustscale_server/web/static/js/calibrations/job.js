// A running calibration: its progress, its end, and a way to cancel it.

import { confirmDialog } from "../lib/dialog.js";
import { announce } from "../lib/dom.js";
import { count, time, timeLeft } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { Pace, isOver, watchJob } from "../lib/jobs.js";
import { at } from "../lib/place.js";
import { guarded } from "../lib/toast.js";
import { button, items as list } from "../lib/widgets.js";
import * as service from "./service.js";
import { wizard } from "./wizard.js";
import { metricWords } from "./words.js";
import { watchWorst } from "./worst.js";

const TONES = { running: "trust", succeeded: "good", failed: "bad", awaiting_labels: "warn" };

const stateWords = ({ state }) => state.replace("_", " ");

export async function show(root, query) {
  const id = query.get("id");
  const calibration = await service.detail(id);
  if (calibration.id !== id) {
    location.replace(service.page(calibration.id));
    return;
  }
  const { job } = calibration;
  const place = document.createElement("div");
  let isEnded = isOver(job);
  const onEnd = (last) => {
    isEnded = true;
    if (last.state === "succeeded") location.replace(service.trial(madeBy(last)));
  };
  const body = html`<p class="lead">For ${job.upscaler}, ${metricWords(job.metric)}</p>
    ${jobCard(job, { link: false, onEnd })} ${place}`;
  render(wizard(job.name || "New calibration", 3, body), root);
  watchWorst(job.id, place, () => isEnded);
}

/** The id of the calibration that a job has made. */
const madeBy = ({ result }) => result.split("/").pop();

/** A card that follows a job; `onEnd(job)` is called with its last state. */
export function jobCard(job, { onEnd, link = true }) {
  const card = Object.assign(document.createElement("article"), { className: "card job" });
  card.dataset.id = job.id;
  const pace = new Pace();
  const draw = (now, isLost = false) => {
    if (now.state === "running") pace.saw(now.progress.done);
    render(content(job, now, { pace, isLost, link }), card);
  };
  let last = job;
  const onJob = (now) => draw((last = now));
  draw(job);
  if (isOver(job)) return card;
  guarded(async () => {
    const end = await watchJob(job.id, { kind: "admin", onJob, onLost: () => draw(last, true) });
    announce(`${job.name || "The calibration"}: ${stateWords(end)}`);
    onEnd(end);
  });
  return card;
}

function content(job, now, { pace, isLost, link }) {
  const { state, progress, created_at: created } = now;
  const { done, total, unit } = progress;
  const name = job.name || job.id;
  const waits = state === "awaiting_labels";
  const hasBar = state !== "failed" && state !== "cancelled";
  const left = state === "running" ? timeLeft(pace.left(total)) : "";
  const words = `${count(done)} of ${count(total)} ${unit}${left} · queued ${time(created)}`;
  return html`<div class="job-head">
      <h3>${link ? html`<a href=${service.page(job.id)}>${name}</a>` : "Progress"}</h3>
      <span class="badge ${TONES[state] ?? ""}">${stateWords(now)}</span>
      <div class="button-row">
        ${waits ? html`<a class="button primary small" href=${at(`annotate?id=${encodeURIComponent(job.id)}`)}>Draw the labels</a>` : nothing}
        ${waits || !isOver(now) ? button("Cancel", () => cancel(job), { kind: "danger small" }) : nothing}
      </div>
    </div>
    ${hasBar ? html`<progress max="1" .value=${total ? done / total : 0} aria-label="Progress of ${name}"></progress>` : nothing}
    <p class="hint">${isLost ? "Connection lost, trying again" : words}</p>
    ${(now.warnings ?? []).map((text) => html`<p class="callout warn">${text}</p>`)} ${outcomeOf(now)}`;
}

const cancel = (job) =>
  guarded(async () => {
    const sure = await confirmDialog({
      title: "Cancel this calibration?",
      body: `All measurements for ${job.name ? `“${job.name}”` : "it"} are lost.`,
      confirm: "Cancel it",
      danger: true,
    });
    if (!sure) return;
    const now = await service.cancelJob(job.id);
    // No worker runs a job that waits for labels, so no event reports its end.
    if (job.state === "awaiting_labels" && now.state === "cancelled") location.reload();
  });

function outcomeOf(job) {
  if (job.state === "succeeded")
    return html`<p><a href=${service.page(madeBy(job))}>See the calibration</a></p>`;
  if (job.state === "cancelled")
    return html`<p class="callout">It was cancelled. The uploads are removed after a while.</p>`;
  return job.error ? problem(job.error) : nothing;
}

export function problem({ detail, title, items = [] }) {
  return html`<div class="callout bad" role="alert">
    <strong>${title || "It failed"}</strong>
    <p>${detail}</p>
    ${items.length ? reasons(items) : nothing}
  </div>`;
}

export const reasons = (items) =>
  list(
    items.map(({ name, reason }) => html`<b>${name}</b>: ${reason}`),
    "items",
  );
