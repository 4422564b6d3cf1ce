// Keys live in this tab's session storage only, and end with it.

import { openDialog } from "./dialog.js";
import { html, nothing } from "./html.js";

const WORDS = {
  client: { label: "API key", hint: "Needed to upscale and to see results." },
  admin: {
    label: "Admin key",
    hint: "Needed for calibrations, labels and monitoring. Without an own setting, the first start of the service has written one to the file admin.key in its data folder.",
  },
};

let asking = null;

/** The key of a kind ("client" or "admin") or null; an admin key serves where a client key does. */
export function key(kind) {
  const own = sessionStorage.getItem(`trustscale.key.${kind}`);
  return own ?? (kind === "client" ? sessionStorage.getItem("trustscale.key.admin") : null);
}

/** Keep a key for this tab; null forgets it. Tells the page by a `keys` event on the document. */
export function setKey(kind, value) {
  const name = `trustscale.key.${kind}`;
  if (value) sessionStorage.setItem(name, value);
  else sessionStorage.removeItem(name);
  document.dispatchEvent(new CustomEvent("keys", { detail: { kind } }));
}

/** Headers that carry a key, if there is one. @returns {Record<string, string>} */
export function keyHeaders(kind) {
  const value = key(kind);
  return value ? { Authorization: `Bearer ${value}` } : {};
}

/**
 * Ask the person for a key; it is kept. Null if they would rather not. Requests that fail at the
 * same time share one dialog.
 */
export function askForKey(kind, reason = "") {
  asking ??= ask(kind, reason).finally(() => {
    asking = null;
  });
  return asking;
}

async function ask(kind, reason) {
  const { label, hint } = WORDS[kind];
  let value = "";
  const answer = await openDialog({
    title: `${label} needed`,
    body: html`${reason ? html`<p class="callout warn">${reason}</p>` : nothing}
      <label class="field">
        <span>${label}</span>
        <input
          id="key-input"
          type="password"
          autocomplete="off"
          spellcheck="false"
          required
          aria-describedby="key-hint"
          @input=${({ target }) => {
            value = target.value.trim();
          }}
        />
      </label>
      <p class="hint" id="key-hint">${hint} It is kept until this tab is closed.</p>`,
    actions: [
      { label: "Cancel", value: null },
      { label: "Use this key", value: "use", primary: true },
    ],
  });
  if (answer !== "use" || !value) return null;
  setKey(kind, value);
  return value;
}

/** The dialog behind the button in the masthead: which keys are set, set and forget them. */
export async function manageKeys() {
  const values = new Map();
  const stored = (kind) => sessionStorage.getItem(`trustscale.key.${kind}`) ?? "";
  const answer = await openDialog({
    title: "Keys",
    body: html`<p class="hint">Kept in this tab only; closing it forgets them.</p>
      ${Object.entries(WORDS).map(
        ([kind, { label, hint }]) =>
          html`<label class="field">
            <span>${label}</span>
            <input
              type="password"
              autocomplete="off"
              spellcheck="false"
              placeholder="not set"
              data-kind=${kind}
              .value=${stored(kind)}
              @input=${({ target }) => values.set(kind, target.value.trim())}
            />
            <small>${hint}</small>
          </label>`,
      )}`,
    actions: [
      { label: "Forget all", value: "forget" },
      { label: "Cancel", value: null },
      { label: "Save", value: "save", primary: true },
    ],
  });
  if (!answer) return;
  for (const kind of Object.keys(WORDS)) {
    if (answer === "forget") setKey(kind, null);
    else if (values.has(kind)) setKey(kind, values.get(kind));
  }
}
