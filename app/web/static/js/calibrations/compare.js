// Two calibrations. Its question: which trusts more at the same α? That decides, where both bound the same.

import { chart } from "../charts/chart.js";
import { certainty, count, level, percent, time } from "../lib/format.js";
import { html, render } from "../lib/html.js";
import { pageHead, table } from "../lib/widgets.js";
import { areaChart } from "./curves.js";
import { problem } from "./job.js";
import { metricOf } from "./options.js";
import * as service from "./service.js";
import { above } from "./words.js";

/** Fill the view with the comparison of ?compare=ID,ID. */
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
  render(
    html`${pageHead("Compare", { above, lead: html`<p class="lead">${first} and ${second}</p>` })}
      <div class="stack">
        ${reservations(details)}
        <section class="card">${chart(areaChart(details, [], names))}</section>
        <section class="card"><h2>Trusted area at common α</h2>${levels(details, names)}</section>
        <section class="card"><h2>Settings</h2>${settings(details, names)}</section>
      </div>`,
    root,
  );
}

/** What of the two cannot be compared, and why. */
function reservations(details) {
  const differ = (part) => new Set(details.map((one) => JSON.stringify(part(one)))).size > 1;
  const bounded = ({ pipeline: { fidelity }, bound }) => {
    const { metric, blur, labels, annotator } = fidelity;
    const near = metricOf(metric, labels)?.blurs ? blur : null;
    return { metric, labels, annotator, near, bound: bound ?? fidelity.bound };
  };
  const errors = html`<strong>They bound different errors</strong>Areas cannot be compared: α means another thing.`;
  const upscalers = html`<strong>They are about different upscalers</strong>The areas tell what each trusts of its own pictures, at the
    same α.`;
  const found = [differ(bounded) && errors, differ(({ pipeline }) => pipeline.fingerprint) && upscalers];
  return found.filter(Boolean).map((words) => html`<p class="callout warn">${words}</p>`);
}

/** Names that tell the two apart. */
function distinct(details) {
  const names = details.map(service.title);
  return names[0] === names[1] ? details.map(({ name, id }) => (name ? `${name} (${id})` : id)) : names;
}

function levels(details, names) {
  const [first, second] = details.map(
    ({ thresholds }) => new Map(thresholds.map((row) => [row.alpha, row.trusted_fraction])),
  );
  const points = (a, b) => `${b < a ? "−" : "+"}${(100 * Math.abs(b - a)).toFixed(1)} points`;
  const common = [...first].filter(([alpha]) => second.has(alpha));
  const rows = common.map(([alpha, a]) => {
    const b = second.get(alpha);
    return [level(alpha), percent(a), percent(b), a === b ? "none" : points(a, b)];
  });
  const heads = ["α", ...[...names, "Difference"].map((name) => [name, "number"])];
  return table("Trusted area at common α", heads, rows);
}

function settings(details, names) {
  const [first, second] = details.map(facts);
  const keys = Object.keys({ ...first, ...second });
  const heads = (label) => [label, ...names.map((name) => [name, "value"])];
  const rows = (some) => some.map((key) => [key, first[key] ?? "not set", second[key] ?? "not set"]);
  const differing = keys.filter((key) => first[key] !== second[key]);
  const same = keys.filter((key) => first[key] === second[key]);
  return html`${table("Differing settings", heads("Differs"), rows(differing))}
    <details>
      <summary>${same.length} settings are the same</summary>
      ${table("Equal settings", heads("Setting"), rows(same))}
    </details>`;
}

/** Everything that was chosen for a calibration, flat: path → text. */
function facts(detail) {
  const found = {
    scenes: count(detail.n),
    pairs: count(detail.pairs),
    "smallest α": level(detail.min_alpha),
    made: time(detail.created_at),
    upscaler: detail.upscaler,
    "default α": level(detail.default_alpha),
    seed: String(detail.seed),
  };
  const { fidelity, ...rest } = detail.pipeline;
  const { labels, ...error } = fidelity;
  flatten(rest, "", found);
  flatten(metricOf(fidelity.metric, labels)?.unit === "label" ? fidelity : error, "fidelity ", found);
  if (detail.degradation) flatten(detail.degradation, "degradation ", found);
  else found["small versions"] = "were given";
  const { kind, delta, method } = detail.guarantee ?? { kind: "expectation" };
  found.promise = kind === "expectation" ? "on average" : `with probability ${certainty(delta)}, ${method}`;
  return found;
}

function flatten(value, prefix, into) {
  for (const [key, inner] of Object.entries(value)) {
    if (inner === null || inner === undefined) continue; // as good as missing
    if (typeof inner === "object") flatten(inner, `${prefix}${key} `, into);
    else into[`${prefix}${key}`] = String(inner);
  }
}
