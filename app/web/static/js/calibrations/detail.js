// One calibration. The reader's question: what does it promise, and does that hold? The main action: activate it.

import { chart } from "../charts/chart.js";
import { $ } from "../lib/dom.js";
import { count, level, percent, threshold, time } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { guarded } from "../lib/toast.js";
import { button, facts, figures, hint, items, later, pageHead, table } from "../lib/widgets.js";
import { activate } from "./activate.js";
import { STEPS, areaChart, backtestChart, riskChart } from "./curves.js";
import { reasons } from "./job.js";
import { GONE, pairList, pictures } from "./pictures.js";
import * as service from "./service.js";
import { above, activeBadge, howSure, metricWords, mismatch, mismatchWords } from "./words.js";
import { pipelineTerms, pipelineWords, trustsNothing } from "./words.js";

const SPLITS = 50;
const AUDIT_TAIL = 1000;
const MOST_ENTRIES = 20;

export async function show(root, query) {
  const group = query.get("group");
  const found = await service.detail(query.get("id"), group);
  document.title = `${service.title(found)} · Trustscale`;
  const [rows, curve] = await Promise.all([service.listed(), service.curve(found.id, STEPS, group)]);
  const promised = found.thresholds.find(({ alpha }) => alpha === found.default_alpha);
  const again = async () => {
    await show(root, query);
    $("#main").focus(); // what had the focus is gone
  };
  const risk = chart(riskChart(found, curve, promised?.threshold));
  const area = chart(areaChart(found));
  const expected = expectations(found, group, area);
  const log = history(found, rows);
  render(
    html`${head(found, rows, again)}
      <div class="stack">
        ${found.differences?.length > 0 ? refusal(found.differences) : nothing} ${found.groups?.length > 0 ? groupChoice(found, group) : nothing}
        ${tiles(found, promised)}
        <div class="two">
          <section class="card">${area}</section>
          <section class="card">${risk}</section>
        </div>
        <div class="two">
          <section class="card"><h2>By accepted error</h2>${thresholdTable(found)}</section>
          <section class="card stack"><h2>What to expect</h2>${later(part(expected, "backtest"), "Trying it out on its own photographs…")}</section>
        </div>
        ${found.classes.length ? classTable(found.classes) : nothing}
        <section class="card stack">
          <h2>Photographs with the largest errors</h2>
          ${later(part(expected, "dominant").catch(none), "Looking…")}
        </section>
        <section class="card stack"><h2>All pairs</h2>${pairList(found)}</section>
        <section class="card"><h2>Origin</h2>${provenance(found)}</section>
        <section class="card"><h2>History</h2>${later(log, "Reading…")}</section>
      </div>`,
    root,
  );
  await Promise.allSettled([expected, log]);
}

/** A part of a promise; an error is shown once, in the first part. */
const part = async (all, name) => (await all)[name];
const none = () => nothing;

function head(found, rows, again) {
  const row = rows.find(({ id }) => id === found.id);
  const present = service.activeOf(rows, found.upscaler);
  const before = row?.active && rows.find(({ id }) => id === row.previous);
  const act = (words, run, more = {}) => button(words, () => guarded(run), more);
  const serve = (wanted, back) => async () => (await activate(wanted, present, { back })) && again();
  const id = encodeURIComponent(found.id);
  const lead = html`<p class="button-row"><code class="hint">${found.id}</code> ${activeBadge(row)} ${mismatch(found)}</p>
    <p class="lead" id="verdict">${verdict(found)}</p>
    ${trustsNothing(found)}`;
  const derive = async () => {
    const made = await service.derived(found);
    if (made) location.href = service.page(made);
  };
  const remove = async () => {
    if (await service.remove(found)) location.href = "/calibrations";
  };
  const tools = html`<div class="button-row">
    ${row?.active ? nothing : act("Activate", serve(found, false), { kind: "primary" })}
    ${before ? act(`Back to ${service.title(before)}`, serve(before, true)) : nothing}
    <a class="button" href="/calibrations?new&extend=${id}">Add pairs</a>
    ${act("Another promise", derive)} ${act("Export", () => service.exported(found.id))}
    ${row?.active ? undeletable : act("Delete", remove, { kind: "danger" })}
  </div>`;
  return pageHead(service.title(found), { above, lead, tools });
}

