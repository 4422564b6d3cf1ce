// One upscaler on the monitor (an item of GET /v1/admin/monitor): alarms, figures, charts. Updated in place, so that a reader's place,
// focus and read-out stay.

import { chart } from "../charts/chart.js";
import { h } from "../lib/dom.js";
import { count, level, percent, time } from "../lib/format.js";
import { evidenceChart, feedbackChart, shareChart, typicalityChart } from "./charts.js";

const SEVERITIES = { page: "bad", ticket: "warn" };

/** The section of an upscaler, or of one group of its images; `update(data)` takes one item. */
export class Panel {
  constructor({ upscaler, group }) {
    const name = group ? `${upscaler}, group ${group}` : upscaler;
    this.badges = h("span", { class: "badges" });
    this.about = h("p", { class: "hint" });
    this.alarms = h("div", { class: "stack" });
    this.tiles = h("dl", { class: "tiles" });
    this.charts = h("div", { class: "two" });
    this.figures = new Map();
    this.texts = new Map();
    this.state = h("div", { class: "two" });
    this.root = h(
      "section",
      { class: "panel stack", "aria-label": name, dataset: { upscaler: name } },
      h("div", { class: "panel-head" }, h("h2", {}, name), this.badges),
      this.about,
      this.alarms,
      this.tiles,
      this.charts,
      this.state,
    );
  }

  update(data) {
    this.put("badges", this.badges, badges(data));
    this.put("about", this.about, about(data));
    this.put("alarms", this.alarms, data.alarms.map(alarm));
    this.put("tiles", this.tiles, tiles(data));
    this.put("state", this.state, [canary(data.canary), health(data.health)].filter(Boolean));
    this.draw("evidence", data.drift && data.history.length && evidenceChart(data));
    this.draw("shares", data.history.length && shareChart(data));
    this.draw("typicality", data.typicality && typicalityChart(data));
    this.draw("feedback", data.feedback && feedbackChart(data));
  }

  /** Replace what an element holds if it says something else now. */
  put(key, element, children) {
    const next = h("div", {}, children);
    if (this.texts.get(key) === next.textContent) return;
    this.texts.set(key, next.textContent);
    element.hidden = !next.textContent;
    element.replaceChildren(...next.childNodes);
  }

  draw(key, spec) {
    const known = this.figures.get(key);
    if (!spec) {
      known?.parentElement.remove();
      this.figures.delete(key);
    } else if (known) {
      known.update(spec);
    } else {
      const figure = chart(spec);
      this.figures.set(key, figure);
      this.charts.append(h("div", { class: "card", dataset: { chart: key } }, figure));
    }
    this.charts.hidden = !this.figures.size;
  }
}

function badges({ kind, alarms, calibration }) {
  const worst = alarms.some(({ severity }) => severity === "page") ? "bad" : alarms.length ? "warn" : "good";
  return [
    h(
      "span",
      { class: `badge ${worst}` },
      alarms.length ? (alarms.length === 1 ? "1 alarm" : `${alarms.length} alarms`) : "no alarm",
    ),
    " ",
    h("span", { class: "badge" }, kind),
    " ",
    !calibration && h("span", { class: "badge bad" }, "not calibrated"),
  ];
}

function about({ calibration, since, updated_at: updated }) {
  if (!calibration) return "No calibration is active, so no request is answered.";
  return [
    "Under ",
    h(
      "a",
      { href: `/calibrations?id=${encodeURIComponent(calibration.id)}` },
      calibration.name || calibration.id,
    ),
    ` (${count(calibration.n)} pairs, default α ${level(calibration.default_alpha)})`,
    since ? `, first request ${time(since)}, last ${time(updated)}.` : ". No request yet.",
  ];
}

function alarm({ severity, since, message }) {
  return h(
    "div",
    { class: `callout ${SEVERITIES[severity] ?? "warn"}`, role: "group", "aria-label": "Alarm" },
    h("strong", {}, severity === "page" ? "Act now" : "Look into it", since && ` · since ${time(since)}`),
    h("p", {}, message),
  );
}

