// Scales: numbers to places on an axis, and round ticks.

function linear([a, b], [p, q]) {
  const width = b - a || 1;
  return {
    map: (value) => p + ((value - a) / width) * (q - p),
    invert: (place) => a + ((place - p) / (q - p || 1)) * width,
    ticks: (count) => roundTicks(a, b, count),
  };
}

/** A logarithmic scale; values at or below 0 lie at the lower end. */
function logarithmic([a, b], range) {
  const low = Math.log10(a);
  const scale = linear([low, Math.log10(b)], range);
  return {
    map: (value) => scale.map(value > 0 ? Math.max(Math.log10(value), low) : low),
    invert: (place) => 10 ** scale.invert(place),
    ticks: (count) => powerTicks(a, b, count),
  };
}

function temporal([a, b], range) {
  return { ...linear([a, b], range), ticks: (count) => timeTicks(a, b, count) };
}

export const SCALES = { linear, log: logarithmic, time: temporal };

/** Multiples of 1, 2 or 5 times a power of ten within [a, b], about `count` of them. */
export function roundTicks(a, b, count) {
  if (!(b > a)) return [a];
  const rough = (b - a) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + step * 1e-9; k += 1) {
    ticks.push(Number((k * step).toPrecision(12)));
  }
  return ticks;
}

function powerTicks(a, b, count) {
  const decades = Math.log10(b / a);
  const steps = decades * 3 <= count ? [1, 2, 5] : decades * 2 <= count ? [1, 3] : [1];
  const every = Math.max(1, Math.ceil(decades / count));
  const ticks = [];
  for (let power = Math.floor(Math.log10(a)); 10 ** power <= b; power += every) {
    ticks.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(6))));
  }
  const within = ticks.filter((tick) => tick >= a && tick <= b);
  return within.length > 1 ? within : [a, b];
}

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const STEPS = [
  1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000,
];

function timeTicks(a, b, count) {
  const rough = (b - a) / Math.max(count, 1);
  const step = SECOND * (STEPS.find((s) => s * SECOND >= rough * 0.7) ?? STEPS.at(-1));
  const zone = new Date(a).getTimezoneOffset() * 60 * SECOND;
  const ticks = [];
  for (let t = Math.ceil((a - zone) / step) * step + zone; t <= b; t += step) ticks.push(t);
  return ticks;
}

export function timeFormat(span) {
  /** @type {Intl.DateTimeFormatOptions} */
  const options = {
    ...(span >= 36 * HOUR && { day: "numeric", month: "short" }),
    ...(span < 96 * HOUR && { hour: "2-digit", minute: "2-digit" }),
    ...(span < 0.05 * HOUR && { second: "2-digit" }),
  };
  return new Intl.DateTimeFormat("en-GB", options).format;
}
