// The drawing of a chart: axes, series, marks, and the cursor that reads it.

import { nothing, svg } from "../lib/html.js";
import { at } from "./data.js";
import { SCALES, timeFormat } from "./scale.js";

const MARGIN = { top: 26, right: 20, bottom: 44, left: 44 };
const CHARACTER = 7; // its width in pixels, about
let serial = 0;

/** A spec of a certain width, ready to be drawn: its scales, its place, and all that does not move. */
export function prepared(spec, width, height) {
  const domains = { x: domainOf(spec, "x"), y: domainOf(spec, "y") };
  const bottom = height - MARGIN.bottom;
  const y = SCALES[spec.y.scale ?? "linear"](domains.y, [bottom, MARGIN.top]);
  const yFormat = tickFormat(spec.y, domains.y);
  const yTicks = y.ticks(5).map((value) => ({ place: y.map(value), words: yFormat(value) }));
  const longest = Math.max(...yTicks.map(({ words }) => words.length));
  const inner = {
    left: Math.max(MARGIN.left, longest * CHARACTER + 14),
    right: width - MARGIN.right,
    top: MARGIN.top,
    bottom,
  };
  const scales = { x: SCALES[spec.x.scale ?? "linear"](domains.x, [inner.left, inner.right]), y };
  const still = svg`${axes(spec, scales, domains, inner, yTicks)}
    <clipPath id="clip-${++serial}">
      <rect x=${inner.left - 5} y=${inner.top - 5} width=${Math.max(inner.right - inner.left, 0) + 10} height=${bottom - inner.top + 10} />
    </clipPath>
    <g clip-path="url(#clip-${serial})">${spec.series.map((one) => shape(one, scales, inner))}</g>
    ${(spec.marks ?? []).map((mark) => markOf(mark, scales, domains, inner))}`;
  return { width, height, inner, scales, still };
}

function axes(spec, scales, domains, { left, right, bottom }, yTicks) {
  const format = tickFormat(spec.x, domains.x);
  const xTicks = scales.x.ticks(Math.max(2, Math.floor((right - left) / 90))).map((value) => {
    const words = format(value);
    const place = scales.x.map(value);
    // What would stick out is moved in.
    const half = (words.length * CHARACTER) / 2;
    const anchor = place + half > right + MARGIN.right ? "end" : "middle";
    return { place, words, anchor, at: anchor === "end" ? right + MARGIN.right - 2 : place };
  });
  return svg`<g class="chart-axes">
    ${yTicks.map(
      ({ place, words }) => svg`<line class="chart-grid" x1=${left} x2=${right} y1=${place} y2=${place} />
        <text x=${left - 8} y=${place + 4} text-anchor="end">${words}</text>`,
    )}
    ${xTicks.map(
      ({
        place,
        words,
        anchor,
        at: x,
      }) => svg`<line class="chart-tick" x1=${place} x2=${place} y1=${bottom} y2=${bottom + 5} />
        <text x=${x} y=${bottom + 19} text-anchor=${anchor}>${words}</text>`,
    )}
    <line class="chart-base" x1=${left} x2=${right} y1=${bottom} y2=${bottom} />
    <text class="chart-label" x="4" y="14">${spec.y.label}</text>
    <text class="chart-label" x=${right} y=${bottom + 37} text-anchor="end">${spec.x.label}</text>
  </g>`;
}

