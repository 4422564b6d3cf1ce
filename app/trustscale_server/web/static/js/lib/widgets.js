// Parts of several views. A row that is falsy is left out of `facts` and `figures`.

import { html, nothing, repeat, until } from "./html.js";

export const pageHead = (title, { lead = nothing, tools = nothing, above = nothing } = {}) =>
  html`<div class="page-head">
    <div>
      ${above}
      <h1>${title}</h1>
      ${lead}
    </div>
    ${tools}
  </div>`;

export const button = (
  words,
  run,
  { kind = "", id = nothing, title = nothing, label = nothing, pressed = nothing, off = false } = {},
) =>
  html`<button type="button" class=${kind} id=${id} title=${title} aria-label=${label} aria-pressed=${pressed}
    ?disabled=${off} @click=${run}>
    ${words}
  </button>`;

/** Buttons in a row, one of them pressed. entries: [value, words, title]. */
export const segments = (label, entries, pressed, run, { id = nothing, kind = "" } = {}) =>
  html`<div class="segments ${kind}" id=${id} role="group" aria-label=${label}>
    ${entries.map(
      ([value, words, title]) =>
        html`<button type="button" data-value=${value} aria-pressed=${value === pressed} title=${title ?? nothing} @click=${() => run(value)}>
          ${words}
        </button>`,
    )}
  </div>`;

/** A table that scrolls by itself. heads: words, or [words, class of the column]; first cells are heads of rows. */
export function table(label, heads, rows, kind = "") {
  const columns = heads.map((head) => (Array.isArray(head) ? head : [head, ""]));
  const cell = (value, k) =>
    k ? html`<td class=${columns[k][1]}>${value}</td>` : html`<th scope="row">${value}</th>`;
  return html`<div class="table-scroll ${kind}" tabindex="0" role="region" aria-label=${label}>
    <table>
      <thead>
        <tr>
          ${columns.map(([words, column]) => html`<th scope="col" class=${column}>${words}</th>`)}
        </tr>
      </thead>
      <tbody>${rows.map((cells) => html`<tr>${cells.map(cell)}</tr>`)}</tbody>
    </table>
  </div>`;
}

export const facts = (rows, id = nothing) =>
  html`<dl class="facts" id=${id}>${rows.filter(Boolean).map(([term, value]) => html`<dt>${term}</dt><dd>${value}</dd>`)}</dl>`;

/** A view of each thing by its `id`: elements stay with their thing. */
export const keyed = (all, view) => repeat(all, ({ id }) => id, view);

export const items = (all, kind = nothing) =>
  html`<ul class=${kind}>${all.map((one) => html`<li>${one}</li>`)}</ul>`;

export const failed = ({ message }) => html`<p class="callout bad" role="alert">${message}</p>`;

export const hint = (words) => html`<p class="hint">${words}</p>`;

/** The result of a promise of a view, or its error; until then these words. */
export const later = (view, words) => until(view.catch(failed), hint(words));

/** Figures of a dashboard: [name, value, more, title]. */
export function figures(rows) {
  const tile = ([name, value, more, title]) =>
    html`<div class="tile" title=${title ?? nothing}><dt>${name}</dt><dd>${value}${more ? html`<small>${more}</small>` : nothing}</dd></div>`;
  return html`<dl class="tiles">${rows.filter(Boolean).map(tile)}</dl>`;
}

/** A field of a form with its label and a hint. */
export const field = (label, input, hint = "") =>
  html`<label class="field"><span>${label}</span>${input}${hint ? html`<small>${hint}</small>` : nothing}</label>`;

/** settings: {min, max, step, placeholder: it may be empty, hint}. */
export function number(name, label, value, /** @type {any} */ settings) {
  const { min, max = nothing, step = "any", placeholder = nothing, hint = "" } = settings;
  const input = html`<input type="number" name=${name} value=${value} inputmode="decimal" min=${min} max=${max}
    step=${step} placeholder=${placeholder} ?required=${placeholder === nothing} />`;
  return field(label, input, hint);
}

/** options: [value, words]. */
export function select(name, label, options, { hint = "", chosen = "", run = (_) => {} } = {}) {
  const input = html`<select name=${name} @change=${({ target }) => run(target.value)}>
    ${options.map(([value, words]) => html`<option value=${value} .selected=${value === chosen}>${words}</option>`)}
  </select>`;
  return field(label, input, hint);
}

export const check = (name, words, isOn = false) =>
  html`<label class="check"><input type="checkbox" name=${name} .defaultChecked=${isOn} /><span>${words}</span></label>`;
