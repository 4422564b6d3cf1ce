// One sentence about an upscaler: whether inputs look as usual, and whether the promise holds.

import { count, level, plural } from "../lib/format.js";

const FEW_REQUESTS = 10; // fewer say nothing about how usual inputs are
const FEW_TRUTHS = 30; // fewer say nothing about a mean

/** The title of a kind: a class of uploads has one, alone or behind the name of a group. */
export function kindOf(group, titles) {
  if (!group) return "";
  const [name, title] = [...titles].find(([name]) => group === name || group.endsWith(` ${name}`)) ?? [
    group,
    group,
  ];
  return group.slice(0, group.length - name.length) + title;
}

export const nameOf = ({ upscaler, kind_title: kind, under }) =>
  [kind ? `${upscaler}: ${kind}` : upscaler, under].filter(Boolean).join(", under ");

export const looks = ({ requests, drift, alarms }) => inputs(requests, drift, alarms);

export function sentence({ calibration, requests, drift, feedback, alarms }) {
  if (!calibration) return "No calibration is active, so no request is answered.";
  const parts = [inputs(requests, drift, alarms), truths(feedback)];
  const text = parts.filter(Boolean).join("; ");
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function inputs({ counted, seen }, drift, alarms) {
  if (!seen) return "no request yet";
  if (alarms.some(({ kind }) => kind === "inputs")) return "inputs do not look as usual any more";
  if ((counted ?? seen) < FEW_REQUESTS)
    return `${plural(seen, "request")} so far, too few to tell whether inputs look as usual`;
  if (drift && drift.martingale > Math.sqrt(drift.martingale_alarm_at)) return "inputs begin to look unusual";
  return "inputs look as usual";
}

function truths(feedback) {
  if (!feedback?.n) return "no truth is known yet, so the promise is not checked";
  const { n, within, alpha, mean_loss: mean, confidence_sequence: known } = feedback;
  const above = n - within;
  const checked = `of ${count(n)} checked ${above === 0 ? "none" : count(above)} exceeded the accepted error`;
  if (known && known.lower > alpha)
    return `${checked}; these labels average above it, at least ${level(known.lower)}: if they are a random sample, recalibrate`;
  if (known && known.upper <= alpha)
    return `${checked}; these labels average below it, at most ${level(known.upper)}`;
  if (n < FEW_TRUTHS) return `${checked}; too few to tell`;
  return `${checked}, on average ${level(mean)}; ${mean <= alpha ? "not above it" : "that is above it, but may be chance"}`;
}
