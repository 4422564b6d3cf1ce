// One upscaler on the monitor (an item of GET /v1/admin/monitor): a sentence, alarms, figures, charts.

import { chart } from "../charts/chart.js";
import { count, level, percent, plural, time } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { facts, tile } from "../lib/widgets.js";
import { evidenceChart, feedbackChart, shareChart, typicalityChart } from "./charts.js";
import { sentence } from "./words.js";

const SEVERITIES = { page: "bad", ticket: "warn" };

/** Charts are updated in place, so that a reader's place, focus and read-out stay. */
const figures = new Map();

/** The section of an upscaler, or of one group or kind of its images. */
export function panel(data) {
  const { upscaler, group, requests, hasKinds } = data;
  const name = group ? `${upscaler}, kind ${group}` : upscaler;
  const isTold = !hasKinds || requests.seen > 0;
  return html`<section class="panel stack" aria-label=${name} data-upscaler=${upscaler}>
    <div class="panel-head"><h2>${name}</h2>${badges(data)}</div>
    <p class="verdict">${isTold ? sentence(data) : "Its requests are told by kind, below."}</p>
    ${data.alarms.map(alarm)} ${isTold ? tiles(data) : nothing}
    <div class="two">
      ${figure(name, "evidence", data.drift && data.history.length && evidenceChart(data))}
      ${figure(name, "shares", data.history.length && shareChart(data))} ${figure(name, "typicality", data.typicality && typicalityChart(data))}
      ${figure(name, "feedback", data.feedback && feedbackChart(data))} ${canary(data.canary)} ${health(data.health)}
    </div>
    <p class="hint">${about(data)}</p>
  </section>`;
}

function figure(name, key, spec) {
  if (!spec) return nothing;
  const id = `${name}/${key}`;
  const known = figures.get(id);
  if (known) known.update(spec);
  else figures.set(id, chart(spec));
  return html`<div class="card" data-chart=${key}>${figures.get(id)}</div>`;
}

/** The colour of some alarms. */
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
  return html`Under <a href=${href}>${calibration.name || calibration.id}</a> (${count(calibration.n)} scenes, default α
    ${level(calibration.default_alpha)})${since ? `, first request ${time(since)}, last ${time(updated)}.` : hasKinds ? "." : ". No request yet."}`;
}

function alarm({ severity, since, message }) {
  return html`<div class="callout ${SEVERITIES[severity] ?? "warn"}" role="group" aria-label="Alarm">
    <strong>${severity === "page" ? "Act now" : "Look into it"}${since ? ` · since ${time(since)}` : ""}</strong>
    <p>${message}</p>
  </div>`;
}

/** People's words; the technical name is one hover away. */
function tiles({ calibration, requests, trusted_fraction: trusted, typicality, drift, feedback }) {
  const shift = drift && Number.isFinite(drift.shift_sd) ? drift.shift_sd : null;
  const rows = [
    calibration && ["Requests", "requests", count(requests.seen), setAside(requests)],
    trusted && ["Trusted area", "mean trusted_fraction", percent(trusted.mean), "mean over the requests"],
    typicality && [
      "Unusual inputs",
      "typicality so small that it is warned of",
      percent(typicality.unusual),
      `${percent(typicality.expected_unusual)} would be usual`,
    ],
    drift && [
      "Signs of a change",
      "conformal test martingale",
      `×${level3(drift.martingale)}`,
      `alarm at ×${count(drift.martingale_alarm_at)}`,
    ],
    shift !== null && [
      "Disagreement",
      "shift of the mean of log σ",
      `${shift < 0 ? "−" : "+"}${Math.abs(shift).toFixed(2)} sd`,
      "against the calibration images",
    ],
    feedback && [
      "Checked against the truth",
      "feedback",
      count(feedback.n),
      `${count(feedback.within)} within α`,
    ],
    feedback && [
      "Their worst errors",
      "mean loss, confidence sequence",
      level(feedback.mean_loss),
      interval(feedback),
    ],
  ];
  return html`<dl class="tiles">
    ${rows.filter(Boolean).map(([name, title, value, more]) => tile({ name, title, value, more }))}
  </dl>`;
}

function setAside({ counted, duplicates, subsampled }) {
  const parts = [
    duplicates > 0 && `${count(duplicates)} repeated`,
    subsampled > 0 && `${count(subsampled)} thinned out`,
  ];
  const words = parts.filter(Boolean);
  return words.length ? `${count(counted)} counted, ${words.join(", ")}` : "all counted";
}

function interval({ alpha, confidence_sequence: known }) {
  if (!known) return `promised α ${level(alpha)}`;
  return `${percent(known.level, 0)} sure: ${level(known.lower)} to ${level(known.upper)}; α ${level(alpha)}`;
}

function canary(found) {
  if (!found) return nothing;
  const badge = found.alarm
    ? html`<span class="badge bad">the upscaler has changed</span>`
    : html`<span class="badge good">${found.detail ? "not watched yet" : "unchanged"}</span>`;
  const evidence =
    found.evidence === "inf" ? "certain" : found.evidence === undefined ? "" : `×${level3(found.evidence)}`;
  const policies = { refuse: "requests are refused", warn: "answers carry a warning" };
  return card(
    "Canaries",
    "Pairs that are generated again now and then, to see a silent change of a remote model.",
    [
      ["State", badge],
      found.detail && ["Note", found.detail],
      found.rounds !== undefined && ["Rounds", count(found.rounds)],
      evidence && ["Evidence of a change", evidence],
      found.at && ["Last round", time(found.at)],
      ["On an alarm", policies[found.policy] ?? found.policy],
    ],
  );
}

function health(found) {
  if (!found) return nothing;
  const badge = found.breaker_open
    ? html`<span class="badge bad">open: requests are refused</span>`
    : html`<span class="badge good">closed</span>`;
  const { calls_last_hour: calls, max_calls_per_hour: most } = found;
  return card("The way to the upscaler", "As the gateway sees it that has answered this page.", [
    ["Breaker", badge],
    ["Failures in a row", count(found.failures_in_a_row)],
    calls !== null && [
      "Calls in the last hour",
      `${count(calls)}${most === null ? "" : ` of at most ${count(most)}`}`,
    ],
  ]);
}

function card(title, hint, rows) {
  return html`<div class="card">
    <h3>${title}</h3>
    <p class="hint">${hint}</p>
    ${facts(rows)}
  </div>`;
}

/** A factor with three digits, also when it is astronomic. */
function level3(value) {
  return value >= 1e5 || (value > 0 && value < 1e-3)
    ? value.toExponential(1)
    : String(Number(value.toPrecision(3)));
}
