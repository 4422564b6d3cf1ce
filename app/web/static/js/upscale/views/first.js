// The first screen. The reader's question: what is this? The main action: bring a picture.

import { html, nothing } from "../../lib/html.js";
import { load, takeExample } from "../intake.js";
import { drawWhole, masked } from "../masked.js";
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
      <img class="backdrop" src=${image("first/input.webp")} alt="" />
      <div class="pitch">
        <h1>Sharper. And honest about what it made up.</h1>
        ${drop(upscaler)} ${state.problem ? away(state) : nothing}
        <div class="examples" role="group" aria-label="Example photographs">
          ${EXAMPLES.map(
            ([name, words, by]) =>
              html`<button type="button" class="example" data-name=${name} title="${words}: ${by}" @click=${(event) => takeExample(`${name}.webp`, event)}>
                <img src=${image(`examples/${name}-small.webp`)} width="56" height="56" alt="Try it with ${words.toLowerCase()}" />
              </button>`,
          )}
          <span class="hint">or try one of these</span>
        </div>
        <button type="button" class="link" id="open-settings" @click=${openSettings}>Best model for each picture · More options</button>
      </div>
      ${EXAMPLE} ${state.pictures.length ? strip(state, onPick) : nothing}
    </section>
    ${CARDS}`;
}

const shown = ({ target }) => mark(target).catch(() => {});

/** A portrait whose badge the model has painted anew. It moves once, and rests with both versions of the badge. */
const EXAMPLE = html`<figure class="lie" id="example">
  <div class="lie-picture">
    <img class="lie-input" src=${image("first/input.webp")} alt="" />
    <img class="lie-model" src=${image("first/model.webp")} alt="An astronaut, enlarged by a model: sharp, and with a badge that is made up" @load=${shown} />
    <div class="lie-truth"><img src=${image("first/truth.webp")} alt="" /></div>
    <canvas class="lie-marks" aria-hidden="true"></canvas>
    <i class="lie-spot"></i>
    <p class="lie-words" aria-hidden="true"><span>Looks right?</span><span>It isn’t.</span><span>Trustscale knew.</span></p>
  </div>
  <div class="lie-loupes">
    <div class="loupe"><span class="crop"><img src=${image("first/model.webp")} alt="The badge as the model painted it: a bird" /></span><b>The model made</b></div>
    <div class="loupe"><span class="crop"><img src=${image("first/truth.webp")} alt="The badge in the photograph: a shuttle and the names of its crew" /></span><b>The truth</b></div>
  </div>
  <figcaption>The model painted her a new badge. Trustscale had hatched it: <em>don’t rely on it</em>. <small>Photograph: NASA, public domain</small></figcaption>
</figure>`;

/** Draw the marking of the example over it. */
async function mark(picture) {
  const canvas = picture.parentElement.querySelector("canvas");
  const response = await fetch(image("first/mask.png"));
  const [mask, made] = await Promise.all(
    [response.blob(), picture].map(async (one) => createImageBitmap(await one)),
  );
  const density = devicePixelRatio || 1;
  drawWhole(canvas, masked(mask, made), canvas.clientWidth * density, density);
  canvas.dataset.shown = "example";
}

const CARDS = html`<section class="cards">
  <article>
    <h2>How it knows</h2>
    <p>It has measured on photographs where this model errs. Where a picture looks like those places, it says so.</p>
  </article>
  <article>
    <h2>What it promises</h2>
    <p>In 9 of 10 spots of pictures like those it was measured on, trusted colours are right within a few steps, shown with each result. Fine detail may still be invented.</p>
  </article>
  <article>
    <h2>Your own model</h2>
    <p>Any upscaler gets a promise of its own, measured on your photographs. <a href="/calibrations">Bring yours</a></p>
  </article>
</section>`;

function drop(upscaler) {
  if (upscaler && !upscaler.calibration) {
    return html`<p class="callout warn" id="drop">
      <strong>${upscaler.title} promises nothing yet</strong>
      Nothing it makes can be trusted before it was measured. <a href="/calibrations?new">Measure it first.</a>
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
