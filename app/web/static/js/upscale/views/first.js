// The first screen. The reader's question: what is this? The main action: bring a picture.

import { html, nothing } from "../../lib/html.js";
import { percent, plural, priceOf } from "../../lib/format.js";
import { segments } from "../../lib/widgets.js";
import { SIDES, example, setSide, shown } from "../example.js";
import { load, take, takeExample } from "../intake.js";
import { upscalerOf } from "../state.js";
import { settings } from "./settings.js";

const EXAMPLES = [
  ["bridge", "Bridge", "Derek Jensen, public domain"],
  ["coast", "Coast", "SpaceX / Unsplash, CC0"],
  ["dog", "Dog", "Gianni Rosato et al., CC0"],
];

export function first(state) {
  const upscaler = upscalerOf(state);
  return html`<section class="first">
    <h1>Upscale a picture. See where to believe it.</h1>
    <figure class="example-stage">
      ${example.element}
      <figcaption>
        <p><b>Six hikers. The model painted a pair of trousers.</b> ${trusted()}</p>
        ${segments("Left of the divider", Object.entries(SIDES), shown.state.side, setSide, { id: "sides" })}
      </figcaption>
    </figure>
    ${drop(upscaler)} ${state.problem ? away(state) : nothing}
    ${upscaler?.calibration ? settings(state) : nothing}
    <div class="examples" role="group" aria-label="Example photographs">
      <span class="hint">No picture at hand?</span>
      ${EXAMPLES.map(
        ([name, words, by]) =>
          html`<button type="button" class="example" data-name=${name} @click=${(event) => takeExample(`${name}.webp`, event)}>
            <img src=${new URL(`../../../img/examples/${name}-small.webp`, import.meta.url).href} width="40" height="40" alt="" loading="lazy" />
            <span>${words}<small>${by}</small></span>
          </button>`,
      )}
    </div>
  </section>`;
}

function trusted() {
  const { facts } = shown.state;
  const words = facts
    ? `${percent(facts.trusted_fraction)} of the picture is trusted; the hikers are not.`
    : "";
  return html`<span class="marked-words">Pink: errors may be larger.</span> ${words}`;
}

function drop(upscaler) {
  if (upscaler && !upscaler.calibration) {
    return html`<div class="drop off" id="drop">
      <span class="drop-title">${upscaler.name} is not calibrated</span>
      <span class="hint">
        Without a calibration no mask can be trusted, so it takes no pictures. <a href="/calibrations?new">Calibrate it first.</a>
      </span>
    </div>`;
  }
  return html`<label class="drop" id="drop">
    ${files("files")}
    <span class="drop-title"><span class="wide">Drop pictures anywhere, paste them, or </span><u>choose files</u></span>
    <span class="hint">${upscaler ? cost(upscaler) : "Several at once"}</span>
  </label>`;
}

export const files = (id) =>
  html`<input
    type="file"
    id=${id}
    class="visually-hidden"
    accept="image/*,.tif,.tiff"
    multiple
    aria-label="Choose pictures"
    @change=${({ target }) => {
      take([...target.files]);
      target.value = "";
    }}
  />`;

function cost({ samples, price_per_call: price }) {
  const money = price ? `, ${priceOf(samples * price)}` : "";
  return `Several at once · ${plural(samples, "call")} of the model per picture${money}`;
}

const away = ({ problem }) =>
  html`<p class="callout bad" id="service-notice" role="alert">
    ${problem} <button type="button" class="small" @click=${() => load()}>Try again</button>
  </p>`;
