// One item of GET /v1/admin/monitor: a sentence, alarms, figures, charts.

import { chart } from "../charts/chart.js";
import { count, level, percent, plural, small, time } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { button, facts, figures as tilesOf, hint, table } from "../lib/widgets.js";
import { evidenceChart, feedbackChart, shareChart, typicalityChart } from "./charts.js";
import { looks, nameOf, sentence } from "./words.js";

/** Charts are updated in place, so that focus and read-out stay. */
const figures = new Map();

export function panel(data) {
  const { upscaler, requests, hasKinds } = data;
  const name = nameOf(data);
  const showsOwn = !hasKinds || requests.seen > 0;
  return html`<section class="panel stack" aria-label=${name} data-upscaler=${upscaler}>
    <div class="panel-head"><h2>${name}</h2>${badges(data)}</div>
    <p class="verdict">${showsOwn ? sentence(data) : "The table shows its requests by kind."}</p>
    ${data.alarms.map(alarm)} ${showsOwn ? tiles(data) : nothing}
    <div class="two">
      ${figure(data.key, "evidence", data.drift && data.history.length && evidenceChart(data))}
      ${figure(data.key, "shares", data.history.length && shareChart(data))} ${figure(data.key, "typicality", data.typicality && typicalityChart(data))}
      ${figure(data.key, "feedback", data.feedback && feedbackChart(data))} ${canary(data.canary)} ${health(data.health)}
    </div>
    <p class="hint">${about(data)}</p>
  </section>`;
}

function figure(part, key, spec) {
  if (!spec) return nothing;
  const id = `${part}/${key}`;
  const known = figures.get(id);
  if (known) known.update(spec);
  else figures.set(id, chart(spec));
  return html`<div class="card" data-chart=${key}>${figures.get(id)}</div>`;
}

export const toneOf = (alarms) =>
  alarms.some(({ severity }) => severity === "page") ? "bad" : alarms.length ? "warn" : "good";

function badges({ kind, alarms, calibration }) {
  const words = alarms.length ? plural(alarms.length, "alarm") : "no alarm";
  return html`<span class="badges">
    <span class="badge ${toneOf(alarms)}">${words}</span> <span class="badge">${kind}</span>
    ${calibration ? nothing : html`<span class="badge bad">not calibrated</span>`}
  </span>`;
}

function about({ calibration, since, updated_at: updated, hasKinds }) {
  if (!calibration) return nothing;
  const href = `/calibrations?id=${encodeURIComponent(calibration.id)}`;
  return html`Under <a href=${href}>${calibration.name || calibration.id}</a> (${count(calibration.n)} scenes, accepted error
    ${level(calibration.default_alpha)})${since ? `, first request ${time(since)}, last ${time(updated)}.` : hasKinds ? "." : ". No request yet."}`;
}

function alarm({ severity, since, message }) {
  const [tone, words] = severity === "page" ? ["bad", "Act now"] : ["warn", "Look into it"];
  return html`<div class="callout ${tone}" role="group" aria-label="Alarm">
    <strong>${words}${since ? ` · since ${time(since)}` : ""}</strong>
    <p>${message}</p>
  </div>`;
}

function tiles({ calibration, requests, trusted_fraction: trusted, typicality, drift, feedback }) {
  const rows = [];
  const tile = (name, title, value, more) => rows.push([name, value, more, title]);
  if (calibration) tile("Requests", "requests", count(requests.seen), setAside(requests));
  if (trusted) tile("Trusted area", "mean trusted_fraction", percent(trusted.mean), "mean over the requests");
  if (typicality) {
    const usual = `${percent(typicality.expected_unusual)} would be usual`;
    tile("Unusual inputs", "typicality so small that it is warned of", percent(typicality.unusual), usual);
  }
  if (drift) {
    const { martingale, martingale_alarm_at: most, shift_sd: shift } = drift;
    const words = Math.abs(shift) < 0.3 ? "as usual" : shift < 0 ? "easier" : "harder";
    const amount = `${shift < 0 ? "−" : "+"}${Math.abs(shift).toFixed(2)} standard deviations from the calibration images`;
    const limit = `alarm at ×${count(most)}`;
    tile("Signs of a change", "conformal test martingale", `×${small(martingale)}`, limit);
    if (Number.isFinite(shift)) tile("How hard they are", "shift of the mean of log σ", words, amount);
  }
  if (feedback) {
    const { n, within, mean_loss: mean } = feedback;
    tile("Checked against the truth", "feedback", count(n), `${count(within)} within the accepted error`);
    tile("Their worst errors", "mean loss, confidence sequence", level(mean), interval(feedback));
  }
  return tilesOf(rows);
}

