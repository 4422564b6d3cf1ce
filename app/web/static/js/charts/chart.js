// Charts for all pages: lines, steps, bands, dots and bars as SVG, with a read-out that follows the
// pointer or the arrow keys, the same data as a table, and SVG and CSV to take away.

import { download, h, replace } from "../lib/dom.js";
import { toastError } from "../lib/toast.js";
import { csv, nearest, tabulate } from "./data.js";
import { domainOf, draw, point, tickFormat } from "./draw.js";
import { drawingOf } from "./export.js";

const MOST_ROWS = 300;
let serial = 0;

/**
 * A chart as a <figure>, redrawn whenever its width changes or `figure.update(spec)` is called.
 *
 * spec: {title, name (of files), height?, x, y, series, marks?}
 * x, y: {label, scale?: "linear" | "log" | "time", domain?: [low, high], format?(value), tick?(value)}
 * series: [{name, tone: 1…4, kind?: "line" | "step" | "dots" | "ranges" | "band" | "bars", dashed?, points}],
 *   points in ascending order of x: {x, y}, with {low, high} for an interval, `to` for a bar's end.
 * whole?: fetches the series with all points, for the CSV file, if the chart shows fewer.
 * marks: [{axis: "x" | "y", value, label, tone?: "warn" | "soft"}], straight lines.
 */
export function chart(spec) {
  const id = `chart-${++serial}`;
  const plot = h("div", { class: "chart-plot" });
  const readout = h("div", { class: "chart-readout", hidden: true });
  const spoken = h("div", { class: "visually-hidden", role: "status" });
  const legend = h("div", { class: "chart-legend" });
  const table = h("div", { class: "chart-table table-scroll", hidden: true, tabindex: "0" });
  const heading = h("span", { class: "chart-title", id });
  const button = (label, run, more = {}) =>
    h("button", { type: "button", class: "quiet small", onclick: run, ...more }, label);
  const toggle = button("Table", () => showTable(table.hidden), { "aria-expanded": "false" });
  const figure = h(
    "figure",
    { class: "chart", "aria-labelledby": id },
    h(
      "figcaption",
      {},
      heading,
      h(
        "span",
        { class: "chart-tools" },
        toggle,
        button("SVG", () => saveSvg()),
        button("CSV", () => saveCsv().catch(toastError)),
      ),
    ),
    legend,
    h("div", { class: "chart-stage" }, plot, readout),
    table,
    spoken,
  );
  let drawn = null;
  let cursor = null;

  function showTable(open) {
    table.hidden = !open;
    toggle.setAttribute("aria-expanded", String(open));
    if (open) replace(table, tableOf(spec));
  }

  function saveSvg() {
    if (!drawn) return;
    const text = drawingOf(drawn.root, spec.title);
    download(new Blob([text], { type: "image/svg+xml" }), `${spec.name}.svg`);
  }

  async function saveCsv() {
    const text = csv({ ...spec, series: (await spec.whole?.()) ?? spec.series });
    download(new Blob([text], { type: "text/csv" }), `${spec.name}.csv`);
  }

  function redraw() {
    const width = Math.floor(plot.clientWidth);
    if (width < 40) return;
    heading.textContent = spec.title;
    replace(legend, spec.series.length > 1 ? spec.series.map(legendOf) : null);
    drawn = draw(spec, width, spec.height ?? 280);
    replace(plot, drawn.root);
    table.setAttribute("aria-label", `${spec.title}: data`);
    if (!table.hidden) replace(table, tableOf(spec));
    listen(drawn);
    if (cursor !== null) show(cursor, false);
  }

  function show(x, aloud) {
    const words = point(drawn, spec, x);
    if (!words) return hide();
    cursor = x;
    replace(
      readout,
      words.map((line, k) => h(k ? "div" : "strong", {}, line)),
    );
    readout.hidden = false;
    const { width } = drawn.root.viewBox.baseVal;
    const place = drawn.scales.x.map(x);
    readout.style.setProperty("left", `${Math.min(Math.max(place, 0), width)}px`);
    readout.classList.toggle("left", place > width / 2);
    if (aloud) spoken.textContent = words.join("; ");
  }

  function hide() {
    readout.hidden = true;
    cursor = null;
    drawn.cursor.replaceChildren();
  }

  function listen({ root, scales }) {
    root.addEventListener("pointermove", (event) => {
      const box = root.getBoundingClientRect();
      show(snapped(spec, scales, event.clientX - box.left), false);
    });
    root.addEventListener("pointerleave", hide);
    root.addEventListener("blur", hide);
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const next = stepped(spec, cursor, event.key);
      if (next === null) return;
      event.preventDefault();
      show(next, true);
    });
  }

  figure.update = (next) => {
    spec = next;
    redraw();
  };
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.floor(contentRect.width) === width) return; // only the height, which we set
    width = Math.floor(contentRect.width);
    requestAnimationFrame(redraw); // within the observer it would observe itself
  }).observe(plot);
  return figure;
}

/** The x of the data point that is nearest to a place, or the very x on a staircase. */
function snapped(spec, { x }, place) {
  const value = x.invert(place);
  const dense = spec.series.find((one) => one.points.length && one.kind !== "step");
  if (!dense || dense.kind === "bars") return value;
  return dense.points[nearest(dense.points, value)].x;
}

/** The x that a key leads to, or null: Home, End, and the arrows from point to point. */
function stepped(spec, cursor, key) {
  const longest = spec.series.reduce((a, b) => (b.points.length > a.points.length ? b : a));
  const xs = longest.points;
  if (!xs.length || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(key)) return null;
  if (key === "Home" || (cursor === null && key === "ArrowRight")) return xs[0].x;
  if (key === "End" || cursor === null) return xs.at(-1).x;
  // A curve of thousands of points is walked through in a hundred steps.
  const stride = Math.max(1, Math.floor(xs.length / 100)) * (key === "ArrowLeft" ? -1 : 1);
  return xs[Math.min(Math.max(nearest(xs, cursor) + stride, 0), xs.length - 1)].x;
}

function tableOf(spec) {
  const { head, rows } = tabulate(spec);
  const every = Math.ceil(rows.length / MOST_ROWS);
  const shown = every > 1 ? rows.filter((_, k) => k % every === 0) : rows;
  const write = (value) => (value === null || value === undefined ? "" : (spec.y.format ?? String)(value));
  const xFormat = spec.x.format ?? tickFormat(spec.x, domainOf(spec, "x"));
  return h(
    "table",
    {},
    every > 1 && h("caption", {}, `One row of ${every} is shown; the CSV file has all ${rows.length}.`),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head.map((name) => h("th", { scope: "col" }, name)),
      ),
    ),
    h(
      "tbody",
      {},
      shown.map(([x, ...values]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, xFormat(x)),
          values.map((value) => h("td", {}, write(value))),
        ),
      ),
    ),
  );
}

function legendOf(series) {
  return h(
    "span",
    { class: `chart-key tone-${series.tone} ${series.kind ?? "line"}${series.dashed ? " dashed" : ""}` },
    series.name,
  );
}
