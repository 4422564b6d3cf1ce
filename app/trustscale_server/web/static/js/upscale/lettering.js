// Drawn over the picture of a result: its words, underlined where they are trusted, questioned elsewhere; and quiet frames
// around what was left out.

import { html, render, svg } from "../lib/html.js";

/** @typedef {{box: number[][], text: string, trust_level: number | null}} Word box: corners from where it begins */

/** Whether a word is trusted at α. */
export const isTrusted = ({ trust_level: level }, alpha) => level !== null && level <= alpha;

/** Says which words are trusted, and how many are not. */
export function said(words, alpha) {
  const trusted = words.filter((word) => isTrusted(word, alpha));
  const read = trusted.map(({ text }) => text).join(" ");
  const doubtful = words.length - trusted.length;
  const rest = doubtful ? `${doubtful} ${doubtful === 1 ? "word is" : "words are"} not to be relied on.` : "";
  return [read && `“${read}”`, rest].filter(Boolean).join(" ") || "No text was found.";
}

/** How many of them can be believed: what fits into a line. */
export function counted(words, alpha) {
  const trusted = words.filter((word) => isTrusted(word, alpha)).length;
  return words.length ? `${trusted} of ${words.length} words` : "No text was found.";
}

export class Lettering {
  element = Object.assign(document.createElement("div"), { className: "lettering" });
  /** @type {Word[]} */
  words = [];
  /** @type {import("./left-out.js").LeftOut[]} */
  leftOut = [];
  alpha = 0;

  /** @param {{words?: Word[], leftOut?: import("./left-out.js").LeftOut[], alpha?: number}} changes */
  change(changes) {
    Object.assign(this, changes);
    render(drawing(this), this.element);
  }

  /** Where the picture lies on the screen, in CSS pixels. */
  place(view, density) {
    const group = this.element.querySelector("g");
    group?.setAttribute(
      "transform",
      `translate(${view.x / density} ${view.y / density}) scale(${view.scale / density})`,
    );
  }
}

const drawing = ({ words, leftOut, alpha }) =>
  html`<svg aria-hidden="true"><g>${leftOut.map(framed)} ${words.map((word) => drawn(word, isTrusted(word, alpha)))}</g></svg>`;

const corners = (box) => box.map((corner) => corner.join(",")).join(" ");

/** A light line on a dark one is seen on anything. A tap on it goes to the picture. */
const framed = ({ box }) =>
  svg`<g class="left-out"><polygon points=${corners(box)} /><polygon points=${corners(box)} /></g>`;

/** The lower side of the box: corners go round clockwise from where the word begins. */
function drawn({ box, text }, trusted) {
  const [, , [x1, y1], [x0, y0]] = box;
  return svg`<g class=${trusted ? "trusted" : "doubtful"}>
    <polygon points=${corners(box)}><title>${trusted ? text : `Perhaps “${text}”`}</title></polygon>
    <line x1=${x0} y1=${y0} x2=${x1} y2=${y1} />
  </g>`;
}
