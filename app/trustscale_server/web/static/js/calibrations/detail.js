// One calibration. The reader's question: what does it promise, and does that hold? The main action: try it, before and after.

import { chart } from "../lib/chart.js";
import { count, level, percent, threshold, time } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { at } from "../lib/place.js";
import { guarded } from "../lib/toast.js";
import { button, facts, figures, hint, items, pageHead, table } from "../lib/widgets.js";
import { reasons } from "./job.js";
import { GONE, pictures } from "./pictures.js";
import * as service from "./service.js";
import { above, activeBadge, howSure, metricWords, mismatch, mismatchWords } from "./words.js";
import { ownRow, pipelineWords, trustsNothing } from "./words.js";

export async function show(root, query) {
  const group = query.get("group");
  const calibration = await service.detail(query.get("id"), group);
  document.title = `${service.title(calibration)} · Trustscale`;
  const rows = await service.listed();
  const { area, backtest, dominant } = expectations(calibration);
  render(
    html`${head(calibration, rows)}
      <div class="stack">
        ${calibration.differences?.length > 0 ? refusal(calibration.differences) : nothing} ${calibration.groups?.length > 0 ? groupChoice(calibration, group) : nothing}
        ${tiles(calibration)}
        <div class="two">
          <section class="card">${area}</section>
          <section class="card stack">${backtest}</section>
        </div>
        ${calibration.classes.length ? classTable(calibration.classes) : nothing}
        <section class="card stack">
          <h2>Photographs with the largest errors</h2>
          ${dominant}
        </section>
        <section class="card"><h2>Origin</h2>${provenance(calibration)}</section>
      </div>`,
    root,
  );
}

function head(calibration, rows) {
  const row = rows.find(({ id }) => id === calibration.id);
  const before = row?.active && rows.find(({ id }) => id === row.previous);
  const id = encodeURIComponent(calibration.id);
  const lead = html`<p class="button-row"><code class="hint">${calibration.id}</code> ${activeBadge(row)} ${mismatch(calibration)}</p>
    <p class="lead" id="verdict">${verdict(calibration)}</p>
    ${trustsNothing(calibration)}`;
  const remove = async () => {
    if (await service.remove(calibration)) location.href = at("calibrations");
  };
  const tools = html`<div class="button-row">
    ${row?.active ? nothing : html`<a class="button primary" href=${service.trial(calibration.id)}>Before and after</a>`}
    ${before ? html`<a class="button" href=${service.trial(before.id)}>Back to ${service.title(before)}</a>` : nothing}
    <a class="button" href=${at(`calibrations?new&extend=${id}`)}>Add pictures</a>
    ${button("Export", () => guarded(() => service.exported(calibration.id)))}
    ${row?.active ? undeletable : button("Delete", () => guarded(remove), { kind: "danger" })}
  </div>`;
  return pageHead(service.title(calibration), { above, lead, tools });
}

const sureness = ({ guarantee }) => howSure(guarantee ?? {}) || "on average";

function verdict(calibration) {
  const { n, default_alpha: alpha } = calibration;
  const own = ownRow(calibration);
  if (!own) return nothing;
  return `From ${count(n)} scenes: of a picture like these ${percent(own.trusted_fraction, 0)} is trusted, where the largest error is ${sureness(calibration)} at most ${level(alpha)}.`;
}

const undeletable = html`<button type="button" class="danger" disabled aria-describedby="why-not">Delete</button>
  <small class="hint" id="why-not">The active one cannot be deleted; activate another one first.</small>`;

const refusal = (differences) =>
  html`<p class="callout bad"><strong>It cannot be used</strong>${mismatchWords(differences)}</p>`;

/** All pairs, or those of one group. */
function groupChoice(calibration, group) {
  const link = (name, words) => {
    const href = `${service.page(calibration.id)}${name === null ? "" : `&group=${encodeURIComponent(name)}`}`;
    return html`<a class="button small" href=${href} aria-current=${name === group ? "true" : nothing}>${words}</a>`;
  };
  return html`<nav class="groups button-row" aria-label="Groups">
    ${link(null, "All pairs")} ${calibration.groups.map(({ group: name, n }) => link(name, `${name} (${count(n)})`))}
  </nav>`;
}

function classTable(classes) {
  const heads = ["Kind of upload", ["Scenes", "number"], ["Smallest error", "number"]];
  const rows = classes.map(({ title, n, min_alpha: least }) => [title, count(n), level(least)]);
  return html`<section class="card"><h2>Kinds of upload</h2>${table("Kinds of upload", heads, rows, "narrow")}</section>`;
}

function tiles(calibration) {
  const { metric, bound } = calibration.pipeline.fidelity;
  const own = ownRow(calibration);
  const most = level(calibration.bound ?? bound);
  return figures([
    [
      "Scenes",
      count(calibration.n),
      calibration.pairs === calibration.n ? "" : `${count(calibration.pairs)} pairs`,
    ],
    ["Accepted error", level(calibration.default_alpha), sureness(calibration), "default risk level α"],
    ["Trusted area there", own ? percent(own.trusted_fraction) : "not in the table", "mean over the pairs"],
    [
      "Smallest error",
      level(calibration.min_alpha),
      "that it can promise",
      `smallest α = B/(n + 1), B = ${most}`,
    ],
    ["Calls per picture", count(calibration.pipeline.samples), "of the model", "M"],
    ["Counts as an error", metricWords(metric), "", "metric D"],
    own && ["Trusted up to a score of", threshold(own.threshold), "", "t_α"],
  ]);
}

