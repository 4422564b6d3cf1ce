// What the model rewrote most. The reader's question: did it lie, and was I warned? The main action: show it to others.

import { html, nothing } from "../../lib/html.js";
import { icon } from "../../lib/icons.js";
import { button } from "../../lib/widgets.js";
import { saveCard, tellService } from "../catch.js";
import { viewer } from "../stage.js";
import { store } from "../state.js";

const NAMES = ["You’d send", "It made", "It was"];

const close = () => store.set({ caught: null });

/** Go to the place in the picture. */
function visit([left, top, right, bottom]) {
  close();
  viewer.viewport.flyTo({ left, top, right, bottom }, 4 * viewer.viewport.density);
}

export function caughtCard({ caught, selected }) {
  if (!caught || caught.id !== selected) return nothing;
  const { panels, verdict, box, isTold } = caught;
  return html`<section class="caught" aria-label="What the model rewrote most">
    ${button(icon("close"), close, { kind: "quiet icon close", label: "Close" })}
    <div class="panels">${panels.map((canvas, k) => html`<figure><figcaption>${NAMES[k]}</figcaption>${canvas}</figure>`)}</div>
    <p class="verdict" role="status">${verdict}</p>
    <div class="button-row">
      ${button("Save the card", saveCard, { id: "save-catch", kind: "primary" })} ${button("Show it in the picture", () => visit(box))}
      ${isTold ? nothing : button("Tell the service", tellService, { kind: "quiet", title: "Send the original to the service, which checks its promise by it" })}
    </div>
  </section>`;
}
