// The drawing of a chart: axes, series, marks, and the cursor that reads it.

import { svg } from "../lib/dom.js";
import { at } from "./data.js";
import { SCALES, timeFormat } from "./scale.js";

const MARGIN = { top: 26, right: 16, bottom: 44, left: 58 };
let serial = 0;

/** The <svg> of a spec, its scales, and the group in which the cursor is drawn. */
export function draw(spec, width, height) {
  const domains = { x: domainOf(spec, "x"), y: domainOf(spec, "y") };
  const inner = {
    left: MARGIN.left,
    right: width - MARGIN.right,
    top: MARGIN.top,
    bottom: height - MARGIN.bottom,
  };
  const scales = {
    x: SCALES[spec.x.scale ?? "linear"](domains.x, [inner.left, inner.right]),
    y: SCALES[spec.y.scale ?? "linear"](domains.y, [inner.bottom, inner.top]),
  };
  const cursor = svg("g", { class: "chart-cursor" });
  const clip = `clip-${++serial}`;
  const root = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      tabindex: "0",
      "aria-label": `${spec.title}. ${spec.y.label} against ${spec.x.label}. Arrow keys read the values.`,
    },
    svg(
      "clipPath",
      { id: clip },
      svg("rect", {
        x: inner.left,
        y: inner.top - 2,
        width: Math.max(inner.right - inner.left, 0),
        height: inner.bottom - inner.top + 4,
      }),
    ),
    axes(spec, scales, domains, inner),
    svg(
      "g",
      { "clip-path": `url(#${clip})` },
      spec.series.map((one) => shape(one, scales, inner)),
    ),
    (spec.marks ?? []).map((mark) => markOf(mark, scales, domains, inner)),
    cursor,
  );
  return { root, scales, inner, cursor };
}

function axes(spec, scales, domains, inner) {
  const xFormat = tickFormat(spec.x, domains.x);
  const yFormat = tickFormat(spec.y, domains.y);
  const width = inner.right - inner.left;
  const group = svg("g", { class: "chart-axes" });
  for (const value of scales.y.ticks(5)) {
    const y = scales.y.map(value);
    group.append(
      svg("line", { class: "chart-grid", x1: inner.left, x2: inner.right, y1: y, y2: y }),
      svg("text", { x: inner.left - 8, y: y + 4, "text-anchor": "end" }, yFormat(value)),
    );
  }
  for (const value of scales.x.ticks(Math.max(2, Math.floor(width / 90)))) {
    const x = scales.x.map(value);
    group.append(
      svg("line", { class: "chart-tick", x1: x, x2: x, y1: inner.bottom, y2: inner.bottom + 5 }),
      svg("text", { x, y: inner.bottom + 19, "text-anchor": "middle" }, xFormat(value)),
    );
  }
  group.append(
    svg("line", { class: "chart-base", x1: inner.left, x2: inner.right, y1: inner.bottom, y2: inner.bottom }),
    svg("text", { class: "chart-label", x: inner.left, y: 14 }, spec.y.label),
    svg(
      "text",
      { class: "chart-label", x: inner.right, y: inner.bottom + 37, "text-anchor": "end" },
      spec.x.label,
    ),
  );
  return group;
}

function shape(series, { x, y }, inner) {
  const { kind = "line", points, tone } = series;
  const common = { class: `chart-${kind} tone-${tone}${series.dashed ? " dashed" : ""}` };
  const place = (value) => value.toFixed(1);
  const line = (list, key) => list.map((p) => `${place(x.map(p.x))},${place(y.map(p[key]))}`);
  if (kind === "bars") {
    return svg(
      "g",
      common,
      points.map((p) =>
        svg("rect", {
          x: place(x.map(p.x) + 1),
          width: place(Math.max(x.map(p.to) - x.map(p.x) - 2, 0)),
          y: place(y.map(p.y)),
          height: place(Math.max(inner.bottom - y.map(p.y), 0)),
        }),
      ),
    );
  }
  if (kind === "ranges") {
    return svg(
      "g",
      common,
      points.map((p) => {
        const at = place(x.map(p.x));
        return [
          svg("line", { x1: at, x2: at, y1: place(y.map(p.low)), y2: place(y.map(p.high)) }),
          Number.isFinite(p.y) && svg("circle", { cx: at, cy: place(y.map(p.y)), r: 3.5 }),
        ];
      }),
    );
  }
  const band = points.filter((p) => Number.isFinite(p.low) && Number.isFinite(p.high));
  const area =
    band.length > 1 &&
    svg("polygon", {
      class: `chart-area tone-${tone}`,
      points: [...line(band, "high"), ...line(band, "low").reverse()].join(" "),
    });
  if (kind === "band") return area || svg("g");
  const known = points.filter((p) => Number.isFinite(p.y));
  if (kind === "dots") {
    return svg(
      "g",
      common,
      area,
      known.map((p) => svg("circle", { cx: place(x.map(p.x)), cy: place(y.map(p.y)), r: 3 })),
    );
  }
  const path = kind === "step" ? stepPath(known, x, y, inner, place) : line(known, "y").join(" ");
  const dots =
    known.length <= 24 &&
    kind === "line" &&
    known.map((p) =>
      svg("circle", {
        class: `tone-${tone}`,
        cx: place(x.map(p.x)),
        cy: place(y.map(p.y)),
        r: known.length > 1 ? 2.5 : 4,
      }),
    );
  return svg("g", {}, area, svg("polyline", { ...common, points: path }), dots);
}

