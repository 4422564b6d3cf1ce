// A calibration in the making: its progress as it happens, its end, and the way to stop it.

import { ApiError } from "../lib/api.js";
import { confirmDialog } from "../lib/dialog.js";
import { announce, h, replace } from "../lib/dom.js";
import { count, duration, time } from "../lib/format.js";
import { watchJob } from "../lib/sse.js";
import { toastError } from "../lib/toast.js";
import * as service from "./service.js";
import { JOB_WORDS, jobBadge, metricWords } from "./words.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/** Fill the view with one job; once it is finished, with the calibration that it has made. */
export async function show(root, query) {
  const id = query.get("id");
  const found = await service.detail(id);
  if (found.id !== id) {
    location.replace(service.page(found.id));
    return;
  }
  document.title = `${found.job.name || "Calibration"} · Trustscale`;
  replace(
    root,
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("p", { class: "hint" }, h("a", { href: "/calibrations" }, "Calibrations")),
        h("h1", {}, found.job.name || "A new calibration"),
        h("p", { class: "lead" }, `For ${found.job.upscaler}, ${metricWords(found.job.metric)}`),
      ),
    ),
    jobCard(found.job, {
      link: false,
      onEnd: (job) => {
        if (job.state === "succeeded") location.replace(service.page(job.result.split("/").pop()));
      },
    }),
  );
}

/** A card that follows a job by server-sent events; `onEnd(job)` is called with its last state. */
export function jobCard(job, { onEnd, link = true }) {
  const state = h("span", {});
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${job.name || job.id}` });
  const words = h("p", { class: "hint" });
  const actions = h("div", { class: "button-row" });
  const outcome = h("div", { class: "stack" });
  const card = h(
    "article",
    { class: "card job", dataset: { id: job.id } },
    h(
      "div",
      { class: "job-head" },
      h("h3", {}, link ? h("a", { href: service.page(job.id) }, job.name || job.id) : "Progress"),
      state,
      actions,
    ),
    bar,
    words,
    outcome,
  );
  const began = { at: null, done: 0 };

  function update(now) {
    replace(state, jobBadge(now.state));
    const { done, total, unit } = now.progress;
    bar.value = total ? done / total : 0;
    bar.hidden = FINAL.has(now.state) && now.state !== "succeeded";
    words.textContent = `${count(done)} of ${count(total)} ${unit}${remaining(now, began)} · queued ${time(now.created_at)}`;
    replace(actions, actionsOf(now, job));
    replace(outcome, outcomeOf(now));
  }

  const onLost = () => {
    words.textContent = "Connection lost, trying again";
  };

  update(job);
  if (!FINAL.has(job.state) && job.state !== "awaiting_labels") follow();

  async function follow() {
    try {
      const last = await watchJob(job.id, { kind: "admin", onJob: update, onLost });
      announce(`${job.name || "The calibration"}: ${JOB_WORDS[last.state]}`);
      onEnd?.(last);
    } catch (error) {
      if (error instanceof ApiError) toastError(error);
      else throw error;
    }
  }

  return card;
}

/** How long the rest will take, from the pace since this page began to watch. */
function remaining({ state, progress: { done, total } }, began) {
  if (state !== "running") return "";
  if (began.at === null) Object.assign(began, { at: performance.now(), done });
  const made = done - began.done;
  if (made < 2) return "";
  return `, about ${duration(((performance.now() - began.at) / made) * (total - done))} left`;
}

function actionsOf({ state }, job) {
  if (FINAL.has(state)) return null;
  return [
    state === "awaiting_labels" &&
      h(
        "a",
        { class: "button primary small", href: `/annotate?id=${encodeURIComponent(job.id)}` },
        "Draw the labels",
      ),
    h("button", { type: "button", class: "danger small", onclick: () => cancel(job) }, "Cancel"),
  ];
}

async function cancel(job) {
  const sure = await confirmDialog({
    title: "Cancel this calibration?",
    body: h("p", {}, `What was measured for ${job.name ? `“${job.name}”` : "it"} so far is lost.`),
    confirm: "Cancel it",
    danger: true,
  });
  if (!sure) return;
  try {
    const now = await service.cancelJob(job.id);
    // A job that waits for labels runs nowhere, so nobody tells of its end.
    if (job.state === "awaiting_labels" && now.state === "cancelled") location.reload();
  } catch (error) {
    toastError(error);
  }
}

function outcomeOf({ state, error, result }) {
  if (state === "succeeded" && result)
    return h("p", {}, h("a", { href: service.page(result.split("/").pop()) }, "See the calibration"));
  if (state === "cancelled")
    return h("p", { class: "callout" }, "It was cancelled. The uploads are removed after a while.");
  if (state !== "failed" || !error) return null;
  return problem(error);
}

/** A problem document, with the items that it names. */
export function problem({ detail, title, items = [] }) {
  return h(
    "div",
    { class: "callout bad", role: "alert" },
    h("strong", {}, title || "It failed"),
    h("p", {}, detail),
    items.length > 0 &&
      h(
        "ul",
        { class: "items" },
        items.map((item) => h("li", {}, h("b", {}, item.name), `: ${item.reason}`)),
      ),
  );
}
