// Settings of the next pictures, in a dialog.

import { openDialog } from "../../lib/dialog.js";
import { count } from "../../lib/format.js";
import { html, nothing, render } from "../../lib/html.js";
import { segments, select } from "../../lib/widgets.js";
import { choose, load } from "../intake.js";
import { state, store, upscalerOf } from "../state.js";
import { SIZES } from "../words.js";

const METADATA = Object.entries({
  "": "leave out",
  keep: "keep, without the place",
  "keep-gps": "keep, with the place",
});

export function settings(now) {
  const upscaler = upscalerOf(now);
  if (!upscaler?.calibration) return nothing;
  const bound = (field) => ({ chosen: now[field], run: (chosen) => store.set({ [field]: chosen }) });
  const sizes = Object.entries(SIZES).map(([name, [words]]) => [name, words]);
  const size = { ...bound("size"), hint: "Larger results are scaled down." };
  return html`<form class="settings" @submit=${(event) => event.preventDefault()} aria-label="Settings of the next pictures">
    ${now.upscalers.length > 1 ? models(now) : nothing} ${select("size", "Size of the result", sizes, size)}
    <details>
      <summary>More options</summary>
      <div class="stack">
        ${groups(upscaler, bound("group"))} ${upscaler.words ? reading(now) : nothing} ${leavingOut(now)} ${upscaler.levels.length > 1 ? levels(now, upscaler) : nothing}
        ${select("metadata", "Camera metadata", METADATA, bound("metadata"))}
      </div>
    </details>
  </form>`;
}

function levels({ level, words: asked }, { levels: all }) {
  const entries = all.map(({ name }) => [name, `${name[0].toUpperCase()}${name.slice(1)}`]);
  return html`<div class="field">
    <span>How strict to begin with</span>
    ${segments("How strict to begin with", entries, level, (name) => store.set({ level: name }), { kind: "choices" })}
    <small class="choice-words">${asked ? "Strictness is fixed for words." : "You may change it after looking at the result."}</small>
  </div>`;
}

function models({ upscalers, upscaler }) {
  const entries = upscalers.map(({ name, title, character, scale }) => {
    const label = title === name && scale ? `${name}, ×${scale}` : title;
    return [name, character && name !== "auto" ? `${label}, ${character}` : label];
  });
  return select("upscaler", "Model", entries, { chosen: upscaler, run: choose });
}

const reading = ({ words }) =>
  html`<label class="check"><input type="checkbox" id="next-words" .checked=${words}
    @change=${({ target }) => store.set({ words: target.checked })} /><span>Say which words can be believed</span></label>`;

const leavingOut = ({ keeps }) =>
  html`<label class="check"><input type="checkbox" id="next-left-out" .checked=${!keeps}
    @change=${({ target }) => store.set({ keeps: !target.checked })} /><span>Never trust faces and unread text</span></label>`;

function groups({ groups: all = {} }, choice) {
  const entries = Object.entries(all).map(([name, n]) => [name, `${name}, ${count(n)} pictures`]);
  return entries.length
    ? select("group", "Kind of picture", [["", "any kind"], ...entries], choice)
    : nothing;
}

export async function openSettings() {
  if (!state.upscalers.length) await load();
  const place = document.createElement("div");
  const draw = () => render(settings(state), place);
  store.watch(draw);
  const done = { label: "Done", value: null, primary: true };
  await openDialog({ title: "For the next pictures", body: place, actions: [done] });
  store.watchers.delete(draw);
}
