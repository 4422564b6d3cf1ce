// The frame of a new calibration: four steps over the whole window.

import { html } from "../lib/html.js";
import { icon } from "../lib/icons.js";
import { at } from "../lib/place.js";

const STEPS = ["Pictures", "Check", "Run", "Before and after"];

/** step: from 1. body: a template. */
export function wizard(title, step, body) {
  document.title = `${title} · Trustscale`;
  document.body.classList.add("full");
  const place = (words, k) =>
    html`<li class=${k + 1 < step ? "done" : ""} aria-current=${k + 1 === step ? "step" : "false"}>${words}</li>`;
  return html`<header class="wizard-head">
      <h1>${title}</h1>
      <ol class="steps">${STEPS.map(place)}</ol>
      <a class="button quiet icon" href=${at("calibrations")} aria-label="Close" title="Close">${icon("close")}</a>
    </header>
    <div class="wizard-body stack">${body}</div>`;
}

const SIDE = 256; // pixels that a crop is wide

/** A box of a picture, [left, top, right, bottom] in its pixels, as a canvas. @param {ImageBitmap} one */
export function crop(one, [left, top, right, bottom]) {
  const [wide, high] = [right - left, bottom - top];
  const size = { width: SIDE, height: Math.round((SIDE * high) / wide) };
  const canvas = Object.assign(document.createElement("canvas"), size);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(one, left, top, wide, high, 0, 0, size.width, size.height);
  return canvas;
}

/** Photographs, each in versions side by side: [{name, sides: [[canvas or null, words, more]]}]. */
export const beside = (all) => {
  const side = ([canvas, words, more = ""]) =>
    html`<div class="side">${canvas ?? html`<span class="picture waiting"></span>`}<b>${words}</b> ${more}</div>`;
  const figure = ({ name, sides }) =>
    html`<figure><div class="sides">${sides.map(side)}</div><figcaption>${name.split("~")[0]}</figcaption></figure>`;
  return html`<div class="tried">${all.map(figure)}</div>`;
};
