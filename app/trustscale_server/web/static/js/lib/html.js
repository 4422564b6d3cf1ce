// lit-html renders all views: values become text or properties, never markup.

export { html, nothing, render, svg } from "../vendor/lit-html/lit-html.js";
export { live } from "../vendor/lit-html/directives/live.js";
export { repeat } from "../vendor/lit-html/directives/repeat.js";
export { until } from "../vendor/lit-html/directives/until.js";
