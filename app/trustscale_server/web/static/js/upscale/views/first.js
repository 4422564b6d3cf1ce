// The first screen. The reader's question: what is this? The main action: bring a picture.

import { html, nothing } from "../../lib/html.js";
import { at } from "../../lib/place.js";
import { load, takeExample } from "../intake.js";
import { upscalerOf } from "../state.js";
import { openSettings } from "./settings.js";
import { files, strip } from "./strip.js";

const EXAMPLES = [
  ["bridge", "Bridge", "Derek Jensen, public domain"],
  ["coast", "Coast", "SpaceX / Unsplash, CC0"],
  ["dog", "Dog", "Gianni Rosato et al., CC0"],
];

const image = (name) => new URL(`../../../img/${name}`, import.meta.url).href;

export function first(state, onPick) {
  const upscaler = upscalerOf(state);
  return html`<section class="first">
      ${LIE}
      <div class="pitch">
        ${drop(upscaler)} ${state.problem ? away(state) : nothing}
        <div class="examples" role="group" aria-label="Example photographs">
          ${EXAMPLES.map(
            ([name, words, by], k) =>
              html`<button type="button" class="example" data-name=${name} title="${words}: ${by}" @click=${(event) => takeExample(`${name}.webp`, event)}>
                <img src=${image("examples/small.webp")} class="nth-${k}" width="168" height="56" alt="Try it with ${words.toLowerCase()}" />
              </button>`,
          )}
        </div>
        <button type="button" class="link" id="open-settings" @click=${openSettings}>Options</button>
        <button type="button" class="link" id="open-check" @click=${check}>Check a picture</button>
      </div>
      ${state.pictures.length ? strip(state, onPick) : nothing}
    </section>
    ${CARDS}`;
}

const check = async () => (await import("./check.js")).openCheck();

// The page holds the same as text, so that it is seen before this script runs: pages/upscale.html.
const LIE = html`<h1>Enlarge a picture. See what was made up.</h1>
  <figure class="lie" id="example">
    <div class="panels">
      <div class="panel"><b>You’d send</b><span class="crop"><img src=${image("first/lie.webp")} alt="A tower at night, small and blurred" /></span></div>
      <div class="panel made"><b>It made</b><span class="crop"><img src=${image("first/lie.webp")} alt="The tower enlarged by a model: sharp, with fewer floors, which are bent" /></span><i>marked<span>: don’t rely on it</span></i></div>
      <div class="panel"><b>It was</b><span class="crop"><img src=${image("first/lie.webp")} alt="The tower in the photograph: its floors straight, and more of them" /></span></div>
    </div>
    <figcaption>An upscaler gave this tower fewer floors, and bent them. Trustscale had marked it.</figcaption>
  </figure>`;

const CARDS = html`<section class="cards">
  <article>
    <h2>How it knows</h2>
    <p>We tested this model on photographs we know. What looks like the places of its errors is marked.</p>
  </article>
  <article>
    <h2>What it promises</h2>
    <p>In 9 of 10 spots of pictures like those measured, mean colours around points that are not marked are right within an error that each result shows. Fine detail may be invented.</p>
  </article>
  <article>
    <h2>Your own model</h2>
    <p>Any upscaler gets a promise of its own, measured on your photographs. <a href=${at("calibrations")}>Bring yours</a></p>
    <p class="hint">Photograph above: Budgie Desktop Developers, CC0; enlarged ×4 by Real-ESRGAN.</p>
  </article>
</section>`;

function drop(upscaler) {
  if (upscaler && !upscaler.calibration) {
    return html`<p class="callout warn" id="drop">
      <strong>${upscaler.title} promises nothing yet</strong>
      Nothing it makes can be relied on before it was measured. <a href=${at("calibrations?new")}>Measure it first.</a>
    </p>`;
  }
  return html`<p class="bring">
    <label class="button primary large" id="drop">${files("files")}Choose a picture</label>
    <span class="hint wide">or drop anywhere</span>
  </p>`;
}

const away = ({ problem }) =>
  html`<p class="callout bad" id="service-notice" role="alert">
    ${problem} <button type="button" class="small" @click=${() => load()}>Try again</button>
  </p>`;
