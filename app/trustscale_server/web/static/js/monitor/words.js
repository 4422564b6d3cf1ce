// One sentence about an upscaler: whether inputs look as usual, and whether the promise holds.

import { count, level, plural } from "../lib/format.js";

const FEW_REQUESTS = 10; // fewer say nothing about how usual inputs are
const FEW_TRUTHS = 30; // fewer say nothing about a mean

export const nameOf = ({ upscaler, under }) => [upscaler, under].filter(Boolean).join(" · ");

export function looks({ requests: { counted, seen }, inputs, alarms }) {
  if (!seen) return "no request yet";
  if (alarms.some(({ kind }) => kind === "inputs")) return "inputs do not look as usual any more";
  if (counted < FEW_REQUESTS)
    return `${plural(seen, "request")} so far, too few to tell whether inputs look as usual`;
  if (inputs && inputs.martingale > Math.sqrt(inputs.martingale_alarm_at))
    return "inputs begin to look unusual";
  return "inputs look as usual";
}

export function sentence(data) {
  if (!data.calibration) return "No calibration is active, so no request is answered.";
  const text = `${looks(data)}; ${truths(data)}`;
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

export function truths({ feedback, alarms }) {
  if (!feedback?.n) return "no checks against originals yet";
  const { n, within, alpha, mean_loss: mean } = feedback;
  const above = n - within;
  const checked = `of ${count(n)} checked ${above === 0 ? "none" : count(above)} exceeded the accepted error`;
  if (alarms.some(({ kind }) => kind === "feedback"))
    return `${checked}; on average they lose ${level(mean)}, more than chance explains: if they are a random sample, recalibrate`;
  if (n < FEW_TRUTHS) return `${checked}; too few to tell`;
  return `${checked}, on average ${level(mean)}; ${mean <= alpha ? "not above it" : "that is above it, but may be chance"}`;
}
