// An address that leads nowhere.

import { html, render } from "./lib/html.js";
import { root } from "./lib/shell.js";

render(
  html`<div class="empty card">
    <h1>Page not found</h1>
    <p>No page has this address. It may be mistyped.</p>
    <p><a class="button primary" href="/">Upscale a picture</a></p>
  </div>`,
  root,
);
