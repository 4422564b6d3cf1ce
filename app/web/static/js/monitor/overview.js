// All parts of the monitor in one table: which of them is worth a look?

import { count, percent } from "../lib/format.js";
import { html } from "../lib/html.js";
import { button, table } from "../lib/widgets.js";
import { toneOf } from "./panel.js";
import { looks, nameOf } from "./words.js";

/** open: the one whose charts are shown; run(key) shows those of another one. */
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
