// The charts about calibrations.

import { powerOfTen } from "../charts/scale.js";
import { level, percent } from "../lib/format.js";

/** Steps of a curve that a chart shows; a file has all. */
export const STEPS = 3000;

/**
 * The risk of a calibration {id, curve, threshold?} against the threshold on σ. whole: fetches its curve with all steps.
 */
export function riskChart({ id, curve, threshold }, { alpha, whole }) {
  const seriesOf = ([steps]) => [
    {
      name: "Risk R(t)",
      tone: 1,
      kind: "step",
      points: steps.map((step) => ({ x: step.threshold, y: step.risk })),
    },
  ];
  const series = seriesOf([curve]);
  const highest = Math.max(series[0].points.at(-1)?.y ?? 0, alpha ?? 0);
  const place = typeof threshold === "number" ? threshold : null;
  return {
    title: "Risk curve",
    name: `${id}-risk`,
    whole: async () => seriesOf(await whole()),
    x: {
      label: "Threshold t on the indecision σ",
      scale: "log",
      domain: interesting(series),
      format: small,
      tick: small,
    },
    y: { label: "Expected largest error where σ < t", domain: [0, highest * 1.08 || 1], format: level },
    series,
    marks: [
      alpha && { axis: "y", value: alpha, label: `α = ${level(alpha)}` },
      place && { axis: "x", value: place, label: `t = ${small(place)}`, tone: "soft" },
    ].filter(Boolean),
  };
}

/** The thresholds between which the risk rises: below them lie a few outliers, decades away. */
function interesting(series) {
  let [low, high] = [Infinity, 0];
  for (const { points } of series) {
    const [least, most] = [points[0]?.y ?? 0, points.at(-1)?.y ?? 0];
    const rising = points.find((p) => p.y >= least + 0.02 * (most - least) && p.x > 0);
    low = Math.min(low, (rising?.x ?? 1) / 30);
    high = Math.max(high, points.at(-1)?.x ?? 1);
  }
  const smallest = Math.min(...series.map(({ points }) => points.find((p) => p.x > 0)?.x ?? Infinity));
  return [Math.max(low, Number.isFinite(smallest) ? smallest : low), high > low ? high : low * 10];
}

/**
 * The trusted area of one or more calibrations at common α; of one, with what repeated splits make of it.
 *
 * The area grows with α, so between two α it is at least that of the smaller one; below the smallest
 * possible α there is none.
 */
export function areaChart(calibrations, splits = [], names = []) {
  const [{ id, min_alpha: least }] = calibrations;
  const rows = splits.filter(({ alpha }) => alpha >= least);
  const isOne = calibrations.length === 1;
  const areas = calibrations.map(({ thresholds, min_alpha: from }, k) => ({
    name: isOne ? "All pairs, at least" : names[k],
    tone: k + 1,
    kind: "step",
    points: thresholds
      .filter(({ alpha }) => alpha >= from)
      .map((row) => ({ x: row.alpha, y: row.trusted_fraction })),
  }));
  const spread = {
    name: "Half the pairs, 5 % to 95 % of splits",
    tone: 2,
    kind: "ranges",
    points: rows.map((row) => ({ x: row.alpha, low: row.trusted_low, high: row.trusted_high })),
  };
  return {
    title: "Trusted area against α",
    name: isOne ? `${id}-area` : "area-compared",
    x: {
      label: "α",
      format: level,
      domain: [0, Math.max(...calibrations.map(end))],
    },
    y: {
      label: "Mean share of trusted pixels",
      domain: [0, 1],
      format: (v) => percent(v),
      tick: (v) => `${Math.round(100 * v)} %`,
    },
    series: rows.length ? [spread, ...areas] : areas,
    marks: isOne ? [{ axis: "x", value: least, label: `smallest α ${level(least)}`, tone: "soft" }] : [],
  };
}

/** The α up to which there is something to see: where everything is trusted nothing more happens. */
function end({ thresholds }) {
  const whole = thresholds.find((row) => row.trusted_fraction >= 1) ?? thresholds.at(-1);
  return 1.2 * whole.alpha;
}

/** Realised risk of the backtest against the α that was promised. */
export function backtestChart({ id, min_alpha: least }, all) {
  const rows = all.filter(({ alpha }) => alpha >= least);
  const last = all.at(-1)?.alpha ?? 1;
  return {
    title: "Backtest: realised risk against α",
    name: `${id}-backtest`,
    x: { label: "Promised α", domain: [0, last], format: level },
    y: {
      label: "Mean largest error of held-out pairs",
      domain: [0, Math.max(last, ...rows.map((row) => row.risk_high))],
      format: level,
    },
    series: [
      {
        name: "Realised, 5 % to 95 % of splits",
        tone: 1,
        kind: "ranges",
        points: rows.map((row) => ({ x: row.alpha, y: row.risk, low: row.risk_low, high: row.risk_high })),
      },
      {
        name: "As much as promised",
        tone: 2,
        dashed: true,
        points: [
          { x: 0, y: 0 },
          { x: last, y: last },
        ],
      },
    ],
  };
}

/** Small numbers of σ: three digits, with a power of ten where that is shorter. */
export function small(value) {
  if (value === 0) return "0";
  if (value >= 1e-3 && value < 1e4) return String(Number(value.toPrecision(3)));
  const [digits, exponent] = value.toExponential(2).split("e");
  const power = powerOfTen(Number(exponent));
  return Number(digits) === 1 ? power : `${Number(digits)}·${power}`;
}

/** A threshold as the service writes it, as a person reads it. */
export function thresholdWords(threshold) {
  if (threshold === "-inf") return "nothing is trusted";
  return threshold === "inf" ? "everything is trusted" : small(threshold);
}
