// One sentence about an upscaler: whether inputs look as usual, and whether the promise holds.

import { count, level, plural } from "../lib/format.js";

const FEW_REQUESTS = 10; // fewer say nothing about how usual inputs are
const FEW_TRUTHS = 30; // fewer say nothing about a mean

/** What a reader must know of an item of GET /v1/admin/monitor. */
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
  if (!feedback?.n) return "no truth is known yet, so nobody checks the promise";
  const { n, within, alpha, mean_loss: mean, confidence_sequence: known } = feedback;
  const above = n - within;
  const checked = `of ${count(n)} checked ${above === 0 ? "none" : count(above)} lay above α`;
  if (known && known.lower > alpha)
    return `${checked}; these labels average above α, at least ${level(known.lower)}: if they are a random sample, recalibrate`;
  if (known && known.upper <= alpha)
    return `${checked}; these labels average below α, at most ${level(known.upper)}`;
  if (n < FEW_TRUTHS) return `${checked}; too few to tell`;
  return `${checked}, on average ${level(mean)}; ${mean <= alpha ? "not above α" : "that is above α, but may be chance"}`;
}