const sureness = ({ guarantee }) => howSure(guarantee ?? {}) || "on average";

function verdict(found) {
  const { n, default_alpha: alpha, thresholds } = found;
  const own = thresholds.find((row) => row.alpha === alpha);
  if (!own) return nothing;
  return `From ${count(n)} scenes: of a picture like these ${percent(own.trusted_fraction, 0)} is trusted, where the largest error is ${sureness(found)} at most ${level(alpha)}.`;
}

const undeletable = html`<button type="button" class="danger" disabled aria-describedby="why-not">Delete</button>
  <small class="hint" id="why-not">The active one cannot be deleted; activate another one first.</small>`;

function refusal(differences) {
  const rows = differences.map((one) => [one.field, String(one.calibrated), String(one.live)]);
  return html`<div class="callout bad">
    <strong>It cannot be used</strong>
    <p>${mismatchWords(differences)}</p>
    ${table("What differs", ["Field", ["Calibrated", "value"], ["Live", "value"]], rows)}
  </div>`;
}

/** All pairs, or those of one group. */
function groupChoice(found, group) {
  const link = (name, words) => {
    const href = `${service.page(found.id)}${name === null ? "" : `&group=${encodeURIComponent(name)}`}`;
    return html`<a class="button small" href=${href} aria-current=${name === group ? "true" : nothing}>${words}</a>`;
  };
  return html`<nav class="groups button-row" aria-label="Groups">
    ${link(null, "All pairs")} ${found.groups.map(({ group: name, n }) => link(name, `${name} (${count(n)})`))}
  </nav>`;
}

function classTable(classes) {
  const heads = ["Kind of upload", ["Scenes", "number"], ["Smallest error", "number"]];
  const rows = classes.map(({ title, n, min_alpha: least }) => [title, count(n), level(least)]);
  return html`<section class="card"><h2>Kinds of upload</h2>${table("Kinds of upload", heads, rows, "narrow")}</section>`;
}

function tiles(found, promised) {
  const { metric, bound } = found.pipeline.fidelity;
  const most = level(found.bound ?? bound);
  const area = promised ? percent(promised.trusted_fraction) : "not in the table";
  return figures([
    ["Scenes", count(found.n), found.pairs === found.n ? "" : `${count(found.pairs)} pairs`],
    ["Accepted error", level(found.default_alpha), sureness(found), "default risk level α"],
    ["Trusted area there", area, "mean over the pairs"],
    ["Smallest error", level(found.min_alpha), "that it can promise", `smallest α = B/(n + 1), B = ${most}`],
    ["Calls per picture", count(found.pipeline.samples), "of the model", "M"],
    ["Counts as an error", metricWords(metric), "", "metric D"],
  ]);
}

function thresholdTable({ thresholds }) {
  const heads = ["Accepted error", ["Trusted area", "number"], ["Score up to", "number"]];
  const rows = thresholds.map((row) => [
    level(row.alpha),
    percent(row.trusted_fraction),
    threshold(row.threshold),
  ]);
  return table("By accepted error", heads, rows, "narrow");
}

/** The results of repeated splits of the pairs: {backtest, dominant}. Throws ApiError. */
async function expectations(found, group, area) {
  if (found.n < 2) {
    return {
      backtest: hint("A backtest needs at least two scenes."),
      dominant: hint("There is only one scene."),
    };
  }
  const expected = await service.backtest(found.id, SPLITS, group);
  const { rows, checks, splits } = expected;
  area.update(areaChart(found, rows));
  const backtest = html`${chart(backtestChart(found, rows))}
    <p class="hint">
      In ${splits} random splits, one half of the scenes makes the promise and the other half checks it, from stored measurements. The dots should lie at or
      below the dashed line. The bars are the spread over such halves, not a confidence interval for new pictures.
    </p>
    ${concerns(checks)}`;
  return { backtest, dominant: domination(found, checks) };
}

