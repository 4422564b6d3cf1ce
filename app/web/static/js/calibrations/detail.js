// One calibration: what it promises, how well that holds, what it was made of.

import { chart } from "../charts/chart.js";
import { $, h, replace } from "../lib/dom.js";
import { count, level, percent } from "../lib/format.js";
import { toastError } from "../lib/toast.js";
import { STEPS, areaChart, backtestChart, riskChart, thresholdWords } from "./curves.js";
import { fillAudit, provenance } from "./origin.js";
import { pairList, pictures } from "./pictures.js";
import * as service from "./service.js";
import { howSure, metricWords, mismatch, mismatchWords } from "./words.js";

const SPLITS = 50;

/** Fill the view with the calibration of ?id=. */
export async function show(root, query) {
  const group = query.get("group");
  const found = await service.detail(query.get("id"), group);
  document.title = `${service.title(found)} · Trustscale`;
  const [rows, curve] = await Promise.all([service.listed(), service.curve(found.id, STEPS, group)]);
  const row = rows.find(({ id }) => id === found.id);
  const again = async () => {
    await show(root, query);
    $("#main").focus(); // what had the focus is gone
  };
  const promised = found.thresholds.find(({ alpha }) => alpha === found.default_alpha);
  const area = chart(areaChart(found));
  const backtested = h(
    "div",
    { class: "stack" },
    h("p", { class: "hint" }, "Splitting the pairs at random…"),
  );
  const dominant = h("div", { class: "stack" }, h("p", { class: "hint" }, "Looking…"));
  const log = h("div", {}, h("p", { class: "hint" }, "Reading…"));
  replace(
    root,
    head(found, row, rows, again),
    h(
      "div",
      { class: "stack" },
      found.differences?.length > 0 &&
        h(
          "div",
          { class: "callout bad" },
          h("strong", {}, "It cannot be served from"),
          h("p", {}, mismatchWords(found.differences)),
          differing(found.differences),
        ),
      found.groups?.length > 0 && groupChoice(found, group),
      tiles(found, promised),
      h(
        "div",
        { class: "two" },
        h(
          "section",
          { class: "card" },
          chart(
            riskChart([{ id: found.id, curve, threshold: promised?.threshold }], {
              alpha: found.default_alpha,
              whole: async () => [await service.curve(found.id, null, group)],
            }),
          ),
        ),
        h("section", { class: "card" }, area),
      ),
      h(
        "div",
        { class: "two" },
        h("section", { class: "card" }, h("h2", {}, "At common α"), thresholdTable(found)),
        h("section", { class: "card stack" }, h("h2", {}, "What to expect"), backtested),
      ),
      h(
        "section",
        { class: "card stack" },
        h("h2", {}, "Pairs with the largest share of the risk"),
        dominant,
      ),
      h("section", { class: "card stack" }, h("h2", {}, "All pairs"), pairList(found)),
      h("section", { class: "card" }, h("h2", {}, "Where it comes from"), provenance(found)),
      h("section", { class: "card" }, h("h2", {}, "What was done with it"), log),
    ),
  );
  await Promise.all([fillBacktest(found, group, { backtested, dominant, area }), fillAudit(found, log)]);
}

function head(found, row, rows, again) {
  const present = service.activeOf(rows, found.upscaler);
  const before = row?.previous && rows.find(({ id }) => id === row.previous);
  const button = (label, run, kind = "") =>
    h(
      "button",
      { type: "button", class: kind, onclick: () => Promise.resolve(run()).catch(toastError) },
      label,
    );
  return h(
    "div",
    { class: "page-head" },
    h(
      "div",
      {},
      h("p", { class: "hint" }, h("a", { href: "/calibrations" }, "Calibrations")),
      h("h1", {}, service.title(found)),
      h(
        "p",
        { class: "button-row" },
        h("code", { class: "hint" }, found.id),
        row?.active ? h("span", { class: "badge trust" }, "active") : h("span", { class: "badge" }, "ready"),
        mismatch(found),
      ),
    ),
    h(
      "div",
      { class: "button-row" },
      row?.active
        ? before &&
            button(
              "Roll back",
              async () => (await service.activate(before, present, { back: true })) && again(),
            )
        : button("Activate", async () => (await service.activate(found, present)) && again(), "primary"),
      h(
        "a",
        { class: "button", href: `/calibrations?new&extend=${encodeURIComponent(found.id)}` },
        "Add pairs",
      ),
      !row?.active &&
        present &&
        h(
          "a",
          {
            class: "button",
            href: `/calibrations?compare=${encodeURIComponent(present.id)},${encodeURIComponent(found.id)}`,
          },
          "Compare with the active one",
        ),
      button("Another promise", async () => {
        const made = await service.derived(found);
        if (made) location.href = service.page(made);
      }),
      button("Export", () => service.exported(found.id)),
      row?.active
        ? h(
            "button",
            { type: "button", class: "danger", disabled: true, "aria-describedby": "why-not" },
            "Delete",
          )
        : button(
            "Delete",
            async () => {
              if (await service.remove(found)) location.href = "/calibrations";
            },
            "danger",
          ),
      row?.active &&
        h(
          "small",
          { class: "hint", id: "why-not" },
          "The active one cannot be deleted; activate another one first.",
        ),
    ),
  );
}

