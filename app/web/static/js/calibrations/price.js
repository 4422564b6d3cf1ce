// The price of a picture: what more or fewer generations cost, and let one trust.

import { count, level, percent } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { table } from "../lib/widgets.js";

const SHOWN = [0.05, 0.1, 0.2]; // the α of the columns

/** A line per number of generations, and which is enough; nothing where other tables say it all. */
export function priceCard({ price = [], advice }, title) {
  const counts = [...new Set(price.map(({ samples }) => samples))];
  const hasMoney = price.some(({ money }) => typeof money === "number");
  if (counts.length < 2 && !hasMoney) return nothing;
  const number = (words) => [words, "number"];
  const row = (samples) => {
    const mine = price.filter((one) => one.samples === samples);
    const [{ calls, money }] = mine;
    const area = (alpha) => mine.find((one) => one.alpha === alpha)?.trusted_area;
    const areas = SHOWN.map((alpha) => (area(alpha) === undefined ? "–" : percent(area(alpha))));
    return [samples, count(calls), ...(hasMoney ? [String(Number(money.toPrecision(3)))] : []), ...areas];
  };
  const areas = SHOWN.map((alpha) => `Trusted at α = ${level(alpha)}`);
  const heads = ["Calls", ...(hasMoney ? ["Price"] : []), ...areas];
  return html`<section class="card stack" data-price>
    <h2>${title}</h2>
    ${table(title, ["Generations", ...heads.map(number)], counts.map(row), "narrow")} ${advice ? html`<p>${advice}</p>` : nothing}
  </section>`;
}
