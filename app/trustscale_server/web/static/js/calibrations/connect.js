// Your upscaler. The reader's question: what is at this address? The main action: try it, and copy its entry.

import { sendJson } from "../lib/api.js";
import { documentOf, download } from "../lib/dom.js";
import { count, duration } from "../lib/format.js";
import { html, nothing, render } from "../lib/html.js";
import { at } from "../lib/place.js";
import { Store } from "../lib/store.js";
import { button, failed, field, hint, items, number, pageHead } from "../lib/widgets.js";
import { above } from "./words.js";

const PLACE = "https://replicate.com/owner/model";

export async function show(root) {
  document.title = "Your upscaler · Trustscale";
  const store = new Store({ suggestion: null, error: null, isBusy: false });
  store.watch(() => render(page(store), root));
}

function page(store) {
  const { suggestion, error, isBusy } = store.state;
  const lead = html`<p class="lead">The service asks the address what it is, then tries it with one call. Asking is free; you decide about the call.</p>`;
  const forget = () => suggestion && store.set({ suggestion: null });
  return html`${pageHead("Your upscaler", { above, lead })}
    <form class="stack" @submit=${(event) => look(event, store, false)}>
      <section class="card stack">
        <h2>1. Address</h2>
        <div @input=${forget}>
          ${field("Address", html`<input name="address" required placeholder=${PLACE} spellcheck="false" />`, "A model on Replicate, a Gradio app or Space, a Cog container, a server with /v2 (Triton, KServe, MLServer) or with an OpenAPI description. The address of a call works, too. An ONNX file is connected by the command line.")}
        </div>
        <div class="form-grid">
          ${field("Key", html`<input name="token" type="password" autocomplete="off" />`, "For these two requests only; it is not stored.")}
          ${field("Variable with the key", html`<input name="settings.token_env" pattern="[A-Za-z_]\\w*" placeholder="UPSCALER_TOKEN" spellcheck="false" />`, "In the service’s environment, or a secret file; the entry contains only its name.")}
          ${number("settings.price_per_call", "Price of a call", "", { min: 0, placeholder: "not known" })}
        </div>
        <div class="button-row"><button type="submit" class=${suggestion ? "" : "primary"} ?disabled=${isBusy}>Ask what it is</button></div>
      </section>
      ${suggestion ? suggested(suggestion, store) : nothing}
      <div aria-live="polite">${isBusy ? hint("Asking…") : error ? failed(error) : nothing}</div>
    </form>`;
}

function suggested(suggestion, store) {
  const { what, toml, needs, notes, tried, scale, seconds, calibration: cost } = suggestion;
  const price = cost.price === null ? "" : `, for ${Number(cost.price.toPrecision(3))} at your price`;
  const time = cost.seconds === null ? "" : `, about ${duration(1000 * cost.seconds)}`;
  const words = `A calibration of ${cost.pictures} photographs, each as ${cost.kinds} kinds of upload, takes ${count(cost.calls)} calls${price}${time}.`;
  const save = () => download(new Blob([toml]), `${suggestion.entry.name}.toml`);
  const call = (event) => look(event, store, true);
  return html`<section class="card stack">
      <h2>2. Try it</h2>
      <p>It is ${what}. ${words}</p>
      ${notes.length ? items(notes) : nothing} ${needs.map((name) => field(name, html`<input name="needs.${name.replaceAll(".", "/")}" required />`, "Required by the model."))}
      ${tried ? html`<p class="callout good">It works: ×${scale}, ${duration(1000 * seconds)} a call.</p>` : html`<div class="button-row">${button("Make the one call", call, { kind: "primary", off: store.state.isBusy })}</div>`}
    </section>
    ${
      tried
        ? html`<section class="card stack">
            <h2>3. Serve it</h2>
            <p>
              Add this to the service’s <code>trustscale.toml</code>, put the key into the variable that it names, start the service again, and
              <a href=${at("calibrations?new")}>calibrate it</a>.
            </p>
            <pre tabindex="0"><code>${toml}</code></pre>
            <div class="button-row">${button("Download", save)} ${button("Copy", () => navigator.clipboard.writeText(toml))}</div>
          </section>`
        : nothing
    }`;
}

async function look(event, store, call) {
  event.preventDefault();
  const form = event.target.closest("form");
  if (!form.reportValidity()) return;
  const { address, token = "", settings = {}, needs = {} } = documentOf(form);
  for (const [place, value] of Object.entries(needs)) {
    const parts = place.split("/");
    const last = parts.pop();
    parts.reduce((tree, part) => (tree[part] ??= {}), settings)[last] = value;
  }
  store.set({ isBusy: true, error: null });
  try {
    const suggestion = await sendJson("POST", at("v1/admin/upscalers/probe"), {
      address,
      token,
      call,
      settings,
    });
    store.set({ suggestion: { ...suggestion, needs: store.state.suggestion?.needs ?? suggestion.needs } });
  } catch (error) {
    store.set({ error });
  }
  store.set({ isBusy: false });
}
