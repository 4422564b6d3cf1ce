// The pictures in a row. The reader's question: how far are they? The main action: pick one.

import { $$ } from "../../lib/dom.js";
import { html, nothing } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { at } from "../../lib/place.js";
import { button, keyed } from "../../lib/widgets.js";
import { take } from "../intake.js";
import { remove } from "../queue.js";
import { isEnded, pages } from "../state.js";
import { alertsOf, stateWords } from "../words.js";
import { openSettings } from "./settings.js";

const ROUND = 2 * Math.PI * 16; // of the ring, in its own units

/** A link to another screen of this page. */
export function link(
  path,
  words,
  { id = nothing, label = nothing, kind = "button quiet icon" } = /** @type {any} */ ({}),
) {
  const go = (event) => {
    event.preventDefault();
    pages.open(path);
  };
  return html`<a class=${kind} id=${id} href=${path} aria-label=${label} title=${label} @click=${go}>${words}</a>`;
}

/** The field that takes pictures from the disk. */
export const files = (id) =>
  html`<input
    type="file"
    id=${id}
    class="visually-hidden"
    accept="image/*,.tif,.tiff,.heic"
    multiple
    aria-label="Choose pictures"
    @change=${({ target }) => {
      take([...target.files]);
      target.value = "";
    }}
  />`;

export function strip(state, onPick) {
  const { pictures } = state;
  return html`<section class="strip" aria-label="Your pictures">
    <label class="add-files" id="drop" title="Add pictures">${files("files")}${icon("more")}<span class="visually-hidden">Add pictures</span></label>
    ${button(icon("settings"), openSettings, { id: "open-settings", kind: "quiet icon", label: "Settings of the next pictures", title: "Settings of the next pictures" })}
    <ol id="items">
      ${keyed(pictures, (picture) => card(picture, state, onPick))}
    </ol>
    ${pictures.length > 1 ? html`<span class="hint" id="tally">${tally(pictures)}</span> ${link(at("wall"), icon("all"), { label: "All pictures at once" })}` : nothing}
  </section>`;
}

export function tally(pictures) {
  const number = (now) => pictures.filter(({ state }) => state === now).length;
  const words = [
    `${number("done")} of ${pictures.length} done`,
    number("failed") && `${number("failed")} failed`,
  ];
  return words.filter(Boolean).join(", ");
}

function card(picture, { selected }, onPick) {
  const { id, name, state, url } = picture;
  const words = stateWords(picture);
  const isActive = !isEnded(picture);
  const warns = state === "done" && alertsOf(picture.result).lines.length > 0;
  const takeAway = ({ currentTarget }) => {
    const { nextElementSibling: next, previousElementSibling: before } = currentTarget.closest("li");
    remove([picture]);
    // An upscaler without a calibration has no field for files.
    ((next ?? before)?.querySelector("button") ?? $$("#files")[0])?.focus();
  };
  return html`<li class="item ${id === selected ? "selected" : ""}" data-state=${state}>
    <button
      type="button"
      class="item-open"
      aria-current=${id === selected ? "true" : "false"}
      aria-label="${name}: ${words}${warns ? ", with warnings" : ""}"
      title="${name}: ${words}"
      @click=${() => onPick(picture)}
    >
      <img src=${url} alt="" @error=${({ target }) => target.classList.add("broken")} /><span class="item-name">${name}</span>
      ${isActive && state !== "asking" ? ring(picture) : nothing} ${state === "asking" ? html`<i class="flag" aria-hidden="true">?</i>` : nothing}
      ${state === "failed" || warns ? html`<i class="flag ${state}" aria-hidden="true">!</i>` : nothing}
    </button>
    ${button(icon("close"), takeAway, { kind: "item-remove quiet icon", label: `${isActive ? "Cancel and remove" : "Remove"} ${name}` })}
  </li>`;
}

/** It turns while the share is unknown. */
function ring({ state, progress, left }) {
  const sampled = progress?.total ? progress.done / progress.total : null;
  const share = state === "running" ? sampled : state === "sending" ? left / 4 : null;
  return html`<svg class="ring ${share === null ? "unknown" : ""}" viewBox="0 0 40 40" aria-hidden="true">
    <circle cx="20" cy="20" r="16" />
    <circle class="done" cx="20" cy="20" r="16" stroke-dasharray="${ROUND * Math.max(share ?? 0.25, 0.02)} ${ROUND}" />
  </svg>`;
}
