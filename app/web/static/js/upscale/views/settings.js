// Settings of the next pictures, in a dialog.

import { openDialog } from "../../lib/dialog.js";
import { count } from "../../lib/format.js";
import { html, live, nothing, render } from "../../lib/html.js";
import { items, segments, select } from "../../lib/widgets.js";
import { choose, fault, loadWhole, numberOf, setAlpha } from "../intake.js";
import { state, store, upscalerOf } from "../state.js";
import { SIZES, choices, guaranteeFor, shown } from "../words.js";

const METADATA = Object.entries({
  "": "leave out",
  keep: "keep, without the place",
  "keep-gps": "keep, with the place",
});

/** The chosen one of the three, or null for another α. */
export function chosenOf({ alpha, isTyped }, upscaler) {
  const value = isTyped ? numberOf(alpha) : upscaler.default_alpha;
  return choices(upscaler).find((one) => one.alpha === value) ?? null;
}

export function settings(now) {
  const upscaler = upscalerOf(now);
  if (!upscaler?.calibration) return nothing;
  const chosen = chosenOf(now, upscaler);
  const value = now.isTyped ? numberOf(now.alpha) : upscaler.default_alpha;
  const wrong = fault(now.alpha);
  const entries = choices(upscaler).map(({ alpha, name }) => [alpha, name]);
  const metadata = { chosen: now.metadata, run: (chosen) => store.set({ metadata: chosen }) };
  const sizes = Object.entries(SIZES).map(([name, [words]]) => [name, words]);
  const size = {
    chosen: now.size,
    run: (chosen) => store.set({ size: chosen }),
    hint: "A larger result is reduced, and what is trusted with it.",
  };
  return html`<form class="settings" @submit=${(event) => event.preventDefault()} aria-label="Settings of the next pictures">
    ${now.upscalers.length > 1 ? upscalers(now) : nothing} ${select("size", "Size of the result", sizes, size)}
    <details>
      <summary>More options</summary>
      <div class="stack">
        ${groups(now, upscaler)}
        <div class="field">
          <span>How strict to begin with</span>
          ${segments("How strict to begin with", entries, chosen?.alpha, (alpha) => setAlpha(String(alpha)), { kind: "choices" })}
          <small class="choice-words">${wrong ? nothing : words(upscaler, chosen, value)}</small>
        </div>
        <label class="field">
          <span title="risk level α">Exact level</span>
          <input id="next-alpha" name="alpha" inputmode="decimal" autocomplete="off"
            .value=${live(now.isTyped ? now.alpha : shown(upscaler.default_alpha))}
            aria-invalid=${wrong ? "true" : "false"} aria-describedby="alpha-hint"
            @input=${({ target }) => setAlpha(target.value)} />
          <small id="alpha-hint">${wrong || hint(upscaler, value, now.group)}</small>
        </label>
        ${select("metadata", "Camera metadata", METADATA, metadata)} ${coverage(upscaler)}
      </div>
    </details>
  </form>`;
}

const hint = (upscaler, value, group) =>
  guaranteeFor(upscaler, value, group)
    ? "You may change it after looking at the result."
    : "The promise is for this level alone.";

function words({ min_alpha: least }, chosen, value) {
  if (value < least) return `Nothing can be trusted below a level of ${shown(least)}.`;
  if (!chosen || chosen.low === null) return "";
  return `Usually ${fraction(chosen.low)} to ${fraction(chosen.high)} of a photo can be trusted.`;
}

const FRACTIONS = [
  "next to nothing",
  "an eighth",
  "a quarter",
  "three eighths",
  "half",
  "five eighths",
  "three quarters",
  "seven eighths",
  "nearly all",
];

/** A share as people say it. */
export const fraction = (share) => FRACTIONS[Math.round(8 * share)];

function upscalers({ upscalers, upscaler }) {
  const entries = upscalers.map(({ name, title, character, scale }) => {
    const shown = title === name && scale ? `${name}, ×${scale}` : title;
    return [name, character && name !== "auto" ? `${shown}, ${character}` : shown];
  });
  return select("upscaler", "Model", entries, { chosen: upscaler, run: choose });
}

function groups(now, { groups: all = {} }) {
  const entries = Object.entries(all).map(([name, n]) => [name, `${name}, ${count(n)} pairs`]);
  const choice = { chosen: now.group, run: (group) => store.set({ group }) };
  return entries.length
    ? select("group", "Kind of picture", [["", "any kind"], ...entries], choice)
    : nothing;
}

function coverage({ classes = [] }) {
  if (!classes.length) return nothing;
  const known = classes.map(({ title, n }) => `${title}, ${count(n)} scenes`);
  return html`<details><summary>Kinds of files with a promise</summary>${items(known, "kinds")}</details>`;
}

export async function openSettings() {
  await loadWhole();
  const place = document.createElement("div");
  const draw = () => render(settings(state), place);
  store.watch(draw);
  const done = { label: "Done", value: null, primary: true };
  await openDialog({ title: "For the next pictures", body: place, actions: [done] });
  store.watchers.delete(draw);
}
