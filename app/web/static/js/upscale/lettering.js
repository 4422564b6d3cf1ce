// The words of a result, drawn over its picture: underlined where they are trusted, questioned elsewhere.

import { html, render, svg } from "../lib/html.js";

/** @typedef {{box: number[][], text: string, trust_level: number | null}} Word box: corners from where it begins */

/** Whether a word is trusted at α. */
export const isTrusted = ({ trust_level: level }, alpha) => level !== null && level <= alpha;

/** In words: those that are trusted, and how many are not. */
export function said(words, alpha) {
  const trusted = words.filter((word) => isTrusted(word, alpha));
  const read = trusted.map(({ text }) => text).join(" ");
  const doubtful = words.length - trusted.length;
  const rest = doubtful ? `${doubtful} ${doubtful === 1 ? "word is" : "words are"} not to be relied on.` : "";
  return [read && `“${read}”`, rest].filter(Boolean).join(" ") || "No text was found.";
}

export class Lettering {
  element = Object.assign(document.createElement("div"), { className: "lettering" });
  /** @type {Word[]} */
  words = [];
  alpha = 0;

  /** @param {{words?: Word[], alpha?: number}} changes */
  change(changes) {
    Object.assign(this, changes);
    render(drawing(this.words, this.alpha), this.element);
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

const drawing = (words, alpha) =>
  html`<svg aria-hidden="true"><g>${words.map((word) => drawn(word, isTrusted(word, alpha)))}</g></svg>`;

/** The lower side of the box: corners go round clockwise from where the word begins. */
function drawn({ box, text }, trusted) {
  const [, , [x1, y1], [x0, y0]] = box;
  const points = box.map((corner) => corner.join(",")).join(" ");
  return svg`<g class=${trusted ? "trusted" : "doubtful"}>
    <polygon points=${points}><title>${trusted ? text : `Perhaps “${text}”`}</title></polygon>
    <line x1=${x0} y1=${y0} x2=${x1} y2=${y1} />
  </g>`;
}
