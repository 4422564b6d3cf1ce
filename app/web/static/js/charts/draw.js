// Draws a chart: axes, series, marks, and the cursor.

import { percent } from "../lib/format.js";
import { nothing, svg } from "../lib/html.js";
import { pointAt } from "./data.js";
import { SCALES, timeFormat } from "./scale.js";

export const PERCENT = { format: (value) => percent(value), tick: (value) => `${Math.round(100 * value)} %` };

const MARGIN = { top: 26, right: 20, bottom: 44, left: 44 };
const CHARACTER = 7; // its width in pixels, about
let serial = 0;

/** A spec of a certain width, ready to be drawn: its scales, its place, and all that does not move. */
export function prepared(spec, width, height) {
  const domains = { x: domainOf(spec), y: spec.y.domain };
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
    // Text that would stick out is moved in.
    const sticksOut = place + (words.length * CHARACTER) / 2 > right + MARGIN.right;
    const text = sticksOut ? { x: right + MARGIN.right - 2, anchor: "end" } : { x: place, anchor: "middle" };
    return svg`<line class="chart-tick" x1=${place} x2=${place} y1=${bottom} y2=${bottom + 5} />
      <text x=${text.x} y=${bottom + 19} text-anchor=${text.anchor}>${words}</text>`;
  });
  const yTick = ({ place, words }) =>
    svg`<line class="chart-grid" x1=${left} x2=${right} y1=${place} y2=${place} />
      <text x=${left - 8} y=${place + 4} text-anchor="end">${words}</text>`;
  return svg`<g class="chart-axes">
    ${yTicks.map(yTick)} ${xTicks}
    <line class="chart-base" x1=${left} x2=${right} y1=${bottom} y2=${bottom} />
    <text class="chart-label" x="4" y="14">${spec.y.label}</text>
    <text class="chart-label" x=${right} y=${bottom + 37} text-anchor="end">${spec.x.label}</text>
  </g>`;
}

function shape(series, { x, y }, inner) {
  const { kind = "line", points, tone } = series;
  const name = `chart-${kind} tone-${tone}${series.dashed ? " dashed" : ""}`;
  const place = (value) => value.toFixed(1);
  const [atX, atY] = [(value) => place(x.map(value)), (value) => place(y.map(value))];
  const line = (list, key) => list.map((p) => `${atX(p.x)},${atY(p[key])}`);
  const dot = (p, r) => svg`<circle class="tone-${tone}" cx=${atX(p.x)} cy=${atY(p.y)} r=${r} />`;
  if (kind === "bars") {
    const bar = (p) => {
      const width = Math.max(x.map(p.to) - x.map(p.x) - 2, 0);
      const height = Math.max(inner.bottom - y.map(p.y), 0);
      return svg`<rect x=${place(x.map(p.x) + 1)} y=${atY(p.y)} width=${place(width)} height=${place(height)} />`;
    };
    return svg`<g class=${name}>${points.map(bar)}</g>`;
  }
  if (kind === "ranges") {
    const range = (p) =>
      svg`<line x1=${atX(p.x)} x2=${atX(p.x)} y1=${atY(p.low)} y2=${atY(p.high)} />${Number.isFinite(p.y) ? dot(p, 3.5) : nothing}`;
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

function stepPath(points, x, y, inner, place) {
  const corners = [];
  for (const [k, p] of points.entries()) {
    if (k) corners.push([x.map(p.x), y.map(points[k - 1].y)]);
    corners.push([x.map(p.x), y.map(p.y)]);
  }
  if (points.length) corners.push([inner.right, y.map(points.at(-1).y)]);
  return corners.map(([a, b]) => `${place(a)},${place(b)}`).join(" ");
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

/** The reading of a chart at x: {words, drawing}, the first words about x itself; null if there is none. */
export function reading(spec, { scales, inner }, x) {
  const { format } = spec.x;
  const { format: write } = spec.y;
  const place = scales.x.map(x);
  const found = spec.series.map((series) => [series, pointAt(series, x)]).filter(([, p]) => p);
  if (!found.length) return null;
  const dot = ([{ tone }, p]) =>
    svg`<circle class="tone-${tone}" cx=${place} cy=${scales.y.map(p.y)} r="4.5" />`;
  const dots = found.filter(([{ kind }, p]) => Number.isFinite(p.y) && kind !== "bars").map(dot);
  const drawing = svg`<g class="chart-cursor"><line x1=${place} x2=${place} y1=${inner.top} y2=${inner.bottom} />${dots}</g>`;
  const words = found.map(([series, p]) => {
    const interval = Number.isFinite(p.low) ? `${write(p.low)} to ${write(p.high)}` : "";
    if (!Number.isFinite(p.y)) return `${series.name}: ${interval}`;
    return `${series.name}: ${write(p.y)}${interval && ` (${interval})`}`;
  });
  const bar = found.find(([series]) => series.kind === "bars")?.[1];
  const at = bar ? `${format(bar.x)} to ${format(bar.to)}` : format(x);
  return { place, words: [`${spec.x.label}: ${at}`, ...words], drawing };
}

function domainOf({ x, series }) {
  const places = series.flatMap(({ points }) => points.map((p) => p.x));
  if (x.domain || !places.length) return x.domain ?? [0, 1];
  const [low, high] = [Math.min(...places), Math.max(...places)];
  return low === high ? [low - 1, high + 1] : [low, high];
}

const tickFormat = ({ scale, tick, format }, [low, high]) =>
  tick ?? (scale === "time" ? timeFormat(high - low) : format);
