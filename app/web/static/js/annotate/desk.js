// What stands around the pictures: tools, progress, the list of pairs, how saving goes.

import { $$, h, replace } from "../lib/dom.js";
import { count } from "../lib/format.js";

const STATES = {
  clean: ["good", "Saved"],
  dirty: ["", "Not saved yet"],
  saving: ["", "Saving…"],
  offline: ["bad", "Offline: kept here, tries go on"],
  conflict: ["bad", "Somebody else was first"],
  refused: ["bad", "Not accepted"],
};
const TOOLS = [
  ["brush", "Brush", "B"],
  ["eraser", "Eraser", "E"],
  ["lasso", "Lasso", "L"],
];
const MODES = [
  ["side", "Side by side"],
  ["flicker", "Flicker"],
];

/** The page of a job; `act` holds what each control does. Its methods show what has happened. */
export function deskOf(job, act) {
  const button = (label, run, more = {}) => h("button", { type: "button", onclick: run, ...more }, label);
  const choice = (entries, run, label) =>
    h(
      "div",
      { class: "segments", role: "group", "aria-label": label },
      entries.map(([value, words, key]) =>
        button(words, () => run(value), {
          "aria-pressed": "false",
          dataset: { value },
          title: key && `Key ${key}`,
        }),
      ),
    );
  const tools = choice(TOOLS, act.tool, "Tool");
  const modes = choice(MODES, act.mode, "View");
  const slider = h("input", {
    type: "range",
    min: 1,
    max: 200,
    value: 24,
    "aria-label": "Brush size in pixels",
    oninput: (event) => act.size(Number(event.target.value)),
  });
  const size = h("output", { class: "size" });
  const undo = button("Undo", act.undo, { title: "Key Z", class: "small" });
  const redo = button("Redo", act.redo, { title: "Key Shift Z", class: "small" });
  const marks = button("Marks", act.marks, { "aria-pressed": "true", title: "Key M", class: "small toggle" });
  const zoom = h("output", { class: "zoom" });
  const place = h("output", { class: "place hint" });
  const auto = h(
    "label",
    { class: "check", hidden: true },
    h("input", { type: "checkbox", onchange: (event) => act.auto(event.target.checked) }),
    h("span", {}, "by itself"),
  );
  const swap = button("Swap", act.swap, { title: "Key Space", class: "small", hidden: true });
  const state = h("span", { class: "save-state", role: "status" });
  const solve = button("Choose…", act.resolve, { class: "small", hidden: true });
  const overtaken = h(
    "p",
    { class: "callout warn", hidden: true },
    h("strong", {}, "Somebody else is drawing on this pair"),
    "You see their newest marks. Take another pair, or agree who does what.",
  );
  const ended = h("div", { role: "alert", hidden: true });
  const panes = h("div", { class: "panes" });
  const list = h("ol", { class: "items-list" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Labelled" });
  const tally = h("p", { class: "tally" });
  const finish = button("Finish…", act.finish, { disabled: true });
  const name = h("h2", { class: "item-name" });

  const root = h(
    "div",
    { class: "desk" },
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("p", { class: "hint" }, h("a", { href: "/annotate" }, "Annotate")),
        h("h1", {}, `Labels for ${job.name || job.id}`),
      ),
      h("div", { class: "total" }, tally, bar),
      finish,
    ),
    h(
      "div",
      { class: "bench" },
      h(
        "div",
        { class: "tool-row", role: "group", "aria-label": "Tools" },
        tools,
        h("label", { class: "brush-size" }, h("span", { class: "hint" }, "Size"), slider, size),
        h("div", { class: "button-row" }, undo, redo, button("Clear", act.clear, { class: "small" })),
        modes,
        swap,
        auto,
        marks,
        h(
          "div",
          { class: "button-row" },
          button("−", () => act.zoom(0.8), { class: "small icon", "aria-label": "Zoom out" }),
          zoom,
          button("+", () => act.zoom(1.25), { class: "small icon", "aria-label": "Zoom in" }),
          button("Whole", act.fit, { class: "small", title: "Key 0" }),
        ),
        button("Keys", act.keys, { class: "small quiet", title: "Key ?" }),
      ),
      h("div", { class: "item-head" }, name, state, solve, place),
      ended,
      overtaken,
      panes,
      h(
        "div",
        { class: "onward" },
        button("Previous", act.previous, { title: "Key K" }),
        button("Next", act.next, { title: "Key J" }),
        h("span", { class: "grow" }),
        button("Nothing differs", act.nothing, { title: "Key X" }),
        button("Next without a label", act.onward, { class: "primary", title: "Key N" }),
      ),
    ),
    h("nav", { class: "list card", "aria-label": "Pairs" }, list),
  );

  const press = (group, value) =>
    $$("button", group).forEach((one) =>
      one.setAttribute("aria-pressed", String(one.dataset.value === value)),
    );
  let shown = "";

  return {
    root,
    panes,
    busy: (on) => panes.setAttribute("aria-busy", String(on)),
    showTool: (value) => press(tools, value),
    showMode(value) {
      press(modes, value);
      swap.hidden = auto.hidden = value !== "flicker";
      auto.querySelector("input").checked = false;
    },
    showMarks: (on) => marks.setAttribute("aria-pressed", String(on)),
    showSize(value) {
      slider.value = value;
      size.value = `${value} px`;
    },
    showZoom: (value) => {
      zoom.value = `${Math.round(100 * value)} %`;
    },
    showPlace: (at) => {
      place.value = at ? `${Math.floor(at.x)}, ${Math.floor(at.y)}` : "";
    },
    showOvertaken: (on) => {
      overtaken.hidden = !on;
    },
    showEnded(words, href) {
      finish.hidden = true;
      ended.hidden = false;
      replace(
        ended,
        h(
          "p",
          { class: "callout warn" },
          h("strong", {}, "No labels are taken any more"),
          words,
          " ",
          h("a", { href }, "See what becomes of it"),
        ),
      );
    },
    showState(item) {
      const [tone, words] = item ? STATES[item.state] : ["", ""];
      const text = item?.state === "clean" && !item.isLabelled ? "No label yet" : words;
      state.className = `save-state badge ${text === "No label yet" ? "" : tone}`;
      if (state.textContent !== text) state.textContent = text;
      state.title = item?.problem && item.state !== "clean" ? item.problem.message : "";
      solve.hidden = item?.state !== "conflict";
      name.textContent = item?.name ?? "";
      undo.disabled = !item?.mask.past.length;
      redo.disabled = !item?.mask.future.length;
    },
    showList(session) {
      const { rows, labelled, current } = session;
      const done = labelled;
      tally.textContent = `${count(done)} of ${count(rows.length)} labelled`;
      bar.value = rows.length ? done / rows.length : 0;
      finish.disabled = !rows.length || done < rows.length;
      finish.classList.toggle("primary", !finish.disabled);
      const lines = rows.map((row) => [
        row.name,
        session.isLabelled(row),
        row.name === current?.name,
        Boolean(session.items.get(row.name)?.isUnsaved),
      ]);
      const text = JSON.stringify(lines);
      if (text === shown) return;
      shown = text;
      const focused = document.activeElement?.closest?.(".items-list")
        ? document.activeElement.textContent
        : null;
      replace(
        list,
        lines.map(([label, isLabelled, isCurrent, isUnsaved]) =>
          h(
            "li",
            {},
            h(
              "button",
              {
                type: "button",
                class: "quiet",
                "aria-current": isCurrent ? "true" : null,
                onclick: () => act.open(label),
              },
              h("span", {
                class: `dot ${isLabelled ? "done" : ""} ${isUnsaved ? "unsaved" : ""}`,
                "aria-hidden": "true",
              }),
              h("span", { class: "label" }, label),
              h(
                "span",
                { class: "visually-hidden" },
                isUnsaved ? ", not saved" : isLabelled ? ", labelled" : ", no label",
              ),
            ),
          ),
        ),
      );
      if (focused)
        [...list.querySelectorAll("button")]
          .find((one) => one.textContent.startsWith(focused.split(",")[0]))
          ?.focus();
      list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
    },
  };
}
