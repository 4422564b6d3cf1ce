// Charts of all pages: SVG with a read-out that follows the pointer or the arrow keys, and the same data as a table.

import { html, nothing, render } from "../lib/html.js";
import { hint, table } from "../lib/widgets.js";
import { nearest, tabulate } from "./data.js";
import { prepared, reading } from "./draw.js";

const MOST_ROWS = 300;
const HEIGHT = 280;

/**
 * A chart as a <figure>, redrawn when its width changes or `figure.update(spec)` is called.
 *
 * spec: {title, term? (the statistician's word), name (of the file), x, y, series, marks?}
 * x, y: {label, domain: [low, high], format(value), tick?(value)}; x may have {scale: "log" | "time"} and no domain
 * series: [{name, tone: 1…4, kind?: "line" | "step" | "ranges" | "bars", dashed?, points}],
 *   points in ascending order of x: {x, y}, with {low, high} for an interval, `to` for a bar's end
 * marks: lines [{axis, value, label, tone?}]
 */
export function chart(spec) {
  const own = { className: "chart", ariaLabel: spec.title, update };
  const figure = Object.assign(document.createElement("figure"), own);
  let drawn = null;
  let cursor = null;
  let isOpen = false; // the table
  let spoken = "";

  function update(next) {
    spec = next;
    redraw();
  }

  function redraw() {
    const width = Math.floor(figure.clientWidth);
    drawn = width < 40 ? null : prepared(spec, width, HEIGHT);
    show();
  }

  function show() {
    const read = drawn && cursor !== null ? reading(spec, drawn, cursor) : null;
    render(
      html`<figcaption>
          <span class="chart-title" title=${spec.term ?? nothing}>${spec.title}</span>
          <span class="chart-tools">
            <button type="button" class="quiet small" aria-expanded=${isOpen} @click=${toggle}>Table</button>
          </span>
        </figcaption>
        <div class="chart-legend">${spec.series.length > 1 ? spec.series.map(legendOf) : nothing}</div>
        <div class="chart-stage">
          <div class="chart-plot">${drawn ? drawing(read) : nothing}</div>
          ${read ? readout(read) : nothing}
        </div>
        ${isOpen ? tableOf(spec) : nothing}
        <div class="visually-hidden" role="status">${spoken}</div>`,
      figure,
    );
  }

  function drawing(read) {
    const { width, height, still } = drawn;
    const words = `${spec.title}. ${spec.y.label} against ${spec.x.label}. Arrow keys read the values.`;
    return html`<svg viewBox="0 0 ${width} ${height}" width=${width} height=${height} role="img" tabindex="0"
      aria-label=${words} @pointermove=${point} @pointerleave=${leave} @blur=${leave} @keydown=${key}>
      ${still}${read?.drawing ?? nothing}
    </svg>`;
  }

  function readout({ place, words }) {
    const [first, ...rest] = words;
    return html`<div class="chart-readout ${place > drawn.width / 2 ? "left" : ""}" .style=${`left: ${Math.min(Math.max(place, 0), drawn.width)}px`}>
      <strong>${first}</strong>${rest.map((line) => html`<div>${line}</div>`)}
    </div>`;
  }

  function toggle() {
    isOpen = !isOpen;
    show();
  }

  function point(event) {
    const box = event.currentTarget.getBoundingClientRect();
    cursor = snapped(spec, drawn.scales, event.clientX - box.left);
    show();
  }

  function leave() {
    cursor = null;
    show();
  }

  function key(event) {
    if (event.key === "Escape") return leave();
    const next = stepped(spec, cursor, event.key);
    if (next === null) return;
    event.preventDefault();
    cursor = next;
    spoken = reading(spec, drawn, cursor)?.words.join("; ") ?? "";
    show();
  }

  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.floor(contentRect.width) === width) return; // only the height, which we set
    width = Math.floor(contentRect.width);
    requestAnimationFrame(redraw); // within the observer it would observe itself
  }).observe(figure);
  return figure;
}

/** The x of the nearest data point; any x on a loss curve. */
function snapped(spec, { x }, place) {
  const value = x.invert(place);
  const dense = spec.series.find((one) => one.points.length && one.kind !== "step");
  if (!dense || dense.kind === "bars") return value;
  return dense.points[nearest(dense.points, value)].x;
}

function stepped(spec, cursor, key) {
  const longest = spec.series.reduce((a, b) => (b.points.length > a.points.length ? b : a));
  const xs = longest.points;
  if (!xs.length || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(key)) return null;
  if (key === "Home" || (cursor === null && key === "ArrowRight")) return xs[0].x;
  if (key === "End" || cursor === null) return xs.at(-1).x;
  // A curve of thousands of points is crossed in a hundred steps.
  const stride = Math.max(1, Math.floor(xs.length / 100)) * (key === "ArrowLeft" ? -1 : 1);
  return xs[Math.min(Math.max(nearest(xs, cursor) + stride, 0), xs.length - 1)].x;
}

function tableOf(spec) {
  const { head, rows } = tabulate(spec);
  const every = Math.ceil(rows.length / MOST_ROWS);
  const write = (value) => (Number.isFinite(value) ? spec.y.format(value) : "");
  const some = rows.filter((_, k) => k % every === 0);
  const cells = some.map(([x, ...values]) => [spec.x.format(x), ...values.map(write)]);
  return html`${every > 1 ? hint(`One row of ${every} is shown, of ${rows.length}.`) : nothing}
  ${table(`${spec.title}: data`, head, cells, "chart-table")}`;
}

const legendOf = ({ name, tone, kind, dashed }) =>
  html`<span class="chart-key tone-${tone} ${kind ?? "line"}${dashed ? " dashed" : ""}">${name}</span>`;