function shape(series, { x, y }, inner) {
  const { kind = "line", points, tone } = series;
  const name = `chart-${kind} tone-${tone}${series.dashed ? " dashed" : ""}`;
  const place = (value) => value.toFixed(1);
  const line = (list, key) => list.map((p) => `${place(x.map(p.x))},${place(y.map(p[key]))}`);
  const dot = (p, r) =>
    svg`<circle class="tone-${tone}" cx=${place(x.map(p.x))} cy=${place(y.map(p.y))} r=${r} />`;
  if (kind === "bars") {
    const bar = (p) => svg`<rect
      x=${place(x.map(p.x) + 1)}
      width=${place(Math.max(x.map(p.to) - x.map(p.x) - 2, 0))}
      y=${place(y.map(p.y))}
      height=${place(Math.max(inner.bottom - y.map(p.y), 0))}
    />`;
    return svg`<g class=${name}>${points.map(bar)}</g>`;
  }
  if (kind === "ranges") {
    const range = (
      p,
    ) => svg`<line x1=${place(x.map(p.x))} x2=${place(x.map(p.x))} y1=${place(y.map(p.low))} y2=${place(y.map(p.high))} />
      ${Number.isFinite(p.y) ? dot(p, 3.5) : nothing}`;
    return svg`<g class=${name}>${points.map(range)}</g>`;
  }
  const band = points.filter((p) => Number.isFinite(p.low) && Number.isFinite(p.high));
  const outline = [...line(band, "high"), ...line(band, "low").reverse()].join(" ");
  const area = band.length > 1 ? svg`<polygon class="chart-area tone-${tone}" points=${outline} />` : nothing;
  const known = points.filter((p) => Number.isFinite(p.y));
  const path = kind === "step" ? stepPath(known, x, y, inner, place) : line(known, "y").join(" ");
  const dots =
    known.length <= 24 && kind === "line" ? known.map((p) => dot(p, known.length > 1 ? 2.5 : 4)) : nothing;
  return svg`<g>${area}<polyline class=${name} points=${path} />${dots}</g>`;
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
  if (!(value >= domains[axis][0] && value <= domains[axis][1])) return nothing;
  const place = scales[axis].map(value);
  const [x1, x2, y1, y2] =
    axis === "x" ? [place, place, inner.top, inner.bottom] : [inner.left, inner.right, place, place];
  const late = axis === "x" && place > (inner.left + inner.right) / 2;
  const text =
    axis === "x"
      ? { x: place + (late ? -6 : 6), y: inner.top + 12, anchor: late ? "end" : "start" }
      : { x: inner.right - 4, y: place - 6, anchor: "end" };
  return svg`<g class="chart-mark ${tone}">
    <line x1=${x1} x2=${x2} y1=${y1} y2=${y2} /><text x=${text.x} y=${text.y} text-anchor=${text.anchor}>${label}</text>
  </g>`;
}

/** What a chart says at x: {words, drawing}, the first of the words about x itself; null if nothing. */
export function reading(spec, { scales, inner }, x) {
  const format = spec.x.format ?? tickFormat(spec.x, domainOf(spec, "x"));
  const write = spec.y.format ?? String;
  const place = scales.x.map(x);
  const found = spec.series.map((series) => [series, at(series, x)]).filter(([, p]) => p);
  if (!found.length) return null;
  const dots = found
    .filter(([series, p]) => Number.isFinite(p.y) && series.kind !== "bars")
    .map(
      ([series, p]) =>
        svg`<circle class="tone-${series.tone}" cx=${place} cy=${scales.y.map(p.y)} r="4.5" />`,
    );
  const drawing = svg`<g class="chart-cursor"><line x1=${place} x2=${place} y1=${inner.top} y2=${inner.bottom} />${dots}</g>`;
  const words = found.map(([series, p]) => {
    const interval = Number.isFinite(p.low) ? `${write(p.low)} to ${write(p.high)}` : "";
    if (!Number.isFinite(p.y)) return `${series.name}: ${interval}`;
    return `${series.name}: ${write(p.y)}${interval && ` (${interval})`}`;
  });
  const bar = found.find(([series]) => series.kind === "bars");
  const first = bar
    ? `${spec.x.label}: ${format(bar[1].x)} to ${format(bar[1].to)}`
    : `${spec.x.label}: ${format(x)}`;
  return { place, words: [first, ...words], drawing };
}

export function domainOf(spec, axis) {
  if (spec[axis].domain) return spec[axis].domain;
  const isLog = spec[axis].scale === "log";
  const keys = axis === "x" ? ["x", "to"] : ["y", "low", "high"];
  const drawn = spec.series.flatMap(({ points }) => points.flatMap((p) => keys.map((key) => p[key])));
  const marked = (spec.marks ?? []).filter((mark) => axis === "y" && mark.axis === "y");
  const values = [...drawn, ...marked.map(({ value }) => value)].filter(
    (value) => Number.isFinite(value) && (!isLog || value > 0),
  );
  if (!values.length) return isLog ? [0.1, 1] : [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
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
