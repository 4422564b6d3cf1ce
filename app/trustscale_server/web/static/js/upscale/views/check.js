// What a file says of itself. The reader's question: is this what was made? The main action: choose a file.

import { upload } from "../../lib/api.js";
import { openDialog } from "../../lib/dialog.js";
import { html, nothing, until } from "../../lib/html.js";
import { at } from "../../lib/place.js";

/** Check a file, or let one be chosen first; true: it is to be enlarged all the same. */
export async function openCheck(file = null) {
  const chosen = file ?? (await choose());
  if (!chosen) return false;
  const body = html`<div class="check" aria-live="polite">
    <p class="hint">${chosen.name}</p>
    ${until(told(chosen), html`<p class="hint">Looking at it …</p>`)}
  </div>`;
  const close = { label: "Close", value: null, primary: true };
  const anyway = { label: "Enlarge it anyway", value: true };
  return (
    (await openDialog({ title: "What this file says", body, actions: file ? [anyway, close] : [close] })) ===
    true
  );
}

function choose() {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*" });
  return new Promise((resolve) => {
    input.addEventListener("change", () => resolve(input.files?.[0] ?? null));
    input.addEventListener("cancel", () => resolve(null));
    input.click();
  });
}

async function told(file) {
  const form = new FormData();
  form.append("image", file);
  try {
    const verification = await upload(at("v1/verify"), form, { onProgress: () => {} });
    const [first, ...others] = verification.sentences.map((sentence) => sentence.replaceAll("α", "limit"));
    return html`<p><strong>${first}</strong></p>
      ${others.map((sentence) => html`<p>${sentence}</p>`)}
      ${verification.check ? html`<p class="hint">Its number: ${verification.check}</p>` : nothing}`;
  } catch (error) {
    return html`<p class="callout bad" role="alert">${error.message}</p>`;
  }
}
