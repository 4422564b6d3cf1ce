// All calibrations, which of them are served from, and the jobs that are making more.

import { $, $$, h, replace } from "../lib/dom.js";
import { count, level, time } from "../lib/format.js";
import { toast, toastError } from "../lib/toast.js";
import { jobCard } from "./job.js";
import { mismatch, pipelineWords, promiseWords } from "./words.js";
import * as service from "./service.js";

const DETAILS_AT_ONCE = 3;

/** Fill the view with the list. */
export async function show(root) {
  document.title = "Calibrations · Trustscale";
  const [rows, jobs, upscalers] = await Promise.all([
    service.listed(),
    service.pending(),
    service.upscalers(),
  ]);
  const again = async () => {
    await show(root);
    $("#main").focus(); // what had the focus is gone
  };
  const file = h("input", {
    type: "file",
    accept: ".calibration",
    hidden: true,
    "aria-label": "Calibration file",
  });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    try {
      const made = await service.imported(chosen);
      const row = (await service.listed()).find(({ id }) => id === made.id);
      const state = row?.active ? "It is active." : "It is not active.";
      toast(`${service.title(made)} is stored. ${state}`, { kind: "success" });
      await again();
    } catch (error) {
      toastError(error);
    }
  });
  const compare = h(
    "button",
    {
      type: "button",
      disabled: true,
      onclick: () => {
        const chosen = $$("input[name=compare]:checked", root).map((box) => box.value);
        location.href = `/calibrations?compare=${chosen.map(encodeURIComponent).join(",")}`;
      },
    },
    "Compare two",
  );
  const table = tableOf(rows, {
    again,
    onChosen: (number) => {
      compare.disabled = number !== 2;
    },
  });
  replace(
    root,
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("h1", {}, "Calibrations"),
        h(
          "p",
          { class: "lead" },
          "Each turns the disagreement of an upscaler with itself into a promise. One per upscaler is active.",
        ),
      ),
      h(
        "div",
        { class: "button-row" },
        rows.length > 1 && compare,
        h("button", { type: "button", onclick: () => file.click() }, "Import…"),
        h("a", { class: "button primary", href: "/calibrations?new" }, "New calibration"),
        file,
      ),
    ),
    h(
      "div",
      { class: "stack" },
      upscalers
        .filter((one) => !one.calibration)
        .map(({ name }) =>
          h(
            "p",
            { class: "callout warn" },
            h("strong", {}, `${name} has no active calibration`),
            "It answers no request until one is made or activated.",
          ),
        ),
      jobs.length > 0 &&
        h(
          "section",
          { class: "stack", "aria-labelledby": "at-work" },
          h("h2", { id: "at-work" }, "In the making"),
          // The card of a failed one stays: it says why, and the list would not have it any more.
          jobs.map((job) => jobCard(job, { onEnd: ({ state }) => state !== "failed" && again() })),
        ),
      h(
        "section",
        { "aria-label": "Finished calibrations" },
        rows.length ? h("div", { class: "table-scroll card flush" }, table) : empty(),
      ),
    ),
  );
  await addDetails(rows, table);
}

function tableOf(rows, { again, onChosen }) {
  const heads = [
    ["", ""],
    ["Calibration", ""],
    ["Upscaler", ""],
    ["State", ""],
    ["Pairs", "number"],
    ["Smallest α", "number"],
    ["What it bounds", ""],
    ["Made", ""],
    ["", ""],
  ];
  const table = h(
    "table",
    { class: "calibrations" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map(([name, kind]) =>
          h(
            "th",
            { scope: "col", class: kind },
            name || h("span", { class: "visually-hidden" }, "Choose or act"),
          ),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((row) => rowOf(row, rows, again)),
    ),
  );
  table.addEventListener("change", () => onChosen($$("input[name=compare]:checked", table).length));
  return table;
}

function rowOf(row, rows, again) {
  const present = service.activeOf(rows, row.upscaler);
  const before = row.previous && rows.find(({ id }) => id === row.previous);
  const act = (wanted, back) => async () => {
    try {
      if (await service.activate(wanted, present, { back })) await again();
    } catch (error) {
      toastError(error);
    }
  };
  return h(
    "tr",
    { dataset: { id: row.id } },
    h(
      "td",
      {},
      h("input", {
        type: "checkbox",
        name: "compare",
        value: row.id,
        "aria-label": `Compare ${service.title(row)}`,
      }),
    ),
    h(
      "td",
      { class: "name", dataset: { head: "Calibration" } },
      h("a", { href: service.page(row.id) }, service.title(row)),
      row.name && h("div", {}, h("code", { class: "hint" }, row.id)),
      h("div", { class: "hint pipeline" }),
    ),
    h("td", { dataset: { head: "Upscaler" } }, row.upscaler),
    h(
      "td",
      { class: "state", dataset: { head: "State" } },
      row.active ? h("span", { class: "badge trust" }, "active") : h("span", { class: "badge" }, "ready"),
    ),
    h("td", { class: "number", dataset: { head: "Pairs" } }, count(row.n)),
    h("td", { class: "number", dataset: { head: "Smallest α" } }, level(row.min_alpha)),
    h("td", { class: "bounds", dataset: { head: "What it bounds" } }, promiseWords(row)),
    h("td", { dataset: { head: "Made" } }, time(row.created_at)),
    h(
      "td",
      { class: "actions" },
      row.active
        ? before && h("button", { type: "button", class: "small", onclick: act(before, true) }, "Roll back")
        : h(
            "button",
            {
              type: "button",
              class: "small",
              onclick: act(row, false),
              "aria-label": `Activate ${service.title(row)}`,
            },
            "Activate",
          ),
    ),
  );
}

/** Tell of each row which pipeline it is for, and whether the live upscaler is another one. */
async function addDetails(rows, table) {
  const waiting = [...rows];
  const next = async () => {
    for (let row = waiting.shift(); row; row = waiting.shift()) {
      const place = $$("tr[data-id]", table).find((line) => line.dataset.id === row.id);
      try {
        const detail = await service.detail(row.id);
        replace(place.querySelector(".pipeline"), pipelineWords(detail.pipeline));
        const { labels } = detail.pipeline.fidelity;
        replace(place.querySelector(".bounds"), promiseWords({ ...row, labels }));
        const badge = mismatch(detail);
        if (badge) place.querySelector(".state").append(" ", badge);
      } catch (error) {
        if (error.status !== 404) toastError(error); // else deleted meanwhile
      }
    }
  };
  await Promise.all(Array.from({ length: DETAILS_AT_ONCE }, next));
}

function empty() {
  return h(
    "div",
    { class: "empty card" },
    h("p", {}, "There is no calibration yet."),
    h("p", {}, h("a", { class: "button primary", href: "/calibrations?new" }, "Make the first one")),
  );
}