function setAside({ counted, duplicates, subsampled }) {
  const repeated = duplicates && `${count(duplicates)} repeated`;
  const thinned = subsampled && `${count(subsampled)} thinned out`;
  const parts = [`${count(counted)} counted`, repeated, thinned].filter(Boolean);
  return parts.length > 1 ? parts.join(", ") : "all counted";
}

function interval({ alpha, confidence_sequence: known }) {
  if (!known) return `accepted ${level(alpha)}`;
  return `${percent(known.level, 0)} sure: ${level(known.lower)} to ${level(known.upper)}; accepted ${level(alpha)}`;
}

function canary(found) {
  if (!found) return nothing;
  const { alarm, detail, rounds, evidence, at, policy } = found;
  const state = alarm ? "the upscaler has changed" : detail ? "not watched yet" : "unchanged";
  const policies = { refuse: "requests are refused", warn: "answers carry a warning" };
  const about =
    "Pairs that are generated again from time to time, to detect a silent change of a remote model.";
  return card("Known pairs, tried again", about, [
    ["State", badge(alarm, state)],
    detail && ["Note", detail],
    rounds !== undefined && ["Rounds", count(rounds)],
    evidence !== undefined && [
      "Evidence of a change",
      evidence === "inf" ? "certain" : `×${small(evidence)}`,
    ],
    at && ["Last round", time(at)],
    ["On an alarm", policies[policy] ?? policy],
  ]);
}

function health(found) {
  if (!found) return nothing;
  const { breaker_open: isOpen, calls_last_hour: calls, max_calls_per_hour: most } = found;
  const limit = most === null ? "" : ` of at most ${count(most)}`;
  return card("Connection to the upscaler", "As seen by the gateway that answered this page.", [
    ["Calls", badge(isOpen, isOpen ? "stopped after failures: requests are refused" : "go through")],
    ["Failures in a row", count(found.failures_in_a_row)],
    calls !== null && ["Calls in the last hour", `${count(calls)}${limit}`],
  ]);
}

const badge = (isBad, words) => html`<span class="badge ${isBad ? "bad" : "good"}">${words}</span>`;

const card = (title, about, rows) =>
  html`<div class="card"><h3>${title}</h3>${hint(about)} ${facts(rows)}</div>`;

/** open: the part whose charts are shown; run(key) opens another. */
export function overview(all, open, run) {
  const number = (words) => [words, "number"];
  const heads = [
    "What was asked",
    number("Requests"),
    number("Trusted area"),
    "Inputs",
    number("Checked"),
    "State",
  ];
  const rows = all.map((one) => {
    const { key, requests, trusted_fraction: trusted, feedback, alarms, calibration } = one;
    const name = button(nameOf(one), () => run(key), { kind: "link", pressed: key === open.key });
    const state = !calibration
      ? "not calibrated"
      : alarms.length
        ? `${count(alarms.length)} alarms`
        : "no alarm";
    return [
      name,
      count(requests?.seen ?? 0),
      trusted ? percent(trusted.mean) : "–",
      calibration ? looks(one) : "–",
      feedback?.n ? `${count(feedback.within)} of ${count(feedback.n)} within` : "–",
      html`<span class="badge ${calibration ? toneOf(alarms) : "bad"}">${state}</span>`,
    ];
  });
  return html`<div class="card flush overview">${table("All that is watched", heads, rows)}</div>`;
}
