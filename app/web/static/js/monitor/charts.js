// Charts of the monitor. Evidence is drawn by its logarithm, since it multiplies over time.

import { PERCENT } from "../charts/draw.js";
import { count, level, powerOfTen } from "../lib/format.js";

const over = (history, field) => history.map((p) => ({ x: Date.parse(p.at), y: p[field] }));
const clock = (value) => new Date(value).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "medium" });
const whole = (value) => (Number.isInteger(value) ? count(value) : "");
const factor = (exponent) =>
  `×${exponent > 5 || exponent < -3 ? powerOfTen(Number(exponent.toFixed(1))) : Number((10 ** exponent).toPrecision(3))}`;
const soft = (value, label) => ({ axis: "y", value, label, tone: "soft" });

export function evidenceChart({ upscaler, drift, history }) {
  const alarm = Math.log10(drift.martingale_alarm_at);
  const endless = Math.log10(drift.shiryaev_roberts_alarm_at);
  const martingale = over(history, "log10_martingale");
  const statistic = over(history, "log10_shiryaev_roberts");
  const values = [...martingale, ...statistic].map((p) => p.y).filter(Number.isFinite);
  return {
    title: "Signs that inputs differ from the calibration images",
    term: "conformal test martingale of this epoch, and Shiryaev-Roberts statistic",
    name: `${upscaler}-evidence`,
    x: { label: "Time", scale: "time", format: clock },
    y: {
      label: "Evidence, as a factor",
      // Evidence against a change may fall without end; far below it says nothing more.
      domain: [Math.max(-3, Math.min(-1, ...values)), Math.max(endless, alarm, ...values) + 0.6],
      format: factor,
      tick: (value) => (Number.isInteger(value) ? powerOfTen(value) : ""),
    },
    series: [
      { name: "Since the last restart", tone: 1, points: martingale },
      { name: "Of a change at any time", tone: 3, dashed: true, points: statistic },
    ],
    marks: [
      { axis: "y", value: alarm, label: `alarm ×${count(drift.martingale_alarm_at)}` },
      soft(endless, `alarm ×${count(drift.shiryaev_roberts_alarm_at)} (at any time)`),
    ],
  };
}

export function shareChart({ upscaler, history }) {
  return {
    title: "Trusted area, and how usual the inputs are",
    term: "trusted fraction and typicality",
    name: `${upscaler}-shares`,
    x: { label: "Time", scale: "time", format: clock },
    y: { label: "Mean of the requests", domain: [0, 1], ...PERCENT },
    series: [
      { name: "Trusted area", tone: 1, points: over(history, "trusted_fraction") },
      { name: "How usual (1 = most)", tone: 4, points: over(history, "typicality") },
    ],
  };
}

export function typicalityChart({ upscaler, typicality: { histogram } }) {
  const total = histogram.reduce((sum, bin) => sum + bin.count, 0);
  const even = total / histogram.length;
  const points = histogram.map(({ from, to, count: y }) => ({ x: from, to, y }));
  return {
    title: "How usual the inputs are",
    term: "typicality, a p-value among the calibration images",
    name: `${upscaler}-typicality`,
    x: { label: "Share of calibration images that are at least as unusual", domain: [0, 1], format: level },
    y: {
      label: "Requests",
      domain: [0, 1.06 * Math.max(even, 1, ...points.map(({ y }) => y))],
      format: count,
      tick: whole,
    },
    series: [{ name: "Requests", tone: 1, kind: "bars", points }],
    marks: total ? [soft(even, "expected without a change")] : [],
  };
}

export function feedbackChart({ upscaler, feedback, feedback_history: all }) {
  const history = all.filter((p) => p.mean_loss !== null);
  // The first intervals are so wide that they would flatten the rest.
  const seen = Math.max(feedback.alpha, ...history.map((p) => p.mean_loss));
  const highest = Math.min(4 * seen, Math.max(seen, ...history.map((p) => p.upper ?? 0))) * 1.1;
  const points = history.map((p) => ({ x: p.n, y: p.mean_loss, low: p.lower, high: p.upper }));
  const most = Math.max(1, ...history.map((p) => p.n));
  return {
    title: "Worst errors where the truth is known",
    name: `${upscaler}-feedback`,
    x: { label: "Number of known truths", domain: [0, most], format: count, tick: whole },
    y: { label: "Largest error, on average", domain: [0, highest], format: level },
    series: [{ name: "Mean, with its confidence interval", tone: 1, points }],
    marks: [{ axis: "y", value: feedback.alpha, label: `accepted ${level(feedback.alpha)}` }],
  };
}