/** A staircase, thinned to what a pixel column can show: its lowest and its highest place. */
function stepPath(points, x, y, inner, place) {
  const corners = [];
  let last = null;
  for (const p of points) {
    const column = Math.round(x.map(p.x) * 2) / 2;
    if (last !== null) corners.push([column, last]);
    last = y.map(p.y);
    corners.push([column, last]);
  }
  if (last !== null) corners.push([inner.right, last]);
  const kept = corners.filter(
    ([column], k) =>
      k < 2 || k > corners.length - 3 || column !== corners[k - 1][0] || column !== corners[k + 1][0],
  );
  return kept.map(([a, b]) => `${place(a)},${place(b)}`).join(" ");
}

function markOf({ axis, value, label, tone = "warn" }, scales, domains, inner) {
  if (!(value >= domains[axis][0] && value <= domains[axis][1])) return null;
  const place = scales[axis].map(value);
  const [x1, x2, y1, y2] =
    axis === "x" ? [place, place, inner.top, inner.bottom] : [inner.left, inner.right, place, place];
  const late = axis === "x" && place > (inner.left + inner.right) / 2;
  const text =
    axis === "x"
      ? { x: place + (late ? -6 : 6), y: inner.top + 12, "text-anchor": late ? "end" : "start" }
      : { x: inner.right - 4, y: place - 6, "text-anchor": "end" };
  return svg("g", { class: `chart-mark ${tone}` }, svg("line", { x1, x2, y1, y2 }), svg("text", text, label));
}

/** Draw the cursor at x; the words of the read-out, the first of them about x itself. */
export function point({ cursor, scales, inner }, spec, x) {
  const format = spec.x.format ?? tickFormat(spec.x, domainOf(spec, "x"));
  const write = spec.y.format ?? String;
  const place = scales.x.map(x);
  const found = spec.series.map((series) => [series, at(series, x)]).filter(([, p]) => p);
  if (!found.length) return null;
  cursor.replaceChildren(
    svg("line", { x1: place, x2: place, y1: inner.top, y2: inner.bottom }),
    ...found
      .filter(([series, p]) => Number.isFinite(p.y) && series.kind !== "bars")
      .map(([series, p]) =>
        svg("circle", { class: `tone-${series.tone}`, cx: place, cy: scales.y.map(p.y), r: 4.5 }),
      ),
  );
  const words = found.map(([series, p]) => {
    const interval = Number.isFinite(p.low) ? `${write(p.low)} to ${write(p.high)}` : "";
    if (!Number.isFinite(p.y)) return `${series.name}: ${interval}`;
    return `${series.name}: ${write(p.y)}${interval && ` (${interval})`}`;
  });
  const bar = found.find(([series]) => series.kind === "bars");
  const first = bar
    ? `${spec.x.label}: ${format(bar[1].x)} to ${format(bar[1].to)}`
    : `${spec.x.label}: ${format(x)}`;
  return [first, ...words];
}

export function domainOf(spec, axis) {
  if (spec[axis].domain) return spec[axis].domain;
  const isLog = spec[axis].scale === "log";
  const keys = axis === "x" ? ["x", "to"] : ["y", "low", "high"];
  let low = Infinity;
  let high = -Infinity;
  const take = (value) => {
    if (!Number.isFinite(value) || (isLog && value <= 0)) return;
    low = Math.min(low, value);
    high = Math.max(high, value);
  };
  for (const { points } of spec.series) for (const p of points) for (const key of keys) take(p[key]);
  if (axis === "y") for (const mark of spec.marks ?? []) if (mark.axis === "y") take(mark.value);
  if (low > high) return isLog ? [0.1, 1] : [0, 1];
  if (isLog) return low === high ? [low / 10, high * 10] : [low, high];
  if (axis === "x") return low === high ? [low - 1, high + 1] : [low, high];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 && low < (high - low) * 2 ? 0 : low - room, high + room];
}

export function tickFormat(axis, [low, high]) {
  if (axis.tick) return axis.tick;
  if (axis.scale === "time") return timeFormat(high - low);
  return axis.format ?? String;
}
