// The charts about calibrations.

import { powerOfTen } from "../charts/scale.js";
import { level, percent } from "../lib/format.js";

/** Steps of a curve that a chart shows; a file has all. */
export const STEPS = 3000;

/**
 * The risk against the threshold on σ, of one calibration or of several over each other.
 *
 * calibrations: [{id, label, curve, threshold?}]. whole: fetches all their curves.
 */
export function riskChart(calibrations, { alpha, height, whole } = {}) {
  const one = calibrations.length === 1 ? calibrations[0] : null;
  const seriesOf = (curves) =>
    calibrations.map(({ label }, k) => ({
      name: one ? "Risk R(t)" : label,
      tone: k + 1,
      kind: "step",
      points: curves[k].map(({ threshold, risk }) => ({ x: threshold, y: risk })),
    }));
  const series = seriesOf(calibrations.map(({ curve }) => curve));
  const highest = Math.max(...series.flatMap(({ points }) => points.at(-1)?.y ?? 0), alpha ?? 0);
  const threshold = one && typeof one.threshold === "number" ? one.threshold : null;
  return {
    title: "Risk curve",
    name: one ? `${one.id}-risk` : "risk-compared",
    height,
    whole: whole && (async () => seriesOf(await whole())),
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
      threshold && { axis: "x", value: threshold, label: `t = ${small(threshold)}`, tone: "soft" },
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
 * The trusted area at common α, with what repeated splits make of it.
 *
 * The area grows with α, so between two α it is at least that of the smaller one; below the smallest
 * possible α there is none.
 */
export function areaChart({ id, thresholds, min_alpha: least }, all = []) {
  const rows = all.filter(({ alpha }) => alpha >= least);
  return {
    title: "Trusted area against α",
    name: `${id}-area`,
    x: { label: "α", format: level, domain: [0, Math.max(...thresholds.map((row) => row.alpha))] },
    y: {
      label: "Mean share of trusted pixels",
      domain: [0, 1],
      format: (v) => percent(v),
      tick: (v) => `${Math.round(100 * v)} %`,
    },
    series: [
      rows.length > 0 && {
        name: "Half the pairs, 5 % to 95 % of splits",
        tone: 2,
        kind: "ranges",
        points: rows.map((row) => ({ x: row.alpha, low: row.trusted_low, high: row.trusted_high })),
      },
      {
        name: "All pairs, at least",
        tone: 1,
        kind: "step",
        points: thresholds
          .filter(({ alpha }) => alpha >= least)
          .map((row) => ({ x: row.alpha, y: row.trusted_fraction })),
      },
    ].filter(Boolean),
    marks: [{ axis: "x", value: least, label: `smallest α ${level(least)}`, tone: "soft" }],
  };
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