function tiles({ calibration, requests, trusted_fraction: trusted, typicality, drift, feedback }) {
  const tile = (name, value, more) =>
    h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, more && h("small", {}, more)));
  return [
    calibration && tile("Requests", count(requests.seen), setAside(requests)),
    trusted && tile("Trusted area", percent(trusted.mean), "mean over the requests"),
    typicality &&
      tile(
        "Unusual inputs",
        percent(typicality.unusual),
        `${percent(typicality.expected_unusual)} would be usual`,
      ),
    drift &&
      tile(
        "Evidence of drift",
        `×${level3(drift.martingale)}`,
        `alarm at ×${count(drift.martingale_alarm_at)}`,
      ),
    drift &&
      Number.isFinite(drift.shift_sd) &&
      tile(
        "Shift of σ",
        `${drift.shift_sd < 0 ? "−" : "+"}${Math.abs(drift.shift_sd).toFixed(2)} sd`,
        "against the calibration images",
      ),
    feedback && tile("With known truth", count(feedback.n), `${count(feedback.within)} within α`),
    feedback && tile("Their mean loss", level(feedback.mean_loss), interval(feedback)),
  ].filter(Boolean);
}

function setAside({ counted, duplicates, subsampled }) {
  const parts = [
    duplicates > 0 && `${count(duplicates)} repeated`,
    subsampled > 0 && `${count(subsampled)} thinned out`,
  ].filter(Boolean);
  return parts.length ? `${count(counted)} counted, ${parts.join(", ")}` : "all counted";
}

function interval({ alpha, confidence_sequence: known }) {
  if (!known) return `promised α ${level(alpha)}`;
  return `${percent(known.level, 0)} sure: ${level(known.lower)} to ${level(known.upper)}; α ${level(alpha)}`;
}

function canary(found) {
  if (!found) return null;
  const facts = [
    [
      "State",
      found.alarm
        ? h("span", { class: "badge bad" }, "the upscaler has changed")
        : h("span", { class: "badge good" }, found.detail ? "not watched yet" : "unchanged"),
    ],
    found.detail && ["Note", found.detail],
    found.rounds !== undefined && ["Rounds", count(found.rounds)],
    found.evidence !== undefined && [
      "Evidence of a change",
      found.evidence === "inf" ? "certain" : `×${level3(found.evidence)}`,
    ],
    found.at && ["Last round", time(found.at)],
    [
      "On an alarm",
      found.policy === "refuse"
        ? "requests are refused"
        : found.policy === "warn"
          ? "answers carry a warning"
          : found.policy,
    ],
  ];
  return card(
    "Canaries",
    "Pairs that are generated again now and then, to see a silent change of a remote model.",
    facts,
  );
}

function health(found) {
  if (!found) return null;
  const facts = [
    [
      "Breaker",
      found.breaker_open
        ? h("span", { class: "badge bad" }, "open: requests are refused")
        : h("span", { class: "badge good" }, "closed"),
    ],
    ["Failures in a row", count(found.failures_in_a_row)],
    found.calls_last_hour !== null && [
      "Calls in the last hour",
      `${count(found.calls_last_hour)}${found.max_calls_per_hour === null ? "" : ` of at most ${count(found.max_calls_per_hour)}`}`,
    ],
  ];
  return card("The way to the upscaler", "As the gateway sees it that has answered this page.", facts);
}

function card(title, hint, facts) {
  return h(
    "div",
    { class: "card" },
    h("h3", {}, title),
    h("p", { class: "hint" }, hint),
    h(
      "dl",
      { class: "facts" },
      facts.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  );
}

/** A factor with three digits, also when it is astronomic. */
function level3(value) {
  return value >= 1e5 || (value > 0 && value < 1e-3)
    ? value.toExponential(1)
    : String(Number(value.toPrecision(3)));
}
