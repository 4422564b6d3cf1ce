// Charts about calibrations.

import { PERCENT } from "../charts/draw.js";
import { level, small } from "../lib/format.js";

export const STEPS = 3000;

/** Risk against the threshold on σ. curve: its steps; threshold: that of the default α. */
export function riskChart({ id, default_alpha: alpha }, curve, threshold) {
  const points = curve.map((step) => ({ x: step.threshold, y: step.risk }));
  const highest = Math.max(points.at(-1)?.y ?? 0, alpha);
  const t = { axis: "x", value: threshold, tone: "soft" };
  return {
    title: "Error by score",
    term: "risk curve R(t)",
    name: `${id}-risk`,
    x: {
      label: "Score up to which a pixel is trusted",
      scale: "log",
      domain: interesting(points),
      format: small,
    },
    y: { label: "Largest error there, on average", domain: [0, highest * 1.08 || 1], format: level },
    series: [{ name: "Largest error, on average", tone: 1, kind: "step", points }],
    marks: [
      { axis: "y", value: alpha, label: `accepted ${level(alpha)}` },
      ...(Number.isFinite(threshold) ? [{ ...t, label: `trusted up to ${small(threshold)}` }] : []),
    ],
  };
}

/** The thresholds between which the risk rises: below them are a few outliers, decades away. */
function interesting(points) {
  const [least, most] = [points[0]?.y ?? 0, points.at(-1)?.y ?? 0];
  const positive = points.filter(({ x }) => x > 0);
  const rising = positive.find(({ y }) => y >= least + 0.02 * (most - least));
  const low = Math.max((rising?.x ?? 1) / 30, positive[0]?.x ?? 0);
  const high = points.at(-1)?.x ?? 1;
  return [low, high > low ? high : low * 10];
}

/**
 * The trusted area at common α, and the spread of repeated splits. The area grows with α, so steps hold between two α;
 * below the smallest possible α it is 0.
 */
export function areaChart({ id, min_alpha: least, thresholds }, splits = []) {
  const rows = splits.filter(({ alpha }) => alpha >= least);
  const reached = thresholds.filter(({ alpha }) => alpha >= least);
  const area = {
    name: "All pairs, at least",
    tone: 1,
    kind: "step",
    points: reached.map((row) => ({ x: row.alpha, y: row.trusted_fraction })),
  };
  const spread = {
    name: "With half of the pairs, 90 % of the draws",
    tone: 2,
    kind: "ranges",
    points: rows.map((row) => ({ x: row.alpha, low: row.trusted_low, high: row.trusted_high })),
  };
  return {
    title: "Trusted area by accepted error",
    term: "against the risk level α",
    name: `${id}-area`,
    x: { label: "Accepted error", format: level, domain: [0, end(thresholds)] },
    y: { label: "Mean share of trusted pixels", domain: [0, 1], ...PERCENT },
    series: rows.length ? [spread, area] : [area],
    marks: [{ axis: "x", value: least, label: `smallest ${level(least)}`, tone: "soft" }],
  };
}

/** The α at which everything is trusted, with a margin. */
function end(thresholds) {
  const whole = thresholds.find((row) => row.trusted_fraction >= 1) ?? thresholds.at(-1);
  return 1.2 * whole.alpha;
}

export function backtestChart({ id, min_alpha: least }, all) {
  const rows = all.filter(({ alpha }) => alpha >= least);
  const last = all.at(-1)?.alpha ?? 1;
  const even = [0, last].map((alpha) => ({ x: alpha, y: alpha }));
  return {
    title: "Tried out: error found against error promised",
    term: "backtest: realised risk against α",
    name: `${id}-backtest`,
    x: { label: "Promised error", domain: [0, last], format: level },
    y: {
      label: "Largest error found, on average",
      domain: [0, Math.max(last, ...rows.map((row) => row.risk_high))],
      format: level,
    },
    series: [
      {
        name: "Found, 90 % of the draws",
        tone: 1,
        kind: "ranges",
        points: rows.map((row) => ({ x: row.alpha, y: row.risk, low: row.risk_low, high: row.risk_high })),
      },
      { name: "As much as promised", tone: 2, dashed: true, points: even },
    ],
  };
}
