// An error as two greys that differ by it, and as a number.

import { html } from "../../lib/html.js";

const MIDDLE = 42; // lightness around which the two greys lie

/** error: in hundredths of the way from black to white. */
export function swatches(error) {
  const grey = (lightness) => html`<i .style=${`background: lab(${lightness}% 0 0)`}></i>`;
  const said = `${Math.round(error)} of 100 steps of lightness`;
  return html`<span class="swatches" role="img" aria-label=${said} title=${said}>${grey(MIDDLE)}${grey(MIDDLE + error)}</span> <b>${Math.round(error)} %</b>`;
}