/** The report of a calibration, as parts of the page: {area, backtest, dominant}. A group has none. */
function expectations(calibration) {
  const { report } = calibration;
  if (!report?.rows.length) {
    const words = hint(report ? "There is only one scene." : "Groups are not tried out one by one.");
    return { area: chart(areaChart(calibration)), backtest: words, dominant: words };
  }
  const { rows, checks, splits } = report;
  const backtest = html`${chart(backtestChart(calibration, rows))}
    <p class="hint">
      In ${splits} random splits, one half of the scenes makes the promise and the other half checks it, from stored measurements. The dots should lie at or
      below the dashed line. The bars are the spread over such halves, not a confidence interval for new pictures.
    </p>
    ${concerns(checks)}`;
  return { area: chart(areaChart(calibration, rows)), backtest, dominant: domination(calibration, checks) };
}

/** The trusted area grows with α, so steps hold between two α; below the smallest possible α it is 0. */
export function areaChart({ min_alpha: least, thresholds }, splits = []) {
  const rows = splits.filter(({ alpha }) => alpha >= least);
  const reached = thresholds.filter(({ alpha }) => alpha >= least);
  const whole = thresholds.find((row) => row.trusted_fraction >= 1) ?? thresholds.at(-1);
  const points = reached.map((row) => ({ x: row.alpha, y: row.trusted_fraction }));
  const area = { name: "All pairs, at least", tone: 1, kind: "step", points };
  const ranges = rows.map((row) => ({ x: row.alpha, low: row.trusted_low, high: row.trusted_high }));
  const spread = { name: "Half of the pairs, 90 % of the draws", tone: 2, kind: "ranges", points: ranges };
  return {
    title: "Trusted area by accepted error",
    x: { label: "Accepted error", most: 1.2 * whole.alpha, format: level },
    y: { label: "Trusted pixels, on average", most: 1, format: (share) => percent(share, 0) },
    series: rows.length ? [spread, area] : [area],
    marks: [{ value: least, label: `smallest ${level(least)}` }],
  };
}

export function backtestChart({ min_alpha: least }, all) {
  const rows = all.filter(({ alpha }) => alpha >= least);
  const last = all.at(-1)?.alpha ?? 1;
  const most = Math.max(last, ...rows.map((row) => row.risk_high));
  const points = rows.map((row) => ({ x: row.alpha, y: row.risk, low: row.risk_low, high: row.risk_high }));
  return {
    title: "Tried out: error found against error promised",
    x: { label: "Promised error", most: last, format: level },
    y: { label: "Largest error found, on average", most, format: level },
    series: [
      { name: "Found, 90 % of the draws", tone: 1, kind: "ranges", points },
      { name: "As much as promised", tone: 2, kind: "line", points: [0, last].map((x) => ({ x, y: x })) },
    ],
  };
}

const concerns = ({ duplicates, ways, alpha }) => [
  ...duplicates.map(
    ({ name, reason }) => html`<p class="callout warn">A repeated image: ${name} (${reason}).</p>`,
  ),
  ...ways
    .filter((way) => way.is_above)
    .map(
      ({ name, loss }) =>
        html`<p class="callout warn">Files made in the way ${name} are off by ${level(loss)} on average, not by ${level(alpha)}: nothing is promised of these alone.</p>`,
    ),
];

function domination(calibration, { dominant_pairs: pairs, alpha }) {
  const largest = Math.max(...pairs.map(({ share }) => share));
  if (!largest) return hint(`At the accepted error, ${level(alpha)}, no mask contains an error.`);
  const leave = async (name) => {
    const withoutPair = await service.removePair(calibration.id, name);
    if (withoutPair) location.href = service.trial(withoutPair);
  };
  return html`${hint(`The worst picture of each of the five scenes that reduce the mask most. Check them: a wrong crop or a mismatched original reduces every mask.`)}
    ${pairs.map(
      ({ name, loss, share }) =>
        html`<article class="dominant">
          <div class="dominant-head">
            <h3>${name}</h3>
            <meter min="0" max=${largest} value=${share} aria-label="Share of all errors"></meter>
            <span title="share of the risk, loss">${percent(share)} of all, largest error ${level(loss)}</span>
          </div>
          ${calibration.pictures ? pictures(calibration.id, name) : nothing}
          ${calibration.pairs > 1 ? html`<div>${button("Leave out", () => guarded(() => leave(name)), { kind: "small", label: `Leave out ${name}` })}</div>` : nothing}
        </article>`,
    )}
    ${calibration.pictures ? nothing : GONE}`;
}

function provenance(calibration) {
  const { provenance: origin } = calibration;
  return facts([
    ["Made", time(calibration.created_at)],
    ["By", origin.created_by],
    ["With", origin.software],
    origin.parent && ["From", html`<a href=${service.page(origin.parent)}>${origin.parent}</a>`],
    origin.note && ["Note", origin.note],
    ["Upscaler", calibration.upscaler],
    ["Exact model", html`<code title="fingerprint">${calibration.pipeline.fingerprint}</code>`],
    ["Pipeline", pipelineWords(calibration.pipeline)],
    [
      "Small versions",
      calibration.made_by ? `made from the originals: ${calibration.made_by}` : "were given",
    ],
    ["Seed", String(calibration.seed)],
    origin.attributions.length > 0 && ["Images", attributions(origin.attributions)],
    calibration.skipped.length > 0 && ["Left out", reasons(calibration.skipped)],
  ]);
}

const attributions = (lines) =>
  html`<details><summary>${lines.length} attributions</summary>${items(lines)}</details>`;
