// Charts: a small drawing, and its figures as a table.

import { html, svg } from "./html.js";
import { table } from "./widgets.js";

const [WIDTH, HEIGHT] = [420, 264];
const BOX = { left: 46, right: 408, top: 26, bottom: 212 };

/**
 * A chart as a template.
 *
 * x, y: {label, most, format(value)}, both from 0 on
 * series: [{name, tone: 1 or 2, kind: "step" | "line" | "ranges", points: [{x, y, low, high}]}]; only ranges have low, high
 * marks: values of x [{value, label}]
 */
export function chart({ title, x, y, series, marks = [] }) {
  const along =
    ({ most }, from, to) =>
    (value) =>
      Number((from + (Math.min(value, most) / most) * (to - from)).toFixed(1));
  const [atX, atY] = [along(x, BOX.left, BOX.right), along(y, BOX.bottom, BOX.top)];
  const tickX = (value) =>
    svg`<text x=${atX(value)} y=${BOX.bottom + 18} text-anchor="middle">${x.format(value)}</text>`;
  const tickY = (value) =>
    svg`<line class="chart-grid" x1=${BOX.left} x2=${BOX.right} y1=${atY(value)} y2=${atY(value)} />
      <text x=${BOX.left - 6} y=${atY(value) + 4} text-anchor="end">${y.format(value)}</text>`;
  const mark = ({ value, label }) =>
    svg`<g class="chart-mark"><line x1=${atX(value)} x2=${atX(value)} y1=${BOX.top} y2=${BOX.bottom} /><text x=${atX(value) + 6} y=${BOX.top + 12}>${label}</text></g>`;
  const drawn = svg`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}. ${y.label} against ${x.label}; the table below has the figures.">
    <text class="chart-label" x="0" y="13">${y.label}</text>
    ${ticks(y.most, 4).map(tickY)} ${ticks(x.most, 5).map(tickX)}
    <text class="chart-label" x=${BOX.right} y=${BOX.bottom + 40} text-anchor="end">${x.label}</text>
    ${series.map((one) => shape(one, atX, atY))} ${marks.map(mark)}
  </svg>`;
  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    ${drawn}
    <div class="chart-legend">${series.length > 1 ? series.map(({ name, tone, kind }) => html`<span class="chart-key ${kind} tone-${tone}">${name}</span>`) : ""}</div>
    <details><summary>Figures</summary>${figuresOf(title, x, y, series)}</details>
  </figure>`;
}

/** Multiples of 1, 2 or 5 times a power of ten, from 0 to `most`, about `count` of them. */
export function ticks(most, count) {
  const power = 10 ** Math.floor(Math.log10(most / count));
  const step = [1, 2, 5, 10].map((m) => m * power).find((one) => one >= (most / count) * 0.999);
  const number = Math.floor(most / step + 1e-9) + 1;
  return Array.from({ length: number }, (_, k) => Number((k * step).toPrecision(12)));
}

function shape({ kind, tone, points }, atX, atY) {
  if (kind === "ranges") {
    const range = ({ x, y, low, high }) =>
      svg`<line x1=${atX(x)} x2=${atX(x)} y1=${atY(low)} y2=${atY(high)} />${y === undefined ? "" : svg`<circle cx=${atX(x)} cy=${atY(y)} r="3.5" />`}`;
    return svg`<g class="chart-ranges tone-${tone}">${points.map(range)}</g>`;
  }
  // Steps hold their value up to the next point.
  const corners = points.flatMap(({ x, y }, k) => [
    ...(kind === "step" && k ? [[x, points[k - 1].y]] : []),
    [x, y],
  ]);
  if (kind === "step" && corners.length) corners.push([Infinity, points.at(-1).y]);
  return svg`<polyline class="chart-${kind} tone-${tone}" points=${corners.map(([x, y]) => `${atX(x)},${atY(y)}`).join(" ")} />`;
}

function figuresOf(title, x, y, series) {
  const tabled = series.filter(({ kind }) => kind !== "line");
  const places = [...new Set(tabled.flatMap(({ points }) => points.map((point) => point.x)))];
  const words = ({ y: value, low, high }) =>
    [value !== undefined && y.format(value), low !== undefined && `${y.format(low)} to ${y.format(high)}`]
      .filter(Boolean)
      .join(", ");
  const row = (place) => [
    x.format(place),
    ...tabled.map(({ points }) => {
      const match = points.find((point) => point.x === place);
      return match ? words(match) : "";
    }),
  ];
  const heads = [x.label, ...tabled.map(({ name }) => [name, "number"])];
  return table(`${title}: figures`, heads, places.sort((a, b) => a - b).map(row), "narrow");
}
