// Settings of the next pictures, on the first screen and in a dialog.

import { openDialog } from "../../lib/dialog.js";
import { count, percent } from "../../lib/format.js";
import { html, live, nothing, render } from "../../lib/html.js";
import { items, number, segments, select } from "../../lib/widgets.js";
import { choose, fault, numberOf, setAlpha } from "../intake.js";
import { state, store, upscalerOf } from "../state.js";
import { choices, guaranteeFor, shown, steps } from "../words.js";

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
  return html`<form class="settings" @submit=${(event) => event.preventDefault()} aria-label="Settings of the next pictures">
    ${now.upscalers.length > 1 ? upscalers(now) : nothing} ${groups(now, upscaler)}
    ${segments("How large an error you accept", entries, chosen?.alpha, (alpha) => setAlpha(String(alpha)), { kind: "choices" })}
    <p class="choice-words">${wrong ? nothing : words(upscaler, chosen, value)}</p>
    <details class="exact">
      <summary>Exact value and more</summary>
      <label class="field">
        <span title="risk level α">Accepted error</span>
        <input id="next-alpha" name="alpha" inputmode="decimal" autocomplete="off"
          .value=${live(now.isTyped ? now.alpha : shown(upscaler.default_alpha))}
          aria-invalid=${wrong ? "true" : "false"} aria-describedby="alpha-hint"
          @input=${({ target }) => setAlpha(target.value)} />
        <small id="alpha-hint">
          ${wrong || hint(upscaler, value, now.group)}
        </small>
      </label>
      ${select("metadata", "Camera metadata", METADATA, metadata)}
      <div @input=${({ target }) => store.set({ to: target.value })}>
        ${number("to", "Longest side of the result", now.to, { min: 16, step: "1", placeholder: "as made", hint: "Pixels. A larger result is reduced, and its mask with it." })}
      </div>
      ${coverage(upscaler)}
    </details>
  </form>`;
}

function hint(upscaler, value, group) {
  const least = `Below ${shown(upscaler.min_alpha)} nothing can be trusted.`;
  const when = guaranteeFor(upscaler, value, group)
    ? "You may choose again after looking."
    : "Choose it before you look.";
  return `On average the worst spot in the trusted area is off by at most this much: 0.1 is 10 of 100 steps of lightness. ${when} ${least}`;
}

function words({ min_alpha: least, unit }, chosen, value) {
  if (value < least) return `Nothing can be trusted below an error of ${shown(least)}.`;
  const errors = {
    lab: `off by at most about ${steps(value)} of 100 steps of lightness at the worst spot, on average`,
    label: `on average at most about ${steps(value)} of 100 photos mean something else anywhere in it`,
  };
  const error = errors[unit] ?? `the largest error in it is at most ${shown(value)}, on average`;
  if (!chosen || chosen.low === null) return `Trusted area: ${error}.`;
  const [low, high] = [chosen.low, chosen.high].map((share) => percent(share, 0));
  const area = low === high ? `About ${low}` : `About ${low} to ${high}, depending on how it was saved,`;
  return `${area} of a photo like the calibration’s is trusted: ${error}.`;
}

function upscalers({ upscalers, upscaler }) {
  const entries = upscalers.map(({ name, title, character, scale }) => {
    const shown = title === name && scale ? `${name}, ×${scale}` : title;
    return [name, character && name !== "auto" ? `${shown}, ${character}` : shown];
  });
  return select("upscaler", "Upscaler", entries, { chosen: upscaler, run: choose });
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
  return html`<details><summary>It knows ${classes.length} kinds of upload; others get a warning</summary>${items(known, "kinds")}</details>`;
}

export async function openSettings() {
  const place = document.createElement("div");
  const draw = () => render(settings(state), place);
  store.watch(draw);
  const done = { label: "Done", value: null, primary: true };
  await openDialog({ title: "For the next pictures", body: place, actions: [done] });
  store.watchers.delete(draw);
}