/** All pairs, or those of one group, whose curve speaks about images of that group. */
function groupChoice(found, group) {
  const link = (name, words) =>
    h(
      "a",
      {
        class: "button small",
        href: `${service.page(found.id)}${name === null ? "" : `&group=${encodeURIComponent(name)}`}`,
        "aria-current": name === group ? "true" : null,
      },
      words,
    );
  return h(
    "nav",
    { class: "groups button-row", "aria-label": "Groups" },
    link(null, "All pairs"),
    found.groups.map(({ group: name, n }) => link(name, `${name} (${count(n)})`)),
  );
}

function tiles(found, promised) {
  const tile = (name, value, more) =>
    h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, more && h("small", {}, more)));
  const { metric, labels } = found.pipeline.fidelity;
  return h(
    "dl",
    { class: "tiles" },
    tile("Pairs", count(found.n)),
    tile("Smallest α", level(found.min_alpha), `B = ${level(found.bound ?? found.pipeline.fidelity.bound)}`),
    tile("Default α", level(found.default_alpha), howSure(found.guarantee ?? {}) || "on average"),
    tile(
      "Trusted area there",
      promised ? percent(promised.trusted_fraction) : "not tabled",
      "mean over the pairs",
    ),
    tile("It bounds", metricWords(metric, labels)),
  );
}

function thresholdTable({ thresholds }) {
  return h(
    "div",
    { class: "table-scroll" },
    h(
      "table",
      { class: "narrow" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "α"),
          h("th", { scope: "col", class: "number" }, "Trusted area"),
          h("th", { scope: "col", class: "number" }, "Threshold on σ"),
        ),
      ),
      h(
        "tbody",
        {},
        thresholds.map((row) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, level(row.alpha)),
            h("td", { class: "number" }, percent(row.trusted_fraction)),
            h("td", { class: "number" }, thresholdWords(row.threshold)),
          ),
        ),
      ),
    ),
  );
}

async function fillBacktest(found, group, { backtested, dominant, area }) {
  if (found.n < 2) {
    replace(backtested, h("p", { class: "hint" }, "A backtest needs at least two pairs."));
    replace(dominant, h("p", { class: "hint" }, "There is one pair only."));
    return;
  }
  try {
    const { rows, checks, splits } = await service.backtest(found.id, SPLITS, group);
    area.update(areaChart(found, rows));
    replace(
      backtested,
      chart(backtestChart(found, rows)),
      h(
        "p",
        { class: "hint" },
        `${splits} times half of the pairs calibrate and the other half are served; nothing is generated. The risk should lie at or below the dashed line. The bars are the spread over splits of the same images, not a confidence interval for new ones.`,
      ),
      concerns(checks),
    );
    replace(dominant, domination(found, checks));
  } catch (error) {
    replace(backtested, h("p", { class: "callout bad" }, error.message));
    replace(dominant, null);
  }
}

/** What the checks of the assumptions have found. */
function concerns({ n, minimal_n: least, alpha, duplicates, sizes }) {
  const found = [
    n < least &&
      `At the default α = ${level(alpha)} at least ${count(least)} pairs are needed; there are ${count(n)}.`,
    duplicates.length > 0 &&
      `Repeated images: ${duplicates.map(({ name, reason }) => `${name} (${reason})`).join(", ")}.`,
  ].filter(Boolean);
  return [
    found.map((text) => h("p", { class: "callout warn" }, text)),
    h(
      "p",
      { class: "hint" },
      `Sizes of Y: ${sizes.slice(0, 8).join(", ").replaceAll("x", "×")}${sizes.length > 8 ? " and more" : ""}. The promise is exact for outputs within them.`,
    ),
  ];
}

function domination(found, { dominant_pairs: pairs, alpha }) {
  const largest = Math.max(...pairs.map(({ share }) => share));
  if (!largest) return h("p", { class: "hint" }, `At α = ${level(alpha)} no pair has any loss in its mask.`);
  return [
    h(
      "p",
      { class: "hint" },
      `Losses at α = ${level(alpha)}. Look at them: a wrong crop or a mismatched truth costs everybody’s mask.`,
    ),
    pairs.map(({ name, loss, share }) =>
      h(
        "article",
        { class: "dominant" },
        h(
          "div",
          { class: "dominant-head" },
          h("h3", {}, name),
          h("meter", { min: 0, max: largest, value: share, "aria-label": "Share of the risk" }),
          h("span", {}, `${percent(share)} of the risk, loss ${level(loss)}`),
        ),
        pictures(found.id, name),
      ),
    ),
  ];
}

function differing(differences) {
  return h(
    "div",
    { class: "table-scroll" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Field", "Calibrated", "Live"].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        differences.map((one) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, one.field),
            [one.calibrated, one.live].map((value) => h("td", { class: "value" }, String(value))),
          ),
        ),
      ),
    ),
  );
}
