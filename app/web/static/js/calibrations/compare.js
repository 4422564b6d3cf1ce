// Two calibrations side by side: where their settings differ, and their curves over each other.

import { chart } from "../charts/chart.js";
import { h, replace } from "../lib/dom.js";
import { certainty, count, level, percent, time } from "../lib/format.js";
import { STEPS, riskChart, thresholdWords } from "./curves.js";
import { metricOf } from "./options.js";
import * as service from "./service.js";

/** Fill the view with the comparison of ?compare=ID,ID. */
export async function show(root, query) {
  document.title = "Compare calibrations · Trustscale";
  const ids = query.get("compare").split(",").filter(Boolean).slice(0, 2);
  if (ids.length < 2) {
    replace(root, tooFew());
    return;
  }
  const details = await Promise.all(ids.map((id) => service.detail(id)));
  const curves = await Promise.all(ids.map((id) => service.curve(id, STEPS)));
  const names = distinct(details);
  replace(
    root,
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("p", { class: "hint" }, h("a", { href: "/calibrations" }, "Calibrations")),
        h("h1", {}, "Compare"),
        h(
          "p",
          { class: "lead" },
          details.map((one, k) => [k > 0 && " and ", h("a", { href: service.page(one.id) }, names[k])]),
        ),
      ),
    ),
    h(
      "div",
      { class: "stack" },
      h(
        "section",
        { class: "card" },
        chart(
          riskChart(
            details.map((one, k) => ({ id: one.id, label: names[k], curve: curves[k] })),
            { whole: () => Promise.all(ids.map((id) => service.curve(id))) },
          ),
        ),
      ),
      reservations(details),
      h("section", { class: "card" }, h("h2", {}, "At common α"), levels(details, names)),
      h("section", { class: "card" }, h("h2", {}, "Settings"), settings(details, names)),
    ),
  );
}

function tooFew() {
  return h(
    "div",
    { class: "callout bad", role: "alert" },
    h("strong", {}, "Two calibrations are needed"),
    h("p", {}, "The address names fewer. ", h("a", { href: "/calibrations" }, "Choose two in the list.")),
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
  const upscalers = differ(({ pipeline }) => pipeline.fingerprint);
  const measured = differ(({ pipeline: { indecision, samples } }) => [indecision, samples]);
  const warning = (title, text) => h("p", { class: "callout warn" }, h("strong", {}, title), text);
  return [
    differ(bounded) &&
      warning("They bound different errors", "Areas and curves cannot be compared: α means another thing."),
    upscalers &&
      warning(
        "They are about different upscalers",
        "σ of one says nothing about σ of the other, so compare areas at the same α, not thresholds.",
      ),
    measured &&
      !upscalers &&
      warning("They measure indecision differently", "Thresholds on σ are not comparable."),
  ];
}

/** Names that tell the two apart. */
function distinct(details) {
  const names = details.map(service.title);
  return names[0] === names[1] ? details.map(({ name, id }) => (name ? `${name} (${id})` : id)) : names;
}

function levels(details, names) {
  const other = new Map(details[1].thresholds.map((row) => [row.alpha, row]));
  const rows = details[0].thresholds
    .filter(({ alpha }) => other.has(alpha))
    .map((row) => [row, other.get(row.alpha)]);
  return scroll(
    "Thresholds at common α",
    h(
      "tr",
      {},
      h("th", { scope: "col" }, "α"),
      names.map((name) => [
        h("th", { scope: "col", class: "number" }, name, ": area"),
        h("th", { scope: "col", class: "number" }, "threshold"),
      ]),
    ),
    rows.map((pair) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, level(pair[0].alpha)),
        pair.map((row) => [
          h("td", { class: "number" }, percent(row.trusted_fraction)),
          h("td", { class: "number" }, thresholdWords(row.threshold)),
        ]),
      ),
    ),
  );
}

function settings(details, names) {
  const [first, second] = details.map(facts);
  const keys = [...new Set([...Object.keys(first), ...Object.keys(second)])];
  const differing = keys.filter((key) => first[key] !== second[key]);
  const same = keys.filter((key) => first[key] === second[key]);
  const line = (key) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, key),
      [first, second].map((one) => h("td", { class: "value" }, one[key] ?? "not set")),
    );
  return [
    scroll(
      "Differing settings",
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Differs"),
        names.map((name) => h("th", { scope: "col" }, name)),
      ),
      differing.map(line),
    ),
    h(
      "details",
      {},
      h("summary", {}, `${same.length} settings are the same`),
      scroll(
        "Equal settings",
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Setting"),
          names.map((name) => h("th", { scope: "col" }, name)),
        ),
        same.map(line),
      ),
    ),
  ];
}

/** Everything that was chosen for a calibration, flat: path → text. */
function facts(detail) {
  const found = {
    pairs: count(detail.n),
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
  else found.X = "was given";
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

function scroll(label, head, rows) {
  return h(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, head), h("tbody", {}, rows)),
  );
}
