// Keys are kept in the session storage of this tab only.

import { CANCEL, openDialog } from "./dialog.js";
import { documentOf } from "./dom.js";
import { html, nothing } from "./html.js";
import { field } from "./widgets.js";

const WORDS = {
  client: { label: "API key", hint: "Needed to upscale and to see results." },
  admin: {
    label: "Admin key",
    hint: "Needed for the studio and labels. Unless one is configured, the service wrote one to admin.key in its data folder at its first start.",
  },
};

let asking = null;

const own = (kind) => sessionStorage.getItem(`trustscale.key.${kind}`);

/** An admin key serves where a client key does. */
export const key = (kind) => own(kind) ?? (kind === "client" ? own("admin") : null);

/** Keep a key for this tab; null forgets it. */
export function setKey(kind, value) {
  const name = `trustscale.key.${kind}`;
  if (value) sessionStorage.setItem(name, value);
  else sessionStorage.removeItem(name);
  document.dispatchEvent(new Event("keys"));
}

/** @returns {Record<string, string>} */
export function keyHeaders(kind) {
  const value = key(kind);
  return value ? { Authorization: `Bearer ${value}` } : {};
}

/** Ask for a key and keep it; null if the person cancels. Requests that fail together share one dialog. */
export const askForKey = (kind, reason = "") => (asking ??= ask(kind, reason).finally(() => (asking = null)));

async function ask(kind, reason) {
  const value = await openDialog({
    title: `${WORDS[kind].label} needed`,
    body: html`${reason ? html`<p class="callout warn">${reason}</p>` : nothing} ${keyField(kind, true)}
      <p class="hint">It is kept until this tab is closed.</p>`,
    actions: [CANCEL, { label: "Use this key", value: (form) => documentOf(form)[kind], primary: true }],
  });
  if (value) setKey(kind, value);
  return value || null;
}

export async function manageKeys() {
  const kinds = Object.keys(WORDS);
  const forget = { label: "Forget all", value: () => ({}) };
  const save = { label: "Save", value: documentOf, primary: true };
  const typed = await openDialog({
    title: "Access keys",
    body: html`<p class="hint">Kept in this tab only; closing it forgets them.</p>
      ${kinds.map((kind) => keyField(kind, false))}`,
    actions: [forget, CANCEL, save],
  });
  if (!typed) return;
  for (const kind of kinds.filter((kind) => own(kind) !== (typed[kind] ?? null))) setKey(kind, typed[kind]);
}

const keyField = (kind, isNeeded) =>
  field(
    WORDS[kind].label,
    html`<input type="password" autocomplete="off" spellcheck="false" name=${kind}
      placeholder=${isNeeded ? "" : "not set"} ?required=${isNeeded} .value=${isNeeded ? "" : (own(kind) ?? "")} />`,
    WORDS[kind].hint,
  );
