// Two calibrations. The reader's question: which trusts more at the same α?

import { chart } from "../charts/chart.js";
import { certainty, count, level, percent, size, time } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { pageHead, table } from "../lib/widgets.js";
import { areaChart } from "./curves.js";
import { problem } from "./job.js";
import { metricOf } from "./service.js";
import * as service from "./service.js";
import { above, metricWords, pipelineWords } from "./words.js";

const SAME = 0.005; // of a picture: less is nobody's difference

export async function show(root, query) {
  document.title = "Compare calibrations · Trustscale";
  const ids = query.get("compare").split(",").filter(Boolean).slice(0, 2);
  if (ids.length < 2) {
    const way = html`The address names fewer. <a href="/calibrations">Choose two in the list.</a>`;
    return render(problem({ title: "Two calibrations are needed", detail: way }), root);
  }
  const details = await Promise.all(ids.map((id) => service.detail(id)));
  const names = distinct(details);
  const [first, second] = details.map((one, k) => html`<a href=${service.page(one.id)}>${names[k]}</a>`);
  const doubts = reservations(details);
  const isComparable = !doubts.length;
  render(
    html`${pageHead("Compare", { above, lead: html`<p class="lead">${first} and ${second}</p>` })}
      <div class="stack">
        ${isComparable ? nothing : doubts}
        <section class="card">${chart(areaChart(details, [], names))}</section>
        <section class="card"><h2>Different settings</h2>${settings(details, names)}</section>
        ${isComparable ? html`<p class="callout" id="verdict">${verdict(details, names)}</p>` : nothing}
      </div>`,
    root,
  );
}

/** Why the two cannot be compared. */
function reservations(details) {
  const differ = (part) => new Set(details.map((one) => JSON.stringify(part(one)))).size > 1;
  const bounded = ({ pipeline: { fidelity }, bound }) => {
    const { metric, blur, reader } = fidelity;
    const near = metricOf(metric)?.blurs ? blur : null;
    return { metric, reader, near, bound: bound ?? fidelity.bound };
  };
  const errors = html`<strong>They bound different errors</strong>Areas cannot be compared: the same number means something else.`;
  const upscalers = html`<strong>They are about different upscalers</strong>Each area is a share of that upscaler’s own
    pictures, at the same accepted error.`;
  const found = [differ(bounded) && errors, differ(({ pipeline }) => pipeline.fingerprint) && upscalers];
  return found.filter(Boolean).map((words) => html`<p class="callout warn">${words}</p>`);
}

/** Names that differ. */
function distinct(details) {
  const names = details.map(service.title);
  return names[0] === names[1] ? details.map(({ name, id }) => (name ? `${name} (${id})` : id)) : names;
}

function settings(details, names) {
  const [first, second] = details.map(facts);
  const differing = Object.keys(first).filter((key) => first[key] !== second[key]);
  const heads = ["Setting", ...names.map((name) => [name, "value"])];
  const rows = differing.map((key) => [key, first[key] ?? "not set", second[key] ?? "not set"]);
  return table("Different settings", heads, rows);
}

function facts(detail) {
  const { pipeline, guarantee } = detail;
  const { fidelity, indecision } = pipeline;
  const { kind, delta } = guarantee ?? { kind: "expectation" };
  const isSmoothed = metricOf(fidelity.metric)?.blurs;
  const window = `${indecision.estimator} ${indecision.kernel} ${indecision.size}, blur ${indecision.blur}`;
  return {
    Scenes: count(detail.n),
    Pairs: count(detail.pairs),
    "Accepted error": level(detail.default_alpha),
    "Smallest error": level(detail.min_alpha),
    Promise: kind === "high_probability" ? `with probability ${certainty(delta)}` : PROMISES[kind],
    "Counts as an error": metricWords(fidelity.metric),
    "Read by": fidelity.reader,
    "As a mean over": isSmoothed ? `${fidelity.blur} px` : null,
    "Errors count up to": level(detail.bound ?? fidelity.bound),
    Upscaler: detail.upscaler,
    "Exact model": pipeline.fingerprint,
    Pipeline: pipelineWords(pipeline),
    Score: indecision.fit?.name ?? (indecision.estimator === "fitted" ? "learned" : window),
    "Small versions": detail.made_by ?? "given",
    "Kinds of upload": detail.classes.map(({ title }) => title).join(", ") || null,
    Sizes: detail.sizes.map(([width, height]) => size(width, height)).join(", "),
    Seed: String(detail.seed),
    Made: time(detail.created_at),
  };
}

const PROMISES = {
  expectation: "on average",
  probability: "in a stated share of pictures",
  post_hoc: "on average, for an error chosen after looking",
};

/** Which of the two is better for the reader; "" if they accept different errors. */
export function verdict(details, names) {
  const [[first, second], [one, other]] = [details, names];
  const alpha = first.default_alpha;
  const [a, b] = [first, second].map(
    ({ thresholds }) => thresholds.find((row) => row.alpha === alpha)?.trusted_fraction,
  );
  if (a === undefined || b === undefined || alpha !== second.default_alpha) return "";
  if (Math.abs(b - a) < SAME)
    return `For you: the same. Both trust ${percent(a)} at an accepted error of ${level(alpha)}.`;
  const [better, worse] = b > a ? [other, one] : [one, other];
  return `For you: ${better} is better. At an accepted error of ${level(alpha)} it trusts ${percent(Math.max(a, b))} of a picture, ${worse} ${percent(Math.min(a, b))}.`;
}