function concerns({ n, minimal_n: least, alpha, duplicates, sizes }) {
  const few = `For an accepted error of ${level(alpha)} at least ${count(least)} scenes are needed; there are ${count(n)}.`;
  const twins = `Repeated images: ${duplicates.map(({ name, reason }) => `${name} (${reason})`).join(", ")}.`;
  const found = [n < least && few, duplicates.length > 0 && twins].filter(Boolean);
  const named = sizes.slice(0, 8).join(", ").replaceAll("x", "×");
  return html`${found.map((text) => html`<p class="callout warn">${text}</p>`)}
    <p class="hint">Sizes of the originals: ${named}${sizes.length > 8 ? " and more" : ""}. The promise is exact for outputs within them.</p>`;
}

function domination(found, { dominant_pairs: pairs, alpha }) {
  const largest = Math.max(...pairs.map(({ share }) => share));
  if (!largest) return hint(`At the accepted error, ${level(alpha)}, no mask contains an error.`);
  return html`${hint(`The worst picture of each of the five scenes that reduce the mask most. Check them: a wrong crop or a mismatched original reduces every mask.`)}
    ${pairs.map(
      ({ name, loss, share }) =>
        html`<article class="dominant">
          <div class="dominant-head">
            <h3>${name}</h3>
            <meter min="0" max=${largest} value=${share} aria-label="Share of all errors"></meter>
            <span title="share of the risk, loss">${percent(share)} of all, largest error ${level(loss)}</span>
          </div>
          ${found.pictures ? pictures(found.id, name) : nothing}
        </article>`,
    )}
    ${found.pictures ? nothing : GONE}`;
}

function provenance(found) {
  const { provenance: origin } = found;
  return facts([
    ["Made", time(found.created_at)],
    ["By", origin.created_by],
    ["With", origin.software],
    origin.parent && ["From", html`<a href=${service.page(origin.parent)}>${origin.parent}</a>`],
    origin.note && ["Note", origin.note],
    ["Upscaler", found.upscaler],
    ["Exact model", html`<code title="fingerprint">${found.pipeline.fingerprint}</code>`],
    ["Pipeline", html`<span title=${pipelineTerms(found.pipeline)}>${pipelineWords(found.pipeline)}</span>`],
    ["Small versions", found.made_by ? `made from the originals: ${found.made_by}` : "were given"],
    ["Seed", String(found.seed)],
    origin.attributions.length > 0 && ["Images", attributions(origin.attributions)],
    found.skipped.length > 0 && ["Left out", reasons(found.skipped)],
  ]);
}

const attributions = (lines) =>
  html`<details><summary>${lines.length} attributions</summary>${items(lines)}</details>`;

/** The audit log of a calibration, the newest first. Throws ApiError. */
async function history(found, rows) {
  const all = await service.audit(AUDIT_TAIL);
  const mine = all.filter(({ facts }) => Object.values(facts).includes(found.id)).slice(0, MOST_ENTRIES);
  if (!mine.length) return hint("The audit log has no entry about it.");
  const nameOf = (id) => service.title(rows.find((row) => row.id === id) ?? { id });
  const line = ({ at, action, actor, facts }) =>
    html`<span class="hint">${time(at)}</span> ${sentence(found, action, facts, nameOf)} by ${actor}`;
  return items(mine.map(line), "audit");
}

function sentence(found, action, { calibration, previous, parent }, nameOf) {
  const verb = action.replace("calibration.", "").replace("_", " ");
  const isOwn = calibration === undefined || calibration === found.id;
  if (verb === "activate") {
    if (!isOwn) return html`<b>${nameOf(calibration)}</b> replaced this one`;
    return html`This one was <b>activated</b>${previous ? ` in place of ${nameOf(previous)}` : ""}`;
  }
  if (!isOwn) return html`<b>${nameOf(calibration)}</b> was made of this one (${verb})`;
  return html`This one: <b>${verb}</b>${parent && parent !== found.id ? ` of ${nameOf(parent)}` : nothing}`;
}
