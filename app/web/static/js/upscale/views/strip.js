// The pictures in a row. The reader's question: how far are they? The main action: pick one.

import { $$ } from "../../lib/dom.js";
import { html, nothing } from "../../lib/html.js";
import { button, keyed } from "../../lib/widgets.js";
import { saveAll } from "../downloads.js";
import { remove } from "../queue.js";
import { isEnded, store, upscalerOf } from "../state.js";
import { alertsOf, stateWords } from "../words.js";
import { files } from "./first.js";
import { chosenOf, openSettings } from "./settings.js";

const ROUND = 2 * Math.PI * 16; // of the ring, in its own units

/** `adds`: with a button to add more. */
export function strip(state, onPick, adds) {
  const { pictures } = state;
  if (!pictures.length) return nothing;
  const done = pictures.filter((one) => one.state === "done");
  const ended = pictures.filter(isEnded);
  const link = (words, run) => button(words, run, { kind: "link" });
  return html`<section class="strip" aria-label="Your pictures">
    <div class="strip-row">
      ${adds ? addCard(state) : nothing}
      <ol id="items">
        ${keyed(pictures, (picture) => card(picture, state, onPick))}
      </ol>
    </div>
    ${
      pictures.length > 1
        ? html`<p class="strip-foot">
            <span class="hint" id="tally">${tally(pictures, done)}</span>
            ${link("All at once", () => store.set({ isWall: true }))} ${done.length > 1 ? link("Download all", () => saveAll(done)) : nothing}
            ${ended.length ? link("Clear done", () => remove(ended)) : nothing}
          </p>`
        : nothing
    }
  </section>`;
}

function tally(pictures, done) {
  const failed = pictures.filter(({ state }) => state === "failed").length;
  const words = [`${done.length} of ${pictures.length} done`, failed && `${failed} failed`];
  return words.filter(Boolean).join(", ");
}

function addCard(state) {
  const upscaler = upscalerOf(state);
  const more = { id: "open-settings", kind: "link", title: "How strict the next pictures are treated" };
  const words = () => `${chosenOf(state, upscaler)?.name ?? "Own α"}…`;
  return html`<div class="add">
    <label class="add-files" id="drop">${files("files")}<b aria-hidden="true">+</b><span>Add</span></label>
    ${upscaler?.calibration ? button(words(), openSettings, more) : nothing}
  </div>`;
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
    ${button("×", takeAway, { kind: "item-remove quiet icon", label: `${isActive ? "Cancel and remove" : "Remove"} ${name}` })}
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
