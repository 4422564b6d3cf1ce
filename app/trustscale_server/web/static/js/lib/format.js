// Numbers, sizes and times as people read them.

const COUNT = new Intl.NumberFormat("en");

export const count = (value) => COUNT.format(value);

export const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** α and other small levels: four significant digits, without an exponent. */
export function level(value) {
  if (value === 0) return "0";
  if (value < 1e-4) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export const threshold = (value) =>
  ({ "-inf": "nothing is trusted", inf: "everything is trusted" })[value] ?? level(value);

/** A share in 0..1 as a percentage. Only exactly 0 and 1 are shown as 0 % and 100 %. */
export function percent(share, digits = 1) {
  if (share === 0 || share === 1) return `${100 * share} %`;
  const least = 10 ** -digits;
  const value = Math.min(Math.max(100 * share, least), 100 - least);
  return `${value.toFixed(digits)} %`;
}

/** 1 − δ as a percentage, never more than it is: δ keeps two digits and is rounded up. */
export function certainty(delta) {
  const risk = 100 * delta;
  const digits = Math.max(0, 1 - Math.floor(Math.log10(risk) + 1e-9));
  const least = Math.ceil(risk * 10 ** digits - 1e-9) / 10 ** digits;
  return `${Number((100 - least).toFixed(digits))} %`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** The remaining time as a clause after a comma; "" if unknown. */
export function timeLeft(milliseconds) {
  if (milliseconds === null) return "";
  return milliseconds < 1000 ? ", any moment now" : `, about ${duration(milliseconds)} left`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** An ISO time in the reader's zone. */
export const time = (iso) => CLOCK.format(new Date(iso));

const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "long" });

/** The day of an ISO time in the reader's zone. */
export const date = (iso) => DAY.format(new Date(iso));

export const size = (width, height) => `${count(width)} × ${count(height)}`;

/** Money of any currency. */
export const priceOf = (value) => `${Number(value.toPrecision(3))} at the provider's price`;

/** Three digits, with a power of ten where that is shorter. */
export const small = (value) =>
  value === 0 || (value >= 1e-3 && value < 1e6)
    ? count(Number(value.toPrecision(3)))
    : value.toExponential(1);
