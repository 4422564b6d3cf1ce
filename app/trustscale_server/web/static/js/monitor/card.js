// One item of GET /v1/admin/monitor: a sentence; unfolded its alarms and figures.

import { count, level, percent, plural, small, time } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { facts, figures as tilesOf, hint } from "../lib/widgets.js";
import { nameOf, sentence } from "./words.js";

/** Only the first of several, and those with alarms, are unfolded. */
export function card(data, place) {
  const name = nameOf(data);
  return html`<details class="card watched" data-upscaler=${data.upscaler} ?open=${place === 0 || data.alarms.length > 0}>
    <summary>
      <h2>${name}</h2>
      ${badges(data)}
      <p class="verdict">${sentence(data)}</p>
    </summary>
    <div class="stack">
      ${data.alarms.map(alarm)} ${tiles(data)} ${canary(data.canary)}
      <p class="hint">${about(data)}</p>
    </div>
  </details>`;
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

function about({ calibration, since, updated_at: updated }) {
  if (!calibration) return nothing;
  const href = `/calibrations?id=${encodeURIComponent(calibration.id)}`;
  return html`Under <a href=${href}>${calibration.name || calibration.id}</a> (${count(calibration.n)} scenes, accepted error
    ${level(calibration.default_alpha)})${since ? `, first request ${time(since)}, last ${time(updated)}.` : ". No request yet."}`;
}

function alarm({ severity, since, message }) {
  const [tone, words] = severity === "page" ? ["bad", "Act now"] : ["warn", "Look into it"];
  return html`<div class="callout ${tone}" role="group" aria-label="Alarm">
    <strong>${words}${since ? ` · since ${time(since)}` : ""}</strong>
    <p>${message}</p>
  </div>`;
}

function tiles({ calibration, requests, inputs, alike, feedback }) {
  const rows = [];
  const tile = (name, title, value, more) => rows.push([name, value, more, title]);
  if (calibration) {
    const { seen, counted } = requests;
    const more =
      counted < seen ? `${count(counted)} counted, ${count(seen - counted)} repeated` : "all counted";
    tile("Requests", "requests", count(seen), more);
  }
  if (inputs) {
    const { martingale, martingale_alarm_at: most, shift_sd: shift, trusted_fraction: trusted } = inputs;
    tile("Trusted area", "mean trusted_fraction", percent(trusted), "mean over the requests");
    tile(
      "Signs of a change",
      "conformal test martingale",
      `×${small(martingale)}`,
      `alarm at ×${count(most)}`,
    );
    const words = Math.abs(shift) < 0.3 ? "as usual" : shift < 0 ? "easier" : "harder";
    const amount = `${shift < 0 ? "−" : "+"}${Math.abs(shift).toFixed(2)} standard deviations from the calibration images`;
    if (shift !== null) tile("Difficulty", "shift of the mean of log σ", words, amount);
  }
  if (alike) {
    const { pictures, loss, usual } = alike;
    const more = `an estimate from calibration images like the last ${count(pictures)}; of all ${level(usual)}`;
    tile("Worst errors of pictures like these", "alike", level(loss), more);
  }
  if (feedback) {
    const { n, within, mean_loss: mean, alpha, e_value: e, e_value_alarm_at: most } = feedback;
    tile("Checked against the truth", "feedback", count(n), `${count(within)} within the accepted error`);
    tile("Their worst errors", "mean loss", level(mean), `on average; accepted ${level(alpha)}`);
    tile("Signs of a broken promise", "e-value", `×${small(e)}`, `alarm at ×${count(most)}`);
  }
  return tilesOf(rows);
}

function canary(found) {
  if (!found) return nothing;
  const { alarm, detail, rounds, evidence, at, policy } = found;
  const state = alarm ? "the upscaler has changed" : detail ? "not watched yet" : "unchanged";
  const policies = { refuse: "requests are refused", warn: "answers carry a warning" };
  const about =
    "Pairs that are generated again from time to time, to detect a silent change of a remote model.";
  const rows = [
    ["State", html`<span class="badge ${alarm ? "bad" : "good"}">${state}</span>`],
    detail && ["Note", detail],
    rounds !== undefined && ["Rounds", count(rounds)],
    evidence !== undefined && [
      "Evidence of a change",
      evidence === "inf" ? "certain" : `×${small(evidence)}`,
    ],
    at && ["Last round", time(at)],
    ["On an alarm", policies[policy] ?? policy],
  ];
  return html`<section class="canary"><h3>Known pairs, tried again</h3>${hint(about)} ${facts(rows)}</section>`;
}
